"""Learning rates against V2's arithmetic, written out here once more in its own way."""
import math

import pytest

from mmdet_ft.engine.schedules import Progress, build_learning_rate

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
