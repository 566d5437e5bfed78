"""Frozen weights that no file has given are told, with the line that lets them learn."""
import copy
import logging

import pytest
import torch

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import Config
from mmdet_ft.engine.models.build import initialize_weights, load_named
from mmdet_ft.engine.models.frozen import find_random_frozen, freeing_line, watch_loading
from mmdet_ft.engine.settings.read import read_weights
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config

WARNED = 'is frozen'
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))


def begin(caplog, settings, **values):
    cfg = Config(dict(model=copy.deepcopy(settings), **values))
    model = MODELS.build(copy.deepcopy(settings))
    with caplog.at_level(logging.WARNING, logger='mmdet_ft'):
        initialize_weights(model, read_weights(cfg), logging.getLogger('mmdet_ft'))
    return [message for message in caplog.messages if WARNED in message]


def with_backbone(settings, **changes):
    settings = copy.deepcopy(settings)
    settings['backbone'].update(changes)
    return settings


def test_a_random_backbone_that_is_frozen_is_told_with_the_line_that_lets_it_learn(caplog):
    message, = begin(caplog, tiny_config())
    assert message.startswith(
        'model.backbone is frozen (frozen_stages=1, norm_eval=True) and no file gives it weights: ')
    assert '15 weights keep their random initial values' in message and 'mean 0, variance 1' in message
    assert 'model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))' in message


def test_that_line_silences_it(caplog):
    assert not begin(caplog, with_backbone(tiny_config(), frozen_stages=-1, norm_eval=False))


def test_norm_layers_without_gradients_are_named_too(caplog):
    settings = with_backbone(
        tiny_config(),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='BN', requires_grad=False))
    message, = begin(caplog, settings)
    assert "norm_cfg={'type': 'BN', 'requires_grad': True}" in message and 'norm_cfg.requires_grad=False' in message


def test_classifiers_are_looked_at_too(caplog):
    assert not begin(caplog, CLASSIFIER)
    message, = begin(caplog, with_backbone(CLASSIFIER, frozen_stages=2))
    assert 'model = dict(backbone=dict(frozen_stages=-1))' in message


@pytest.mark.parametrize('way', ['init_cfg', 'load_from'])
def test_weights_of_a_file_silence_it_and_half_of_them_do_not(caplog, tmp_path, way):
    settings = tiny_config()
    source = MODELS.build(copy.deepcopy(settings))
    whole = source.state_dict() if way == 'load_from' else source.backbone.state_dict()
    path = str(tmp_path / 'a.pth')
    values = dict(load_from=path) if way == 'load_from' else {}
    if way == 'init_cfg':
        settings['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=path)
    torch.save(dict(state_dict=whole), path)
    assert not begin(caplog, settings, **values)
    torch.save(
        dict(state_dict={
            name: value
            for name, value in whole.items() if 'layer1.0' not in name
        }), path)
    message, = begin(caplog, settings, **values)
    assert 'backbone.layer1.0.conv1.weight' in message and '6 weights' in message
    half = [
        message for message in caplog.messages if 'stay as initialized: backbone.layer1' in message
    ]
    assert bool(half) == (way == 'load_from')


def test_whoever_loads_a_weight_it_counts_as_loaded():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).requires_grad_(False)
    with watch_loading(model) as loaded:
        model[1].load_state_dict({'weight': torch.ones(2, 2)}, strict=False)
    assert loaded.names == {'1.weight'}
    assert find_random_frozen(model, loaded.names) == {'0': ['0.weight', '0.bias'], '1': ['1.bias']}
    model[1].load_state_dict({'bias': torch.ones(2)}, strict=False)
    assert loaded.names == {'1.weight'}


@pytest.mark.parametrize('text, line', [
    ("model = dict(backbone=dict(type='ResNet', frozen_stages=1, init_cfg=dict(type='Pretrained', checkpoint='none')))",
     'model = dict(backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False))'),
    ("model = dict(pretrained='none', backbone=dict(type='ResNet', norm_eval=False, frozen_stages=1))",
     'model = dict(pretrained=None, backbone=dict(frozen_stages=-1))'),
])  # yapf: disable
def test_a_file_that_is_not_there_does_not_lead_to_a_frozen_random_backbone(tmp_path, text, line):
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(CheckpointError) as error:
        load_named(read_weights(Config.fromfile(str(tmp_path / 'mine.py'))), 'none', read)
    assert f'from random weights nothing may be frozen: {line}' in str(error.value)


def test_the_line_names_what_the_part_has():
    assert freeing_line(dict(backbone=dict(type='LeNet5')), 'backbone',
                        dict(init_cfg=None)) == 'model = dict(backbone=dict(init_cfg=None))'
