import os

import pytest
import torch

from mmdet_ft.checkpoints.reading import read
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.hooks import (CheckpointHook, EvalHook, Hook, LoggerHook, Priority,
                                   TensorboardLoggerHook, TextLoggerHook, get_priority)
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.registry import HOOKS
from tests.engine.fakes import FakeDataset, FakeLoader, Recorder, make_runner
from tests.engine.test_engine_runner import log_rows


def test_hooks_act_by_priority_and_equals_in_the_order_of_registration(tmp_path):
    events = []
    runner = make_runner(tmp_path, length=1)
    for name, priority in (('last', 'LOWEST'), ('a', 'NORMAL'), ('first', 5), ('b', 'normal'),
                           ('c', Priority.HIGH)):
        runner.register_hook(Recorder(name + ' ', events), priority)
    runner.call_hook('before_run')
    assert [event[0].split()[0] for event in events] == ['first', 'c', 'a', 'b', 'last']


@pytest.mark.parametrize('priority', ['URGENT', -1, 101])
def test_a_priority_that_is_none_is_refused(priority):
    with pytest.raises(ValueError):
        get_priority(priority)


def test_triggered_stages_are_those_that_a_class_acts_on():

    class Mine(Hook):

        def before_epoch(self, runner):
            pass

        def after_train_iter(self, runner):
            pass

    assert Mine().get_triggered_stages() == [
        'before_train_epoch', 'after_train_iter', 'before_val_epoch'
    ]
    assert Hook().get_triggered_stages() == []


def test_a_hook_comes_from_a_config_by_its_type(tmp_path):

    @HOOKS.register_module(force=True)
    class CountingHook(Hook):

        def __init__(self, start=0):
            self.count = start

        def after_train_iter(self, runner):
            self.count += 1

    runner = make_runner(tmp_path, length=1)
    runner.register_hook_from_cfg(dict(type='CountingHook', start=10, priority='LOW'))
    runner.run([FakeLoader()])
    assert runner.hooks[0].count == 14 and runner.hooks[0].priority == 70
    with pytest.raises(TypeError, match='Hook'):
        runner.register_hook(object())


@pytest.mark.parametrize('interval,ignore_last,lines', [(1, True, [1, 2, 3, 4]), (3, True, [3]),
                                                        (3, False, [3, 4]), (50, True, [4]),
                                                        (4, True, [4])])
def test_every_epoch_writes_a_line_whatever_the_interval(tmp_path, interval, ignore_last, lines):
    runner = make_runner(
        tmp_path,
        length=2,
        meta=dict(exp_name='mine.py', seed=3, config='a = 1', env_info='x'),
        update=Update(dict(max_norm=1)))
    runner.register_hook(TextLoggerHook(interval=interval, ignore_last=ignore_last), 'VERY_LOW')
    runner.run([FakeLoader()])
    head, *rows = log_rows(tmp_path)
    assert head['exp_name'] == 'mine.py' and head[
        'seed'] == 3 and 'config' in head and 'env_info' in head
    assert [(row['epoch'], row['iter']) for row in rows] == [(epoch, i) for epoch in (1, 2)
                                                             for i in lines]
    assert list(rows[0])[:4] == ['mode', 'epoch', 'iter', 'lr']
    assert set(rows[0]) - {'memory'} == {
        'mode', 'epoch', 'iter', 'lr', 'loss_square', 'loss_size', 'acc', 'loss', 'grad_norm',
        'data_time', 'time'
    }


def test_the_line_of_text_is_v2s_with_the_share_of_waiting(tmp_path, caplog):
    runner = make_runner(tmp_path, length=1)
    runner.logger.propagate = True
    runner.register_hook(TextLoggerHook(interval=4), 'VERY_LOW')
    runner.run([FakeLoader()])
    runner.logger.propagate = False
    line = [
        record.getMessage() for record in caplog.records
        if record.getMessage().startswith('Epoch [')
    ][0]
    head, tail = line.split('\t')
    assert head == 'Epoch [1][4/4]'
    assert tail.startswith(
        'lr: 1.000e-01, eta: 0:00:00, time: 0.') and ', data_wait: ' in tail and ', loss: ' in tail


def test_iterations_are_logged_as_such(tmp_path):
    runner = make_runner(tmp_path, kind='iter', length=5)
    runner.register_hook(TextLoggerHook(interval=2, by_epoch=False), 'VERY_LOW')
    runner.run([FakeLoader()])
    assert [row['iter'] for row in log_rows(tmp_path)[1:]] == [2, 4]


@pytest.mark.parametrize('by_epoch', [True, False])
def test_evaluation_is_logged_and_the_best_checkpoint_kept(tmp_path, by_epoch):
    scores = iter([.5, .7, .6])

    class Scored(FakeDataset):

        def evaluate(self, results, logger=None, metric='bbox'):
            return {'bbox_mAP': next(scores), 'other': 1.}

    runner = make_runner(
        tmp_path, kind='epoch' if by_epoch else 'iter', length=3 if by_epoch else 6)
    runner.register_hook(
        EvalHook(
            FakeLoader(Scored(6), views=True),
            interval=1 if by_epoch else 2,
            by_epoch=by_epoch,
            save_best='auto',
            eval_options=dict(metric='bbox')), 'LOW')
    runner.register_hook(TextLoggerHook(interval=4, by_epoch=by_epoch), 'VERY_LOW')
    runner.run([FakeLoader()])
    name = 'best_bbox_mAP_epoch_2.pth' if by_epoch else 'best_bbox_mAP_iter_4.pth'
    assert [file for file in os.listdir(tmp_path) if file.startswith('best')] == [name]
    assert read(str(tmp_path / name)).meta['hook_msgs']['best_score'] == .7
    assert not (tmp_path / 'latest.pth').exists()
    rows = [row for row in log_rows(tmp_path)[1:] if row['mode'] == 'val']
    assert [row['bbox_mAP'] for row in rows] == [.5, .7, .6] and rows[0]['iter'] == 3
    training = [row for row in log_rows(tmp_path)[1:] if row['mode'] == 'train']
    assert all('bbox_mAP' not in row for row in training)
    if not by_epoch:  # lines are flushed before an evaluation, so no iteration is lost
        assert [row['iter'] for row in training] == [2, 4, 6]


@pytest.mark.parametrize('start,interval,expected', [(None, 1, [1, 2, 3, 4]), (None, 2, [2, 4]),
                                                     (3, 1, [3, 4]), (2, 2, [2, 4]),
                                                     (0, 1, [0, 1, 2, 3, 4])])
def test_start_and_interval_say_when_to_evaluate(tmp_path, start, interval, expected):
    met = []

    class When(FakeDataset):

        def evaluate(self, results, logger=None):
            met.append(runner.iter // 4)
            return {}

    runner = make_runner(tmp_path, length=4)
    runner.register_hook(
        EvalHook(FakeLoader(When(), views=True), start=start, interval=interval), 'LOW')
    runner.run([FakeLoader()])
    assert met == expected


def test_evaluation_leaves_the_model_in_training(tmp_path):
    modes = []

    class Look(Hook):

        def after_train_epoch(self, runner):
            modes.append(runner.model.training)

    runner = make_runner(tmp_path, length=1)
    runner.register_hook(EvalHook(FakeLoader(views=True)))
    runner.register_hook(Look(), 'LOWEST')
    runner.run([FakeLoader()])
    assert modes == [True]


@pytest.mark.parametrize('metric,rule,first_kept',
                         [('bbox_mAP', None, False), ('loss_cls', None, True),
                          ('AR@100', None, False), ('mine', 'less', True)])
def test_more_or_less_is_better_as_the_name_says(tmp_path, metric, rule, first_kept):
    hook = EvalHook(FakeLoader(), save_best=metric, rule=rule)
    assert (hook.rule == 'less') is first_kept


def test_a_metric_of_unknown_sense_needs_a_rule():
    with pytest.raises(ValueError, match="rule='greater'"):
        EvalHook(FakeLoader(), save_best='mystery')


def test_a_metric_that_is_not_there_is_named(tmp_path):
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(EvalHook(FakeLoader(views=True), save_best='segm_mAP'))
    with pytest.raises(UserError, match='segm_mAP.*fake_mAP'):
        runner.run([FakeLoader()])


def test_the_best_score_survives_a_restart(tmp_path):
    """epoch_1.pth is written before epoch 1 is evaluated: the resumed run evaluates it once more, then epoch 2."""
    scores = iter([.7, .7, .6])

    class Scored(FakeDataset):

        def evaluate(self, results, logger=None):
            return {'bbox_mAP': next(scores)}

    def run(length, source=None):
        runner = make_runner(tmp_path, length=length)
        runner.register_hook(CheckpointHook(interval=1))
        runner.register_hook(
            EvalHook(FakeLoader(Scored(), views=True), save_best='bbox_mAP'), 'LOW')
        if source:
            runner.resume(source)
        runner.run([FakeLoader()])

    run(1)
    run(2, str(tmp_path / 'epoch_1.pth'))
    assert [file for file in os.listdir(tmp_path)
            if file.startswith('best')] == ['best_bbox_mAP_epoch_1.pth']


@pytest.mark.parametrize('settings,kept', [
    (dict(interval=1), [1, 2, 3, 4, 5]),
    (dict(interval=2), [2, 4, 5]),
    (dict(interval=2, save_last=False), [2, 4]),
    (dict(interval=1, max_keep_ckpts=2), [4, 5]),
    (dict(interval=2, max_keep_ckpts=2), [4, 5]),
    (dict(interval=-1), [5]),
])
def test_checkpoints_are_written_and_dropped(tmp_path, settings, kept):
    runner = make_runner(tmp_path, length=5)
    runner.register_hook(CheckpointHook(**settings))
    runner.run([FakeLoader(FakeDataset(2))])
    found = sorted(int(name[6:-4]) for name in os.listdir(tmp_path) if name.startswith('epoch_'))
    assert found == kept
    assert os.path.realpath(tmp_path / 'latest.pth') == str(tmp_path / f'epoch_{kept[-1]}.pth')


def test_a_checkpoint_is_v2s_and_reads_safely(tmp_path):
    meta = dict(config='model = 1', seed=7, env_info='x', exp_name='c.py')
    runner = make_runner(tmp_path, length=1, meta=meta)
    runner.register_hook(CheckpointHook(interval=1))
    runner.run([FakeLoader()])
    content = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert {'meta', 'state_dict', 'optimizer'} <= set(content)
    assert content['meta']['epoch'] == 1 and content['meta']['iter'] == 4
    assert content['meta']['CLASSES'] == ('cat', 'dog') and content['meta']['config'] == 'model = 1'
    assert content['meta']['seed'] == 7 and isinstance(content['meta']['time'], str)


def test_out_dir_gets_a_folder_of_the_runs_name(tmp_path):
    runner = make_runner(tmp_path / 'run7', length=1)
    runner.register_hook(
        CheckpointHook(interval=1, out_dir=str(tmp_path / 'all'), save_optimizer=False))
    runner.run([FakeLoader()])
    assert 'optimizer' not in torch.load(
        tmp_path / 'all' / 'run7' / 'epoch_1.pth', weights_only=True)


def test_tensorboard_gets_scalars(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(EvalHook(FakeLoader(views=True)), 'LOW')
    runner.register_hook(TensorboardLoggerHook(interval=2), 'VERY_LOW')
    runner.run([FakeLoader()])
    events = EventAccumulator(str(tmp_path / 'tf_logs'))
    events.Reload()
    tags = events.Tags()['scalars']
    assert {'train/loss', 'train/loss_square', 'val/fake_mAP', 'learning_rate'} <= set(tags)
    assert [event.step for event in events.Scalars('train/loss')] == [2, 4]


@pytest.mark.parametrize('mine', [1, 2, 3, 4])
def test_two_loggers_have_their_own_intervals(tmp_path, mine):
    written = []

    class Note(LoggerHook):

        def log(self, runner):
            written.append(
                (self.get_mode(runner), self.get_iter(runner,
                                                      True), dict(runner.log_buffer.output)))

    runner = make_runner(tmp_path, length=2)
    runner.register_hook(EvalHook(FakeLoader(views=True), interval=2), 'LOW')
    runner.register_hook(Note(interval=mine), 'VERY_LOW')
    runner.register_hook(TextLoggerHook(interval=2), 'VERY_LOW')
    runner.run([FakeLoader()])
    training = [now for mode, now, _ in written if mode == 'train']
    assert training == [now for now in range(1, 5) if now % mine == 0] * 2
    scores = [round(output['fake_mAP'], 5) for mode, _, output in written if mode == 'val']
    assert scores == [log_rows(tmp_path)[-1]['fake_mAP']]
    assert [row['iter'] for row in log_rows(tmp_path)[1:]] == [2, 4, 2, 4, 4]


class Breaks(FakeDataset):
    """An evaluator that fails as a user's may, from the second evaluation on."""

    def __init__(self, error):
        super().__init__(2)
        self.error, self.count = error, 0

    def evaluate(self, results, logger=None, metric='bbox'):
        self.count += 1
        if self.count > 1:
            raise self.error
        return dict(mAP=.5)


@pytest.mark.parametrize('interval', [1, 10])
@pytest.mark.parametrize('error,said', [
    (KeyError('segm is not in the results'),
     "Breaks.evaluate failed (evaluation.metric='segm'): KeyError: segm is not"),
    (ValueError('shapes differ'),
     "Breaks.evaluate failed (evaluation.metric='segm'): ValueError: shapes differ"),
    (DataError('val.json: annotation 7 has no segmentation'),
     'val.json: annotation 7 has no segmentation'),
])
def test_a_failing_evaluation_is_one_message_and_loses_no_epoch(tmp_path, error, said, interval):
    runner = make_runner(tmp_path, length=3, lr=.01)
    runner.register_hook(CheckpointHook(interval=interval))
    loader = FakeLoader(Breaks(error), views=True)
    runner.register_hook(EvalHook(loader, eval_options=dict(metric='segm')), 'LOW')
    with pytest.raises((UserError, DataError)) as caught:
        runner.run([FakeLoader()])
    assert said in str(caught.value) and is_user_mistake(caught.value)
    assert str(tmp_path / 'epoch_2.pth') in caught.value.__notes__[-1]
    rest = make_runner(tmp_path, length=3, lr=.01)
    judged = FakeLoader(FakeDataset(2), views=True)
    rest.register_hook(CheckpointHook(interval=interval))
    rest.register_hook(EvalHook(judged), 'LOW')
    rest.resume(str(tmp_path / 'epoch_2.pth'))
    rest.run([FakeLoader()])
    assert rest.epoch == 3
