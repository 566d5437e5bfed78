"""The schedule and the hooks of YOLOX."""
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.sync_norm import SyncNormHook, norm_statistics
from mmdet_ft.engine.runner.seeds import begin_step
from mmdet_ft.engine.schedules import build_learning_rate
from tests.engine.test_engine_schedules import rates

SCHEDULE = dict(
    policy='YOLOX',
    warmup='exp',
    by_epoch=False,
    warmup_by_epoch=True,
    warmup_ratio=1,
    warmup_iters=2,
    num_last_epochs=3,
    min_lr_ratio=.05)  # of 12 epochs of 10 iterations


def test_the_rate_of_yolox_rises_squared_then_falls_half_a_wave_then_stays():
    table = [row[0] for row in rates(SCHEDULE)]
    for i in (0, 7, 19):
        assert table[i] == pytest.approx(.02 * ((i + 1) / 20)**2)
    for i in (20, 50, 88):
        wave = (1 + math.cos(math.pi * (i + 1 - 20) / (90 - 20))) / 2
        assert table[i] == pytest.approx(.001 + .019 * wave)
    assert table[89:] == [pytest.approx(.001)] * 31


def test_the_schedule_of_yolox_moves_by_iteration():
    with pytest.raises(ValueError, match='write by_epoch=False'):
        build_learning_rate(dict(SCHEDULE, by_epoch=True))


def test_norms_and_their_averages_become_the_mean_over_processes(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.register_buffer('ema_1_running_mean', torch.ones(4))
    assert len(norm_statistics(model)) == 3
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda value: value.add_(3))
    monkeypatch.setattr('mmdet_ft.engine.distributed.dist.is_distributed', lambda: True)
    monkeypatch.setattr('mmdet_ft.engine.distributed.dist.get_dist_info', lambda: (0, 2))
    hook = SyncNormHook(num_last_epochs=2, interval=4)
    runner = SimpleNamespace(model=model, epoch=0, max_epochs=10)
    hook.after_train_epoch(runner)
    assert model[1].running_mean.tolist() == [0] * 4  # not due
    runner.epoch = 3
    hook.after_train_epoch(runner)
    assert model[1].running_mean.tolist() == [1.5] * 4
    assert model[1].running_var.tolist() == model.ema_1_running_mean.tolist() == [2.] * 4
    assert [hook.interval_at(epoch, 10) for epoch in (6, 7, 9)] == [4, 1, 1]
    with pytest.raises(UserError, match='use it with EpochBasedRunner'):
        hook.before_train_epoch(SimpleNamespace(max_epochs=None))


def test_a_model_hears_of_each_step():
    heard = []
    model = SimpleNamespace(module=SimpleNamespace(begin_step=lambda *words: heard.append(words)))
    begin_step(model, 7, 3)
    begin_step(nn.Linear(1, 1), 7, 3)
    assert heard == [(7, 3)]
