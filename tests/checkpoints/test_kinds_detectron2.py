"""Detectron2's names, built here from its own parts: blocks, levels, heads."""
import numpy as np
import pytest
import torch

from mmdet_ft.checkpoints.formats.layout import weights_in
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.reading import read_state_dict
from mmdet_ft.config import Config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.registry import MODELS
from tests.checkpoints.test_kinds_torchvision import CONFIGS, shapes

BLOCKS = (3, 4, 6, 3)


def r50_shapes(prefix='', base=64):
    """Parameters of Detectron2's ResNet-50, name by name."""
    table = {}

    def conv_and_norm(name, out_channels, in_channels, size):
        table[f'{name}.weight'] = (out_channels, in_channels, size, size)
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            table[f'{name}.norm.{part}'] = (out_channels, )

    conv_and_norm(prefix + 'stem.conv1', base, 3, 7)
    channels = base
    for stage, count in enumerate(BLOCKS):
        width = base * 2**stage
        for block in range(count):
            name = f'{prefix}res{stage + 2}.{block}.'
            if block == 0:
                conv_and_norm(name + 'shortcut', 4 * width, channels, 1)
            conv_and_norm(name + 'conv1', width, channels, 1)
            conv_and_norm(name + 'conv2', width, width, 3)
            conv_and_norm(name + 'conv3', 4 * width, width, 1)
            channels = 4 * width
    return table


def mask_rcnn_shapes(num_classes=80):
    table = r50_shapes('backbone.bottom_up.')

    def layer(name, *shape, bias=None):
        table[f'{name}.weight'] = shape
        table[f'{name}.bias'] = (bias or shape[0], )

    for level in (2, 3, 4, 5):
        layer(f'backbone.fpn_lateral{level}', 256, 64 * 2**level, 1, 1)
        layer(f'backbone.fpn_output{level}', 256, 256, 3, 3)
        table[f'proposal_generator.anchor_generator.cell_anchors.{level - 2}'] = (3, 4)
    layer('proposal_generator.rpn_head.conv', 256, 256, 3, 3)
    layer('proposal_generator.rpn_head.objectness_logits', 3, 256, 1, 1)
    layer('proposal_generator.rpn_head.anchor_deltas', 12, 256, 1, 1)
    layer('roi_heads.box_head.fc1', 1024, 256 * 49)
    layer('roi_heads.box_head.fc2', 1024, 1024)
    layer('roi_heads.box_predictor.cls_score', num_classes + 1, 1024)
    layer('roi_heads.box_predictor.bbox_pred', 4 * num_classes, 1024)
    for number in (1, 2, 3, 4):
        layer(f'roi_heads.mask_head.mask_fcn{number}', 256, 256, 3, 3)
    layer('roi_heads.mask_head.deconv', 256, 256, 2, 2)
    layer('roi_heads.mask_head.predictor', num_classes, 256, 1, 1)
    return table


def of_shapes(table):
    return {name: torch.empty(shape, device='meta') for name, shape in table.items()}


def our_model(config):
    with torch.device('meta'):
        return MODELS.build(Config.fromfile(CONFIGS.parent / config).model)


@pytest.mark.parametrize('method', ['mask_rcnn', 'faster_rcnn'])
def test_every_weight_of_the_model_zoo_has_its_place_and_shape(method):
    table = mask_rcnn_shapes()
    if method == 'faster_rcnn':
        table = {name: shape for name, shape in table.items() if 'mask_head' not in name}
    converted, origin = convert(of_shapes(table), {}, {})
    config = f'{method}/{method}_r50_caffe_fpn_1x_coco.py'
    assert shapes(converted) == shapes(our_model(config).state_dict())
    assert origin.classes == CocoDataset.CLASSES and config in origin.advice[0]
    assert origin.facts.to_rgb is False and origin.facts.style == 'caffe'


def cascade_shapes(num_classes=80):
    """Three box heads with class-agnostic boxes, and one mask head."""
    table = {}
    for name, shape in mask_rcnn_shapes(num_classes).items():
        part, found, layer = name.partition('.box_')
        if not found:
            table[name] = shape
            continue
        head, _, layer = layer.partition('.')
        for stage in range(3):
            size = (4, *shape[1:]) if 'bbox_pred' in layer else shape
            table[f'{part}.box_{head}.{stage}.{layer}'] = size
    return table


def test_every_weight_of_a_cascade_has_its_name_and_shape():
    table = cascade_shapes()
    converted, origin = convert(of_shapes(table), {}, {})
    config = 'cascade_rcnn/cascade_mask_rcnn_r50_caffe_fpn_1x_coco.py'
    assert shapes(converted) == shapes(our_model(config).state_dict())
    assert origin.kind == 'Detectron2 Cascade R-CNN' and config in origin.advice[0]
    assert origin.classes == CocoDataset.CLASSES
    boxes = {name: shape for name, shape in table.items() if 'mask_head' not in name}
    converted, origin = convert(of_shapes(boxes), {}, {})
    config = 'cascade_rcnn/cascade_rcnn_r50_caffe_fpn_1x_coco.py'
    assert shapes(converted) == shapes(
        our_model(config).state_dict()) and config in origin.advice[0]


def test_every_weight_keeps_its_value_and_classes_their_order(tmp_path):
    table = mask_rcnn_shapes(num_classes=3)
    generator = np.random.default_rng(0)
    small = {
        name: generator.normal(size=[min(size, 5) for size in shape]).astype(np.float32)
        for name, shape in table.items()
    }
    small['pixel_mean'] = np.array([103.53, 116.28, 123.675], np.float32)[:, None, None]
    small['pixel_std'] = np.ones((3, 1, 1), np.float32)
    content = dict(model=small, __author__='Detectron2 Model Zoo', matching_heuristics=True)
    converted, origin = convert(weights_in(content)[0], {}, content)
    assert len(converted) == len(table) - 4
    values = {
        value.tobytes()
        for name, value in small.items() if 'cell_anchors' not in name and 'pixel' not in name
    }
    assert {value.numpy().tobytes() for value in converted.values()} == values
    for theirs, ours in [
        ('backbone.bottom_up.res3.0.shortcut.norm.running_var',
         'backbone.layer2.0.downsample.1.running_var'),
        ('backbone.bottom_up.res5.2.conv3.norm.bias', 'backbone.layer4.2.bn3.bias'),
        ('backbone.fpn_output4.weight', 'neck.fpn_convs.2.conv.weight'),
        ('roi_heads.box_predictor.cls_score.weight', 'roi_head.bbox_head.fc_cls.weight'),
        ('roi_heads.mask_head.mask_fcn2.bias', 'roi_head.mask_head.convs.1.conv.bias'),
        ('roi_heads.mask_head.deconv.weight', 'roi_head.mask_head.upsample.weight'),
    ]:
        assert np.array_equal(small[theirs], converted[ours].numpy())
    assert origin.facts == (False, (103.53, 116.28, 123.675), (1., 1., 1.), 'caffe')
    assert origin.classes is None


def msra_blobs():
    """R-50.pkl's names: biases of convolutions are there and zero, batch norms a scale and a shift."""
    parts = {'shortcut': 'branch1', 'conv1': 'branch2a', 'conv2': 'branch2b', 'conv3': 'branch2c'}
    generator, blobs = np.random.default_rng(0), {}
    for name, shape in r50_shapes(base=8).items():
        *block, layer, part = name.replace('.norm.', '_norm.').split('.')
        if part.startswith('running'):
            continue
        caffe = 'conv1' if block == [
            'stem'
        ] else f'{block[0]}_{block[1]}_{parts[layer.replace("_norm", "")]}'
        if layer.endswith('_norm'):
            caffe = ('res_' if block == ['stem'] else '') + caffe + ('_bn_s' if part == 'weight'
                                                                     else '_bn_b')
        else:
            blobs[caffe + '_b'] = np.zeros(shape[0], np.float32)
            caffe += '_w'
        blobs[caffe] = generator.normal(size=shape).astype(np.float32)
    blobs.update(fc1000_w=np.zeros((10, 8), np.float32), fc1000_b=np.zeros(10, np.float32))
    return blobs


def test_imagenet_backbones_of_msra():
    content = msra_blobs()
    converted, origin = convert(weights_in(content)[0], {}, content)
    names = {name for name in shapes(MODELS.build(dict(type='ResNet', depth=50)).state_dict())}
    assert set(converted) == names | {'fc.weight', 'fc.bias'}
    assert np.array_equal(converted['layer2.0.downsample.0.weight'].numpy(),
                          content['res3_0_branch1_w'])
    assert np.array_equal(converted['layer4.1.bn2.weight'].numpy(), content['res5_1_branch2b_bn_s'])
    assert np.array_equal(converted['bn1.bias'].numpy(), content['res_conv1_bn_b'])
    norm = torch.nn.BatchNorm2d(8).eval()
    norm.load_state_dict(
        {
            part: converted[f'bn1.{part}']
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        },
        strict=False)
    x = torch.randn(2, 8, 3, 3)
    with torch.no_grad():
        expected = x * converted['bn1.weight'][:, None, None] + converted['bn1.bias'][:, None, None]
        assert torch.allclose(norm(x), expected, atol=1e-6)
    assert origin.facts.style == 'caffe' and origin.facts.to_rgb is False


def test_a_backbone_begins_from_msra_by_init_cfg(tmp_path):
    content = {name: torch.from_numpy(value) for name, value in msra_blobs().items()}
    path = str(tmp_path / 'R-50.pth')
    torch.save(content, path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    backbone = MODELS.build(
        dict(type='ResNet', depth=50, base_channels=8, style='caffe', init_cfg=init_cfg))
    backbone.init_weights(load=read_state_dict)
    assert torch.equal(backbone.layer3[5].conv2.weight, content['res4_5_branch2b_w'])
    assert torch.equal(backbone.layer1[0].downsample[1].bias, content['res2_0_branch1_bn_b'])
    assert torch.equal(backbone.bn1.running_mean, torch.zeros(8))


def test_backbones_that_torchvision_trained():
    table = of_shapes({**r50_shapes(), 'stem.fc.weight': (1000, 2048), 'stem.fc.bias': (1000, )})
    converted, origin = convert(table, {}, {})
    ours = shapes(MODELS.build(dict(type='ResNet', depth=50)).state_dict())
    assert {
        name: shape
        for name, shape in shapes(converted).items() if not name.startswith('fc.')
    } == ours
    assert origin.facts.to_rgb is True
