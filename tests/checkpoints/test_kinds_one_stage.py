"""RetinaNet, FCOS and ATSS of torchvision, Detectron2 and MMDetection 1 and 3."""
import cv2
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.formats.origin import coco_classes
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import Config, load_config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch
from tests.checkpoints.test_kinds_detectron2 import of_shapes, r50_shapes
from tests.checkpoints.test_kinds_torchvision import CONFIGS, MEAN, STD, shapes, spread

OF_TORCHVISION = [('retinanet_resnet50_fpn', 'retinanet_r50_fpn_coco.py'),
                  ('retinanet_resnet50_fpn_v2', 'retinanet_r50_fpn_v2_coco.py'),
                  ('fcos_resnet50_fpn', 'fcos_r50_fpn_coco.py')]


def their_model(name, num_classes, image):
    """torchvision's model whose weights, though random, say something of every layer and region."""
    torch.manual_seed(0)
    size = image.shape[1:]
    model = torchvision.models.get_model(
        name,
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        min_size=min(size),
        max_size=max(size),
        detections_per_img=100).eval()
    for layer_name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            # The last of a block small, so that sixteen sums do not explode.
            scale = .2 if layer_name.endswith('bn3') else 1.
            nn.init.uniform_(layer.weight, .5 * scale, scale)
            nn.init.normal_(layer.bias, std=.1)
            nn.init.normal_(layer.running_mean, std=.1)
            nn.init.uniform_(layer.running_var, .5, 1.5)
            layer.eps = 0. if name == 'retinanet_resnet50_fpn' else 1e-5  # that of the published weights
    classes, boxes = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
    spread(model, image, {classes: 2., boxes: .2})
    if name.startswith('fcos'):
        boxes.bias.data += 2.  # distances in strides
        nn.init.normal_(model.head.regression_head.bbox_ctrness.weight, std=.1)
    return model


def our_model(config, num_classes=None):
    cfg = Config.fromfile(CONFIGS / config).model
    cfg.bbox_head.num_classes = num_classes or cfg.bbox_head.num_classes
    return MODELS.build(cfg).eval()


@pytest.mark.parametrize('name, config', OF_TORCHVISION)
def test_the_same_image_gives_the_same_boxes_and_scores(name, config, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3))  # RGB
    image = cv2.resize(image.astype(np.uint8)[::16, ::16], (160, 128)).astype(np.float32)
    their_image = torch.from_numpy(image / 255).permute(2, 0, 1).contiguous()
    our_image = torch.from_numpy((image - MEAN) / STD).permute(2, 0, 1).float()[None]
    theirs = their_model(name, 4, their_image)
    torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
    ours = our_model(config, 3)
    report = fit(ours, read(str(tmp_path / 'theirs.pth')))
    assert not report.missing and not report.unexpected and len(report.loaded) == report.total

    # Row 0, the background that nothing trains, is no class of ours.
    layer = theirs.head.classification_head.cls_logits
    layer.bias.data.unflatten(0, (-1, 4))[:, 0] = -1e4
    theirs.transform.postprocess = lambda result, *_: result
    sizes = torch.tensor([image.shape[:2]], dtype=torch.float32)
    with torch.no_grad():
        expected = theirs([their_image])[0]
        found = ours(Batch(our_image, sizes, sizes, torch.ones(1, 4), [{}]))
    count = len(expected['scores'])
    assert count > 20 and int(found.valid.sum()) == count
    assert len(set(expected['labels'].tolist())) == 3
    assert expected['scores'].max() - expected['scores'].min() > .04
    assert torch.equal(found.labels[0, :count] + 1, expected['labels'])
    assert torch.allclose(found.scores[0, :count], expected['scores'], atol=1e-4)
    assert torch.allclose(found.boxes[0, :count], expected['boxes'], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize('name, config', OF_TORCHVISION)
def test_every_weight_of_the_published_models_has_its_place_and_shape(name, config):
    with torch.device('meta'):
        theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        ours = our_model(config)
    converted, origin = convert(theirs.state_dict(), {}, {})
    assert shapes(converted) == shapes(ours.state_dict())
    assert origin.classes == CocoDataset.CLASSES and config in origin.advice[0]
    assert '91 rows with the background first -> 80 without it' in origin.changes[1]
    prepare(load_config(str(CONFIGS / config)))


def test_the_published_retinanet_numbers_its_towers_through():
    with torch.device('meta'):
        theirs = torchvision.models.get_model(
            'retinanet_resnet50_fpn', weights=None, weights_backbone=None)
        ours = our_model('retinanet_r50_fpn_coco.py')
    older = {}
    for name, value in theirs.state_dict().items():
        for number in range(4):
            name = name.replace(f'head.conv.{number}.0.', f'head.conv.{2 * number}.')
        older[name] = value
    assert shapes(convert(older, {}, {})[0]) == shapes(ours.state_dict())


def test_classes_are_rows_within_each_anchor():
    ids = coco_classes()[1]
    heads = {
        'backbone.body.conv1.weight': torch.zeros(1),
        'head.classification_head.cls_logits.weight': torch.arange(2 * 91.)[:, None],
        'head.classification_head.cls_logits.bias': torch.arange(2 * 91.),
        'head.regression_head.bbox_reg.weight': torch.arange(8.)[:, None],
    }
    converted = convert(heads, {}, {})[0]
    rows = [anchor * 91 + number for anchor in range(2) for number in ids]
    assert converted['bbox_head.retina_cls.bias'].tolist() == rows
    assert converted['bbox_head.retina_cls.weight'].flatten().tolist() == rows
    assert converted['bbox_head.retina_reg.weight'].flatten().tolist() == list(range(8))


# --- Detectron2


def retinanet_of_detectron2(num_classes=80):
    table = r50_shapes('backbone.bottom_up.')
    layers = dict(p6=(256, 2048), p7=(256, 256))
    convs = {f'backbone.top_block.{name}': (*shape, 3, 3) for name, shape in layers.items()}
    for level in (3, 4, 5):
        convs[f'backbone.fpn_lateral{level}'] = (256, 64 * 2**level, 1, 1)
        convs[f'backbone.fpn_output{level}'] = (256, 256, 3, 3)
    for number in (0, 2, 4, 6):
        convs[f'head.cls_subnet.{number}'] = convs[f'head.bbox_subnet.{number}'] = (256, 256, 3, 3)
    convs['head.cls_score'] = (9 * num_classes, 256, 3, 3)
    convs['head.bbox_pred'] = (9 * 4, 256, 3, 3)
    for name, shape in convs.items():
        table.update({f'{name}.weight': shape, f'{name}.bias': shape[:1]})
    return table


def test_every_weight_of_detectron2s_retinanet_has_its_place_and_shape():
    table = of_shapes(retinanet_of_detectron2())
    table.update({f'anchor_generator.cell_anchors.{i}': torch.zeros(9, 4) for i in range(5)})
    converted, origin = convert(table, {}, {})
    config = 'retinanet/retinanet_r50_caffe_fpn_1x_coco.py'
    with torch.device('meta'):
        ours = MODELS.build(Config.fromfile(CONFIGS.parent / config).model)
    assert shapes(converted) == shapes(ours.state_dict())
    assert origin.classes == CocoDataset.CLASSES and config in origin.advice[0]
    assert origin.facts.to_rgb is False and 'relu_before_extra_convs=True' in origin.advice[0]


def test_detectron2s_anchors_are_reordered_by_ratio():
    """Its cell has, for each size, all ratios; ours, for each ratio, all sizes."""
    sizes, ratios = [4, 5, 6], [.5, 1., 2.]
    theirs = [(size, ratio) for size in sizes for ratio in ratios]
    numbered = {
        name: torch.zeros(1)
        for name in ('backbone.bottom_up.stem.conv1.weight', 'head.cls_subnet.0.weight')
    }
    numbered['head.cls_score.weight'] = torch.tensor([[size, ratio, number]
                                                      for size, ratio in theirs
                                                      for number in range(2)])
    numbered['head.bbox_pred.weight'] = torch.tensor([[size, ratio, number]
                                                      for size, ratio in theirs
                                                      for number in range(4)])
    converted = convert(numbered, {}, {})[0]
    ours = MODELS.build(
        dict(type='AnchorGenerator', strides=[1], ratios=ratios, scales=[float(s) for s in sizes]))
    width, height = (ours.base_anchors[0][:, 2:] - ours.base_anchors[0][:, :2]).unbind(1)
    for name, rows in (('retina_cls', 2), ('retina_reg', 4)):
        table = converted[f'bbox_head.{name}.weight'].reshape(9, rows, 3)
        assert torch.allclose(table[:, 0, 0], (width * height).sqrt())
        assert torch.allclose(table[:, 0, 1], height / width)
        assert table[..., 2].tolist() == [list(range(rows))] * 9


# --- MMDetection 1 and 3


def slim(family, config):
    cfg = Config.fromfile(CONFIGS.parent / family / config).model
    cfg.backbone.init_cfg = None
    with torch.device('meta'):
        return MODELS.build(cfg).state_dict()


FAMILIES = [('retinanet', 'retinanet_r50_fpn_1x_coco.py'),
            ('fcos', 'fcos_r50_caffe_fpn_gn-head_1x_coco.py'), ('atss', 'atss_r50_fpn_1x_coco.py')]


@pytest.mark.parametrize('family, config', FAMILIES)
def test_mmdetection_3_has_our_names_and_buffers_of_its_own(family, config):
    ours = slim(family, config)
    theirs = {**ours, 'data_preprocessor.mean': torch.zeros(3)}
    converted, origin = convert(theirs, dict(mmengine_version='0.7.0'), {})
    assert list(converted) == list(ours) and origin.kind == 'MMDetection 3'


@pytest.mark.parametrize('family, config', FAMILIES)
@pytest.mark.parametrize('meta', [dict(mmdet_version='1.0.0'), dict(mmdet_version='2.0.0'), {}])
def test_mmdetection_1_and_2_name_fcos_after_itself(family, config, meta):
    ours = slim(family, config)
    theirs = {
        name.replace('bbox_head.conv_', 'bbox_head.fcos_') if family == 'fcos' else name: value
        for name, value in ours.items()
    }
    converted, origin = convert(theirs, dict(meta), {})
    assert list(converted) == list(ours)
    legacy = 'LegacyAnchorGenerator' in ' '.join(origin.advice)
    assert legacy == (family != 'fcos' and meta.get('mmdet_version') == '1.0.0')
