"""Files of YOLOX's authors, through a network that has their names."""
import copy

import pytest
import torch

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.input_format import IMAGENET
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.checkpoints.report import compare_input_format
from mmdet_ft.config import Config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.models.anchors import flatten_to_priors
from mmdet_ft.registry import MODELS
from tests.checkpoints.test_kinds_torchvision import CONFIGS, shapes
from tests.models.test_yolo import DEPTHWISE, YOLOX
from tests.reference.megvii_yolox import MegviiYOLOX

SIZES = dict(
    nano=(.33, .25), tiny=(.33, .375), s=(.33, .5), m=(.67, .75), l=(1., 1.), x=(1.33, 1.25))


def model_of(config):
    return MODELS.build(copy.deepcopy(config)).eval()


@pytest.mark.parametrize('size', SIZES)
def test_every_weight_of_the_published_models_has_its_place_and_shape(size):
    with torch.device('meta'):
        theirs = MegviiYOLOX(*SIZES[size], 80, depthwise=size == 'nano')
        theirs(torch.empty(1, 3, 64, 64))
        config = f'yolox/yolox_{size}_8x8_300e_coco.py'
        ours = model_of(Config.fromfile(CONFIGS.parent / config).model)
    converted, origin = convert(theirs.weights, {}, {})
    assert shapes(converted) == shapes(ours.state_dict())
    assert origin.kind == "Megvii's YOLOX" and origin.classes == CocoDataset.CLASSES
    assert config in origin.advice[0]


@pytest.mark.parametrize('config', [YOLOX, DEPTHWISE], ids=['plain', 'depthwise'])
def test_the_same_image_gives_the_same_predictions(config, tmp_path):
    torch.manual_seed(0)
    theirs = MegviiYOLOX(.33, .125, 3, depthwise=config is DEPTHWISE)
    config = copy.deepcopy(config)
    config['neck']['out_channels'] = config['bbox_head']['in_channels'] = 32
    config['bbox_head']['feat_channels'] = 32
    image = torch.randn(2, 3, 64, 96)
    expected = theirs(image)
    torch.save(dict(model=theirs.weights, start_epoch=300), tmp_path / 'latest_ckpt.pth')
    ours = model_of(config)
    report = fit(ours, read(str(tmp_path / 'latest_ckpt.pth')))
    trackers = {name for name in ours.state_dict() if name.endswith('num_batches_tracked')}
    assert set(report.missing) <= trackers and not report.unexpected and not report.mismatched
    with torch.no_grad():
        found = ours.bbox_head(ours.extract_features(image))
    for level in range(3):
        for value, other, channels in zip((found.logits, found.boxes, found.quality), expected,
                                          (3, 4, 1)):
            other = flatten_to_priors(other[level], channels)
            assert other.std() > .01
            assert torch.allclose(value[level].reshape(other.shape), other, atol=1e-5, rtol=1e-4)


def test_normalized_images_are_answered_with_those_of_the_weights():
    with torch.device('meta'):
        theirs = MegviiYOLOX(.33, .125, 3)
        theirs(torch.empty(1, 3, 64, 64))
    converted, origin = convert(theirs.weights, {}, {})
    assert origin.classes is None and 'configs/yolox/' in origin.advice[0]
    warning, = compare_input_format(origin.facts, IMAGENET._replace(style=None), converted)
    assert 'BGR with mean [0.0, 0.0, 0.0] and std [1.0, 1.0, 1.0]' in warning
