"""A run is resumed with its own optimizer only; another one is answered before the first step."""
from types import SimpleNamespace

import pytest
import torch

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.engine.optimizers.optimizer import build_optimizer, explain_state_difference
from mmdet_ft.engine.runner.resume_state import restore
from tests.engine.fakes import FakeModel

SGD = dict(type='SGD', lr=.1, momentum=.9, weight_decay=1e-4)


def state_of(cfg):
    model = FakeModel()
    optimizer = build_optimizer(model, cfg)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer.state_dict()


@pytest.mark.parametrize('saved, now, words', [
    (SGD, dict(type='AdamW', lr=.1), 'AdamW needs amsgrad, betas, eps'),
    (dict(type='Adam', lr=.1), SGD, 'SGD needs dampening, momentum, nesterov'),
    (dict(type='RAdam', lr=.1), dict(type='Adam', lr=.1), 'is another one than the Adam of the config'),
    (SGD, dict(SGD, paramwise_cfg=dict(bias_lr_mult=2.)), 'has 1 parameter groups, and optimizer of the config makes'),
])  # yapf: disable
def test_the_state_of_another_optimizer_is_refused_with_the_line_of_the_right_one(
        saved, now, words):
    model, state = state_of(saved)
    text = ', '.join(f'{key}={value!r}' for key, value in saved.items())
    meta = dict(epoch=1, iter=2, config=f'optimizer = dict({text})')
    checkpoint = Checkpoint('a.pth', model.state_dict(), meta, dict(optimizer=state))
    other = FakeModel()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    runner = SimpleNamespace(model=other, optimizer=build_optimizer(other, now))
    with pytest.raises(
            CheckpointError, match=r"a.pth cannot be resumed: its optimizer \(\w+\)") as error:
        restore(runner, checkpoint, True)
    assert words in str(error.value) and f'write optimizer = dict({text})' in str(error.value)
    assert "load_from='a.pth' instead of resume_from" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    'cfg', [SGD, dict(type='AdamW', lr=.1),
            dict(SGD, paramwise_cfg=dict(norm_decay_mult=0.))])
def test_its_own_state_is_that_of_an_optimizer(cfg):
    model, state = state_of(cfg)
    assert explain_state_difference(build_optimizer(model, cfg), state) is None
    for group in state['param_groups']:  # as an old torch has written it, after a schedule
        for key in ('maximize', 'foreach', 'differentiable', 'fused', 'capturable'):
            group.pop(key, None)
        group.update(initial_lr=.1)
    assert explain_state_difference(build_optimizer(model, cfg), state) is None


def test_groups_of_other_sizes_are_told():
    model, state = state_of(SGD)
    state['param_groups'][0]['params'].pop()
    assert 'parameters in group 0' in explain_state_difference(build_optimizer(model, SGD), state)
