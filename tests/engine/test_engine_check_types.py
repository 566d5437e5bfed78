"""Types of V2 that are not here, scopes, modules of the user's own: what the check says of them."""
import sys
from pathlib import Path

import pytest

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import is_user_mistake, message_of
from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, PIPELINES, Registry, TakenNameError,
                               UnknownTypeError)
from mmdet_ft.v2_types import packages_of

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


@pytest.mark.parametrize('text, words', [
    ("model = dict(type='CascadeRCNN')",
     "model: unknown model type 'CascadeRCNN'; CascadeRCNN is a type of MMDetection "
     'and is not supported; the models here are ImageClassifier, '),
    ("model = dict(backbone=dict(type='SwinTransformer'))", 'SwinTransformer is a type of MMDetection and MMClass'),
    ("model = dict(backbone=dict(type='mmcls.ConvNeXt'))", 'ConvNeXt is a type of MMClassification and is not'),
    ("log_config = dict(hooks=[dict(type='WandbLoggerHook')])",
     'is not supported; the loggers here are TextLoggerHook and TensorboardLoggerHook (heir.py:2)'),
    ("custom_hooks = [dict(type='MMDetWandbHook')]", 'MMDetWandbHook is a type of MMDetection and is not supported'),
    ("data = dict(train=dict(type='Objects365V1Dataset'))", 'Objects365V1Dataset is a type of MMDetection'),
    ("data = dict(train=dict(type='YOLODataset'))", "read annotations in COCO's json form by CocoDataset"),
    ("data = dict(train=dict(pipeline=[dict(type='InstaBoost')]))", 'InstaBoost is a type of MMDetection'),
    ("optimizer = dict(type='Lamb')", 'Lamb is a type of MMClassification'),
    ("optimizer = dict(constructor='LearningRateDecayOptimizerConstructor')", 'is a type of MMDetection and is not'),
    ("model = dict(backbone=dict(type='timm.ResNet'))", "there is no scope 'timm'; write the type alone, 'ResNet'"),
    ("data = dict(train=dict(type='COCODataset'))", "did you mean 'CocoDataset'?"),
    ("model = dict(backbone=dict(type='Resnet'))", "did you mean 'ResNet'?"),
])  # yapf: disable
def test_a_type_that_is_not_here_is_answered_as_what_it_is(heir, text, words):
    assert words in refused(heir(text))


def test_no_type_that_is_here_is_answered_as_missing():
    for registry in (MODELS, DATASETS, PIPELINES, HOOKS):
        for name in registry:
            assert registry.get(name) is not None and '.' not in name
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
            KeyError, match='CascadeRCNN is a type of MMDetection and is not supported$'):
        MODELS.build(dict(type='CascadeRCNN'))


def test_a_taken_name_is_a_user_mistake_too():
    table = Registry('thing')
    table.register_module('A', module=dict)
    with pytest.raises(TakenNameError) as caught:
        table.register_module('A', module=list)
    assert is_user_mistake(caught.value) and "'A' is already builtins.dict" in str(caught.value)
