"""The check of a whole config: every mistake named with its line and the right spelling, no false alarm."""
import cProfile
import random
import re
from pathlib import Path

import pytest

from mmdet_ft.config import CheckError, Config, ConfigDict, ConfigError, load_config
from mmdet_ft.engine.config_check.check import check, prepare
from mmdet_ft.engine.config_check.mistakes import nearest
from mmdet_ft.engine.config_check.top_level import ENGINE_NAMES
from mmdet_ft.registry import HOOKS, MODELS, PIPELINES

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
SHIPPED = sorted(
    path for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and Config.fromfile(path).get('model'))
MAIN = CONFIGS / 'cityscapes/mask_rcnn_ft.py'


def mistakes(config):
    """What the check says of a config, a list of Mistake."""
    with pytest.raises(CheckError) as caught:
        prepare(config)
    return caught.value.mistakes


def heir(tmp_path, monkeypatch, text, base=MAIN):
    """A config over the fine-tuning one, with its mistakes."""
    path = tmp_path / 'heir.py'
    path.write_text(f'_base_ = {str(base)!r}\n{text}\n')
    monkeypatch.chdir(tmp_path)
    return load_config('heir.py')


# --- no false alarm


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_config_is_right(path):
    # DeepFashion's keeps the older key, as V2's does.
    assert [line for line in prepare(load_config(path))[1] if 'imgs_per_gpu' not in line] == []


def test_a_dumped_config_is_right_though_nothing_reads_its_variables(tmp_path):
    for suffix in ('py', 'json', 'yml'):
        path = str(tmp_path / f'dumped.{suffix}')
        load_config(MAIN, {'seed': 1, 'gpu_ids': [0]}).dump(path)
        assert prepare(load_config(path))[1] == []
        assert load_config(path).dataset_type == 'CityscapesDataset'


def test_a_dumped_config_may_be_a_base(tmp_path):
    for suffix in ('py', 'json', 'yml'):
        dumped = load_config(MAIN)
        dumped.own_norm = dumped.optimizer.copy(
        )  # a variable that a section holds, of a name of the user's
        dumped.dump(str(tmp_path / f'dumped.{suffix}'))
        (tmp_path / 'heir.py').write_text(f"_base_ = 'dumped.{suffix}'\noptimizer = dict(lr=0.5)\n")
        assert prepare(load_config(str(tmp_path / 'heir.py')))[1] == []
        (tmp_path /
         'heir.py').write_text(f"_base_ = 'dumped.{suffix}'\nrunnner = dict(max_epochs=5)\n")
        assert [mistake.path
                for mistake in mistakes(load_config(str(tmp_path / 'heir.py')))] == ['runnner']


def test_a_character_lost_from_a_name_is_noticed_in_a_dumped_config_too(tmp_path):
    source = load_config(MAIN, {'seed': 0, 'data.workers_per_gpu': 0}).pretty_text
    names = [name for name in load_config(MAIN) if name in ENGINE_NAMES]
    for name in [*names, 'seed']:
        for index in range(len(name)):
            wrong = name[:index] + name[index + 1:]
            text = re.sub(rf'(?m)^{name} =', f'{wrong} =', source)
            assert text != source
            found = mistakes(Config.fromstring(text, '.py'))
            assert any(mistake.path == wrong for mistake in found), wrong


def test_v2s_inert_keys_are_accepted(tmp_path, monkeypatch):
    config = heir(
        tmp_path, monkeypatch, '''
model = dict(
    train_cfg=dict(
        rpn=dict(debug=True, assigner=dict(gpu_assign_thr=100)),
        rpn_proposal=dict(nms_across_levels=False, nms_post=1000, max_num=1000, nms_thr=0.7)),
    test_cfg=dict(rpn=dict(nms_across_levels=False, nms_post=1000)))
gpu_ids = range(1)
device = 'cuda'
data = dict(train_dataloader=dict(samples_per_gpu=2))
''')
    assert prepare(config)[1] == []


def test_a_config_built_by_a_program_is_checked_too():
    config = Config(dict(model=dict(type='FasterRCNNN'), data={}))
    assert "'FasterRCNN'" in str(mistakes(config)[0]) and mistakes(config)[0].where is None


# --- typos


def leaf_paths(value, path=()):
    """Paths of the keys of a tree whose values are no dicts."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        here = (*path, key)
        if isinstance(item, dict) or isinstance(item, (list, tuple)) and any(
                isinstance(part, dict) for part in item):
            yield from leaf_paths(item, here)
        elif isinstance(value, dict):
            yield here


def rename(value, path, new):
    """A copy of a tree in which the last key of a path has another name; order is kept."""
    first, *rest = path
    if isinstance(value, dict):
        items = {}
        for key, item in value.items():
            if key == first:
                items[key if rest else new] = rename(item, rest, new) if rest else item
            else:
                items[key] = item
        return items
    return type(value)(rename(item, rest, new) if index == first else item
                       for index, item in enumerate(value))


def without_one_character(name, draw):
    """What is left must be a name of python."""
    indices = [
        index for index in range(len(name)) if (name[:index] + name[index + 1:]).isidentifier()
    ]
    index = draw.choice(indices)
    return name[:index] + name[index + 1:]


def in_sections(config):
    """Leaf keys that are read: those of variables are read through their copies."""
    return [path for path in leaf_paths(config.copy()) if path[0] in ENGINE_NAMES]


def test_two_hundred_typos_in_files_are_all_named_with_file_line_and_spelling(monkeypatch):
    """One character lost from a leaf key, in the text of the file that sets the key."""
    monkeypatch.chdir(ROOT)
    draw = random.Random(0)
    all_keys = [(path, keys) for path in SHIPPED for keys in in_sections(load_config(path))
                if len(str(keys[-1])) > 1]
    for path, keys in draw.sample(all_keys, 200):
        dotted, name = '.'.join(map(str, keys)), keys[-1]
        file, line = load_config(path).where(dotted).rsplit(':', 1)
        lines = (ROOT / file).read_text().splitlines(keepends=True)
        if any(f'[{name!r}]' in text
               for text in lines):  # img_norm_cfg['mean'] fails in Python already
            continue
        wrong = without_one_character(name, draw)
        text, count = re.subn(rf"(?<!\w){name}(?=\s*=)", wrong, lines[int(line) - 1], count=1)
        assert count == 1, (dotted, lines[int(line) - 1])
        lines[int(line) - 1] = text
        with monkeypatch.context() as patch:
            patch.setattr('mmdet_ft.config.reading.text_of', edited(ROOT / file, ''.join(lines)))
            found = mistakes_of(path)
        assert [
            message for message in found if f'{file}:{line}' in message
            and f'did you mean {name!r}?' in message and wrong in message
        ], (str(path), dotted, wrong, found)


def mistakes_of(path):
    try:
        prepare(load_config(path))
    except CheckError as error:
        return [str(mistake) for mistake in error.mistakes]
    except ConfigError as error:
        return [str(error)]
    return []


def edited(file, text):
    from mmdet_ft.config.reading import text_of
    return lambda path: text if Path(path) == file else text_of(path)


def test_two_hundred_typos_on_the_command_line_are_all_named_with_the_right_spelling():
    draw = random.Random(1)
    all_keys = [(path, keys) for path in SHIPPED for keys in in_sections(load_config(path))]
    for path, keys in draw.sample(all_keys, 200):
        words = [
            index for index, step in enumerate(keys) if isinstance(step, str) and len(step) > 1
        ]
        index = draw.choice(words)
        steps = [str(step) for step in keys]
        right = steps[index]
        steps[index] = without_one_character(right, draw)
        found = mistakes(load_config(path, {'.'.join(steps): 1}))
        wanted = [mistake for mistake in found if f'did you mean {right!r}?' in str(mistake)]
        assert wanted and wanted[0].path == '.'.join(steps[:index + 1]), (steps, right,
                                                                          [*map(str, found)])
        assert wanted[0].where.startswith('--cfg-options '), wanted


@pytest.mark.parametrize('name, known, right', [
    ('num_clases', ['num_classes', 'num_convs'], 'num_classes'),
    ('l', ['lr', 'type'], 'lr'),
    ('resnet', ['ResNeXt', 'ResNet'], 'ResNet'),
    ('Shared2FcBBoxHead', ['BBoxHead', 'Shared2FCBBoxHead'], 'Shared2FCBBoxHead'),
    ('qqq', ['lr'], None),
])
def test_the_nearest_name(name, known, right):
    assert nearest(name, known) == right


@pytest.mark.parametrize(
    'name, hint',
    [
        ('cfg_nam', 'remove it, or correct its spelling'),  # nothing reads cfg_name
        ('names', 'remove it, or correct its spelling'),
        ('ab', 'remove it, or correct its spelling'),
        ('lr_confg', "did you mean 'lr_config'?"),
        ('workflo', "did you mean 'workflow'?"),
    ])
def test_a_hint_is_no_unrelated_name(tmp_path, monkeypatch, name, hint):
    text = str(mistakes(heir(tmp_path, monkeypatch, f'{name} = [1, 2]'))[0])
    assert 'nothing reads this name' in text and hint in text


# --- single mistakes


def test_num_classes_of_a_classifier_is_asked_for_at_its_head(tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch, 'num_classes = 3', CONFIGS / 'cifar10/mobilenet_v2_ft.py')
    assert 'classes is model.head.num_classes' in mistakes(config)[0].message


@pytest.mark.parametrize('text, path, words', [
    ("model = dict(neck=dict(type='FPNN'))", 'model.neck', ["unknown model type 'FPNN'", "'FPN'", 'heir.py:2']),
    ("model = dict(rpn_head=dict(loss_cls=dict(type='CrossEntropy')))", 'model.rpn_head.loss_cls',
     ["'CrossEntropyLoss'", 'heir.py:2']),
    ('model = dict(train_cfg=dict(rcnn=dict(assigner=dict(pos_iou=0.5))))', 'model.train_cfg.rcnn.assigner.pos_iou',
     ["MaxIoUAssigner has no 'pos_iou' (here 0.5)", "'pos_iou_thr'"]),
    ('model = dict(test_cfg=dict(rcnn=dict(nms=dict(iou_thres=0.5))))', 'model.test_cfg.rcnn.nms.iou_thres',
     ["'iou_thr'"]),
    ("model = dict(backbone=dict(norm_cfg=dict(type='BatchNorm')))", 'model.backbone.norm_cfg',
     ["unknown norm layer type 'BatchNorm'"]),
    ('model = dict(backbone=dict(norm_cfg=dict(requires_grads=True)))', 'model.backbone.norm_cfg.requires_grads',
     ["BN has no 'requires_grads'", "'requires_grad'"]),
    ("model = dict(neck=dict(conv_cfg=dict(type='Conv2D')))", 'model.neck.conv_cfg', ["'Conv2d'"]),
    ("model = dict(neck=dict(act_cfg=dict(type='ReLu')))", 'model.neck.act_cfg', ["'ReLU'"]),
    ("model = dict(neck=dict(init_cfg=dict(type='Xavier', layers='Conv2d')))", 'model.neck.init_cfg.layers',
     ["'layer'"]),
    ('model = dict(backbone=dict(dcn=dict(deform_groups=1)))', 'model.backbone.dcn', ['needs a type']),
    ("model = dict(backbone=dict(dcn=dict(type='DCNv3')))", 'model.backbone.dcn', ["'DCN"]),
    ("model = dict(backbone=dict(dcn=dict(type='DCN', deform_group=1)))", 'model.backbone.dcn.deform_group',
     ["'deform_groups'"]),
    ("model = dict(backbone=dict(plugins=[dict(cfg=dict(type='ContextBlok'), position='after_conv3')]))",
     'model.backbone.plugins.0.cfg', ["'ContextBlock'"]),
    ("model = dict(backbone=dict(plugins=[dict(cfg=dict(type='ContextBlock', ratios=.1))]))",
     'model.backbone.plugins.0.cfg.ratios', ["'ratio'"]),
    ("data = dict(train=dict(dataset=dict(type='CityScapesDataset')))", 'data.train.dataset', ["'CityscapesDataset'"]),
    ("data = dict(val=dict(ann_fil='a.json'))", 'data.val.ann_fil', ["'ann_file'"]),
    ('data = dict(workers_per_gpus=2)', 'data.workers_per_gpus', ["'workers_per_gpu'"]),
    ('data = dict(train_dataloader=dict(shufle=True))', 'data.train_dataloader.shufle', ["'shuffle'"]),
    ('data = dict(train=dict(time=2))', 'data.train.time', ["RepeatDataset has no 'time'", "'times'"]),
    ("evaluation = dict(metrics='bbox')", 'evaluation.metrics', ["'metric'"]),
    ("evaluation = dict(save_bets='bbox_mAP')", 'evaluation.save_bets', ["'save_best'"]),
    ("optimizer = dict(type='AdamWW')", 'optimizer', ["'AdamW'"]),
    ('optimizer = dict(beta=0.9)', 'optimizer.beta', ["SGD has no 'beta'"]),
    ('optimizer = dict(paramwise_cfg=dict(norm_decay=0))', 'optimizer.paramwise_cfg.norm_decay', ["'norm_decay_mult'"]),
    ('optimizer = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr=0.1))))',
     'optimizer.paramwise_cfg.custom_keys.backbone.lr', ["'lr_mult'"]),
    ('optimizer_config = dict(grad_clip=dict(maxnorm=1), _delete_=True)', 'optimizer_config.grad_clip.maxnorm',
     ["'max_norm'"]),
    ("lr_config = dict(policy='steps')", 'lr_config.policy', ["'Step'"]),
    ('lr_config = dict(warmup_iter=5)', 'lr_config.warmup_iter', ["'warmup_iters'"]),
    ("momentum_config = dict(policy='cycl')", 'momentum_config.policy', ["'Cyclic'"]),
    ("momentum_config = dict(policy='CosineAnnealing', min_momentum_rate=0.1)", 'momentum_config.min_momentum_rate',
     ["'min_momentum_ratio'"]),
    ("optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iter=2)",
     'optimizer_config.cumulative_iter', ["'cumulative_iters'"]),
    ("runner = dict(type='EpochRunner')", 'runner', ["'EpochBasedRunner'"]),
    ('runner = dict(max_epoch=3)', 'runner.max_epoch', ["'max_epochs'"]),
    ('checkpoint_config = dict(max_keep=3)', 'checkpoint_config.max_keep', ["'max_keep_ckpts'"]),
    ("log_config = dict(hooks=[dict(type='TextLogger')])", 'log_config.hooks.0', ["'TextLoggerHook'"]),
    ("custom_hooks = [dict(type='NumClassCheck')]", 'custom_hooks.0', ["'NumClassCheckHook'"]),
    ("log_config = dict(hooks=[dict(type='TextLoggerHook'), 'TensorboardLoggerHook'])", 'log_config.hooks.1',
     ["must be a dict, not 'TensorboardLoggerHook'; write dict(type='TensorboardLoggerHook')"]),
    ("log_config = dict(hooks=[dict(type='TextLoggerHook'), None])", 'log_config.hooks.1', ['a dict, not None']),
    ('custom_hooks = [5]', 'custom_hooks.0', ['must be a dict, not 5']),
    ('fp16 = dict(loss_scal=512.)', 'fp16.loss_scal', ["'loss_scale'"]),
    ("workflow = [('train', 1), ('vall', 1)]", 'workflow', ["[('train', 1)]"]),
    ("dist_params = dict(backnd='gloo')", 'dist_params.backnd', ["'backend'"]),
    ('lr_confg = dict(gamma=0.1)', 'lr_confg', ['nothing reads this name', "'lr_config'"]),
    ('num_classes = 3', 'num_classes',
     ['classes is model.roi_head.bbox_head.num_classes and model.roi_head.mask_head.num_classes']),
    ('model = dict(bbox_head=dict(num_classes=3))', 'model.bbox_head',
     ['model.roi_head.bbox_head.num_classes', 'heir.py:2']),
    ('nr_gpus = 3', 'nr_gpus', ['nothing reads this name (= 3)']),
    ('fp16 = dict(_delete_=True, loss_scale=512.)', 'fp16._delete_', ['nothing to delete', 'heir.py:2']),
    ("model = dict(roi_head=dict(bbox_head=dict(loss_iou=dict(_delete_=True, type='IoULoss'))))",
     'model.roi_head.bbox_head.loss_iou', ["'loss_iou'"]),
    ("data = dict(samples_per_gpu=2, train=dict(pipeline=[dict(type='LoadImage')]))", 'data.train.pipeline',
     ["RepeatDataset has no 'pipeline'"]),
])  # yapf: disable
def test_a_mistake_is_named(tmp_path, monkeypatch, text, path, words):
    found = mistakes(heir(tmp_path, monkeypatch, text))
    assert found[0].path == path, [*map(str, found)]
    message = str(found[0])
    assert all(word in message for word in words) and 'heir.py:2' in message, message


@pytest.mark.parametrize('path, kind', [
    ('model.init_cfg', 'a dict or a list'),
    ('model.backbone', 'a dict'),
    ('model.backbone.init_cfg', 'a dict or a list'),
    ('model.backbone.norm_cfg', 'a dict'),
    ('model.roi_head.bbox_head.loss_cls', 'a dict'),
    ('model.train_cfg', 'a dict'),
    ('model.train_cfg.rpn.assigner', 'a dict'),
    ('data.val', 'a dict, or a list of them'),
    ('data.val.pipeline', 'a list'),
    ('data.val.pipeline.0', 'a dict'),
    ('data.val_dataloader', 'a dict'),
    ('data.val_dataloader.sampler', 'a dict'),
    ('optimizer', 'a dict'),
    ('optimizer.paramwise_cfg', 'a dict'),
    ('optimizer_config.grad_clip', 'a dict'),
    ('lr_config', 'a dict'),
    ('runner', 'a dict'),
    ('log_config.hooks', 'a list'),
    ('log_config.hooks.0', 'a dict'),
])
def test_a_string_in_place_of_a_dict_is_named(path, kind):
    found = mistakes(load_config(MAIN, {path: '{type:A}'}))
    assert f"{path}: must be {kind}, not '{{type:A}}' (--cfg-options {path})" in map(str, found)


def test_a_logger_added_on_the_command_line_is_checked_as_one_of_a_file():
    config = load_config(MAIN, {'log_config.hooks.1.type': 'TensorboardLoggerHook'})
    assert prepare(config)[0].log_config.hooks[1] == dict(type='TensorboardLoggerHook')
    found = mistakes(load_config(MAIN, {'log_config.hooks.1.type': 'TensorboardLogger'}))
    assert "did you mean 'TensorboardLoggerHook'? (--cfg-options log_config.hooks.1.type)" in str(
        found[0])


def test_a_key_left_over_from_another_type_asks_for_delete(tmp_path, monkeypatch):
    wanted = ("optimizer.momentum: Adam has no 'momentum' (here 0.9); it was meant for SGD: write "
              '_delete_=True beside the type Adam ({}) to inherit nothing (')
    adam = dict(type='Adam', lr=0.001)
    found = mistakes(load_config(MAIN, {'optimizer': adam}))
    assert str(found[0]).startswith(wanted.format('--cfg-options optimizer.type'))
    assert prepare(load_config(MAIN, {'optimizer': dict(adam, _delete_=True)}))[1] == []
    found = mistakes(heir(tmp_path, monkeypatch, "optimizer = dict(type='Adam', lr=0.001)"))
    assert str(found[0]).startswith(wanted.format('heir.py:2'))
    found = mistakes(heir(tmp_path, monkeypatch, "lr_config = dict(policy='poly', min_lr=0.)"))
    assert str(found[0]).startswith(
        "lr_config.step: lr_config of policy 'poly' has no 'step' (here [7]); it was meant "
        'for step: write _delete_=True beside the policy poly (heir.py:2)')
    text = "optimizer = dict(_delete_=True, type='Adam', beta=1)"
    assert 'meant for' not in str(mistakes(heir(tmp_path, monkeypatch, text))[0])


def test_a_mistake_of_a_base_names_the_base_file(tmp_path, monkeypatch):
    (tmp_path / 'base.py').write_text('optimizer = dict(\n    nestrov=True)\n')
    config = heir(tmp_path, monkeypatch, 'log_level = "DEBUG"', base=tmp_path / 'base.py')
    assert "did you mean 'nesterov'" not in str(
        mistakes(config)[0])  # without a type nothing is known
    (tmp_path / 'base.py').write_text("optimizer = dict(\n    type='SGD',\n    nestrov=True)\n")
    found = mistakes(load_config('heir.py'))[0]
    assert (found.path, found.where) == ('optimizer.nestrov', 'base.py:3')


def test_all_mistakes_are_told_at_once_ten_at_most(tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch, '\n'.join(f'name_{i} = {i}' for i in range(13)))
    with pytest.raises(CheckError) as caught:
        prepare(config)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith('13 mistakes in the config') and lines[-1] == '... and 3 more' and len(
        lines) == 12
    assert caught.value.exit_code == 2


def test_a_missing_argument_is_told():
    config = load_config(MAIN, {'model.neck': dict(_delete_=True, type='FPN', in_channels=[1])})
    assert 'FPN needs out_channels and num_outs' in str(mistakes(config)[0])


def test_without_a_runner_training_is_refused_and_testing_is_not(tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch, 'runner = None')
    assert 'the config has no runner' in str(mistakes(config)[0])
    prepare(config, for_training=False)


# --- top-level names


def test_a_name_that_an_expression_reads_is_legal(tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch,
                  "rate = 0.1\noptimizer = dict(lr=rate)\nname = 'a'\nwork_dir = 'runs/${name}'")
    assert prepare(config)[1] == []


def test_a_base_variable_read_with_braces_is_legal(tmp_path, monkeypatch):
    (tmp_path /
     'base.py').write_text(f'_base_ = {str(MAIN)!r}\nrate = 0.1\nhooks = dict(interval=3)\n')
    config = heir(
        tmp_path,
        monkeypatch,
        'optimizer = dict(lr={{ _base_.rate }})\nlog_config = {{ _base_.hooks }}',
        base=tmp_path / 'base.py')
    assert prepare(config)[1] == []


def test_overriding_a_variable_of_a_base_is_warned_of_with_what_keeps_the_old_value(
        tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch, "data_root = '/mine/'")
    (warning, ) = prepare(config)[1]
    assert 'data_root (heir.py:2)' in warning and 'cityscapes_instance.py:3' in warning
    assert 'data.train.dataset.ann_file, data.train.dataset.img_prefix, data.val.ann_file' in warning


def test_a_name_that_neither_the_base_nor_its_heir_reads_is_an_error(tmp_path, monkeypatch):
    (tmp_path / 'base.py').write_text(f'_base_ = {str(MAIN)!r}\nlr_confg = dict(a=1)\n')
    config = heir(tmp_path, monkeypatch, 'lr_confg = dict(b=1)', base=tmp_path / 'base.py')
    assert "did you mean 'lr_config'? (heir.py:2)" in str(mistakes(config)[0])


@pytest.mark.parametrize('option, path', [
    ('data_root', 'data.train.dataset.ann_file, data.train.dataset.img_prefix, data.val.ann_file'),
    ('img_norm_cfg.mean', 'data.train.dataset.pipeline.4'),
    ('dataset_type', 'data.train.dataset.type, data.val.type, data.test.type'),
])
def test_a_variable_on_the_command_line_names_what_holds_its_value(option, path):
    (mistake, ) = mistakes(load_config(MAIN, {option: 1}))
    assert 'expressions have read it' in mistake.message and path in mistake.message
    assert 'cityscapes_instance.py:' in mistake.message


# --- types of users


def test_types_of_users_are_checked_by_their_signature_and_with_kwargs_take_anything(
        tmp_path, monkeypatch):

    class Strict:

        def __init__(self, size, part=None):
            pass

    class Open:

        def __init__(self, **kwargs):
            pass

    for registry, names in ((HOOKS, ('StrictHook', 'OpenHook')), (PIPELINES, ('StrictStep',
                                                                              'OpenStep'))):
        for name, cls in zip(names, (Strict, Open)):
            monkeypatch.setitem(registry.module_dict, name, cls)
    text = ("custom_hooks = [dict(type='OpenHook', any=dict(type='Thing', thing=1)), "
            "dict(type='StrictHook', size=1, part=dict(type='Other', x=1), priority='LOW')]")
    assert prepare(heir(tmp_path, monkeypatch, text))[1] == []
    found = mistakes(heir(tmp_path, monkeypatch, text.replace('size=', 'siz=')))
    assert "StrictHook has no 'siz' (here 1); did you mean 'size'?" in str(found[0])
    step = "data = dict(val=dict(pipeline=[dict(type='OpenStep', a=1), dict(type='StrictStep')]))"
    assert 'StrictStep needs size' in str(mistakes(heir(tmp_path, monkeypatch, step))[0])


def test_a_backbone_of_a_user_may_have_parts_that_no_registry_knows(tmp_path, monkeypatch):

    class MyBackbone:

        def __init__(self, stem, norm_cfg=None):
            pass

    monkeypatch.setitem(MODELS.module_dict, 'MyBackbone', MyBackbone)
    text = ("model = dict(backbone=dict(_delete_=True, type='MyBackbone', stem=dict(kind='x'), "
            "norm_cfg=dict(type='{}')))")
    assert prepare(heir(tmp_path, monkeypatch, text.format('GN')))[1] == []
    assert "did you mean 'GN'?" in str(mistakes(heir(tmp_path, monkeypatch, text.format('GNN')))[0])


def test_a_misspelt_key_of_custom_imports_is_told_before_anything_is_imported(
        tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch,
                  "custom_imports = dict(import_=['a'], imports=['no_such'])")
    assert "'import_' (here ['a']); did you mean 'imports'?" in str(mistakes(config)[0])


def test_a_module_that_cannot_be_imported_is_a_mistake_with_its_line(tmp_path, monkeypatch):
    config = heir(tmp_path, monkeypatch, "custom_imports = dict(imports=['no_such_module'])")
    with pytest.raises(CheckError, match=r"cannot import 'no_such_module' .*\(heir.py:2\)"):
        prepare(config)


# --- classes


def test_num_classes_against_classes_names_both_lines(tmp_path, monkeypatch):
    text = "classes = ('a', 'b')\ndata = dict(train=dict(dataset=dict(\n    classes=classes)))"
    found = mistakes(heir(tmp_path, monkeypatch, text))
    assert [mistake.path for mistake in found
            ] == ['model.roi_head.bbox_head.num_classes', 'model.roi_head.mask_head.num_classes']
    assert 'CityscapesDataset has 2 classes (heir.py:4) but model.roi_head.bbox_head.num_classes is 8; ' \
        'write num_classes=2' in str(found[0])
    assert found[0].where.endswith('configs/cityscapes/mask_rcnn_ft.py:23')


def test_num_classes_is_asked_without_the_hook_but_not_of_class_files(tmp_path, monkeypatch):
    two = "data = dict(train=dict(dataset=dict(classes=('a', 'b'))))\ncustom_hooks = []"
    with pytest.raises(CheckError, match='CityscapesDataset has 2 classes'):
        prepare(heir(tmp_path, monkeypatch, two))
    file = "data = dict(train=dict(dataset=dict(classes='names.txt')))"
    assert prepare(heir(tmp_path, monkeypatch, file))[1] == []


# --- time


def test_a_warm_checked_load_is_a_few_thousand_calls():
    """Counted and not timed: a machine may be slow or busy. A call takes about 0.1 microseconds."""
    prepare(load_config(MAIN))
    profile = cProfile.Profile()
    profile.runcall(lambda: prepare(load_config(MAIN)))
    assert sum(entry.callcount
               for entry in profile.getstats()) < 60_000  # 30,294 when this was written


def test_a_check_does_not_change_the_config():
    config = load_config(MAIN)
    before = config.copy().to_dict()
    check(config)
    assert config.copy().to_dict() == before and isinstance(config.model, ConfigDict)


JUNK = [
    3, 'x', True, [], {}, [1], [[]], (1, 2),
    dict(a=1),
    dict(type='X'),
    dict(type=3),
    dict(type=['a']),
    dict(type=None), [dict(type='X')]
]


def all_paths(value, path=()):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list, tuple)):
            yield from all_paths(item, (*path, key))


def test_whatever_stands_in_a_place_the_check_itself_does_not_fail():
    draw = random.Random(2)
    indices = list(all_paths(load_config(MAIN).copy()))
    for _ in range(400):
        config, path = load_config(MAIN), draw.choice(indices)
        node = config._cfg_dict
        for step in path[:-1]:
            node = node[step]
        if not isinstance(node, tuple):
            node[path[-1]] = draw.choice(JUNK)
        try:
            prepare(config)
        except ConfigError as error:
            assert str(error)
