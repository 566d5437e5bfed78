"""A run that is killed anywhere and resumed ends as if nothing had happened: weights, logs, best score."""
import gc
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet_ft.checkpoints import writing
from mmdet_ft.config import Config, load_config
from mmdet_ft.engine.environment import choose_seed, warn_of_missing_gpu
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks import CheckpointHook, EMAHook, EvalHook, TextLoggerHook
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.schedules import build_learning_rate
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.read import read_processes
from tests.engine.fakes import FakeDataset, FakeLoader, make_runner, same, weights


class Killed(BaseException):
    """What no `except Exception` catches: the process is gone."""


class Killer:
    """Ends a run at its n-th step, hook calls and writes of checkpoints being the steps; counts them."""

    def __init__(self, monkeypatch, at=None):
        self.count, self.at = 0, at
        for cls in (CheckpointHook, EvalHook, TextLoggerHook):
            for name in ('before_train_epoch', 'before_train_iter', 'after_train_iter',
                         'after_train_epoch'):
                self._watch(monkeypatch, cls, name)
        for name in ('save', 'link_latest'):
            self._watch(monkeypatch, writing, name)
        self._watch(monkeypatch, torch, 'save', half_done=True)
        self._watch(monkeypatch, os, 'replace')

    def _watch(self, monkeypatch, owner, name, half_done=False):
        original = getattr(owner, name)

        def step(*arguments, **named):
            self.count += 1
            if self.count == self.at:
                if half_done:
                    arguments[1].write(b'half')
                raise Killed
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, step)


def start(work_dir, kind, every, **settings):
    """A run with what a config usually asks for; `every` iterations between two checkpoints, 0: once an epoch."""
    by_epoch = kind == 'epoch'
    schedule = dict(
        policy='step',
        step=[1 if by_epoch else 5],
        warmup='linear',
        warmup_iters=3,
        by_epoch=by_epoch)
    runner = make_runner(
        work_dir,
        kind=kind,
        length=3 if by_epoch else 10,
        learning_rate=build_learning_rate(schedule),
        update=Update(dict(max_norm=1.), settings.get('cumulative', 1)))
    if settings.get('ema'):
        runner.register_hook(EMAHook(momentum=.3, warm_up=2), settings['ema'])
    runner.register_hook(CheckpointHook(interval=every or 1, by_epoch=not every, max_keep_ckpts=2))
    runner.register_hook(
        EvalHook(
            FakeLoader(FakeDataset(4), views=True),
            interval=1 if by_epoch else 4,
            by_epoch=by_epoch,
            save_best='fake_mAP'), 'LOW')
    runner.register_hook(TextLoggerHook(interval=3, by_epoch=by_epoch), 'VERY_LOW')
    return runner


def loaders(settings):
    both = settings.get('workflow', [('train', 1)])
    return [FakeLoader(FakeDataset(10, seed=index)) for index, _ in enumerate(both)], both


def figures(work_dir):
    """The lines of all json logs but for times: the last one of each place, and every evaluation that differs."""
    lines = {}
    for path in sorted(Path(work_dir).glob('*.log.json')):
        for line in map(json.loads, path.read_text().splitlines()):
            if 'mode' in line:
                values = {
                    key: value
                    for key, value in line.items() if key not in ('time', 'data_time', 'memory')
                }
                is_loss = 'loss' in line
                lines[(line['mode'], line['epoch'],
                       line['iter'] if is_loss else str(values))] = values
    return lines


def outcome(runner):
    best = [name for name in os.listdir(runner.work_dir) if name.startswith('best')]
    return best, runner.meta['hook_msgs']['best_score'], runner.current_lr(
    ), runner.iter, runner.epoch


SETTINGS = [
    ('epoch', 0, {}),
    ('epoch', 2, {}),
    ('epoch', 3, dict(cumulative=2)),
    ('epoch', 2, dict(ema=49)),
    ('epoch', 2, dict(ema='LOW')),
    ('epoch', 0, dict(workflow=[('train', 2), ('val', 1)])),
    ('iter', 3, {}),
    ('iter', 4, dict(cumulative=3)),
    ('iter', 2, dict(ema=49)),
    ('iter', 3, dict(workflow=[('train', 2), ('val', 1)])),
]


@pytest.mark.parametrize('kind,every,settings', SETTINGS, ids=str)
def test_a_run_killed_anywhere_and_resumed_is_the_whole_run(tmp_path, monkeypatch, kind, every,
                                                            settings):
    with monkeypatch.context() as patch:
        steps = Killer(patch)
        whole = start(tmp_path / 'whole', kind, every, **settings)
        whole.run(*loaders(settings))
    expected = figures(whole.work_dir)
    assert len(expected) >= 5
    for at in range(1, steps.count + 1, steps.count // 12 | 1):
        work_dir = tmp_path / f'killed_at_{at}'
        with monkeypatch.context() as patch:
            Killer(patch, at)
            with pytest.raises(Killed):
                start(work_dir, kind, every, **settings).run(*loaders(settings))
        rest = start(work_dir, kind, every, **settings)
        newest = writing.find_latest_checkpoint(str(work_dir), warn=pytest.fail)
        if newest is not None:
            rest.resume(newest)
        rest.run(*loaders(settings))
        assert same(weights(whole.model), weights(rest.model)), at
        assert figures(work_dir) == expected, at
        assert outcome(rest) == outcome(whole), at
        assert {name
                for name in os.listdir(work_dir) if name.endswith('.pth')
                } == {name
                      for name in os.listdir(whole.work_dir) if name.endswith('.pth')}, at
        assert not list(work_dir.glob('.*'))


def test_another_number_of_processes_goes_on_at_the_same_share_of_the_epoch(tmp_path):
    """Twice the batch, as two processes have it: half the iterations."""
    first = start(tmp_path, 'epoch', 2)
    first.run([FakeLoader(FakeDataset(20), 2)])
    rest = start(tmp_path / 'rest', 'epoch', 5)
    rest.resume(str(tmp_path / 'iter_28.pth'))
    rest.run([FakeLoader(FakeDataset(20), 4)])
    assert rest.epoch == 3 and rest.iter == 15 and rest.start_iter == 14


def test_a_changed_learning_rate_is_stated_and_scaled_only_if_asked_for(tmp_path, caplog):
    from mmdet_ft.config import Config
    from mmdet_ft.engine.batch_size import follow_world_size, images_per_step
    from mmdet_ft.engine.runner.resume_state import Resumed
    from mmdet_ft.engine.settings.read import read_run_settings
    data = dict(samples_per_gpu=4, workers_per_gpu=0, train=dict())
    for settings, rate, words in ((None, .1,
                                   'The learning rate stays 0.1; in proportion it would be 0.025'),
                                  (dict(enable=True,
                                        base_batch_size=16), .025, 'changes from 0.1 to 0.025')):
        runner = make_runner(tmp_path, lr=.1)
        runner.resumed = Resumed(world_size=4)
        runner.logger = logging.getLogger('mmdet_ft.tests.resume')
        caplog.clear()
        config = dict(data=data, runner=dict(type='EpochBasedRunner'), auto_scale_lr=settings)
        read = read_run_settings(Config(config))
        follow_world_size(runner, images_per_step(read), read.scales_rate)
        assert words in caplog.text and '1 processes instead of 4: a step has 4 images instead of 16' in caplog.text
        assert runner.current_lr() == pytest.approx([rate])


def test_a_rate_that_a_resumed_run_does_not_use_and_a_run_that_is_over_are_told(tmp_path, caplog):
    runner = make_runner(tmp_path, lr=.1, length=1)
    runner.run([FakeLoader(FakeDataset(20), 4)])
    runner.save_checkpoint(str(tmp_path), 'a.pth')
    again = make_runner(tmp_path, lr=.02, length=1)
    again.logger = logging.getLogger('mmdet_ft.tests.resume')
    again.resume(str(tmp_path / 'a.pth'))
    assert 'optimizer.lr=0.02 of the config is not used: a resumed run keeps the 0.1' in caplog.text
    again.run([FakeLoader(FakeDataset(20), 4)])
    assert 'nothing is left to train: 1 of 1 epochs are done; to train longer raise runner.max_epochs' in caplog.text


def test_a_resumed_run_has_the_seed_of_its_checkpoint_unless_another_is_asked_for(tmp_path, caplog):
    path = str(tmp_path / 'a.pth')
    weights = dict(w=torch.zeros(1))
    logger = logging.getLogger('test_seed')
    writing.save(path, weights, dict(seed=7))
    with caplog.at_level('INFO'):
        assert choose_seed(path, None, logger) == 7 and choose_seed(path, 7, logger) == 7
        assert 'instead of' not in caplog.text
        assert choose_seed(path, 3, logger) == 3
    assert '--seed 3 instead of the 7 of the resumed checkpoint' in caplog.text
    assert choose_seed(None, 3, logger) == 3
    writing.save(path, weights, dict(seed=None))
    assert choose_seed(path, 3, logger) == 3
    assert choose_seed(path, None, logger) != choose_seed(path, None, logger)
    for wrong in (-1, 1.5, 'x'):
        with pytest.raises(UserError, match='a seed is a whole number from 0 on, not '):
            choose_seed(None, wrong, logger)


def warn(cfg, logger):
    warn_of_missing_gpu(read_processes(cfg).requested_devices, ConfigKeys(cfg), logger)


def test_a_gpu_that_a_config_asks_for_and_is_not_there_is_told(tmp_path, caplog):
    path = tmp_path / 'a.py'
    path.write_text("device = 'cuda'\ngpu_ids = range(1)\n")
    logger = logging.getLogger('test_gpu')
    warn(load_config(path), logger)
    assert "device='cuda' (" in caplog.text and 'a.py:1), gpu_ids=range(0, 1) (' in caplog.text
    caplog.clear()
    cfg = Config(dict(gpu_ids=[0]))  # as a script sets it
    warn(cfg, logger)
    assert 'gpu_ids=[0]: torch finds no GPU' in caplog.text
    caplog.clear()
    for text in ("device = 'cpu'\n", 'gpu_ids = []\n', ''):
        path.write_text(text)
        warn(load_config(path), logger)
    assert not caplog.records


def test_the_newest_readable_checkpoint_of_the_run_is_found(tmp_path):
    runner = make_runner(tmp_path, length=3)
    runner.register_hook(CheckpointHook(interval=1))
    runner.run([FakeLoader()])
    other = make_runner(tmp_path / 'other', length=9, lr=.01)
    other.register_hook(CheckpointHook(interval=9))
    other.run([FakeLoader()])
    (tmp_path / 'other' / 'epoch_9.pth').rename(tmp_path /
                                                'epoch_9.pth')  # an older run in the same folder
    text = []
    assert writing.find_latest_checkpoint(str(tmp_path),
                                          text.append) == str(tmp_path / 'epoch_3.pth')
    whole = (tmp_path / 'epoch_3.pth').read_bytes()
    (tmp_path / 'epoch_3.pth').write_bytes(whole[:len(whole) // 2])
    (tmp_path / 'latest.pth').unlink()
    (tmp_path / 'latest.pth').symlink_to('epoch_2.pth')
    assert writing.find_latest_checkpoint(str(tmp_path),
                                          text.append) == str(tmp_path / 'epoch_2.pth')
    assert len(text) == 1 and f'{tmp_path}/epoch_3.pth' in text[0]


def test_what_a_killed_save_leaves_is_removed(tmp_path):
    (tmp_path / '.epoch_1.pth.abc.tmp').write_bytes(b'half')
    (tmp_path / '.mine.tmp').write_bytes(b'not ours')
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(CheckpointHook(interval=1))
    runner.run([FakeLoader()])
    assert sorted(path.name for path in tmp_path.glob('.*')) == ['.mine.tmp']


def test_consumed_samples_are_not_loaded_again():
    from mmdet_ft.datasets.loading.loader import build_dataloader
    from mmdet_ft.engine.runner.batches import from_batch, set_epoch
    asked = []

    class Asked(FakeDataset):
        flag = np.zeros(9, dtype=np.uint8)

        def __getitem__(self, index):
            asked.append(index)
            return dict(img=torch.zeros(3, 4, 4), img_metas=dict(img_shape=(4, 4, 3)))

    loader = build_dataloader(Asked(9), 2, 0, dist=False, seed=1)
    set_epoch(loader, 3)
    whole = [views[0].metas for views in loader]
    order, asked[:] = asked[:], []
    set_epoch(loader, 3)
    assert len(list(from_batch(loader, 3))) == len(whole) - 3 == 2 and asked == order[6:]
    set_epoch(loader, 4)
    assert len(list(from_batch(loader, 0))) == 5


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='looks at /proc')
def test_a_resumed_run_keeps_nothing_of_the_file(tmp_path):
    """It is read by mapping; a run that held on to it would keep its room on the disk, and die of a change to it."""
    first = start(tmp_path, 'epoch', 2, cumulative=3, ema=49)
    first.run(*loaders({}))
    path = str(tmp_path / 'iter_14.pth')
    rest = start(tmp_path / 'rest', 'epoch', 2, cumulative=3, ema=49)
    rest.resume(path)
    gc.collect()
    assert path not in Path('/proc/self/maps').read_text()
    assert rest.optimizer.state and rest.resumed.run_state['log']
