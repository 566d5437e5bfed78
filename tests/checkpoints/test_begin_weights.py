"""What a run begins from: the model, `load_from` and `init_cfg` of a config."""
import json
import logging

import pytest
import torch

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.formats.origin import coco_classes
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import Config
from mmdet_ft.engine.models.build import initialize_weights, load_named
from mmdet_ft.engine.settings.read import read_weights
from mmdet_ft.registry import MODELS
from tests.checkpoints.test_kinds_openmmlab import CLASSES, in_version_1
from tests.checkpoints.test_reading import Evil
from tests.models.test_v2_parts import c4
from tests.models.tiny import tiny_config, tiny_model

RGB = dict(
    type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def begin(tmp_path, caplog, classes, settings=None, **values):
    """A model after initialize_weights, and the lines of the log."""
    settings = settings or tiny_config(num_classes=len(classes))
    cfg = Config(
        dict(
            model=settings, data=dict(train=dict(pipeline=[RGB])), work_dir=str(tmp_path),
            **values))
    model = MODELS.build(settings)
    model.CLASSES = classes
    with caplog.at_level(logging.INFO, logger='mmdet_ft'):
        initialize_weights(model, read_weights(cfg), logging.getLogger('mmdet_ft'), str(tmp_path))
    return model, '\n'.join(caplog.messages)


def test_a_file_of_version_1_begins_a_run_by_class(tmp_path, caplog):
    source = tiny_model()
    config = "img_norm_cfg = dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], to_rgb=False)\n" \
             "data = dict(train=dict(pipeline=[dict(type='Normalize', **img_norm_cfg)]))"
    meta = dict(mmdet_version='1.1.0', CLASSES=CLASSES, config=config)
    torch.save(dict(meta=meta, state_dict=in_version_1(source.state_dict())), tmp_path / 'old.pth')
    load_from = dict(
        checkpoint=str(tmp_path / 'old.pth'), heads='by_class', aliases=dict(fox='dog'))
    model, log = begin(tmp_path, caplog, ('bird', 'fox'), load_from=load_from)
    old, new = source.roi_head.mask_head.conv_logits, model.roi_head.mask_head.conv_logits
    assert torch.equal(new.weight, old.weight[[2, 1]])
    lines = log[log.index('old.pth (MMDetection 1.1): loaded'):].splitlines()
    assert [line.split()[0]
            for line in lines[1:]] == ['on', 'heads', 'missing', 'note:', 'warning:']
    assert 'trained on BGR with mean [102.9801' in lines[-1] and 'come as RGB' in lines[-1]
    record = json.loads((tmp_path / 'load_from.json').read_text())
    assert record['heads_by_class'] == dict(copied=dict(bird='bird', fox='dog'), new=[])
    assert record['kind'] == 'MMDetection 1.1' and len(record['warnings']) == 1


def test_caffes_backbone_under_pytorchs_normalisation_is_told(tmp_path, caplog):
    settings = tiny_config()
    backbone = MODELS.build(settings['backbone'])
    weights = backbone.state_dict()
    torch.nn.init.normal_(weights['conv1.weight'], std=.05 / 58)
    torch.save(weights, tmp_path / 'caffe.pth')
    settings['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'caffe.pth'))
    model, log = begin(tmp_path, caplog, coco_classes()[0][:3], settings)
    assert torch.equal(model.backbone.conv1.weight, weights['conv1.weight'])
    assert 'caffe.pth (state_dict): the first convolution answers to a unit of its input by' in log
    assert not (tmp_path / 'load_from.json').exists()


def test_alternatives_and_trust_reach_the_reader(tmp_path, caplog):
    source = tiny_model()
    torch.save(
        dict(state_dict=source.state_dict(), extra=Evil(tmp_path / 'built')), tmp_path / 'a.pth')
    alternatives = [str(tmp_path / 'nowhere.pth'), str(tmp_path / 'a.pth')]
    with pytest.raises(CheckpointError, match='trust=True'):
        begin(tmp_path, caplog, CLASSES, load_from=alternatives)
    model, log = begin(
        tmp_path, caplog, CLASSES, load_from=dict(checkpoint=alternatives, trust=True))
    assert 'nowhere.pth does not exist' in log and f'{alternatives[1]}: loaded' in log
    assert torch.equal(model.rpn_head.rpn_cls.weight, source.rpn_head.rpn_cls.weight)


def test_a_shared_head_is_not_downloaded_where_the_checkpoint_has_it(tmp_path, caplog):
    missing = dict(type='Pretrained', checkpoint=str(tmp_path / 'nowhere.pth'))
    settings = c4()
    source = MODELS.build(settings)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'c4.pth')
    settings['backbone']['init_cfg'] = settings['roi_head']['shared_head']['init_cfg'] = missing
    with pytest.raises(CheckpointError, match='nowhere.pth does not exist'):
        begin(tmp_path, caplog, CLASSES, settings)
    model, log = begin(tmp_path, caplog, CLASSES, settings, load_from=str(tmp_path / 'c4.pth'))
    assert 'has the whole roi_head.shared_head' in log
    weight = model.roi_head.shared_head.layer2[0].conv1.weight
    assert torch.equal(weight, source.roi_head.shared_head.layer2[0].conv1.weight)


@pytest.mark.parametrize('text, words', [
    ("load_from = 'none.pth'", ['load_from (mine.py:1)', 'put the file there']),
    ("model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='none.pth')))",
     ['model.backbone.init_cfg.checkpoint (mine.py:1)', 'write model.backbone.init_cfg=None']),
    ("model = dict(backbone=dict(init_cfg=[dict(type='Pretrained', checkpoint='none.pth')]))",
     ['model.backbone.init_cfg.0.checkpoint (mine.py:1)', 'write model.backbone.init_cfg=None']),
    ("model = dict(\n    pretrained='none.pth')",
     ['model.pretrained (mine.py:2)', 'write model.pretrained=None']),
])
def test_weights_that_are_not_there_are_told_with_key_line_value_and_the_way_on(
        text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(CheckpointError, match='none.pth does not exist') as error:
        load_named(read_weights(Config.fromfile('mine.py')), 'none.pth', read)
    assert all(word in str(error.value) for word in [*words, "= 'none.pth': "]), str(error.value)


def test_a_backbones_missing_weights_name_their_key_when_a_run_begins(tmp_path, caplog):
    settings = tiny_config()
    settings['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='none.pth')
    with pytest.raises(
            CheckpointError, match=r"^model\.backbone\.init_cfg\.checkpoint = 'none.pth'"):
        begin(tmp_path, caplog, CLASSES, settings)
