"""PreciseBNHook against a loop that computes every batch's statistics from its inputs."""
import pytest
import torch

from mmdet_ft.checkpoints import reading
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks import CheckpointHook, PreciseBNHook
from tests.engine.fakes import FakeLoader, make_runner


def runner_of(folder, length=2, priority='ABOVE_NORMAL', **arguments):
    runner = make_runner(folder, length=length)
    runner.register_hook(CheckpointHook(interval=1))
    if arguments:
        runner.register_hook(PreciseBNHook(**arguments), priority)
    return runner


def expected(model, batches):
    """Means over the batches of their mean and their variance without bias."""
    with torch.no_grad():
        inputs = [model.backbone(batch.x) for batch in batches]
    return (torch.stack([x.mean(0) for x in inputs]).mean(0),
            torch.stack([x.var(0, unbiased=True) for x in inputs]).mean(0))


@pytest.mark.parametrize('num_samples, batches', [(8192, 4), (8, 4), (5, 2), (1, 1)])
def test_statistics_are_those_of_the_weights_at_the_end(tmp_path, num_samples, batches):
    runner = runner_of(tmp_path, num_samples=num_samples)
    runner.run([FakeLoader()])
    loader = FakeLoader()
    loader.set_epoch(1)
    mean, var = expected(runner.model, list(loader)[:batches])
    torch.testing.assert_close(runner.model.norm.running_mean, mean)
    torch.testing.assert_close(runner.model.norm.running_var, var)
    assert runner.model.norm.momentum == .1
    saved = reading.read(str(tmp_path / 'epoch_2.pth')).state_dict
    torch.testing.assert_close(saved['norm.running_var'], var)


def test_weights_are_those_of_a_run_without_it(tmp_path):
    plain, precise = runner_of(tmp_path / 'plain'), runner_of(tmp_path / 'precise', num_samples=8)
    for runner in (plain, precise):
        runner.run([FakeLoader()])
    for one, other in zip(plain.model.parameters(), precise.model.parameters()):
        assert torch.equal(one, other)
    assert not torch.equal(plain.model.norm.running_mean, precise.model.norm.running_mean)


def test_interval_leaves_epochs_out(tmp_path):
    for folder, arguments in (('plain', {}), ('second', dict(num_samples=8, interval=2))):
        runner_of(tmp_path / folder, **arguments).run([FakeLoader()])
    for epoch, is_same in ((1, True), (2, False)):
        one, other = (
            reading.read(str(tmp_path / folder / f'epoch_{epoch}.pth')).state_dict
            for folder in ('plain', 'second'))
        assert torch.equal(one['norm.running_mean'], other['norm.running_mean']) == is_same


def test_layers_that_keep_their_statistics_are_left_alone(tmp_path):
    runner = runner_of(tmp_path, num_samples=8)
    train = runner.model.train
    runner.model.train = lambda mode=True: train(mode) and runner.model.norm.eval() and runner.model
    runner.run([FakeLoader()])
    assert torch.equal(runner.model.norm.running_mean, torch.zeros(3))


@pytest.mark.parametrize('priority', ['ABOVE_NORMAL', 'LOW'])
def test_a_resumed_run_is_bit_equal(tmp_path, priority):
    whole = runner_of(tmp_path / 'whole', 3, priority, num_samples=6)
    whole.run([FakeLoader()])
    rest = runner_of(tmp_path / 'rest', 3, priority, num_samples=6)
    rest.resume(str(tmp_path / 'whole/epoch_1.pth'))
    rest.run([FakeLoader()])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


def test_refusals(tmp_path):
    for arguments in (dict(num_samples=0), dict(interval=-1), dict(interval='1')):
        with pytest.raises(ValueError, match='positive integer'):
            PreciseBNHook(**arguments)
    runner = make_runner(tmp_path, kind='iter')
    runner.register_hook(PreciseBNHook())
    with pytest.raises(UserError, match='EpochBasedRunner'):
        runner.run([FakeLoader()])
