"""The classifiers of MMClassification 0.25.0's stock configs have its weights, by name and shape.

stock_classifier_states.json was recorded from MMClassification itself: number of entries and 16 hex digits of the
sha256 of json.dumps(sorted((name, shape))) over the state_dict. The configs come from the package index, as in
tests/config/test_stock_configs.py; without one the test skips.
"""
import hashlib
import json
import warnings
from pathlib import Path

import pytest
import torch

from mmdet_ft.config import Config
from mmdet_ft.models.heads.cls_head import LinearClsHead
from mmdet_ft.registry import MODELS
from tests.config.test_stock_configs import package  # noqa: F401

STATES = json.loads((Path(__file__).parent / 'stock_classifier_states.json').read_text())


def build(path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # some say that they are
        config = Config.fromfile(path)
    with torch.device('meta'), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Unnecessary conv bias')  # VGG's
        return MODELS.build(config.model)


@pytest.mark.parametrize('package', ['mmcls'], indirect=True)
def test_stock_classifiers_have_the_recorded_weights(package):  # noqa: F811
    _, configs = package
    different, built = {}, {}
    for name, expected in STATES.items():
        model = build(configs / name)
        table = sorted((key, list(value.shape)) for key, value in model.state_dict().items())
        digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]
        built[name] = model
        if f'{len(table)} {digest}' != expected:
            different[name] = f'{len(table)} {digest}'
    assert not different and len(built) == 53
    mixing = built['resnet/resnet50_b32x8_mixup_imagenet.py'].mixing
    assert [(type(augment).__name__, augment.alpha)
            for augment in mixing.augments] == [('BatchMixup', .2)]
    assert isinstance(built['resnet/resnet50_8xb32_in1k.py'].head, LinearClsHead)
