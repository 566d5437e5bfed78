"""Types of V2 that are not here, scopes, modules of the user's own: what the check says of them."""
import re
import sys
from pathlib import Path

import pytest

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import is_user_mistake, message_of
from mmdet_ft.engine.optimizers.optimizer_step import OPTIMIZER_HOOKS
from mmdet_ft.engine.schedules.momenta import MOMENTUM_POLICIES
from mmdet_ft.engine.schedules.rates import POLICIES
from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, OPTIMIZER_BUILDERS, OPTIMIZERS, PIPELINES,
                               RUNNERS, SAMPLERS, Registry, TakenNameError, UnknownTypeError)
from mmdet_ft.v2_types import SCOPES, names_of_registry, packages_of, parts_of

REGISTRIES = (MODELS, DATASETS, PIPELINES, HOOKS, RUNNERS, SAMPLERS, OPTIMIZERS, OPTIMIZER_BUILDERS)
CONFIGS = Path(__file__).parents[2] / 'configs'
OWN = '''from mmdet_ft.registry import PIPELINES
@PIPELINES.register_module()
class {}:
    def __call__(self, results):
        return results
'''


@pytest.fixture
def heir(tmp_path, monkeypatch):
    """A config over a shipped one, read as the commands do; modules of the folder are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    before = set(sys.modules)
    tables = [dict(PIPELINES.module_dict)]

    def write(text, base='mask_rcnn', **modules):
        for name, source in modules.items():
            (tmp_path / f'{name}.py').write_text(source)
        (tmp_path / 'heir.py').write_text(f"_base_ = '{CONFIGS}/custom/{base}.py'\n{text}\n")
        return load_config('heir.py')

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]
    PIPELINES.module_dict.clear()
    PIPELINES.module_dict.update(tables[0])


def refused(config):
    with pytest.raises(CheckError) as caught:
        prepare(config)
    return str(caught.value)


# --- types of V2


def missing(part):
    """Return a V2 model type of a part that is not here: the last by the alphabet, of one package only."""
    packages = dict(detector=['mmdet'], backbone=['mmcls'])
    return max(
        name for names in names_of_registry('model').values() for name in names
        if parts_of(name) == [part] and packages_of(name) == packages[part] and name not in MODELS)


@pytest.mark.parametrize('text, words', [
    (f"model = dict(type='{missing('detector')}')",
     f"model: '{missing('detector')}' is a type of MMDetection 2.28.2 that is not supported here; nearest: "),
    (f"model = dict(type='{missing('detector')}')", '; the models here are '),
    (f"model = dict(backbone=dict(type='mmcls.{missing('backbone')}'))",
     f"'{missing('backbone')}' is a type of MMClassification 0.25.0 that is not supported here; nearest: '"),
    ("model = dict(backbone=dict(norm_cfg=dict(type='LN2d')))",
     "'LN2d' is a type of MMClassification 0.25.0 that is not supported here; nearest: '"),
    ("custom_hooks = [dict(type='RFSearchHook')]", "'RFSearchHook' is a type of mmcv 1.7.2 that is not supported"),
    ("data = dict(train=dict(type='Mosaic'))", 'is a type of MMDetection 2.28.2 for pipelines, not for datasets'),
    ("data = dict(train=dict(pipeline=[dict(type='InstaBoost')]))",
     "'InstaBoost' is a type of MMDetection 2.28.2 that is not supported here; nearest: 'LoadImageFromFile'; "
     'to fix: leave it out, or register'),
    ("optimizer = dict(type='Lamb')", "'Lamb' is a type of MMClassification 0.25.0 that is"),
    ("custom_hooks = [dict(type='CyclicLrUpdaterHook')]",
     "to fix: write lr_config = dict(policy='Cyclic', ...) instead of the hook"),
    ("lr_config = dict(policy='CosineAnnealingCooldown')",
     "'CosineAnnealingCooldown' is a policy of MMClassification 0.25.0 that is not supported here; nearest: "),
    ("model = dict(backbone=dict(type='timm.ResNet'))", "there is no scope 'timm'; write the type alone, 'ResNet'"),
    ("data = dict(train=dict(type='COCODataset'))", "did you mean 'CocoDataset'?"),
    ("model = dict(backbone=dict(type='Resnet'))", "did you mean 'ResNet'?"),
])  # yapf: disable
def test_a_type_that_is_not_here_is_answered_as_what_it_is(heir, text, words):
    assert words in refused(heir(text))


def test_every_type_of_v2_is_here_or_answered_as_not_supported():
    for registry in REGISTRIES:
        for package, names in names_of_registry(registry.name).items():
            for name in names:
                if name not in registry:
                    text = registry.unknown(name)
                    assert f'{name!r} is a type of ' in text and SCOPES[package] in text
                    assert 'that is not supported here; ' in text and 'to fix: ' in text
                    assert 'nearest: ' in text or 'instead' in text or 'own' in text or 'dict(type=' in text


def test_every_setting_that_replaces_a_hook_is_read():
    policies = dict(lr=POLICIES, momentum=MOMENTUM_POLICIES)
    for name in names_of_registry('hook')['mmcv']:
        found = re.search(r"(lr|momentum)_config = dict\(policy='(\w+)'", HOOKS.unknown(name))
        if found:
            assert found[2].lower() in policies[found[1]]
        elif 'optimizer_config' in HOOKS.unknown(name):
            assert name in OPTIMIZER_HOOKS


def test_no_type_that_is_here_is_answered_as_missing():
    for registry in REGISTRIES:
        for name in registry:
            assert registry.get(name) is not None and '.' not in name
            for package in packages_of(name):
                assert f'{package}.{name}' in registry
    assert packages_of('ResNet') == ['mmdet', 'mmcls'] and packages_of('Rsnet') == []


def test_scopes_of_v2_are_accepted_and_mean_the_same(heir):
    plain = prepare(heir('custom_hooks = [dict(type="NumClassCheckHook")]'))[0]
    config = prepare(
        heir(
            '''model = dict(type='mmdet.MaskRCNN', backbone=dict(type='mmdet.ResNet'), neck=dict(type='mmdet.FPN'))
custom_hooks = [dict(type='mmcls.ClassNumCheckHook')]
log_config = dict(hooks=[dict(type='mmcv.TextLoggerHook')])'''))[0]
    assert config.model == plain.model and config.custom_hooks == plain.custom_hooks
    assert config.log_config.hooks == plain.log_config.hooks
    assert MODELS.get('mmdet.ResNet') is MODELS.get('ResNet') and 'mmdet.Resnet' not in MODELS
    config, _ = prepare(
        heir("custom_imports = dict(imports=['mmcls.models'], allow_failed_imports=False)"))
    assert config.model == plain.model


EVERYWHERE = """
model = dict(
    type='{mmdet}MaskRCNN',
    backbone=dict(type='{mmdet}ResNet', norm_cfg=dict(type='{mmcv}BN')),
    neck=dict(type='{mmdet}FPN', conv_cfg=dict(type='{mmcv}Conv2d')),
    rpn_head=dict(type='{mmdet}RPNHead', loss_cls=dict(type='{mmdet}CrossEntropyLoss')),
    train_cfg=dict(rpn=dict(assigner=dict(type='{mmdet}MaxIoUAssigner'))))
data = dict(
    val=dict(
        _delete_=True,
        type='{mmdet}RepeatDataset',
        times=2,
        dataset=dict(
            type='{mmdet}CocoDataset',
            ann_file='a.json',
            pipeline=[dict(type='{mmdet}LoadImageFromFile'), dict(type='{mmdet}Collect', keys=['img'])])))
runner = dict(type='{mmcv}EpochBasedRunner', max_epochs=3)
custom_hooks = [dict(type='{mmcls}PreciseBNHook', num_samples=10), dict(type='{mmcv}EMAHook')]
"""


def test_scopes_are_accepted_in_every_registry(heir):
    plain = prepare(heir(EVERYWHERE.format(mmdet='', mmcls='', mmcv='')))[0]
    scoped = prepare(heir(EVERYWHERE.format(mmdet='mmdet.', mmcls='mmcls.', mmcv='mmcv.')))[0]
    assert scoped.copy() == plain.copy()


@pytest.mark.parametrize('text, name', [
    ("data = dict(train=dict(type='mmcls.CUB'))", 'CUB'),
    ("data = dict(train=dict(pipeline=[dict(type='mmcls.ToPIL')]))", 'ToPIL'),
    ("custom_hooks = [dict(type='mmcv.ProfilerHook')]", 'ProfilerHook'),
    ("runner = dict(type='mmcv.IPUIterBasedRunner')", 'IPUIterBasedRunner'),
    ("optimizer = dict(type='mmcls.Lamb')", 'Lamb'),
    ("model = dict(backbone=dict(norm_cfg=dict(type='mmcls.LN2d')))", 'LN2d'),
])
def test_a_scoped_type_that_is_not_here_is_answered_in_every_registry(heir, text, name):
    assert f'{name!r} is a type of ' in refused(heir(text))


def test_a_scope_brings_the_defaults_of_its_package(heir):
    text = (
        "model = dict(backbone=dict(_delete_=True, type='mmcls.ResNet', depth=18, out_indices=(0, 1, 2, 3)), "
        'neck=dict(in_channels=[64, 128, 256, 512]))')
    backbone = prepare(heir(text))[0].model.backbone
    assert backbone.norm_eval is False and backbone.layout == 'mmcls' and backbone.out_indices == (
        0, 1, 2, 3)
    text = "model = dict(backbone=dict(_delete_=True, type='mmdet.ResNet', depth=50))"
    backbone = prepare(heir(text, 'classifier_ft'))[0].model.backbone
    assert backbone.norm_eval is True and backbone.out_indices == (0, 1, 2, 3)
    text = "model = dict(backbone=dict(_delete_=True, type='mmcls.ResNet', depth=50))"
    assert prepare(heir(text, 'classifier_ft'))[0].model.backbone == dict(type='ResNet', depth=50)


# --- modules of the user's own


@pytest.mark.parametrize('imports, words', [
    ("['./mine']", "modules are named by dots; write 'mine' (heir.py:2)"),
    ("['.mine']", "write 'mine'"),
    ("['mine.py']", "write 'mine'"),
    ("['pkg/sub']", "write 'pkg.sub'"),
    ("['pkg\\\\sub.py']", "write 'pkg.sub'"),
    ("['mine,other']", "it is one text; write a list, ['mine', 'other']"),
    ('"[\'mine\', \'other\']"', "it is one text; write a list, ['mine', 'other']"),
    ("['mmdet.my_plugin']", 'it is a module of MMDetection V2'),
])
def test_a_module_that_is_written_as_a_path_is_answered_with_its_name(heir, imports, words):
    assert words in refused(
        heir(f'custom_imports = dict(imports={imports})', mine=OWN.format('MineA')))


def test_mistakes_around_registration_are_told_with_the_users_line(heir):
    text = refused(
        heir("custom_imports = dict(imports=['taken'])", taken=OWN.format('LoadImageFromFile')))
    assert text.startswith(
        "taken.py:2: pipeline type 'LoadImageFromFile' is already mmdet_ft.datasets.pipelines.")
    text = refused(
        heir(
            "custom_imports = dict(imports=['bare'])",
            bare=OWN.format('Bare').replace('()\n', '\n')))
    assert text == 'bare.py:2: Bare: write @PIPELINES.register_module() with parentheses'
    text = refused(
        heir(
            "custom_imports = dict(imports=['unregistered'])\n"
            "data = dict(train=dict(pipeline=[dict(type='Forgotten')]))",
            unregistered='class Forgotten:\n    pass\n'))
    assert 'unregistered has a class of this name that is not registered: write @PIPELINES.register_module()' in text


def test_all_files_of_the_user_are_told_at_once(heir):
    text = refused(
        heir(
            "custom_imports = dict(imports=['first', 'second', 'nosuch', 'broken'])",
            first='from mmdet.models import BACKBONES\n',
            second='from mmcls.models import HEADS\n',
            broken='a = = 1\n'))
    for words in ('first.py:1: from mmdet.models import BACKBONES: write',
                  'second.py:1: from mmcls.models', "cannot import 'nosuch'",
                  'broken.py:1: invalid syntax'):
        assert words in text


# --- the registry's errors


def test_an_unknown_type_is_a_key_error_without_quotes_that_ends_a_command_on_one_message():
    with pytest.raises(UnknownTypeError) as caught:
        PIPELINES.build(dict(type='Qqqzzz'))
    error = caught.value
    assert isinstance(error, KeyError) and is_user_mistake(error)
    assert str(error) == message_of(error) == (
        "unknown pipeline type 'Qqqzzz'. If it is a class of your own, import its module: "
        "custom_imports=dict(imports=['your.module'])")
    with pytest.raises(
            KeyError,
            match="^unknown dataset type 'COCODataset'; did you mean 'CocoDataset'. Or if"):
        DATASETS.build(dict(type='COCODataset'))
    with pytest.raises(
            KeyError,
            match="^'Conformer' is a type of MMClassification 0.25.0 that is not supported"):
        MODELS.build(dict(type='Conformer'))


def test_a_taken_name_is_a_user_mistake_too():
    table = Registry('thing')
    table.register_module('A', module=dict)
    with pytest.raises(TakenNameError) as caught:
        table.register_module('A', module=list)
    assert is_user_mistake(caught.value) and "'A' is already builtins.dict" in str(caught.value)


def test_the_arguments_of_a_tracker_are_its_own(heir):
    hook = "dict(type='WandbLoggerHook', init_kwargs=dict(project='a', config=dict(b=[dict(c=1)])))"
    prepare(heir(f'log_config = dict(hooks=[{hook}])'))
    text = refused(heir("log_config = dict(hooks=[dict(type='WandbLoggerHook', init_kwargs='a')])"))
    assert 'init_kwargs: must be a dict' in text


def test_a_roi_layer_of_mmcv_is_answered_as_such(heir):
    layer = "dict(type='DeformRoIPoolPack', _delete_=True)"
    text = refused(heir(f'model = dict(roi_head=dict(bbox_roi_extractor=dict(roi_layer={layer})))'))
    assert "'DeformRoIPoolPack' is a type of mmcv 1.7.2 that is not supported here" in text
