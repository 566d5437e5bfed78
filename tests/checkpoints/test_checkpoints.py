import os

import pytest
import torch
from torch import nn

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import covers, fit, parse_load_from
from mmdet_ft.checkpoints.reading import Checkpoint, read
from mmdet_ft.checkpoints.writing import find_latest_checkpoint
from tests.engine.fakes import FakeModel, same


class Heads(nn.Module):
    """Ten weights: a backbone of six and two heads."""
    CLASSES = ('a', 'b')

    def __init__(self, classes=2, width=4, anchors=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
        self.fc_cls = nn.Linear(width, classes + 1)
        self.rpn_cls = nn.Linear(width, anchors)

    def prediction_layers(self):
        return ('fc_cls.', 'rpn_cls.')


def checkpoint_of(model, classes=None):
    meta = {} if classes is None else dict(CLASSES=tuple(map(str, range(classes))))
    return Checkpoint('file.pth', model.state_dict(), meta, {})


def test_prediction_layers_of_another_size_are_left_fresh_and_both_shapes_told():
    model, source = Heads(2), Heads(80)
    fresh = model.fc_cls.weight.detach().clone()
    report = fit(model, checkpoint_of(source, 80))
    text = str(report)
    assert text.startswith('file.pth: loaded 8 of 10 (80 %)\n')
    assert ('re-initialized because classes changed 80 -> 2: fc_cls.weight (81, 4) -> (3, 4); '
            'fc_cls.bias (81,) -> (3,)') in text
    assert 'missing in the file, left as initialized: none' in text and 'unexpected in the file, ignored: none' in text
    assert torch.equal(model.fc_cls.weight, fresh)
    assert torch.equal(model.backbone[0].weight, source.backbone[0].weight)
    assert torch.equal(model.rpn_cls.weight, source.rpn_cls.weight)


def test_new_anchors_are_a_legitimate_edit():
    report = fit(Heads(anchors=9), checkpoint_of(Heads(), 2))
    words = 're-initialized because each location has 9 anchors, 3 in the file (anchor_generator.scales, ratios, '
    assert words in str(report)


def test_a_mismatch_elsewhere_is_an_error_that_says_how_to_allow_it():
    with pytest.raises(CheckpointError) as error:
        fit(Heads(width=8), checkpoint_of(Heads(width=4)))
    assert 'backbone.0.weight (4, 3, 1, 1) -> (8, 3, 1, 1)' in str(error.value)
    assert "load_from=dict(checkpoint='file.pth', strict=False)" in str(error.value)
    report = fit(Heads(width=8), checkpoint_of(Heads(width=4)), strict=False)
    assert [item[0]
            for item in report.mismatched] and 'dropped because the shape differs' in str(report)


def test_less_than_half_is_an_error_and_nothing_is_loaded():
    model = Heads()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = {
        name: value
        for name, value in Heads().state_dict().items() if name.startswith(('fc_cls', 'rpn_cls.b'))
    }
    with pytest.raises(CheckpointError, match='Less than half'):
        fit(model, Checkpoint('x.pth', given, {}, {}))
    assert same(before, model.state_dict())


def test_missing_and_unexpected_weights_are_named():
    given = {**Heads().state_dict(), 'mask.weight': torch.zeros(1)}
    del given['rpn_cls.bias']
    text = str(fit(Heads(), Checkpoint('x.pth', given, {}, {})))
    assert 'left as initialized: 1: rpn_cls.bias' in text and 'ignored: 1: mask.weight' in text


@pytest.mark.parametrize('prefix,entry', [('', ''), ('backbone.', ", prefix='backbone.'")])
def test_a_backbone_as_load_from_is_answered_with_the_init_cfg_line(prefix, entry):
    given = {prefix + name: value for name, value in Heads().backbone.state_dict().items()}
    given['fc.weight'] = torch.zeros(1000, 4)
    with pytest.raises(CheckpointError) as error:
        fit(Heads(), Checkpoint('resnet50.pth', given, {}, {}))
    assert (
        f"model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='resnet50.pth'{entry})))"
        in str(error.value))


def test_statistics_counters_count_for_nothing():
    given = {
        name: value
        for name, value in Heads().state_dict().items() if 'num_batches' not in name
    }
    report = fit(Heads(), Checkpoint('x.pth', given, {}, {}))
    assert report.total == 10 and not report.missing


def test_covering_the_backbone_means_every_weight_of_it():
    source = checkpoint_of(Heads())
    assert covers(source,
                  Heads()) and not covers(source, Heads(width=8)) and not covers(None, Heads())
    del source.state_dict['backbone.1.running_var']
    assert not covers(source, Heads())


@pytest.mark.parametrize('wrap', [
    lambda s: dict(state_dict=s, meta=dict(epoch=3)), lambda s: dict(model=s), lambda s: s,
    lambda s: dict(state_dict={
        f'module.{k}': v
        for k, v in s.items()
    })
])
def test_every_common_layout_is_read(tmp_path, wrap):
    state = FakeModel().state_dict()
    torch.save(wrap(state), tmp_path / 'a.pth')
    assert same(read(str(tmp_path / 'a.pth')).state_dict, state)


def test_load_from_is_a_path_or_says_strict():
    assert parse_load_from('a.pth').strict and parse_load_from('a.pth').checkpoint == 'a.pth'
    assert not parse_load_from(dict(checkpoint='a.pth', strict=False)).strict
    with pytest.raises(CheckpointError, match='strict'):
        parse_load_from(dict(checkpoint='a.pth', strikt=False))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.pth'
    writing.save(str(path), FakeModel().state_dict(), dict(epoch=1))
    with pytest.raises(KeyboardInterrupt):
        with writing.atomic_file(str(path)) as file:
            file.write(b'half')
            raise KeyboardInterrupt
    assert read(str(path)).meta['epoch'] == 1 and os.listdir(tmp_path) == ['a.pth']


def test_latest_is_never_dangling_and_found(tmp_path):
    assert find_latest_checkpoint(str(tmp_path)) is None
    for epoch in (9, 10):
        writing.save(
            str(tmp_path / f'epoch_{epoch}.pth'),
            FakeModel().state_dict(), dict(epoch=epoch))
    assert find_latest_checkpoint(str(tmp_path)).endswith('epoch_10.pth')
    writing.link_latest(str(tmp_path), 'epoch_9.pth')
    writing.link_latest(str(tmp_path), 'epoch_10.pth')
    assert os.path.realpath(find_latest_checkpoint(str(tmp_path))) == str(tmp_path / 'epoch_10.pth')
