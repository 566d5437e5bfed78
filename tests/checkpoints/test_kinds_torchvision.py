"""torchvision's files, through torchvision's models and ours."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from mmdet_ft.checkpoints.fitting import fit, pretrained_loader
from mmdet_ft.checkpoints.formats.origin import coco_classes, rename
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import Config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch

CONFIGS = Path(__file__).parents[2] / 'configs' / 'torchvision'
NUM_PROPOSALS = 100
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def their_model(name, num_classes, image):
    """torchvision's model whose weights, though random, say something of every layer and region."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(
        name,
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        min_size=min(image.shape[1:]),
        max_size=max(image.shape[1:]),
        rpn_pre_nms_top_n_test=NUM_PROPOSALS,
        rpn_post_nms_top_n_test=NUM_PROPOSALS).eval()
    for layer_name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            # The last of a block small, so that sixteen sums do not explode.
            scale = .2 if layer_name.endswith('bn3') else 1.
            nn.init.uniform_(layer.weight, .5 * scale, scale)
            nn.init.normal_(layer.bias, std=.1)
            nn.init.normal_(layer.running_mean, std=.1)
            nn.init.uniform_(layer.running_var, .5, 1.5)
            layer.eps = 1e-5 if name.endswith('_v2') else 0.  # that of the published weights
    predictor = model.roi_heads.box_predictor
    spread(model, image, {model.rpn.head.cls_logits: 2., model.rpn.head.bbox_pred: .2})
    spread(model, image, {predictor.cls_score: 2., predictor.bbox_pred: .5})
    return model


def spread(model, image, layers):
    """Give the outputs of some layers, on an image, mean 0 and these deviations."""

    def adapt(layer, inputs, output):
        if layer in layers:
            deviation = layers.pop(layer)
            channels = 1 if output.dim() == 4 else -1
            mean = output.transpose(channels, -1).flatten(0, -2).mean(0)
            layer.weight.data *= deviation / (output - output.mean()).std()
            layer.bias.data -= mean
            output = layer.forward(*inputs)
            layer.bias.data -= output.transpose(channels, -1).flatten(0, -2).mean(0)
            return layer.forward(*inputs)

    handles = [layer.register_forward_hook(adapt) for layer in list(layers)]
    with torch.no_grad():
        model([image])
    for handle in handles:
        handle.remove()


def our_model(config, num_classes=None):
    cfg = Config.fromfile(CONFIGS / config).model
    if num_classes is not None:
        cfg.roi_head.bbox_head.num_classes = num_classes
        if 'mask_head' in cfg.roi_head:
            cfg.roi_head.mask_head.num_classes = num_classes
    cfg.test_cfg.rpn.update(nms_pre=NUM_PROPOSALS, max_per_img=NUM_PROPOSALS)
    return MODELS.build(cfg).eval()


@pytest.mark.parametrize('name, config', [
    ('maskrcnn_resnet50_fpn', 'mask_rcnn_r50_fpn_coco.py'),
    ('maskrcnn_resnet50_fpn_v2', 'mask_rcnn_r50_fpn_v2_coco.py'),
])
def test_the_same_image_gives_the_same_boxes_scores_and_masks(name, config, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3))  # RGB
    image = cv2.resize(image.astype(np.uint8)[::16, ::16], (160, 128)).astype(np.float32)
    their_image = torch.from_numpy(image / 255).permute(2, 0, 1).contiguous()
    our_image = torch.from_numpy((image - MEAN) / STD).permute(2, 0, 1).float()[None]
    theirs = their_model(name, 4, their_image)
    path = str(tmp_path / 'theirs.pth')
    torch.save(theirs.state_dict(), path)
    ours = our_model(config, 3)
    report = fit(ours, read(path))
    assert not report.missing and not report.unexpected and len(report.loaded) == report.total

    theirs.transform.postprocess = lambda result, *_: result  # masks before they are pasted
    sizes = torch.tensor([image.shape[:2]], dtype=torch.float32)
    with torch.no_grad():
        expected = theirs([their_image])[0]
        found = ours(Batch(our_image, sizes, sizes, torch.ones(1, 4), [{}]))
    count = len(expected['scores'])
    assert count > 20 and int(found.valid.sum()) == count
    assert len(set(expected['labels'].tolist())) == 3
    assert expected['scores'].max() - expected['scores'].min() > .3
    assert torch.equal(found.labels[0, :count] + 1, expected['labels'])
    assert torch.allclose(found.scores[0, :count], expected['scores'], atol=1e-4)
    assert torch.allclose(found.boxes[0, :count], expected['boxes'], atol=1e-4, rtol=1e-5)
    assert torch.allclose(found.masks[0, :count], expected['masks'][:, 0], atol=1e-4)


def shapes(state_dict):
    return {
        name: tuple(value.shape)
        for name, value in state_dict.items() if not name.endswith('num_batches_tracked')
    }


@pytest.mark.parametrize('name, config', [
    ('fasterrcnn_resnet50_fpn', 'faster_rcnn_r50_fpn_coco.py'),
    ('fasterrcnn_resnet50_fpn_v2', 'faster_rcnn_r50_fpn_v2_coco.py'),
    ('maskrcnn_resnet50_fpn', 'mask_rcnn_r50_fpn_coco.py'),
    ('maskrcnn_resnet50_fpn_v2', 'mask_rcnn_r50_fpn_v2_coco.py'),
])
def test_every_weight_of_the_published_models_has_its_place_and_shape(name, config):
    with torch.device('meta'):
        theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        ours = our_model(config)
    converted, origin = convert(theirs.state_dict(), {}, {})
    assert shapes(converted) == shapes(ours.state_dict())
    assert origin.classes == CocoDataset.CLASSES
    assert config in origin.advice[0]


def test_the_names_of_the_published_files_are_older():
    with torch.device('meta'):
        theirs = torchvision.models.get_model(
            'maskrcnn_resnet50_fpn', weights=None, weights_backbone=None)
        ours = our_model('mask_rcnn_r50_fpn_coco.py')
    given, older = theirs.state_dict(), {}
    for name, value in given.items():
        for number in range(4):
            name = name.replace(f'mask_head.{number}.0.', f'mask_head.mask_fcn{number + 1}.')
            for blocks in ('inner_blocks', 'layer_blocks'):
                name = name.replace(f'{blocks}.{number}.0.', f'{blocks}.{number}.')
        older[name.replace('rpn.head.conv.0.0.', 'rpn.head.conv.')] = value
    assert len(set(older) - set(given)) == 26
    theirs.load_state_dict(older, assign=True)  # torchvision knows these names as its own
    assert shapes(convert(older, {}, {})[0]) == shapes(ours.state_dict())


def test_classes_lose_the_ids_that_stand_for_nothing_and_the_background_goes_last():
    names, ids = coco_classes()
    assert names == CocoDataset.CLASSES and len(ids) == 80 and ids[0] == 1 and ids[-1] == 90
    heads = {
        'backbone.body.conv1.weight': torch.zeros(1),
        'rpn.head.cls_logits.weight': torch.zeros(1),
        'roi_heads.box_predictor.cls_score.weight': torch.arange(91.)[:, None].expand(-1, 5),
        'roi_heads.box_predictor.bbox_pred.bias': torch.arange(91 * 4.),
        'roi_heads.mask_predictor.mask_fcn_logits.weight': torch.arange(91.)[:, None, None, None],
    }
    converted = convert(heads, {}, {})[0]
    assert converted['roi_head.bbox_head.fc_cls.weight'][:, 0].tolist() == [*ids, 0]
    assert converted['roi_head.bbox_head.fc_reg.bias'].tolist() == [
        4 * number + side for number in ids for side in range(4)
    ]
    assert converted['roi_head.mask_head.conv_logits.weight'].flatten().tolist() == list(ids)


def test_resnets_have_our_names(tmp_path):
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(theirs.state_dict(), tmp_path / 'resnet.pth')
    ours = MODELS.build(dict(type='ResNet', depth=18))
    checkpoint = read(str(tmp_path / 'resnet.pth'))
    assert checkpoint.origin.kind == 'torchvision ResNet'
    given = shapes(checkpoint.state_dict)
    assert {
        name: given.pop(name)
        for name in shapes(ours.state_dict())
    } == shapes(ours.state_dict())
    assert set(given) == {'fc.weight', 'fc.bias'}


@pytest.mark.parametrize('name, backbone, channels', [
    ('resnet18', dict(type='ResNet', depth=18, out_indices=(3, )), 512),
    ('mobilenet_v2', dict(type='MobileNetV2', layout='mmcls', out_indices=(7, )), 1280),
])
def test_a_classifier_gives_the_same_logits(name, backbone, channels, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, .5, 1.5)
            nn.init.normal_(layer.bias, std=.1)
            nn.init.normal_(layer.running_mean, std=.1)
            nn.init.uniform_(layer.running_var, .5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
    ours = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=channels))).eval()
    report = fit(ours, read(str(tmp_path / 'theirs.pth')))
    assert len(report.loaded) == report.total and not report.unexpected
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = ours.neck(ours.backbone(images))
        features = features[-1] if isinstance(features, (list, tuple)) else features
        assert torch.allclose(ours.head.fc(features), theirs(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('layout', ['mmdet', 'mmcls'])
@pytest.mark.parametrize('width', [1., .5])
def test_mobilenet_v2_begins_from_torchvision_in_detectors_and_classifiers(layout, width, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(weights=None, width_mult=width).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, .5, 1.5)
            nn.init.normal_(layer.running_mean, std=.1)
            nn.init.uniform_(layer.running_var, .5, 1.5)
    path = str(tmp_path / 'theirs.pth')
    torch.save(theirs.state_dict(), path)
    ours = MODELS.build(
        dict(
            type='MobileNetV2',
            layout=layout,
            widen_factor=width,
            init_cfg=dict(type='Pretrained', checkpoint=path)))
    ours.init_weights(load=lambda source: read(source).state_dict)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        last = ours.eval()(images)[-1]
        assert torch.allclose(last, theirs.features(images), atol=1e-4, rtol=1e-4)


def drawn(theirs):
    """A network in evaluation mode whose batch norms are not as they begin."""
    torch.manual_seed(0)
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, .5, 1.5)
            nn.init.normal_(layer.running_mean, std=.1)
            nn.init.uniform_(layer.running_var, .5, 1.5)
    return theirs.eval()


def vgg_features(layers, batch_norm):
    """torchvision's VGG without its classifier, which has a hundred million weights."""
    net = nn.Module()
    net.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[layers],
                                                      batch_norm)
    return net


@pytest.mark.parametrize('make, config, features', [
    (lambda: vgg_features('A', False), dict(type='VGG', depth=11), lambda net, x: net.features(x)),
    (lambda: vgg_features('B', True), dict(type='VGG', depth=13, norm_cfg=dict(type='BN')),
     lambda net, x: net.features(x)),
    (lambda: torchvision.models.regnet_x_800mf(weights=None),
     dict(type='RegNet', arch='regnetx_800mf', out_indices=(3, )),
     lambda net, x: net.trunk_output(net.stem(x))),
])  # yapf: disable
def test_other_backbones_of_torchvision_give_the_same_features(make, config, features, tmp_path):
    theirs = drawn(make())
    path = str(tmp_path / 'theirs.pth')
    torch.save(theirs.state_dict(), path)
    ours = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint=path)))
    ours.init_weights(load=pretrained_loader(InputFormat()))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(
            ours.eval()(images)[-1], features(theirs, images), atol=1e-4, rtol=1e-4)


def as_timm(weights, rules):
    """Weights of V2's names under timm's: [(pattern, replacement)] of whole names, the first that matches."""
    return rename({name: value for name, value in weights.items()}, rules)


TIMM = [
    (dict(type='ResNet', depth=50, base_channels=4, stem_channels=8, deep_stem=True, avg_down=True), [
        (r'stem\.7\.(.+)', r'bn1.\1'), (r'stem\.(\d)\.(.+)', r'conv1.\1.\2')],
     ['conv1.0.weight', 'conv1.4.running_mean', 'bn1.bias', 'layer1.0.downsample.1.weight']),
    (dict(type='SEResNet', depth=50, base_channels=16), [
        (r'(.+)\.se_layer\.conv(\d)\.conv\.(.+)', r'\1.se.fc\2.\3')],
     ['layer1.0.se.fc1.weight', 'layer4.2.se.fc2.bias']),
    (dict(type='RegNet', arch='regnetx_400mf'), [
        (r'conv1\.weight', 'stem.conv.weight'), (r'bn1\.(.+)', r'stem.bn.\1'),
        *((rf'layer(\d)\.{b}\.conv(\d)\.weight', rf's\1.b{b + 1}.conv\2.conv.weight') for b in range(12)),
        *((rf'layer(\d)\.{b}\.bn(\d)\.(.+)', rf's\1.b{b + 1}.conv\2.bn.\3') for b in range(12)),
        (r'layer(\d)\.0\.downsample\.0\.weight', r's\1.b1.downsample.conv.weight'),
        (r'layer(\d)\.0\.downsample\.1\.(.+)', r's\1.b1.downsample.bn.\2')],
     ['stem.bn.running_var', 's4.b12.conv3.bn.weight', 's2.b1.downsample.conv.weight']),
    (dict(type='MobileNetV2', layout='mmcls', out_indices=(7, )), [
        (r'conv1\.conv\.weight', 'conv_stem.weight'), (r'conv1\.bn\.(.+)', r'bn1.\1'),
        (r'conv2\.conv\.weight', 'conv_head.weight'), (r'conv2\.bn\.(.+)', r'bn2.\1'),
        *((rf'layer1\.(\d)\.conv\.{i}\.conv\.weight', rf'blocks.0.\1.conv_{step}.weight')
          for i, step in enumerate(('dw', 'pw'))),
        *((rf'layer{s + 1}\.(\d)\.conv\.{i}\.conv\.weight', rf'blocks.{s}.\1.conv_{step}.weight')
          for s in range(1, 7) for i, step in enumerate(('pw', 'dw', 'pwl'))),
        *((rf'layer{s + 1}\.(\d)\.conv\.{i}\.bn\.(.+)', rf'blocks.{s}.\1.bn{i + 1}.\2')
          for s in range(7) for i in range(3))],
     ['blocks.0.0.conv_dw.weight', 'blocks.0.0.bn2.bias', 'blocks.6.0.conv_pwl.weight',
      'blocks.1.1.bn3.running_var']),
]  # yapf: disable


@pytest.mark.parametrize(
    'config, rules, names',
    TIMM,
    ids=lambda value: value.get('type') if isinstance(value, dict) else '')
def test_names_of_timm_are_read(config, rules, names, tmp_path):
    """`names` are those of timm 1.0's state_dicts; with its own networks outputs agreed to 1e-5 of their size."""
    source = drawn(MODELS.build(dict(config)))
    given = as_timm(source.state_dict(), rules)
    assert set(names) <= set(given)
    path = str(tmp_path / 'timm.pth')
    torch.save(given, path)
    ours = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint=path)))
    ours.init_weights(load=pretrained_loader(InputFormat()))
    for name, value in source.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_deep_stem_is_read_in_the_names_of_both_packages(tmp_path):
    config = dict(
        type='ResNet', depth=50, base_channels=4, stem_channels=8, deep_stem=True, avg_down=True)
    source = drawn(MODELS.build(dict(config)))
    path = str(tmp_path / 'timm.pth')
    torch.save(as_timm(source.state_dict(), TIMM[0][1]), path)
    ours = MODELS.build(
        dict(config, layout='mmcls', init_cfg=dict(type='Pretrained', checkpoint=path)))
    ours.init_weights(load=pretrained_loader(InputFormat()))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(ours.eval()(images), source(images)):
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)
