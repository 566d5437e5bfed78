"""Learning rates against V2's arithmetic, written out here once more in its own way."""
import math

import pytest
import torch

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.schedules import Progress, build_learning_rate, build_momentum
from mmdet_ft.structures import Losses
from tests.engine.fakes import FakeLoader, make_runner, same, weights

EPOCH_LENGTH, MAX_EPOCHS = 10, 12


def rates(config, by_epoch=True, initial=(0.02, 0.01), iterations=EPOCH_LENGTH * MAX_EPOCHS):
    schedule = build_learning_rate(config, by_epoch)
    return [
        schedule(
            list(initial),
            Progress(i // EPOCH_LENGTH, i, EPOCH_LENGTH, MAX_EPOCHS, EPOCH_LENGTH * MAX_EPOCHS))
        for i in range(iterations)
    ]


def test_step_divides_by_ten_at_each_step():
    table = rates(dict(policy='step', step=[8, 11]))
    assert [row[0]
            for row in table[::EPOCH_LENGTH]] == pytest.approx([.02] * 8 + [.002] * 3 + [.0002])
    assert [row[1]
            for row in table[::EPOCH_LENGTH]] == pytest.approx([.01] * 8 + [.001] * 3 + [.0001])


def test_step_as_a_number_is_an_interval_and_min_lr_is_a_floor():
    table = rates(dict(policy='step', step=3, gamma=.5, min_lr=.004))
    assert [row[0] for row in table[::EPOCH_LENGTH]
            ] == pytest.approx([.02] * 3 + [.01] * 3 + [.005] * 3 + [.004] * 3)


def test_fixed_never_moves():
    assert set(map(tuple, rates(dict(policy='fixed')))) == {(.02, .01)}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_poly_goes_down_to_min_lr_by_its_power(by_epoch):
    table = rates(dict(policy='poly', power=.9, min_lr=1e-4, by_epoch=by_epoch))
    for i in (0, 37, 119):
        part = (i // EPOCH_LENGTH) / MAX_EPOCHS if by_epoch else i / (EPOCH_LENGTH * MAX_EPOCHS)
        assert table[i][0] == pytest.approx((.02 - 1e-4) * (1 - part)**.9 + 1e-4)


@pytest.mark.parametrize('settings,target', [(dict(min_lr=1e-3), 1e-3),
                                             (dict(min_lr_ratio=.1), 2e-3)])
def test_cosine_goes_down_half_a_wave(settings, target):
    for name in ('CosineAnnealing', 'cosine'):
        table = rates(dict(policy=name, **settings))
        for epoch in (0, 6, 11):
            expected = target + .5 * (.02 - target) * (math.cos(math.pi * epoch / MAX_EPOCHS) + 1)
            assert table[epoch * EPOCH_LENGTH][0] == pytest.approx(expected)


@pytest.mark.parametrize('warmup,factor', [
    ('constant', lambda i, n, r: r),
    ('linear', lambda i, n, r: 1 - (1 - i / n) * (1 - r)),
    ('exp', lambda i, n, r: r**(1 - i / n)),
])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_warmup_multiplies_the_regular_rate(warmup, factor, by_epoch):
    config = dict(
        policy='step',
        step=[1] if by_epoch else [10],
        warmup=warmup,
        warmup_iters=15,
        warmup_ratio=.001,
        by_epoch=by_epoch)
    table = rates(config)
    for i, (first, second) in enumerate(table):
        regular = .02 if i < 10 else .002  # the step falls into the warmup, which multiplies what holds then
        assert first == pytest.approx(regular * (factor(i, 15, .001) if i < 15 else 1))
        assert second == pytest.approx(first / 2)


def test_warmup_by_epoch_counts_epochs():
    table = rates(
        dict(
            policy='fixed', warmup='linear', warmup_iters=2, warmup_ratio=.5, warmup_by_epoch=True))
    assert table[0][0] == pytest.approx(.01) and table[10][0] == pytest.approx(
        .015) and table[20][0] == .02


def test_the_kind_of_runner_gives_the_default_unit():
    assert build_learning_rate(dict(policy='fixed'), by_epoch=False).by_epoch is False
    assert build_learning_rate(dict(policy='fixed', by_epoch=True), by_epoch=False).by_epoch is True


@pytest.mark.parametrize('config,word', [
    (dict(policy='stepp', step=[1]), 'stepp'),
    (dict(policy='step', steps=[1]), 'steps'),
    (dict(policy='step'), 'step'),
    (dict(policy='step', step=[0]), 'positive'),
    (dict(policy='fixed', warmup='quadratic', warmup_iters=5), 'quadratic'),
    (dict(policy='fixed', warmup='linear'), 'warmup_iters'),
    (dict(policy='fixed', warmup='linear', warmup_iters=5, warmup_ratio=0), 'warmup_ratio'),
    (dict(policy='CosineAnnealing'), 'min_lr_ratio'),
])
def test_a_mistake_is_named(config, word):
    with pytest.raises(ValueError, match=word):
        build_learning_rate(config)


# The tables of the rest: closed formulas at a few places of 120 iterations (12 epochs), by hand or in one line.
def first_rates(config, by_epoch=True):
    return [row[0] for row in rates(config, by_epoch)]


def wave(start, end, part):
    return end + (start - end) * math.cos(
        math.pi * part / 2)**2  # half a cosine, told by its half angle


@pytest.mark.parametrize('by_epoch', [True, False])
def test_exp_and_inv_fall_at_every_epoch_or_iteration(by_epoch):
    exp = first_rates(dict(policy='exp', gamma=.9, by_epoch=by_epoch))
    inv = first_rates(dict(policy='inv', gamma=.5, power=2., by_epoch=by_epoch))
    for i in (0, 9, 10, 57, 119):
        now = i // 10 if by_epoch else i
        assert exp[i] == pytest.approx(.02 * math.exp(now * math.log(.9)))
        assert inv[i] == pytest.approx(.02 / (1 + now / 2)**2)
    assert first_rates(dict(policy='inv', gamma=1.))[20] == pytest.approx(.02 / 3)  # power 1


def test_linear_annealing_goes_down_a_line():
    table = first_rates(dict(policy='LinearAnnealing', min_lr_ratio=.1, by_epoch=False))
    assert [table[i] for i in (0, 30, 60, 90)] == pytest.approx([.02, .0155, .011, .0065])
    table = first_rates(dict(policy='LinearAnnealing', min_lr=0.))
    assert [table[i] for i in (0, 35, 119)] == pytest.approx([.02, .015, .02 / 12])


@pytest.mark.parametrize('by_epoch', [True, False])
def test_flat_cosine_waits_then_falls(by_epoch):
    config = dict(policy='FlatCosineAnnealing', start_percent=.7, min_lr=.001, by_epoch=by_epoch)
    table = first_rates(config)
    start, length = (8, 12) if by_epoch else (84, 120)  # .7 * 12 = 8.4
    for i in (0, 50, 79, 83, 84, 90, 119):
        now = i // 10 if by_epoch else i
        expected = .02 if now < start else wave(.02, .001, (now - start) / (length - start))
        assert table[i] == pytest.approx(expected)


def test_cosine_restarts_at_its_weights():
    table = first_rates(
        dict(
            policy='CosineRestart',
            periods=[40, 30, 60],
            restart_weights=[1, .5, .2],
            min_lr=.002,
            by_epoch=False))
    assert table[0] == pytest.approx(.02) and table[20] == pytest.approx(.011)
    assert table[40] == pytest.approx(.011)  # .5 * .02 + .5 * .002
    assert table[55] == pytest.approx((.011 + .002) / 2)
    assert table[70] == pytest.approx(.0056) and table[100] == pytest.approx((.0056 + .002) / 2)
    assert table[39] == pytest.approx(wave(.02, .002, 39 / 40))
    by_epoch = first_rates(dict(policy='CosineRestart', periods=[12], min_lr_ratio=0.))
    assert by_epoch[65] == pytest.approx(.01)


def test_cyclic_rises_and_falls_in_every_cycle():
    table = first_rates(dict(policy='cyclic', cyclic_times=2, target_ratio=(10, .01)))
    assert table[0] == pytest.approx(.02) and table[12] == pytest.approx(.11)  # 24 up, 36 down
    assert table[24] == pytest.approx(.2) and table[42] == pytest.approx((.2 + .0002) / 2)
    assert table[59] == pytest.approx(wave(.2, .0002, 35 / 36))
    assert table[60:] == pytest.approx(table[:60])
    line = first_rates(
        dict(
            policy='cyclic',
            cyclic_times=3,
            target_ratio=5.,
            step_ratio_up=.25,
            anneal_strategy='linear',
            gamma=.5))
    peaks = [.02 * (1 + 4 * scale) for scale in (1, .5, .25)]
    for cycle, peak in enumerate(peaks):
        begin = 40 * cycle
        assert line[begin] == pytest.approx(.02) and line[begin + 10] == pytest.approx(peak)
        assert line[begin + 5] == pytest.approx((.02 + peak) / 2)
        assert line[begin + 25] == pytest.approx((peak + .02 * 5e-5) / 2)


def test_cyclic_has_v2s_defaults():
    table = first_rates(dict(policy='Cyclic'))
    assert table[48] == pytest.approx(.2) and table[84] == pytest.approx((.2 + 2e-6) / 2)


def test_one_cycle_is_torchs_after_the_peak_rate():
    """torch.optim.lr_scheduler.OneCycleLR is the same method."""
    for settings in (dict(), dict(three_phase=True), dict(pct_start=.4, anneal_strategy='linear'),
                     dict(div_factor=10, final_div_factor=100, total_steps=150)):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1., momentum=.9)
        arguments = {'total_steps': 120, **settings}
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=.5, **arguments)
        table = rates(dict(policy='OneCycle', max_lr=.5, **settings))
        shape = {
            key: value
            for key, value in settings.items()
            if key in ('three_phase', 'pct_start', 'anneal_strategy')
        }
        momentum = momenta(dict(policy='OneCycle', **shape))
        for i in range(120):
            assert table[i] == pytest.approx([optimizer.param_groups[0]['lr']] * 2)
            if 'total_steps' not in settings:  # the momentum's cycle is always the run
                assert momentum[i] == pytest.approx([optimizer.param_groups[0]['momentum']] * 2)
            optimizer.step()
            scheduler.step()


def test_one_cycle_takes_a_peak_for_each_group():
    table = rates(dict(policy='OneCycle', max_lr=[.5, .1], div_factor=10))
    assert table[0] == pytest.approx((.05, .01)) and table[35] == pytest.approx((.5, .1))


def test_warmup_multiplies_policies_that_move_by_iteration():
    table = first_rates(
        dict(policy='exp', gamma=.99, by_epoch=False, warmup='linear', warmup_iters=10))
    assert table[5] == pytest.approx(.02 * .99**5 * .55) and table[10] == pytest.approx(
        .02 * .99**10)


# momenta
def momenta(config, by_epoch=True, initial=(.9, .8)):
    schedule = build_momentum(config, by_epoch)
    indices = [Progress(i // 10, i, 10, MAX_EPOCHS, 120) for i in range(120)]
    return [schedule(list(initial), index) for index in indices]


def test_momentum_steps_by_half_to_its_floor():
    table = momenta(dict(policy='step', step=[2, 5, 8], min_momentum=.15))
    assert [row[0]
            for row in table[::10]] == pytest.approx([.9] * 2 + [.45] * 3 + [.225] * 3 + [.15] * 4)
    assert momenta(dict(policy='step', step=3, gamma=.1))[65] == pytest.approx([.009, .008])


def test_momentum_anneals():
    table = momenta(dict(policy='CosineAnnealing', min_momentum_ratio=.5))
    assert table[65] == pytest.approx([.675, .6])
    table = momenta(dict(policy='LinearAnnealing', min_momentum=.1, by_epoch=False))
    assert table[30] == pytest.approx([.7, .625])


def test_momentum_cycles_against_the_rate():
    table = [row[0] for row in momenta(dict(policy='cyclic'), initial=(.95, .95))]
    assert table[0] == pytest.approx(.95) and table[24] == pytest.approx(.9)
    assert table[48] == pytest.approx(.85) and table[84] == pytest.approx(.9)
    assert table[119] == pytest.approx(wave(.85, .95, 71 / 72))


@pytest.mark.parametrize('warmup,factor', [('constant', .9), ('linear', .95), ('exp', .9**.5)])
def test_momentum_warmup_divides(warmup, factor):
    table = momenta(dict(policy='step', step=[11], warmup=warmup, warmup_iters=20))
    assert table[10] == pytest.approx([.9 / factor, .8 / factor])
    assert table[20] == pytest.approx([.9, .8])


@pytest.mark.parametrize('config,word', [
    (dict(policy='CosineRestart', periods=[1, 2], min_lr=0), 'restart_weights'),
    (dict(policy='FlatCosineAnnealing', start_percent=75, min_lr=0), 'start_percent'),
    (dict(policy='FlatCosineAnnealing'), 'min_lr and min_lr_ratio'),
    (dict(policy='exp'), 'gamma'),
    (dict(policy='cyclic', by_epoch=True), 'by_epoch=False'),
    (dict(policy='cyclic', target_ratio=(1, 2, 3)), 'target_ratio'),
    (dict(policy='cyclic', step_ratio_up=1), 'step_ratio_up'),
    (dict(policy='OneCycle', max_lr=1., anneal_strategy='cosine'), 'anneal_strategy'),
    (dict(policy='OneCycle'), 'max_lr'),
])
def test_a_mistake_in_the_rest_is_named(config, word):
    with pytest.raises(ValueError, match=word):
        build_learning_rate(config)


def test_a_schedule_that_is_too_short_is_named_at_the_first_iteration():
    with pytest.raises(ValueError, match='add up to 10, but the run has 12'):
        rates(dict(policy='CosineRestart', periods=[10], min_lr=0.), iterations=1)
    with pytest.raises(ValueError, match='total_steps = 100'):
        rates(dict(policy='OneCycle', max_lr=1., total_steps=100), iterations=1)
    with pytest.raises(ValueError, match='max_lr has 3 values for 2'):
        rates(dict(policy='OneCycle', max_lr=[1., 2., 3.]), iterations=1)


def test_a_mistake_in_momentum_config_is_named():
    with pytest.raises(ValueError, match="unknown momentum_config.policy 'poly'"):
        build_momentum(dict(policy='poly'))
    with pytest.raises(ValueError, match='momentum_config of policy .* has no min_lr'):
        build_momentum(dict(policy='CosineAnnealing', min_lr=0))
    with pytest.raises(ValueError, match='momentum_config.warmup'):
        build_momentum(dict(policy='step', step=1, warmup='fast'))


# in a run
@pytest.mark.parametrize('kind', ['SGD', 'AdamW'])
def test_the_loop_sets_momenta_or_first_betas(tmp_path, kind):
    seen = []

    class Watch(Hook):

        def after_train_iter(self, runner):
            group = runner.optimizer.param_groups[0]
            seen.append(group['momentum'] if kind == 'SGD' else group['betas'])

    optimizer = dict(
        type='SGD', lr=.01, momentum=.8) if kind == 'SGD' else dict(
            type='AdamW', lr=.01, betas=(.8, .99))
    runner = make_runner(
        tmp_path,
        length=3,
        optimizer=optimizer,
        momenta=build_momentum(dict(policy='step', step=[1, 2], gamma=.5)))
    runner.register_hook(Watch())
    runner.run([FakeLoader()])
    momentum = [.8] * 4 + [.4] * 4 + [.2] * 4
    assert seen == (momentum if kind == 'SGD' else [(value, .99) for value in momentum])


def test_a_scheduled_momentum_does_what_it_says(tmp_path):
    """Against the formula of SGD, from a momentum of zero on."""
    runner = make_runner(
        tmp_path,
        FakeLinear(),
        length=2,
        optimizer=dict(type='SGD', lr=.1, momentum=0.),
        momenta=build_momentum(dict(policy='OneCycle', pct_start=.5)))
    momenta = []

    class Watch(Hook):

        def after_train_iter(self, runner):
            momenta.append(runner.current_momentum()[0])

    runner.register_hook(Watch())
    weight, speed = runner.model.weight.item(), 0.
    runner.run([FakeLoader()])
    assert momenta[0] == pytest.approx(.95) and momenta[3] == pytest.approx(.85)
    for momentum in momenta:
        speed = momentum * speed + 2 * weight
        weight -= .1 * speed
    assert runner.model.weight.item() == pytest.approx(weight, rel=1e-4)


class FakeLinear(torch.nn.Module):
    """loss = weight ** 2."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.))

    def forward(self, batch):
        return Losses(dict(loss_square=self.weight**2), {})


def test_a_resumed_run_has_the_momentum_of_its_place(tmp_path):

    def runner_of(folder):
        return make_runner(
            tmp_path / folder,
            kind='iter',
            length=12,
            momenta=build_momentum(
                dict(policy='CosineAnnealing', min_momentum_ratio=.1), by_epoch=False))

    whole = runner_of('whole')
    whole.register_hook(CheckpointHook(interval=5, by_epoch=False))
    whole.run([FakeLoader()])
    rest = runner_of('rest')
    rest.resume(str(tmp_path / 'whole' / 'iter_5.pth'))
    rest.run([FakeLoader()])
    assert same(weights(rest.model), weights(whole.model))
    assert rest.current_momentum() == whole.current_momentum() != [.9]


def test_momentum_without_momentum_is_named(tmp_path):
    runner = make_runner(
        tmp_path,
        optimizer=dict(type='Adagrad', lr=.1),
        momenta=build_momentum(dict(policy='step', step=1)))
    with pytest.raises(UserError, match='Adagrad'):
        runner.run([FakeLoader()])


@pytest.mark.parametrize('options, message', [
    ({'lr_config.step': [-2]}, 'must be a list of whole numbers from 1 on or a whole number from 1 on, not [-2]'),
    ({'custom_hooks': [dict(type='NumClassCheckHook', priority='LOUD')]}, "unknown hook priority 'LOUD'"),
])  # yapf: disable
def test_what_a_schedule_or_a_hooks_place_refuses_is_a_users_mistake(tmp_path, options, message):
    from mmdet_ft.config import load_config
    from mmdet_ft.config.errors import ConfigError
    from mmdet_ft.engine.build import train
    from mmdet_ft.engine.errors import is_user_mistake
    from tests.tools.tiny_world import write_world
    cfg = load_config(write_world(tmp_path), {**options, 'work_dir': str(tmp_path / 'run')})
    with pytest.raises((ValueError, ConfigError)) as caught:
        train(cfg, seed=0)
    assert message in str(caught.value) and is_user_mistake(caught.value)
