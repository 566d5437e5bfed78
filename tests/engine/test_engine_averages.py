"""Moving averages of weights: their arithmetic, who sees them, exact resumption; and other hooks of V2."""
import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import default_collate

from mmdet_ft.checkpoints import fitting, reading
from mmdet_ft.datasets.loading.shared_batches import RingCollate, RingLoader
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.ema import EMAHook, ExpMomentumEMAHook, LinearMomentumEMAHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.mixing import YOLOXModeSwitchHook
from mmdet_ft.engine.optimizers.optimizer_step import read_update
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.settings.read import read_fp16
from tests.engine.fakes import FakeLoader, FakeModel, make_runner, same, weights


class Watch(Hook):
    """Notes the weights right after each step, and what stands in the model after the averages have been made."""

    def __init__(self, notes):
        self.notes = notes

    def after_train_iter(self, runner):
        self.notes.append(weights(runner.model))


def run_with(tmp_path, hook, kind='epoch', length=2, **arguments):
    """(weights before, after each step; what the model holds between iterations; runner)."""
    plain, shown = [], []
    runner = make_runner(tmp_path, kind=kind, length=length, **arguments)
    begin = weights(runner.model)
    runner.register_hook(Watch(plain), 'HIGH')
    runner.register_hook(hook, 49)
    runner.register_hook(Watch(shown), 'LOW')
    runner.run([FakeLoader()])
    return begin, plain, shown, runner


MOMENTA = [
    (lambda: EMAHook(momentum=.1, warm_up=5), lambda i: min(.1, (1 + i) / (5 + i)), False),
    (lambda: ExpMomentumEMAHook(momentum=.1, total_iter=3),
     lambda i: .9 * math.exp(-(1 + i) / 3) + .1, True),
    (lambda: LinearMomentumEMAHook(momentum=.4, warm_up=8), lambda i: min(.4, (1 + i) /
                                                                          (8 + i)), True),
    (lambda: LinearMomentumEMAHook(momentum=.4, warm_up=8, skip_buffers=True),
     lambda i: min(.4, (1 + i) / (8 + i)), False),
]


@pytest.mark.parametrize('kind,length', [('epoch', 2), ('iter', 7)])
@pytest.mark.parametrize('make,momentum,with_buffers', MOMENTA)
def test_the_average_follows_its_formula(tmp_path, make, momentum, with_buffers, kind, length):
    begin, plain, shown, runner = run_with(tmp_path, make(), kind, length)
    names = [name for name, value in runner.model.named_parameters()]
    if with_buffers:
        names += ['norm.running_mean', 'norm.running_var']
    for name in names:
        average = begin[name].double()
        for i, (now, seen) in enumerate(zip(plain, shown)):
            average = (1 - momentum(i)) * average + momentum(i) * now[name].double()
            torch.testing.assert_close(seen[name].double(), average, rtol=1e-5, atol=1e-6)
            assert torch.equal(seen[f'ema_{name.replace(".", "_")}'], now[name])
        assert not torch.equal(shown[-1][name], plain[-1][name])
    if not with_buffers:
        assert torch.equal(shown[-1]['norm.running_mean'], plain[-1]['norm.running_mean'])


def test_training_itself_is_not_changed(tmp_path):
    _, with_averages, _, _ = run_with(tmp_path / 'a', ExpMomentumEMAHook())
    without = []
    runner = make_runner(tmp_path / 'b', length=2)
    runner.register_hook(Watch(without))
    runner.run([FakeLoader()])
    for first, second in zip(with_averages, without):
        assert all(torch.equal(first[name], value) for name, value in second.items())


def test_interval_leaves_iterations_out(tmp_path):
    _, plain, shown, _ = run_with(tmp_path / 'mmcv', EMAHook(momentum=.5, interval=3, warm_up=1))
    assert_moved(shown, [0, 3, 6])
    begin = run_with(tmp_path / 'one', EMAHook(momentum=.5, interval=3, warm_up=1))[0]
    name = 'backbone.weight'
    expected = (1 - .5**3) * begin[name] + .5**3 * plain[0][name]  # the momentum to the third
    torch.testing.assert_close(shown[0][name], expected)
    _, _, shown, _ = run_with(tmp_path / 'mmdet', LinearMomentumEMAHook(momentum=.5, interval=3))
    assert_moved(shown, [2, 5])


def assert_moved(shown, indices):
    moved = [
        i for i in range(1, len(shown))
        if not torch.equal(shown[i]['head.weight'], shown[i - 1]['head.weight'])
    ]
    assert moved == [index for index in indices if index]


@pytest.mark.parametrize('kind,length', [('epoch', 2), ('iter', 6)])
def test_evaluation_and_checkpoints_get_the_averages(tmp_path, kind, length):
    runner = make_runner(tmp_path, kind=kind, length=length)
    evaluated = []

    class Loader(FakeLoader):

        def __iter__(self):
            evaluated.append(weights(runner.model))
            return super().__iter__()

    by_epoch = kind == 'epoch'
    shown = []
    runner.register_hook(EMAHook(momentum=.3, warm_up=1), 49)
    runner.register_hook(CheckpointHook(interval=2, by_epoch=by_epoch))
    runner.register_hook(Watch(shown))
    runner.register_hook(EvalHook(Loader(views=True), interval=2, by_epoch=by_epoch), 'LOW')
    runner.run([FakeLoader()])
    for number, seen in enumerate(evaluated):
        done = 8 if by_epoch else 2 * (number + 1)
        assert same(seen, shown[done - 1])
        name = 'epoch_2.pth' if by_epoch else f'iter_{done}.pth'
        assert same(reading.read(str(tmp_path / name)).state_dict, seen)
    assert len(evaluated) == (1 if by_epoch else 3)


@pytest.mark.parametrize('kind,length,cut', [('epoch', 3, 'epoch_1.pth'),
                                             ('epoch', 3, 'iter_6.pth'), ('iter', 9, 'iter_4.pth')])
@pytest.mark.parametrize('make', [
    lambda **more: EMAHook(momentum=.1, warm_up=3, **more),
    lambda **more: ExpMomentumEMAHook(total_iter=5, **more)
])
def test_a_resumed_run_is_bit_equal(tmp_path, kind, length, cut, make):

    def runner_of(folder, **more):
        runner = make_runner(tmp_path / folder, kind=kind, length=length)
        runner.register_hook(make(**more), 49)
        return runner

    whole = runner_of('whole')
    whole.register_hook(CheckpointHook(interval=1, by_epoch=cut.startswith('epoch')))
    whole.run([FakeLoader()])
    path = str(tmp_path / 'whole' / cut)
    rest = runner_of('rest')
    with torch.no_grad():
        for parameter in rest.model.parameters():
            parameter.add_(1)
    rest.resume(path)
    rest.run([FakeLoader()])
    assert same(weights(rest.model), weights(whole.model))

    by_v2s_argument = runner_of('v2', resume_from=path)
    by_v2s_argument.run([FakeLoader()])
    assert same(weights(by_v2s_argument.model), weights(whole.model))
    both = runner_of('both', resume_from=path)
    both.resume(path)
    both.run([FakeLoader()])
    assert same(weights(both.model), weights(whole.model))


def test_a_checkpoint_has_v2s_names_and_loads_as_a_plain_model(tmp_path):
    _, plain, shown, runner = run_with(tmp_path, EMAHook())
    runner.save_checkpoint(str(tmp_path), 'a.pth')
    saved = reading.read(str(tmp_path / 'a.pth'))
    assert 'ema_backbone_weight' in saved.state_dict and 'ema_norm_bias' in saved.state_dict
    model = FakeModel()
    fitting.load_trained(model, str(tmp_path / 'a.pth'))
    assert torch.equal(model.head.weight, shown[-1]['head.weight'])


@pytest.mark.parametrize('arguments', [dict(momentum=0), dict(momentum=1.), dict(interval=0)])
def test_averages_refuse_what_makes_no_sense(arguments):
    with pytest.raises(ValueError, match=list(arguments)[0]):
        EMAHook(**arguments)


# V2's spelling of gradient accumulation
def test_v2s_optimizer_hooks_are_understood():
    update = read_update(
        dict(
            type='GradientCumulativeOptimizerHook', cumulative_iters=4,
            grad_clip=dict(max_norm=35)))
    assert update.cumulative_iters == 4 and update.grad_clip == dict(max_norm=35)
    config = dict(
        optimizer_config=dict(
            type='GradientCumulativeFp16OptimizerHook',
            cumulative_iters=2,
            loss_scale='dynamic',
            coalesce=True,
            bucket_size_mb=-1,
            distributed=False))
    assert read_update(config['optimizer_config']).cumulative_iters == 2
    assert read_fp16(config) == dict(loss_scale='dynamic')
    assert read_fp16(dict(optimizer_config=dict(type='Fp16OptimizerHook'))) == dict(loss_scale=512.)
    assert read_fp16(dict(fp16=dict(loss_scale=8.), **config)) == dict(loss_scale=8.)
    assert read_fp16(dict(optimizer_config=dict(grad_clip=None))) is None


# the end of mixing
class Mixed(torch.utils.data.Dataset):
    """Tells what it is asked to leave out."""
    skipped = ()

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return len(self.skipped)

    def update_skip_type_keys(self, skip_type_keys):
        self.skipped = tuple(skip_type_keys)


@pytest.mark.parametrize('begin', [0, 3])
def test_mixing_ends_in_the_last_epochs_in_persistent_workers_too(begin):
    loader = RingLoader(
        Mixed(),
        num_workers=1,
        persistent_workers=True,
        collate_fn=RingCollate(default_collate, torch.as_tensor))
    lines = []
    runner = SimpleNamespace(
        max_epochs=4,
        data_loader=loader,
        model=SimpleNamespace(bbox_head=SimpleNamespace(use_l1=False)),
        logger=SimpleNamespace(info=lines.append))
    hook = YOLOXModeSwitchHook(num_last_epochs=2)
    seen = []
    for runner.epoch in range(begin, 4):
        hook.before_train_epoch(runner)
        seen.append(sum(int(batch) for batch in loader))
    assert seen == [0, 6, 6, 6][begin:] and runner.model.bbox_head.use_l1 and len(lines) == 2
    loader.restart_workers()


def test_mixing_goes_on_in_a_run_no_longer_than_the_end(tmp_path):
    dataset = Mixed()
    runner = SimpleNamespace(
        max_epochs=2,
        epoch=1,
        data_loader=SimpleNamespace(dataset=dataset),
        model=None,
        logger=None)
    YOLOXModeSwitchHook(num_last_epochs=15).before_train_epoch(runner)
    assert dataset.skipped == ()


def test_the_end_of_mixing_needs_something_mixed(tmp_path):
    runner = make_runner(tmp_path, length=2)
    runner.register_hook(YOLOXModeSwitchHook(num_last_epochs=1))
    with pytest.raises(UserError, match='MultiImageMixDataset, not FakeDataset'):
        runner.run([FakeLoader()])
    runner = make_runner(tmp_path, kind='iter', length=2)
    runner.register_hook(YOLOXModeSwitchHook())
    with pytest.raises(UserError, match='EpochBasedRunner'):
        runner.run([FakeLoader()])
