"""Every family of detectors as a file: the same detections in ONNX Runtime, for any batch and image size."""
import copy

import onnx
import pytest
import torch

from mmdet_ft.deploy.export import proof
from mmdet_ft.errors import UserError
from mmdet_ft.registry import MODELS
from tests.deploy.helpers import DETECTOR_PIPELINE, images, with_config, write
from tests.models import test_one_stage, test_yolo
from tests.models.test_htc import htc_config
from tests.models.tiny import tiny_cascade_config, tiny_config

SIZES = (96, 128), (60, 200), (96, 128), (300, 310), (70, 40)


def double_head():
    config = tiny_config(False)
    config['roi_head'].update(
        type='DoubleHeadRoIHead',
        reg_roi_scale_factor=1.3,
        bbox_head=dict(
            type='DoubleConvFCBBoxHead',
            num_convs=1,
            num_fcs=1,
            in_channels=16,
            conv_out_channels=16,
            fc_out_channels=16,
            num_classes=3))
    return config


ONE_STAGE = {
    **{name: lambda name=name: test_one_stage.config_of(name)
       for name in test_one_stage.HEADS},
    **{name: lambda name=name: copy.deepcopy(test_yolo.CONFIGS[name])
       for name in test_yolo.CONFIGS},
}  # yapf: disable
REGIONS = dict(
    cascade=tiny_cascade_config,
    htc=htc_config,
    htc_without_semantic=lambda: htc_config(semantic=False),
    double_head=double_head)


def spread(parameters, name):
    """Draw weights of a head, of which scores and boxes differ; those of YOLOv3's boxes are exponents."""
    scale = dict(
        yolox=2.5, yolox_depthwise=2.5, yolov3=.8, vfnet=1., vfnet_by_points=1.).get(name, 1.5)
    for key, parameter in parameters:
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=scale / parameter[0].numel()**.5)
        elif name.startswith('yolo') and ('pred' in key
                                          or 'conv_' in key) or key == 'vfnet_cls.bias':
            torch.nn.init.zeros_(parameter)


def model_of(config):
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return with_config(model, DETECTOR_PIPELINE, tuple('abcdefgh'[:model.count_classes()]))


def assert_proven(model, path):
    path = write(model, path)
    found = proof.compare(model, path, images(*SIZES), batch_size=2)
    proof.require_agreement(model, path, images(*SIZES), found, proof.Tolerance())
    assert {node.domain for node in onnx.load(path).graph.node} == {''}
    return found.total


@pytest.mark.parametrize('name', ONE_STAGE)
def test_a_detector_of_one_stage_gives_the_same_boxes(name, tmp_path):
    model = model_of(ONE_STAGE[name]())
    spread(model.bbox_head.named_parameters(), name)
    assert assert_proven(model, tmp_path / 'm.onnx').found >= 10


@pytest.mark.parametrize('name', REGIONS)
def test_a_cascade_gives_the_same_boxes_and_masks(name, tmp_path):
    model = model_of(REGIONS[name]())
    for key, parameter in model.named_parameters():
        if key.endswith(('fc_cls.weight', 'rpn_cls.weight')):
            parameter.data.mul_(30 if 'fc_cls' in key else 10)
    assert assert_proven(model, tmp_path / 'm.onnx').found >= 10


def mask_scoring():
    config = tiny_config()
    config['roi_head'].update(
        type='MaskScoringRoIHead',
        mask_iou_head=dict(
            type='MaskIoUHead',
            in_channels=16,
            conv_out_channels=8,
            fc_out_channels=8,
            num_classes=3))
    config['train_cfg']['rcnn']['mask_thr_binary'] = .5
    config['type'] = 'MaskScoringRCNN'
    return config


def generic_extractor():
    config = tiny_config(False)
    config['roi_head']['bbox_roi_extractor'].update(type='GenericRoIExtractor')
    return config


@pytest.mark.parametrize('make, message', [
    (mask_scoring, 'MaskScoringRoIHead has no export form yet'),
    (generic_extractor, 'GenericRoIExtractor has no export form yet: there is one of SingleRoIExtractor'),
], ids=['mask_scoring', 'groie'])  # yapf: disable
def test_what_has_no_form_is_refused_by_name(make, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write(model_of(make()), tmp_path / 'm.onnx')
    assert not (tmp_path / 'm.onnx').exists()
