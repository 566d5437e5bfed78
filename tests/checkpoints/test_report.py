"""What the log says of a checkpoint, beside what test_checkpoints.py shows."""
import json

import pytest
import torch

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.formats.origin import Origin
from mmdet_ft.checkpoints.input_format import (IMAGENET, MSRA, InputFormat, input_scale,
                                               read_input_format, read_literals)
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.checkpoints.report import compare_input_format, find_input_format, group_reasons
from mmdet_ft.config import Config
from mmdet_ft.parts import Rows, stated_layers
from mmdet_ft.registry import MODELS
from tests.checkpoints.test_kinds_torchvision import CONFIGS
from tests.models.tiny import tiny_config, tiny_model

CAFFE = '''
img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
model = dict(type='MaskRCNN', backbone=dict(type='ResNet', depth=50, style='caffe'))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Normalize', **img_norm_cfg)]
data = dict(train=dict(pipeline=train_pipeline))
'''


def config(name):
    return Config.fromfile(CONFIGS.parent / name)


def test_facts_of_configs_of_every_age():
    assert read_input_format(config('mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py')) == IMAGENET
    assert read_input_format(config('mask_rcnn/mask_rcnn_r50_caffe_fpn_1x_coco.py')) == MSRA
    assert read_input_format(read_literals(CAFFE)) == MSRA
    assert read_input_format(
        read_literals('/path/of/the/config.py\n' + CAFFE)) == MSRA  # as mmcv 0.x kept it
    early = "img_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)\n" \
            "data = dict(imgs_per_gpu=2, train=dict(img_norm_cfg=img_norm_cfg))"
    assert read_input_format(read_literals(early)) == InputFormat(True, (1., 2., 3.), (4., 5., 6.))
    third = "model = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=False))"
    assert read_input_format(read_literals(third)) == InputFormat(False, (1., 2., 3.), (4., 5., 6.))
    pretrain = "data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)"
    assert read_input_format(read_literals(pretrain)) == InputFormat(True, (1., 2., 3.),
                                                                     (4., 5., 6.))
    step = dict(type='Normalize', mean=[1, 2, 3], std=[4, 5, 6], to_rgb=False)
    for wrap in (lambda dataset: dataset,
                 lambda dataset: dict(type='RepeatDataset', dataset=dataset)):
        cifar = dict(data=dict(train=wrap(dict(type='CIFAR10', pipeline=[step]))))
        assert read_input_format(cifar) == InputFormat(True, (1., 2., 3.),
                                                       (4., 5., 6.))  # read as R G B, and left so
    assert read_input_format({}) == InputFormat()


def test_configs_are_read_and_not_run(tmp_path):
    text = f'''
import os
evil = os.mkdir({str(tmp_path / "made")!r})
a = [1, -2.5, dict(b='x', **dict(c=None)), {{'d': (True, )}}]
names = a + [dict(e=len(a), f=evil, g=3)]
text = 'left' + 'right'
'''
    assert read_literals(text) == dict(
        a=[1, -2.5, dict(b='x', c=None), dict(d=(True, ))],
        names=[1, -2.5, dict(b='x', c=None),
               dict(d=(True, )),
               dict(e={}, f=None, g=3)],
        text='leftright')
    assert not list(tmp_path.iterdir())
    assert read_literals('def broken(:') == {} and read_literals('(' * 5000) == {}


@pytest.mark.parametrize('bomb', [
    'a = [1]\n' + 'a = a + a\n' * 60,
    "a = 'x'\n" + 'a = a + a\n' * 60,
    'a = [1]\n' + 'a = [a, dict(b=a)]\n' * 60 + 'data = dict(train=a)',
    'a = ' + '-' * 100_000 + '1',
    'a = ' + '1+' * 100_000 + '1',
])
def test_a_config_that_would_grow_without_end_is_given_up(bomb):
    assert read_input_format(read_literals(bomb)) == InputFormat()


def test_another_normalisation_is_told_with_the_line_to_write():
    warning, = compare_input_format(MSRA._replace(style=None), IMAGENET, {})
    assert warning == (
        'these weights were trained on BGR with mean [103.53, 116.28, 123.675] and std [1.0, 1.0, 1.0], the data here '
        'come as RGB with mean [123.675, 116.28, 103.53] and std [58.395, 57.12, 57.375]; write img_norm_cfg = '
        'dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False) and use it in the pipelines'
    )
    assert compare_input_format(IMAGENET, IMAGENET, {}) == ()
    assert compare_input_format(IMAGENET, IMAGENET._replace(to_rgb=False), {}) != ()
    assert compare_input_format(MSRA, InputFormat(), {}) == ()  # nothing is known of the data


def test_caffe_weights_in_a_pytorch_model_are_told():
    found = compare_input_format(MSRA, IMAGENET, {})
    assert len(found) == 2 and "model.backbone.style='caffe'" in found[1]


@pytest.mark.parametrize('grey_levels, std, warned', [
    (True, (58.4, 57.1, 57.4), True),
    (False, (1., 1., 1.), True),
    (True, (1., 1., 1.), False),
    (False, (58.4, 57.1, 57.4), False),
])
def test_without_a_config_the_first_convolution_tells_what_it_was_trained_on(
        grey_levels, std, warned):
    torch.manual_seed(0)
    scale = 1 / 58 if grey_levels else 1.
    weights = {
        'backbone.conv1.weight': torch.randn(64, 3, 7, 7) * scale / 147**.5,
        'backbone.bn1.weight': torch.rand(64) + .5,
        'backbone.bn1.running_var': torch.ones(64),
    }
    assert input_scale(weights) == pytest.approx(scale, rel=.2)
    found = compare_input_format(InputFormat(), InputFormat(True, (0., 0., 0.), std), weights)
    assert len(found) == warned
    if warned:
        assert 'the first convolution answers to a unit of its input by' in found[0]


def test_the_scale_does_not_depend_on_where_the_variance_stands():
    weight, gain = torch.randn(8, 3, 7, 7), torch.rand(8)
    plain = {'conv1.weight': weight, 'bn1.weight': gain, 'bn1.running_var': torch.full((8, ), 4.)}
    folded = {'conv1.weight': weight, 'bn1.weight': gain / 2, 'bn1.running_var': torch.ones(8)}
    assert input_scale(plain) == pytest.approx(input_scale(folded), rel=1e-4)
    assert input_scale({}) is None


def test_other_norm_layers_are_told():
    settings = tiny_config()
    settings['neck']['norm_cfg'] = dict(type='GN', num_groups=2)
    grouped = MODELS.build(settings)
    settings['neck']['norm_cfg'] = dict(type='BN')
    report = fit(MODELS.build(settings), Checkpoint('gn.pth', grouped.state_dict(), {}, {}))
    assert report.warnings == (
        'norm layers differ: group norm in the file, batch norm in the model; see norm_cfg',
        '32 of the 40 weights of neck are not in the file and stay as initialized: neck.lateral_convs, '
        'neck.fpn_convs')
    assert 'warning: norm layers differ' in str(report)


def test_the_files_own_config_goes_before_what_is_known_of_its_kind():
    origin = Origin('some kind', facts=IMAGENET)
    assert find_input_format(dict(config=CAFFE), origin) == MSRA
    assert find_input_format({}, origin) == IMAGENET
    assert find_input_format(dict(config='model = dict()'), origin) == IMAGENET


def test_five_lines_and_the_same_for_programs():
    model = tiny_model(num_classes=2)
    model.CLASSES = ('a', 'b')
    meta = dict(CLASSES=('x', 'y', 'z'), config=CAFFE)
    origin = Origin('some kind', ('names as V2 has them', 'classes: ...'), ('trained with ...', ))
    given = Checkpoint('file.pth', tiny_model(num_classes=3).state_dict(), meta, {}, origin)
    report = fit(model, given, run=MSRA)
    lines = str(report).splitlines()
    assert [line.split()[0]
            for line in lines] == ['file.pth', 'on', 're-initialized', 'missing', 'note:']
    assert lines[0].startswith('file.pth (some kind): loaded ')
    record = json.loads(json.dumps(report.as_json()))
    assert record['kind'] == 'some kind' and record['total'] == report.total
    assert record['num_classes'] == dict(file=3, model=2)
    assert record['reinitialised'][0] == dict(
        name='roi_head.bbox_head.fc_cls.weight', shape_in_file=[4, 32], shape_in_model=[3, 32])
    assert record['missing'] == record['unexpected'] == record['warnings'] == []


def test_each_layer_that_begins_fresh_has_its_own_reason():
    source = tiny_model(num_classes=3)
    settings = tiny_config(num_classes=5)
    settings['rpn_head']['anchor_generator'].update(scales=[2, 4])
    model = MODELS.build(settings)
    model.CLASSES = tuple('abcde')
    report = str(
        fit(model, Checkpoint('a.pth', source.state_dict(), dict(CLASSES=tuple('abc')), {})))
    anchors, classes = [line for line in report.splitlines() if 're-initialized because' in line]
    assert 'each location has 6 anchors, 3 in the file (anchor_generator.scales, ratios' in anchors
    assert 'rpn_head.rpn_cls.weight (3, 16, 1, 1) -> (6, 16, 1, 1)' in anchors and 'rpn_reg' in anchors
    assert 'classes changed 3 -> 5' in classes and 'fc_cls' in classes and 'rpn' not in classes


@pytest.mark.parametrize('name, old, new, reason', [
    ('rpn_head.rpn_cls.weight', (3, 16, 1, 1), (3, 32, 1, 1), 'the layer before gives 32 channels, 16 in the file'),
    ('roi_head.mask_head.conv_logits.weight', (3, 16, 1, 1), (3, 16, 3, 3), 'the kernel is 3 x 3, 1 x 1 in the file'),
    ('rpn_head.rpn_reg.bias', (12, ), (4, ), 'each location has 1 anchors, 3 in the file'),
    ('roi_head.bbox_head.fc_cls.weight', (4, 16), (3, 16), 'classes changed 3 -> 2'),
    ('backbone.classifier.6.bias', (3, ), (2, ), 'classes changed 3 -> 2'),
])  # yapf: disable
def test_the_reason_follows_the_shapes(name, old, new, reason):
    layers = {**stated_layers(tiny_model()), 'backbone.classifier.6.': Rows()}
    report = fit(tiny_model(), Checkpoint('a.pth', tiny_model().state_dict(), {}, {}))
    report = report._replace(reinitialised=[(name, old, new)], classes=(3, 2), layers=layers)
    assert next(iter(group_reasons(report))).startswith(reason)
