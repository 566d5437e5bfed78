"""SSD: anchors, backbone, neck and losses, also beside torchvision's."""
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from mmdet_ft.checkpoints.fitting import fit, pretrained_loader
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import Checkpoint, read
from mmdet_ft.config import Config
from mmdet_ft.engine.run_check.data import anchors_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch
from tests.models.test_detectors import step
from tests.models.test_one_stage import config_of, model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.reference.boxes import match
from tests.reference.dense import delta
from tests.reference.losses import smooth_l1, softmax_entropy

CONFIGS = Path(__file__).parents[2] / 'configs'
SSD300 = dict(
    type='SSDAnchorGenerator',
    scale_major=False,
    input_size=300,
    basesize_ratio_range=(0.15, 0.9),
    strides=[8, 16, 32, 64, 100, 300],
    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]])
SIZES = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]


def test_anchors_are_those_of_torchvision_except_the_longest():
    theirs = DefaultBoxGenerator(
        SSD300['ratios'],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=SSD300['strides'])
    boxes = theirs._grid_default_boxes(SIZES, [300, 300])
    expected = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2],
                         1) * 300
    cut = MODELS.build(dict(SSD300, type='TorchvisionSSDAnchorGenerator')).grid(SIZES).anchors
    assert cut.shape == (8732, 4) and torch.allclose(cut, expected, atol=1e-3)
    whole = MODELS.build(SSD300).grid(SIZES).anchors
    same = (whole - cut).abs().amax(1) < 1e-3
    sides = (whole[:, 2:] - whole[:, :2]).amax(1)
    assert torch.equal(same, sides <= 300) and int((~same).sum()) == 2


def test_sizes_of_levels_are_those_of_v2():
    generator = MODELS.build(SSD300)
    assert generator.base_sizes == [21, 45, 99, 153, 207, 261]
    assert [len(base) for base in generator.base_anchors] == [4, 6, 6, 6, 4, 4]
    square = generator.base_anchors[0][1]  # the second of a cell: sqrt(21 * 45)
    assert (square[2:] - square[:2]).tolist() == pytest.approx([math.sqrt(21 * 45)] * 2)
    sides = [(base[2:] - base[:2]).tolist() for base in generator.base_anchors[0][2:]]
    assert sides[0] == pytest.approx([21 * 2**.5, 21 / 2**.5]) and sides[1] == sides[0][::-1]
    larger = dict(SSD300, input_size=512, strides=[8, 16, 32, 64, 128, 256, 512])
    larger['ratios'] = [[2]] * 7
    found = MODELS.build(dict(larger, basesize_ratio_range=(.1, .9))).base_sizes
    assert found == [20, 51, 133, 215, 296, 378, 460]
    own = dict(larger, min_sizes=[1] * 7, max_sizes=[4] * 7)
    assert MODELS.build(own).base_anchors[0][1].tolist() == [3, 3, 5, 5]


@pytest.mark.parametrize('change, message', [
    (dict(input_size=400), 'no sizes for input_size=400 with basesize_ratio_range='),
    (dict(basesize_ratio_range=(.1, .9)),
     'write min_sizes and max_sizes, or one of input_size=300'),
    (dict(min_sizes=[1] * 6), 'give both min_sizes and max_sizes'),
    (dict(min_sizes=[1] * 5, max_sizes=[2] * 6), '5 min_sizes for 6 strides'),
    (dict(ratios=[[2]]), '1 ratios for 6 strides'),
])
def test_anchors_without_known_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**SSD300, **change})


def test_ssd_losses_are_those_of_the_paper():
    model, batch = model_of('ssd'), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    anchors = model.bbox_head.grid(outputs.sizes, batch.images.device).anchors.tolist()
    loss_cls = loss_bbox = count = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        deltas = torch.cat([x[image] for x in outputs.boxes]).tolist()
        matched = match(anchors, gts, .5, (0., .4), 0., True, True)
        positive = [j for j, (_, label) in enumerate(matched) if label == 1]
        count += max(len(positive), 1)
        for j in positive:
            gt = matched[j][0]
            loss_cls += softmax_entropy(logits[j], int(batch.gt.labels[image, gt]))
            goal = delta(anchors[j], gts[gt])
            loss_bbox += sum(smooth_l1(a - b, 1.) for a, b in zip(deltas[j], goal))
        hard = sorted(
            (softmax_entropy(logits[j], 3) for j, (_, label) in enumerate(matched) if label == 0),
            reverse=True)
        loss_cls += sum(hard[:3 * len(positive)])
    assert count > 4
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / count, rel=1e-4)


def test_depthwise_heads_and_necks_train():
    config = config_of('ssd')
    lite = dict(use_depthwise=True, norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU6'))
    config['bbox_head'].update(lite, stacked_convs=0)
    config['neck'] = dict(
        type='SSDNeck',
        in_channels=(32, 64),
        out_channels=(32, 64, 16, 16, 16),
        level_strides=(2, 2, 1),
        level_paddings=(1, 1, 1),
        l2_norm_scale=None,
        **lite)
    config['backbone']['out_indices'] = (2, 3)
    config['bbox_head']['in_channels'] = (32, 64, 16, 16, 16)
    model = MODELS.build(config)
    model.init_weights()
    losses, grads = step(model.train(), tiny_batch((2, 1)))
    names = set(model.state_dict())
    assert {
        'neck.extra_layers.0.1.depthwise_conv.conv.weight', 'bbox_head.cls_convs.4.1.bias',
        'bbox_head.reg_convs.0.0.conv.weight'
    } <= names
    assert all(math.isfinite(loss) and loss > 0 for loss in losses.values())
    assert set(grads) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert 'bbox_head.cls_convs.4.1.' in model.prediction_layers()


@pytest.mark.parametrize('change, message', [
    (dict(out_channels=(32, 64)), 'begin with in_channels='),
    (dict(out_channels=(64, 32, 16)), 'begin with in_channels='),
    (dict(level_strides=(2, 2)), '2 level_strides for 1 added levels'),
    (dict(level_paddings=()), '0 level_paddings for 1 added levels'),
])
def test_a_neck_whose_lists_do_not_fit_is_refused(change, message):
    right = dict(
        type='SSDNeck',
        in_channels=(32, 64),
        out_channels=(32, 64, 16),
        level_strides=(2, ),
        level_paddings=(1, ))
    neck = MODELS.build(right)
    neck.init_weights()
    assert (neck.l2_norm.weight == 20).all()
    with pytest.raises(ValueError, match=message):
        MODELS.build({**right, **change})


def test_a_head_has_channels_for_each_level_of_anchors():
    with pytest.raises(ValueError, match='2 in_channels for 6 levels of the anchor_generator'):
        MODELS.build(dict(type='SSDHead', in_channels=(8, 8), anchor_generator=SSD300))


@pytest.mark.parametrize('change, message', [
    (dict(depth=12), 'depth is 12'),
    (dict(out_feature_indices=(22, 35)), 'the layers are 0 to 34'),
    (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained',
                                            checkpoint='b.pth')), 'remove pretrained'),
])
def test_a_backbone_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(dict(type='SSDVGG', depth=16), **change))


def test_copied_classes_keep_their_scores_and_the_background_too():
    source, model = model_of('ssd', num_classes=4), model_of('ssd')
    source.CLASSES, model.CLASSES = ('cat', 'dog', 'bird', 'cow'), ('bird', 'horse', 'cat')
    for level in model.bbox_head.cls_convs:
        torch.nn.init.normal_(level[-1].weight)
    report = fit(
        model,
        Checkpoint('a.pth', source.state_dict(), dict(CLASSES=source.CLASSES), {}),
        heads='by_class')
    assert len(report.loaded) == report.total and not report.reinitialised
    batch = tiny_batch((2, ))
    with torch.no_grad():
        old, new = (torch.cat(outputs_of(part.eval(), batch).logits, 1) for part in (source, model))
    for theirs, ours in ((2, 0), (0, 2), (4, 3)):
        assert torch.allclose(old[..., theirs], new[..., ours], atol=1e-4)
    assert not torch.allclose(old[..., 1], new[..., 1], atol=.1)


def test_other_anchors_are_not_proposed_where_each_level_has_its_own():
    model = Config.fromfile(str(CONFIGS / 'ssd/ssd300_coco.py')).model
    anchors = anchors_of(model)
    assert anchors is not None and anchors.with_settings is None
    assert [len(base) for base in anchors.base] == [4, 6, 6, 6, 4, 4]


# --- torchvision


def their_ssd(num_classes, image):
    """torchvision's SSD300 with random weights, whose outputs on an image have these deviations on each level."""
    torch.manual_seed(0)
    model = torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=num_classes).eval()
    torch.nn.init.uniform_(model.backbone.scale_weight, 15, 25)
    with torch.no_grad():
        features = list(model.backbone(model.transform([image])[0].tensors).values())
        for part, deviation in ((model.head.classification_head, 1.5), (model.head.regression_head,
                                                                        .5)):
            for layer, feature in zip(part.module_list, features):
                layer.weight *= deviation / layer(feature).std()
                torch.nn.init.normal_(layer.bias, std=.1)
    return model


def test_the_same_image_gives_the_same_outputs_and_boxes_as_in_torchvision(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.float32)  # RGB
    their_image = torch.from_numpy(image / 255).permute(2, 0, 1).contiguous()
    theirs = their_ssd(4, their_image)
    path = str(tmp_path / 'theirs.pth')
    torch.save(theirs.state_dict(), path)
    config = Config.fromfile(str(CONFIGS / 'torchvision/ssd300_vgg16_coco.py'))
    config.model.bbox_head.num_classes = 3
    config.model.test_cfg.update(nms_pre=-1, score_thr=.6)
    ours = MODELS.build(config.model).eval()
    report = fit(ours, read(path))
    assert not report.missing and not report.unexpected and len(report.loaded) == report.total
    theirs.topk_candidates, theirs.score_thresh = 10**6, .6

    mean = np.array(config.img_norm_cfg['mean'], np.float32)
    our_image = torch.from_numpy(image - mean).permute(2, 0, 1)[None].contiguous()
    sizes = torch.tensor([[300., 300.]])
    seen = {}
    handle = theirs.head.register_forward_hook(lambda _, inputs, outputs: seen.update(outputs))
    with torch.no_grad():
        expected = theirs([their_image])[0]
        outputs = ours.bbox_head(ours.extract_features(our_image))
        found = ours(Batch(our_image, sizes, sizes, torch.ones(1, 4), [{}]))
    handle.remove()
    logits, deltas = torch.cat(outputs.logits, 1), torch.cat(outputs.boxes, 1)
    assert logits.shape == (1, 8732, 4) and logits.std() > .1 and deltas.std() > .1
    assert torch.allclose(logits, seen['cls_logits'].roll(-1, 2), atol=1e-4)
    assert torch.allclose(deltas, seen['bbox_regression'], atol=1e-4)
    count = len(expected['scores'])
    assert count > 50 and int(found.valid.sum()) == count
    assert torch.equal(found.labels[0, :count] + 1, expected['labels'])
    assert torch.allclose(found.scores[0, :count], expected['scores'], atol=1e-4)
    assert torch.allclose(found.boxes[0, :count], expected['boxes'], atol=1e-3)


def test_the_published_ssd_has_the_classes_of_coco_and_all_weights():
    with torch.device('meta'):
        theirs = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None)
        ours = MODELS.build(
            Config.fromfile(str(CONFIGS / 'torchvision/ssd300_vgg16_coco.py')).model)
    given = {name: torch.zeros(value.shape) for name, value in theirs.state_dict().items()}
    bias = given['head.classification_head.module_list.1.bias']
    bias += torch.arange(91).repeat(6)
    meta = {}
    weights, origin = convert(given, meta, {})
    assert origin.kind == 'torchvision SSD300' and len(meta['CLASSES']) == 80
    assert {
        name: value.shape
        for name, value in weights.items()
    } == {
        name: value.shape
        for name, value in ours.state_dict().items()
    }
    rows = weights['bbox_head.cls_convs.1.0.bias'].unflatten(0, (6, 81))
    assert rows[:, 0].eq(1).all() and rows[:, 79].eq(90).all() and rows[:, 80].eq(0).all()


def test_a_classifier_gives_the_backbone_its_weights(tmp_path):
    layers = torchvision.models.vgg.cfgs['A']
    theirs = torch.nn.Module()
    theirs.features = torchvision.models.vgg.make_layers(layers)
    path = str(tmp_path / 'vgg11.pth')
    torch.save(theirs.state_dict(), path)
    ours = MODELS.build(
        dict(
            type='SSDVGG',
            depth=11,
            ceil_mode=False,
            out_feature_indices=(14, ),
            init_cfg=dict(type='Pretrained', checkpoint=path)))
    ours.init_weights(load=pretrained_loader(InputFormat(to_rgb=True, std=(1., 1., 1.))))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs.features[:15](images), atol=1e-5)
