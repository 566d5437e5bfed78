import json
import math
import os

import pytest
import torch

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.engine.errors import NonFiniteError, UserError
from mmdet_ft.engine.hooks import CheckpointHook, Hook, NumClassCheckHook, TextLoggerHook
from mmdet_ft.engine.optimizers.optimizer import build_optimizer
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.engine.runner.seeds import seed_of
from mmdet_ft.engine.schedules import build_learning_rate
from mmdet_ft.engine.speed.precision import LossScaler, Precision, build_precision
from mmdet_ft.structures import Losses
from tests.engine.fakes import (FakeDataset, FakeLoader, FakeModel, Recorder, make_runner, same,
                                weights)
from tools.benchmarks.no_sync import NoSync

STEP = dict(policy='step', step=[2], warmup='linear', warmup_iters=3)


def log_rows(work_dir):
    name, = [name for name in os.listdir(work_dir) if name.endswith('.log.json')]
    with open(os.path.join(work_dir, name)) as file:
        return [json.loads(line) for line in file]


def test_an_epoch_meets_the_points_in_v2s_order(tmp_path):
    runner = make_runner(tmp_path, length=1)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.run([FakeLoader(FakeDataset(4)), FakeLoader(FakeDataset(2))], [('train', 1), ('val', 1)])
    assert recorder.events == [
        ('before_run', 0, 0, 0),
        ('before_train_epoch', 0, 0, 0),
        ('before_train_iter', 0, 0, 0), ('after_train_iter', 0, 0, 0),
        ('before_train_iter', 0, 1, 1), ('after_train_iter', 0, 1, 1),
        ('after_train_epoch', 0, 2, 1),
        ('before_val_epoch', 1, 2, 1),
        ('before_val_iter', 1, 2, 0), ('after_val_iter', 1, 2, 0),
        ('after_val_epoch', 1, 2, 0),
        ('after_run', 1, 2, 0),
    ]  # yapf: disable


def test_a_step_follows_sgd_by_hand(tmp_path):
    """Momentum, weight decay and the schedule, against the textbook update."""
    model = FakeModel()
    model.norm.eval()
    runner = make_runner(tmp_path, model, length=1, learning_rate=build_learning_rate(STEP))
    loader = FakeLoader()
    mine = {name: value.detach().clone() for name, value in model.named_parameters()}
    momentum = {name: torch.zeros_like(value) for name, value in mine.items()}
    factors = [.1, .4, .7, 1.]
    gradients = []

    class Keep(Hook):

        def after_train_iter(self, runner):
            gradients.append({
                name: value.grad.clone()
                for name, value in runner.model.named_parameters()
            })

    runner.register_hook(Keep())
    runner.run([loader])
    for gradient, factor in zip(gradients, factors):
        for name in mine:
            momentum[name] = .9 * momentum[name] + gradient[name] + 1e-4 * mine[name]
            mine[name] = mine[name] - .1 * factor * momentum[name]
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, mine[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind,length,cut', [('epoch', 4, 2), ('iter', 11, 6)])
@pytest.mark.parametrize('optimizer',
                         [dict(type='SGD', lr=.05, momentum=.9),
                          dict(type='AdamW', lr=.01)])
@pytest.mark.parametrize('cumulative', [1, 4])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, kind, length, cut, optimizer,
                                                            cumulative):
    arguments = dict(
        kind=kind, length=length, optimizer=optimizer, update=Update(dict(max_norm=1.), cumulative))
    schedule = dict(
        policy='poly', min_lr=1e-4, by_epoch=kind == 'epoch', warmup='exp', warmup_iters=5)
    whole = make_runner(
        tmp_path / 'whole', learning_rate=build_learning_rate(schedule), **arguments)
    whole.register_hook(CheckpointHook(interval=cut, by_epoch=kind == 'epoch'))
    whole.run([FakeLoader()])

    torch.manual_seed(99)
    rest = make_runner(tmp_path / 'rest', learning_rate=build_learning_rate(schedule), **arguments)
    rest.resume(str(tmp_path / 'whole' / f'{kind}_{cut}.pth'))
    assert (rest.epoch if kind == 'epoch' else rest.iter) == cut
    rest.run([FakeLoader()])
    assert same(weights(whole.model), weights(rest.model))
    assert rest.iter == whole.iter and rest.current_lr() == whole.current_lr()


def test_a_run_resumes_in_the_middle_of_an_epoch(tmp_path):
    whole = make_runner(tmp_path, length=2)
    whole.register_hook(CheckpointHook(interval=3, by_epoch=False))
    whole.run([FakeLoader()])
    rest = make_runner(tmp_path / 'rest', length=2)
    rest.resume(str(tmp_path / 'iter_3.pth'))
    assert (rest.epoch, rest.iter) == (0, 3)
    rest.run([FakeLoader()])
    assert same(weights(whole.model), weights(rest.model))


def test_resuming_with_other_batches_keeps_the_epoch(tmp_path):
    first = make_runner(tmp_path, length=1)
    first.register_hook(CheckpointHook(interval=1))
    first.run([FakeLoader()])
    rest = make_runner(tmp_path / 'rest', length=2)
    rest.resume(str(tmp_path / 'latest.pth'))
    rest.run([FakeLoader(batch_size=4)])
    assert rest.epoch == 2 and rest.iter == 4  # an epoch has two iterations now


def test_accumulated_gradients_are_those_of_the_big_batch(tmp_path):
    """Without batch statistics, two batches of two equal one of four."""

    class Plain(FakeModel):

        def predict(self, batch):
            return self.head(self.backbone(batch.x))[:, 0]

    class Ordered(FakeLoader):

        def __iter__(self):
            return iter([view for view, in FakeLoader(self.dataset, self.batch_size, views=True)])

    start = Plain().state_dict()
    small = make_runner(
        tmp_path, _with(Plain(), start), length=1, update=Update(cumulative_iters=2))
    big = make_runner(tmp_path, _with(Plain(), start), length=1)
    small.run([Ordered(FakeDataset(8), 2)])
    big.run([Ordered(FakeDataset(8), 4)])
    for name, value in big.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], value)


def _with(model, state):
    model.load_state_dict(state)
    return model


def test_a_window_at_the_end_of_a_run_is_shorter():
    update = Update(cumulative_iters=4)
    assert [update.window(i, 10) for i in (0, 3, 7, 8, 9)] == [(4, True, False), (4, False, True),
                                                               (4, False, True), (2, True, False),
                                                               (2, False, True)]
    assert Update().window(5, 6) == (1, True, True)


def test_iterations_are_counted_where_the_runner_counts_them(tmp_path):
    runner = make_runner(tmp_path, kind='iter', length=10)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.register_hook(CheckpointHook(interval=4, by_epoch=False))
    runner.run([FakeLoader()])
    assert [event[2] for event in recorder.events
            if event[0] == 'before_train_iter'] == list(range(10))
    assert runner.epoch == 2  # 4 iterations each time over the data
    assert sorted(name for name in os.listdir(tmp_path)
                  if name.startswith('iter_')) == ['iter_10.pth', 'iter_4.pth', 'iter_8.pth']
    assert read(str(tmp_path / 'iter_8.pth')).meta['iter'] == 8


def test_an_endless_loader_is_told_where_to_begin(tmp_path):

    class Endless(FakeLoader):
        start = 0

        def __init__(self):
            super().__init__()
            self.batch_sampler = self

        def set_start(self, start):
            self.start = start

        def __iter__(self):
            batches = [batch for batch in super().__iter__()]
            index = self.start
            while True:
                yield batches[index % len(batches)]
                index += 1

    seen = []

    class Look(Hook):

        def before_train_iter(self, runner):
            seen.append((runner.iter, runner.data_batch.metas[0]['filename']))

    whole = make_runner(tmp_path, kind='iter', length=7)
    whole.register_hook(Look())
    whole.register_hook(CheckpointHook(interval=5, by_epoch=False))
    whole.run([Endless()])
    first, seen[:] = seen[:], []
    rest = make_runner(tmp_path / 'rest', kind='iter', length=7)
    rest.register_hook(Look())
    rest.resume(str(tmp_path / 'iter_5.pth'))
    rest.run([Endless()])
    assert seen == first[5:]
    assert same(weights(whole.model), weights(rest.model))


@pytest.mark.parametrize('kind', ['epoch', 'iter'])
def test_validation_losses_are_logged_and_change_nothing(tmp_path, kind):
    plain = make_runner(tmp_path / 'plain', kind=kind, length=4)
    plain.run([FakeLoader()])
    both = make_runner(tmp_path / 'both', kind=kind, length=4)
    both.register_hook(TextLoggerHook(interval=2, by_epoch=kind == 'epoch'), 'VERY_LOW')
    both.run([FakeLoader(), FakeLoader(FakeDataset(6, seed=1))],
             [('train', 2 if kind == 'iter' else 1), ('val', 1)])
    assert same(weights(plain.model), weights(both.model))
    modes = [row['mode'] for row in log_rows(tmp_path / 'both')[1:]]
    assert modes.count('val') == (4 if kind == 'epoch' else 2) and modes[-1] == 'val'
    validation = [row for row in log_rows(tmp_path / 'both')[1:] if row['mode'] == 'val'][-1]
    assert {'loss_square', 'loss', 'acc', 'epoch', 'iter', 'lr'} <= set(validation)
    assert 'grad_norm' not in validation and 'time' not in validation


def test_a_training_step_never_waits_for_the_device(tmp_path):
    for optimizer in (dict(type='SGD', lr=.1, momentum=.9,
                           nesterov=True), dict(type='AdamW', lr=.1)):
        runner = make_runner(
            tmp_path,
            length=1,
            optimizer=optimizer,
            update=Update(dict(max_norm=1, norm_type=2)),
            learning_rate=build_learning_rate(STEP))
        loader = FakeLoader()
        runner.data_loader, runner.max_iters, runner.mode = loader, 4, 'train'
        runner.model.train()
        for batch in loader:
            with NoSync():
                runner.schedules.set(runner.optimizer, runner.progress)
                runner.train_step(batch)
            runner.iter += 1


def test_the_same_place_draws_the_same_numbers():
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    indices = {seed_of(seed, i, rank) for seed in range(5) for i in range(20) for rank in range(4)}
    assert len(indices) == 400 and all(0 <= index < 2**63 for index in indices)


def bad_at(iteration, kind='nan'):
    """A model whose loss, or only its gradient, is not finite from one iteration on."""

    class Bad(FakeModel):
        calls = 0

        def loss(self, batch):
            losses = super().loss(batch)
            if self.training:
                Bad.calls += 1
            if Bad.calls <= iteration:
                return losses
            if kind == 'gradient':  # sqrt at 0: a finite value, an infinite slope
                extra = (self.head.bias.sum() * 0).sqrt()
            else:
                extra = losses.terms['loss_square'] * float(kind)
            return Losses({**losses.terms, 'loss_bad': extra})

    return Bad()


@pytest.mark.parametrize('kind', ['nan', 'inf', 'gradient'])
@pytest.mark.parametrize('optimizer', [
    dict(type='SGD', lr=.1, momentum=.9),
    dict(type='AdamW', lr=.1),
    dict(type='RMSprop', lr=.01),
    dict(type='SGD', lr=.1, foreach=True)
])
def test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_before_it(
        tmp_path, kind, optimizer):
    good = make_runner(tmp_path / 'good', length=1, optimizer=optimizer)
    before = {}

    class Keep(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 2:
                before.update(weights(runner.model))

    torch.manual_seed(0)
    runner = make_runner(tmp_path, bad_at(2, kind), length=2, optimizer=optimizer)
    runner.register_hook(Keep())
    runner.register_hook(TextLoggerHook(interval=100), 'VERY_LOW')
    runner.register_hook(CheckpointHook(interval=1))
    with pytest.raises(NonFiniteError) as error:
        runner.run([FakeLoader()])
    message = str(error.value)
    assert 'iteration 3' in message and 'loss_bad' in message and 'lr 0.' in message and 'image' in message
    parameters = dict(runner.model.named_parameters())
    assert all(torch.equal(parameters[name], before[name]) for name in parameters)
    assert not [name for name in os.listdir(tmp_path) if name.endswith('.pth')]
    assert good.iter == 0


def test_the_very_first_step_may_be_refused(tmp_path):
    runner = make_runner(tmp_path, bad_at(0), length=1)
    start = weights(runner.model)
    with pytest.raises(NonFiniteError, match='iteration 1'):
        runner.run([FakeLoader()])
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, start[name])
        assert torch.equal(runner.optimizer.state[value]['momentum_buffer'],
                           torch.zeros_like(value))


def test_nothing_bad_is_saved_even_by_a_users_hook(tmp_path):

    class Save(Hook):

        def after_train_iter(self, runner):
            runner.save_checkpoint(str(tmp_path), 'mine.pth')

    runner = make_runner(tmp_path, bad_at(0), length=1)
    runner.register_hook(Save())
    with pytest.raises(NonFiniteError):
        runner.run([FakeLoader()])
    assert not (tmp_path / 'mine.pth').exists()


def test_a_users_hook_may_set_the_learning_rate(tmp_path):
    seen = []

    class Halve(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 1:
                for group in runner.optimizer.param_groups:
                    group['lr'] *= .5

        def after_train_iter(self, runner):
            seen.append(runner.current_lr()[0])

    runner = make_runner(
        tmp_path, length=2, lr=.1, learning_rate=build_learning_rate(dict(policy='step', step=[1])))
    runner.register_hook(Halve())
    runner.run([FakeLoader()])
    assert seen == pytest.approx([.1] + [.05] * 3 +
                                 [.01] * 4)  # until the schedule speaks again, at the next epoch


def test_what_hooks_of_v2_read_is_there(tmp_path):
    seen = {}

    class Look(Hook):

        def after_train_iter(self, runner):
            seen.update(
                loss=runner.outputs['loss'],
                names=list(runner.outputs['log_vars']),
                samples=runner.outputs['num_samples'],
                data=runner.data_batch,
                mode=runner.mode,
                momentum=runner.current_momentum(),
                last=self.is_last_iter(runner),
                end=self.end_of_epoch(runner),
                hundred=self.every_n_iters(runner, 100))
            runner.log_buffer.update({'mine': runner.iter}, 1)

    runner = make_runner(tmp_path, length=1, update=Update(dict(max_norm=1)))
    runner.register_hook(Look(), priority='LOW')
    runner.register_hook(TextLoggerHook(interval=4), 'VERY_LOW')
    runner.run([FakeLoader()])
    assert seen['names'] == ['loss_square', 'loss_size', 'acc', 'loss', 'grad_norm']
    assert seen['samples'] == 2 and seen['mode'] == 'train' and seen['momentum'] == [.9]
    assert seen['last'] and seen['end'] and not seen['hundred'] and not seen['loss'].requires_grad
    assert log_rows(tmp_path)[1]['mine'] == 1.5


def test_num_class_check_names_module_and_remedy(tmp_path):
    model = FakeModel()
    model.head.num_classes = 80
    runner = make_runner(tmp_path, model, length=1)
    runner.register_hook(NumClassCheckHook())
    with pytest.raises(
            UserError,
            match=r'FakeDataset has 2 classes but head.num_classes is 80.*num_classes=2'):
        runner.run([FakeLoader()])


def test_a_checkpoint_of_another_model_is_not_resumed(tmp_path):
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(CheckpointHook(interval=1))
    runner.run([FakeLoader()])
    other = make_runner(tmp_path / 'other', length=1)
    other.model.head = torch.nn.Linear(3, 2)
    with pytest.raises(
            CheckpointError, match=r'(?s)the model has changed: .*head.weight.*load_from'):
        other.resume(str(tmp_path / 'latest.pth'))


def test_a_checkpoint_of_other_classes_is_not_resumed_and_both_are_named(tmp_path):
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(CheckpointHook(interval=1))
    runner.run([FakeLoader()])
    other = make_runner(tmp_path / 'other', length=1)
    other.model.CLASSES = tuple(f'class{index}' for index in range(9))
    other.model.head = torch.nn.Linear(3, 9)
    with pytest.raises(CheckpointError) as caught:
        other.resume(str(tmp_path / 'latest.pth'))
    message = str(caught.value)
    assert 'trained on 2 classes (cat, dog), and this run has 9 classes (class0, ' in message
    assert 'class7, ...); write load_from=' in message and 'resume_from' in message
    assert 'size mismatch' not in message and '\n' not in message


def test_a_dynamic_scale_grows_and_backs_off():
    scaler = LossScaler(torch.device('cpu'), init_scale=8, growth_interval=2)
    yes, no = torch.tensor(True), torch.tensor(False)
    scales = []
    for overflow in (no, no, no, yes, no, no):
        scaler.update(overflow)
        scales.append(float(scaler.scale))
    assert scales == [8, 16, 16, 8, 8, 16]


def test_scaled_gradients_make_the_same_step_and_an_overflow_makes_none(tmp_path):
    device = torch.device('cpu')
    plain = make_runner(tmp_path, length=1)
    plain.run([FakeLoader()])
    scaled = make_runner(
        tmp_path,
        length=1,
        precision=Precision(device, None, LossScaler(device, 1024., dynamic=False)))
    scaled.run([FakeLoader()])
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(scaled.model.state_dict()[name], value)

    # 1e38 overflows float32 at once; it backs off until the gradients fit, without ending the run
    scaler = LossScaler(device, 1e38, backoff_factor=1e-10)
    wild = make_runner(tmp_path, length=1, precision=Precision(device, None, scaler))
    wild.run([FakeLoader()])
    assert float(scaler.scale) < 1e38
    assert all(value.isfinite().all() for value in wild.model.state_dict().values())


def test_bfloat16_trains_on_a_cpu(tmp_path):
    runner = make_runner(
        tmp_path, length=1, precision=build_precision(dict(dtype='bfloat16'), 'cpu'))
    runner.run([FakeLoader()])
    assert next(runner.model.parameters()).dtype is torch.float32


@pytest.mark.parametrize('settings,word', [
    (dict(loss_scale=512.), 'bfloat16'),
    (dict(loss_scal=512.), 'loss_scal'),
    (dict(dtype='float8'), 'float8'),
])
def test_precision_that_cannot_be_is_explained(settings, word):
    with pytest.raises(UserError, match=word):
        build_precision(settings, 'cpu')


def test_a_run_without_a_length_or_training_is_refused(tmp_path):
    with pytest.raises(UserError, match='max_epochs'):
        EpochBasedRunner(FakeModel(), build_optimizer(FakeModel(), dict(type='SGD', lr=1)),
                         str(tmp_path)).run([FakeLoader()])
    with pytest.raises(UserError, match='train'):
        make_runner(tmp_path).run([FakeLoader()], [('val', 1)])
    with pytest.raises(UserError, match='test'):
        make_runner(tmp_path).run([FakeLoader()], [('test', 1)])


def test_losses_are_means_over_the_interval(tmp_path):
    seen = []

    class Note(Hook):

        def after_train_iter(self, runner):
            seen.append(float(runner.outputs['loss']))

    runner = make_runner(tmp_path, length=1)
    runner.register_hook(Note())
    runner.register_hook(TextLoggerHook(interval=2), 'VERY_LOW')
    runner.run([FakeLoader()])
    rows = log_rows(tmp_path)[1:]
    assert [row['loss'] for row in rows
            ] == pytest.approx([sum(seen[:2]) / 2, sum(seen[2:]) / 2], abs=1e-4)
    assert all(math.isfinite(row['time']) for row in rows)
