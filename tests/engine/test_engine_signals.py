"""Signals end a run with everything saved, in the middle of an epoch and of an evaluation."""
import os
import signal
import time

import pytest

from mmdet_ft.checkpoints import writing
from mmdet_ft.engine import summary
from mmdet_ft.engine.distributed import interruption
from mmdet_ft.engine.distributed.interruption import Interrupted
from mmdet_ft.engine.errors import command
from mmdet_ft.engine.evaluate import run_over
from mmdet_ft.engine.failures import signals
from mmdet_ft.engine.failures.signals import stop_on_signals
from mmdet_ft.engine.hooks import CheckpointHook, EvalHook, Hook
from tests.engine.fakes import FakeDataset, FakeLoader, make_runner, same, weights
from tests.engine.test_engine_resume import figures, loaders, outcome, start


class Send(Hook):
    """Sends this process a signal in an iteration."""

    def __init__(self, number, at):
        self.number, self.at = number, at

    def before_train_iter(self, runner):
        if runner.iter == self.at:
            os.kill(os.getpid(), self.number)


class Slow(FakeLoader):
    """Validation data in the midst of which a signal comes."""

    def __iter__(self):
        for index, batch in enumerate(super().__iter__()):
            if index == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGINT'])
@pytest.mark.parametrize('kind,every,settings', [('epoch', 0, dict(ema=49)),
                                                 ('epoch', 0, dict(cumulative=4)), ('iter', 8, {})])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, name, kind, every, settings):
    whole = start(tmp_path / 'whole', kind, every, **settings)
    whole.run(*loaders(settings))
    first = start(tmp_path / 'run', kind, every, **settings)
    first.register_hook(Send(getattr(signal, name), 6))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
            Interrupted, match=f'{name} after 7 iterations .*interrupted.pth.*exit code 75'):
        with stop_on_signals(first):
            first.run(*loaders(settings))
    assert signal.getsignal(signal.SIGTERM) is before
    rest = start(tmp_path / 'run', kind, every, **settings)
    rest.resume(writing.find_latest_checkpoint(rest.work_dir))
    assert rest.iter == 7
    rest.run(*loaders(settings))
    assert same(weights(whole.model), weights(rest.model))
    assert figures(whole.work_dir) == figures(rest.work_dir) and outcome(whole) == outcome(rest)


def test_a_signal_in_an_evaluation_is_heard_there(tmp_path):

    def make(loader):
        runner = make_runner(tmp_path, length=2)
        runner.register_hook(CheckpointHook(interval=5))
        runner.register_hook(EvalHook(loader, save_best='fake_mAP'), 'LOW')
        return runner

    runner = make(Slow(FakeDataset(8), views=True))
    with pytest.raises(Interrupted, match=r'after 4 iterations \(1 epoch\)'):
        with stop_on_signals(runner):
            runner.run([FakeLoader()])
    assert 'best_score' not in runner.meta['hook_msgs']
    rest = make(FakeLoader(FakeDataset(8), views=True))
    rest.resume(str(tmp_path / writing.INTERRUPTED))
    rest.run([FakeLoader()])
    assert rest.epoch == 2 and list(tmp_path.glob('best_fake_mAP_epoch_*.pth'))


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    hook = signals.InterruptHook()
    hook.note(signal.SIGINT, None)
    hook.note(signal.SIGINT, None)  # the same keypress, by way of torchrun
    now = time.monotonic()
    monkeypatch.setattr(time, 'monotonic', lambda: now + 2)
    hook.note(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        hook.note(signal.SIGINT, None)


def test_nobody_listens_outside_of_a_run(tmp_path):
    interruption.check()
    run_over(make_runner(tmp_path).model, FakeLoader(views=True))


def stopped(tmp_path, at, epochs=3, run_id=None):
    """A run of epochs of 4 iterations that a signal has stopped in iteration `at`."""
    runner = make_runner(tmp_path, length=epochs)
    runner.register_hook(CheckpointHook(interval=1))
    runner.register_hook(Send(signal.SIGINT, at))
    with pytest.raises(Interrupted):
        with stop_on_signals(runner):
            runner.run([FakeLoader()])
    return runner


def test_latest_stays_the_last_whole_epoch_and_resuming_finds_the_interrupted_state(tmp_path):
    stopped(tmp_path, at=5)
    assert os.path.realpath(tmp_path / 'latest.pth') == str(tmp_path / 'epoch_1.pth')
    newest = writing.find_latest_checkpoint(str(tmp_path))
    assert newest == str(tmp_path / 'interrupted.pth')
    rest = make_runner(tmp_path, length=3)
    rest.register_hook(CheckpointHook(interval=1))
    rest.resume(newest)
    assert rest.iter == 6
    rest.run([FakeLoader()])
    summary.remove_interrupted_state(rest)
    assert not (tmp_path / 'interrupted.pth').exists()  # older than what the run has ended with
    assert os.path.realpath(tmp_path / 'latest.pth') == str(tmp_path / 'epoch_3.pth')


@pytest.mark.parametrize('earlier', [False, True])
def test_a_run_without_a_checkpoint_yet_links_what_it_has(tmp_path, earlier):
    if earlier:  # another run in the same folder: its checkpoint is not this run's
        other = make_runner(tmp_path, length=1)
        other.register_hook(CheckpointHook(interval=1))
        other.run([FakeLoader()])
    stopped(tmp_path, at=2)
    assert os.path.realpath(tmp_path / 'latest.pth') == str(tmp_path / 'interrupted.pth')
    assert writing.find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'interrupted.pth')


def test_the_interrupted_state_of_another_run_stays(tmp_path):
    stopped(tmp_path, at=5)
    other = make_runner(tmp_path, length=1)
    other.register_hook(CheckpointHook(interval=1))
    other.run([FakeLoader()])
    summary.remove_interrupted_state(other)
    assert (tmp_path / 'interrupted.pth').exists()


def test_ctrl_c_outside_of_a_training_is_one_line(capsys):

    @command
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130 and capsys.readouterr().err == '\nstopped by Ctrl-C\n'
