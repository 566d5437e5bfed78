"""What must not change unnoticed: the names and shapes of every state_dict, and the losses of fixed
weights.

STATES is MMDetection's. The losses here are our own, of slim models: they show a change, not who is
right. Losses and detections of MMDetection itself are compared in tests/recorded.
"""
import hashlib
import json
import os.path as osp
import zlib

import pytest
import torch

from mmdet_ft.config import Config
from mmdet_ft.registry import MODELS
from tests.models.test_htc import htc_batch, htc_config
from tests.models.test_mask_scoring import scoring_config
from tests.models.tiny import tiny_batch, tiny_cascade_config, tiny_config

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
# Of MMDetection 2.28.2: the entries of the state_dict that it builds from the config of this name,
# and the first digits of the sha256 of json.dumps(sorted((name, shape))) over them.
STATES = {
    'cascade_rcnn/cascade_mask_rcnn_r101_fpn_1x_coco.py': (706, 'c90a1e626b'),
    'cascade_rcnn/cascade_mask_rcnn_r50_fpn_20e_coco.py': (400, '22f257fdb4'),
    'cascade_rcnn/cascade_rcnn_r50_fpn_20e_coco.py': (364, '2f4291b6d0'),
    'cityscapes/mask_rcnn_r50_fpn_1x_cityscapes.py': (360, 'dab1b7c041'),
    'faster_rcnn/faster_rcnn_r101_fpn_2x_coco.py': (654, '3fec8bd208'),
    'faster_rcnn/faster_rcnn_r50_caffe_fpn_90k_coco.py': (348, '1c62c42277'),
    'faster_rcnn/faster_rcnn_r50_fpn_giou_1x_coco.py': (348, '1c62c42277'),
    'faster_rcnn/faster_rcnn_r50_caffe_fpn_mstrain_1x_coco-person.py': (348, 'cce3f1a8b8'),
    'faster_rcnn/faster_rcnn_x101_32x4d_fpn_1x_coco.py': (654, '0fa587fb77'),
    'faster_rcnn/faster_rcnn_x101_64x4d_fpn_1x_coco.py': (654, 'eb4a00d3fa'),
    'mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py': (360, '2c2924b26c'),
    'mask_rcnn/mask_rcnn_r50_caffe_fpn_1x_coco.py': (360, '2c2924b26c'),
    'mask_rcnn/mask_rcnn_r101_caffe_fpn_1x_coco.py': (666, '4720178257'),
    'mask_rcnn/mask_rcnn_x101_32x4d_fpn_1x_coco.py': (666, '60c73c6398'),
    'mask_rcnn/mask_rcnn_x101_64x4d_fpn_1x_coco.py': (666, '6f932e9993'),
}
# Of this package: losses of tiny_config with fixed_weights. The test prints them when they change. A
# change that should not change numbers leaves them alone.
LOSSES = dict(
    loss_rpn_cls=1.17272,
    loss_rpn_bbox=0.00282,
    loss_cls=1.25371,
    loss_bbox=0.04909,
    loss_mask=0.71941)


@pytest.mark.parametrize('name', STATES)
def test_the_state_dict_of_a_shipped_config_is_that_of_v2(name):
    config = Config.fromfile(osp.join(ROOT, 'configs', name))
    with torch.device('meta'):
        model = MODELS.build(
            config.model, train_cfg=config.get('train_cfg'), test_cfg=config.get('test_cfg'))
    table = sorted((key, list(value.shape)) for key, value in model.state_dict().items())
    digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()
    assert (len(table), digest[:10]) == STATES[name]


def fixed_weights(model):
    """Every weight from its own name, so that building in another order changes nothing."""
    for name, value in model.state_dict().items():
        if value.dim() > 1:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            gain = .1 if 'reg' in name else 1.
            value.copy_(torch.randn(value.shape, generator=generator) * gain / value[0].numel()**.5)
        elif name.endswith('.bias'):
            value.zero_()
    return model


@pytest.mark.parametrize('kind', ['MaskRCNN', 'FasterRCNN'])
def test_losses_of_fixed_weights_are_the_golden_ones(kind):
    config = tiny_config(with_mask=kind == 'MaskRCNN')
    for part in ('rpn', 'rcnn'):  # all boxes, so that nothing is drawn by chance
        config['train_cfg'][part]['sampler'].update(num=20000, pos_fraction=.5)
    model = fixed_weights(MODELS.build(config)).train()
    losses = {
        name: round(value.item(), 5)
        for name, value in model(tiny_batch((2, 1))).terms.items()
    }
    print(kind, losses)
    assert losses == pytest.approx({name: LOSSES[name] for name in losses}, rel=1e-3, abs=1e-5)
    assert ('loss_mask' in losses) == (kind == 'MaskRCNN')


# Of this package too: a cascade, HTC and Mask Scoring R-CNN.
CASCADE = {
    'loss_rpn_cls': 1.17272,
    'loss_rpn_bbox': 0.00282,
    's0.loss_cls': 2.81808,
    's0.loss_bbox': 0.05043,
    's0.loss_mask': 0.73427,
    's1.loss_cls': 0.38318,
    's1.loss_bbox': 0.0406,
    's1.loss_mask': 0.36162,
    's2.loss_cls': 1.06936,
    's2.loss_bbox': 0.03711,
    's2.loss_mask': 0.18007
}

HTC = {
    'loss_rpn_cls': 1.17272,
    'loss_rpn_bbox': 0.00282,
    'loss_semantic_seg': 0.37568,
    's0.loss_cls': 2.63236,
    's0.loss_bbox': 0.04953,
    's0.loss_mask': 0.74005,
    's1.loss_cls': 0.21669,
    's1.loss_bbox': 0.03775,
    's1.loss_mask': 0.38478,
    's2.loss_cls': 1.65113,
    's2.loss_bbox': 0.03386,
    's2.loss_mask': 0.18125
}
MASK_SCORING = dict(LOSSES, loss_mask_iou=0.00351)


@pytest.mark.parametrize('config, batch, expected', [
    (tiny_cascade_config(), tiny_batch((2, 1)), CASCADE),
    (htc_config(), htc_batch((2, 1)), HTC),
    (scoring_config(), tiny_batch((2, 1)), MASK_SCORING),
])  # yapf: disable
def test_losses_of_several_stages_and_of_scored_masks_are_the_golden_ones(config, batch, expected):
    settings = config['train_cfg']
    stages = settings['rcnn'] if isinstance(settings['rcnn'], list) else [settings['rcnn']]
    for part in (settings['rpn'], *stages):
        part['sampler'].update(num=20000, pos_fraction=.5)
    model = fixed_weights(MODELS.build(config)).train()
    losses = {name: round(value.item(), 5) for name, value in model(batch).terms.items()}
    print(losses)
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-5)
