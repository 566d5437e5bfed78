"""Runs that end before their time, and remarks on settings that do not fit a small data set."""
import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.engine.config_check.check import check
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks import CheckpointHook, EarlyStopHook, EvalHook, TextLoggerHook
from mmdet_ft.engine.reporting.figures import check_metric, read_finite_metric
from mmdet_ft.engine.run_check import run_size
from mmdet_ft.engine.schedules.groups import Schedules
from mmdet_ft.engine.schedules.schedule import build_learning_rate
from mmdet_ft.engine.settings.rate import read_rate
from tests.engine.fakes import FakeDataset, FakeLoader, make_runner


def scored(scores):
    scores = iter(scores)

    class Scored(FakeDataset):

        def evaluate(self, results, logger=None):
            return {'bbox_mAP': next(scores), 'loss_val': .5}

    return FakeLoader(Scored(2), views=True)


def make(tmp_path, scores, kind='epoch', length=9, save_every=1, **settings):
    runner = make_runner(tmp_path, kind=kind, length=length, lr=.01)
    by_epoch = kind == 'epoch'
    runner.register_hook(CheckpointHook(interval=save_every, by_epoch=by_epoch))
    runner.register_hook(
        EvalHook(scored(scores), interval=1 if by_epoch else 2, by_epoch=by_epoch), 'LOW')
    runner.register_hook(EarlyStopHook(**{'monitor': 'bbox_mAP', 'patience': 2, **settings}), 'LOW')
    runner.register_hook(TextLoggerHook(interval=2, by_epoch=by_epoch), 'VERY_LOW')
    return runner


@pytest.mark.parametrize('scores,settings,epochs', [
    ([.1, .3, .2, .3, .9], {}, 4),
    ([.1, .3, .2, .31, .2, .2, .9], {}, 6),
    ([.1, .3, .31, .32, .9], dict(min_delta=.05), 4),
    ([.9, .8, .7, .75, .72, .9], dict(rule='less'), 5),
])
def test_the_run_ends_after_so_many_evaluations_without_gain(tmp_path, scores, settings, epochs):
    runner = make(tmp_path, scores, **settings)
    runner.run([FakeLoader()])
    assert runner.epoch == epochs and 'bbox_mAP' in runner.stop_reason


def test_iterations_stop_too_and_the_end_is_saved(tmp_path):
    runner = make(tmp_path, [.5, .4, .3, .9], kind='iter', length=20, save_every=100)
    runner.run([FakeLoader()])
    assert runner.iter == 6 and (tmp_path / 'iter_6.pth').exists()


def test_patience_survives_a_restart(tmp_path):
    make(tmp_path, [.5, .4, .9], length=2).run([FakeLoader()])
    rest = make(tmp_path, [.4, .3, .9])
    rest.resume(str(tmp_path / 'epoch_2.pth'))  # saved before its evaluation, which is made again
    rest.run([FakeLoader()])
    assert rest.epoch == 3


def test_a_monitor_that_is_no_metric_and_a_run_without_evaluation_are_refused(tmp_path):
    with pytest.raises(UserError, match="early_stop.monitor='segm_mAP'.*bbox_mAP, loss_val"):
        make(tmp_path, [.5], monitor='segm_mAP').run([FakeLoader()])
    runner = make_runner(tmp_path)
    runner.register_hook(EarlyStopHook('bbox_mAP'))
    with pytest.raises(UserError, match='data.val'):
        runner.run([FakeLoader()])
    with pytest.raises(UserError, match='early_stop.rule'):
        EarlyStopHook('mine')
    with pytest.raises(UserError, match='patience'):
        EarlyStopHook('bbox_mAP', patience=0)


def test_the_section_is_checked():
    config = dict(
        model=dict(type='FasterRCNN'),
        data=dict(),
        optimizer=dict(type='SGD', lr=1),
        runner=dict(type='EpochBasedRunner', max_epochs=1))
    with pytest.raises(Exception, match="early_stop has no 'patienc'.*did you mean 'patience'"):
        check(Config(dict(config, early_stop=dict(monitor='bbox_mAP', patienc=3))))
    with pytest.raises(Exception, match='needs a monitor'):
        check(Config(dict(config, early_stop=dict(patience=3))))


def found(tmp_path, config, kind='epoch', length=4, hooks=(), images=2):
    runner = make_runner(tmp_path, kind=kind, length=length)
    for hook in hooks:
        runner.register_hook(hook)
    runner.schedules = Schedules(
        build_learning_rate(config['lr_config'], runner.by_epoch)
        if 'lr_config' in config else None, None)
    return run_size.remarks(runner, read_rate(Config(config)), 10, images, num_images=20)


def test_a_batch_larger_than_the_training_set_is_remarked(tmp_path):
    assert found(tmp_path, {}, images=20) == []
    remark, = found(tmp_path, {}, images=64)
    assert 'data.samples_per_gpu: a step takes 64 images, and the training set has 20' in remark


def test_what_fits_is_not_remarked(tmp_path):
    config = dict(
        optimizer=dict(lr=.02),
        auto_scale_lr=dict(base_batch_size=2),
        lr_config=dict(policy='step', step=[3], warmup='linear', warmup_iters=39))
    hooks = [
        CheckpointHook(1),
        EvalHook(scored([])),
        TextLoggerHook(interval=10),
        EarlyStopHook('mAP', 3)
    ]
    assert found(tmp_path, config, hooks=hooks) == []


@pytest.mark.parametrize('config,hooks,words', [
    (dict(lr_config=dict(policy='step', step=[3], warmup='linear', warmup_iters=40)), [],
     'warmup of 40 iterations is as long as the whole run of 40'),
    (dict(
        lr_config=dict(policy='step', step=[3], warmup='exp', warmup_iters=4,
                       warmup_by_epoch=True)), [], 'warmup_iters=4'),
    (dict(lr_config=dict(policy='step', step=[8, 11])), [], 'after 8 epochs, and the run has 4'),
    (dict(optimizer=dict(lr=.02), auto_scale_lr=dict(base_batch_size=16)), [], 'that is 0.0025'),
    (dict(), [TextLoggerHook(interval=50)], 'log_config.interval=50 is longer than an epoch of 10'),
    (dict(), [CheckpointHook(12)
              ], 'checkpoint_config.interval=12, and the run has 4 epochs: only its end'),
    (dict(), [CheckpointHook(12, save_last=False)], 'nothing is saved'),
    (dict(), [EvalHook(scored([]), interval=12)], 'the first one is after 12 epochs'),
    (dict(), [EvalHook(scored([]), interval=2),
              EarlyStopHook('mAP', 2)], 'never stops early'),
])
def test_what_does_not_fit_is_remarked_with_its_reason(tmp_path, config, hooks, words):
    remark, = found(tmp_path, config, hooks=hooks)
    assert words in remark


class Found(FakeDataset):
    """Judges as COCO does: without a detection there are no figures."""

    def __init__(self, figures):
        super().__init__(2)
        self.figures = iter(figures)

    def evaluate(self, results, logger=None):
        figure = next(self.figures)
        results[:] = [[np.zeros((0 if figure is None else 1, 5))]] * 2
        return {} if figure is None else {'bbox_mAP': figure}


def run_with(tmp_path, figures, save_best=None, monitor='bbox_mAP', rule=None, kind=Found):
    runner = make_runner(tmp_path, length=len(figures), lr=.01)
    runner.register_hook(CheckpointHook(interval=1))
    loader = FakeLoader(kind(figures), views=True)
    runner.register_hook(EvalHook(loader, save_best=save_best, rule=rule), 'LOW')
    runner.register_hook(EarlyStopHook(monitor, 2, rule=rule), 'LOW')
    runner.register_hook(TextLoggerHook(interval=2), 'VERY_LOW')
    runner.run([FakeLoader()])
    return runner, sorted(path.name for path in tmp_path.glob('best_*'))


@pytest.mark.parametrize('nothing', [None, -1., float('nan')])
@pytest.mark.parametrize('save_best', ['bbox_mAP', 'auto'])
def test_an_evaluation_without_a_figure_ends_no_run_and_is_no_best_checkpoint(
        tmp_path, nothing, save_best):
    runner, best = run_with(tmp_path / 'never', [nothing] * 5, save_best)
    assert runner.epoch == 5 and runner.stop_reason is None and best == []
    runner, best = run_with(tmp_path / 'late', [nothing] * 3 + [.2, nothing], save_best)
    assert runner.epoch == 5 and best == ['best_bbox_mAP_epoch_4.pth']


class FoundByVoc(Found):
    """Judges as VOC and KITTI do: without a detection the figure is 0."""

    def evaluate(self, results, logger=None):
        return super().evaluate(results) or {'bbox_mAP': 0.}


def test_a_zero_of_nothing_found_ends_no_run_and_is_no_best_checkpoint(tmp_path):
    runner, best = run_with(tmp_path, [None] * 4 + [.2], 'bbox_mAP', kind=FoundByVoc)
    assert runner.epoch == 5 and runner.stop_reason is None
    assert best == ['best_bbox_mAP_epoch_5.pth']
    assert next(iter(FoundByVoc([None]).evaluate([]).values())) == 0


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_after_a_figure_one_without_is_no_improvement(tmp_path, rule):
    runner, best = run_with(tmp_path, [.2, None, None, .9], 'bbox_mAP', rule=rule)
    assert runner.epoch == 3 and best == ['best_bbox_mAP_epoch_1.pth']
    assert 'better than 0.2000 for 2 evaluations' in runner.stop_reason


def test_why_there_is_no_figure_is_told_once(tmp_path, caplog):
    runner = make_runner(tmp_path, length=3, lr=.01)
    runner.logger.propagate = True
    try:
        run_with(tmp_path, [-1.] * 4)
    finally:
        runner.logger.propagate = False
    text = [record.getMessage() for record in caplog.records if 'no objects' in record.getMessage()]
    assert text == [
        'bbox_mAP is -1: the validation set has no objects of these classes, so that it is not defined. '
        'It counts neither for save_best nor for early_stop'
    ]


def test_minus_one_is_a_figure_of_other_metrics():
    assert read_finite_metric('loss_val', {'loss_val': -1.}) == -1
    assert read_finite_metric('correlation', {'correlation': -1}) == -1
    for name in ('bbox_mAP', '0_segm_mAP_50', 'AR@100', 'bbox_AP_s', 'mAP', 'AP50', 'AP50_0_32',
                 'moderate_mAP', 'Car_easy_AP', 'recall@100@0.5'):
        assert read_finite_metric(name, {name: -1.}) is None


@pytest.mark.parametrize('name', ['bbox_mAP50', 'bbox_mAP_copypaste'])
def test_a_name_that_is_no_figure_is_refused_with_the_one_that_was_meant(name):
    metrics = dict(bbox_mAP=.5, bbox_mAP_50=.7, bbox_mAP_copypaste='0.5 0.7', eval_iter_num=2)
    with pytest.raises(UserError) as caught:
        check_metric('early_stop.monitor', name, metrics)
    assert str(caught.value) == (
        f"early_stop.monitor={name!r} is not among the metrics: bbox_mAP, bbox_mAP_50\n"
        f"did you mean {'bbox_mAP_50' if name[-1] == '0' else 'bbox_mAP'!r}?")
