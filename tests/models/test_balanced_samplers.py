"""Samplers and loss of Libra R-CNN."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.models.balanced_samplers import (CombinedSampler, InstanceBalancedPosSampler,
                                               IoUBalancedNegSampler)
from mmdet_ft.models.losses.smooth_l1 import BalancedL1Loss
from mmdet_ft.ops.matching import Match
from mmdet_ft.ops.sampling import rank_in_group
from mmdet_ft.registry import MODELS
from tools.benchmarks.no_sync import NoSync


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 99)), min_size=1, max_size=20, unique=True))
def test_a_rank_counts_the_higher_keys_of_the_group(boxes):
    group, keys = (torch.tensor([column, column[::-1]]) for column in map(list, zip(*boxes)))
    ranks = rank_in_group(group, keys.float())
    for row in range(2):
        of_row = list(zip(group[row].tolist(), keys[row].tolist()))
        if len(set(of_row)) == len(of_row):
            expected = [sum(h == g and other > key for h, other in of_row) for g, key in of_row]
            assert ranks[row].tolist() == expected


def drawn_of(sampler, match, row):
    sample = sampler.draw(match)
    index = sample.index[row][sample.valid[row]].tolist()
    return [i for i in index
            if match.label[row, i] == 1], [i for i in index if match.label[row, i] == 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(1, 24),
    st.sampled_from([.25, .5, 1.]), st.integers(0, 99))
def test_each_ground_truth_gives_its_share_of_positives(gts, num, pos_fraction, seed):
    """-1 is the background."""
    torch.manual_seed(seed)
    gt_index = torch.tensor([gts, gts])
    match = Match(gt_index.clamp(min=0), (gt_index >= 0).long(), torch.zeros(2, len(gts)))
    positives, background = drawn_of(InstanceBalancedPosSampler(num, pos_fraction), match, 1)
    wanted = int(num * pos_fraction)
    count = {gt: gts.count(gt) for gt in set(gts) - {-1}}
    assert len(positives) == min(wanted, sum(count.values()))
    assert len(background) == min(num - len(positives), gts.count(-1))
    if sum(count.values()) <= wanted:
        return
    share = round(wanted / len(count)) + 1
    taken = {gt: sum(gts[i] == gt for i in positives) for gt in count}
    if sum(min(size, share) for size in count.values()) >= wanted:
        assert all(taken[gt] <= share for gt in count)
    else:
        assert all(taken[gt] >= min(count[gt], share) for gt in count)


@settings(max_examples=60, deadline=None)
@given(
    overlaps=st.lists(st.integers(0, 19), min_size=1, max_size=40),
    num_positive=st.integers(0, 4),
    num=st.integers(1, 24),
    floor_thr=st.sampled_from([-1, 0, .15]),
    floor_fraction=st.sampled_from([0, .25]),
    num_bins=st.integers(1, 4),
    bound=st.sampled_from([-1, 3]),
    seed=st.integers(0, 99))
def test_background_is_even_over_bins_of_overlap(overlaps, num_positive, num, floor_thr,
                                                 floor_fraction, num_bins, bound, seed):
    torch.manual_seed(seed)
    overlaps = [.025 * number for number in overlaps]
    label = [1] * num_positive + [0] * len(overlaps)
    values = [1.] * num_positive + overlaps
    match = Match(
        torch.zeros(2, len(label)).long(), torch.tensor([label, label]),
        torch.tensor([values, values]))
    sampler = IoUBalancedNegSampler(num, .5, floor_thr, floor_fraction, num_bins, bound)
    positives, background = drawn_of(sampler, match, 0)
    assert len(positives) == min(num_positive, num // 2)
    wanted = num - len(positives)
    if bound >= 0:
        wanted = min(wanted, bound * max(len(positives), 1))
    assert len(background) == min(wanted, len(overlaps))

    high = [i for i, v in enumerate(values) if label[i] == 0 and v >= floor_thr and v > 0]
    num_high, num_low = len(high), len(overlaps) - len(high)
    best = min(int(wanted * (1 - floor_fraction)), num_high)
    low_taken = sum(i not in high for i in background)
    assert low_taken == min(wanted - best, num_low)
    floor, width = max(floor_thr, 0), (max(values) - max(floor_thr, 0)) / num_bins
    if num_bins == 1 or best == num_high:
        return
    for number in range(num_bins):  # the sides of a bin are rounded
        inside = [
            i for i in high
            if floor + number * width + 1e-4 < values[i] < floor + (number + 1) * width - 1e-4
        ]
        share = int(wanted * (1 - floor_fraction)) // num_bins
        if len(inside) >= share:
            assert sum(
                i in background
                for i in inside) >= min(share, 0 if abs(width) < 1e-6 else share) - _at_the_sides(
                    values, high, floor, width, number)


def _at_the_sides(values, high, floor, width, number):
    """Boxes so near to a side of the bin that rounding may count them into it."""
    sides = floor + number * width, floor + (number + 1) * width
    return sum(any(abs(values[i] - side) <= 1e-4 for side in sides) for i in high)


def test_every_box_of_a_bin_is_equally_likely():
    torch.manual_seed(0)
    overlap = torch.tensor([[.1] * 6 + [.4] * 3 + [1.]]).expand(4000, -1)
    label = torch.tensor([[0] * 9 + [1]]).expand(4000, -1)
    drawn = IoUBalancedNegSampler(
        5, .2, num_bins=2).draw(Match(torch.zeros_like(label), label, overlap))
    counts = drawn.index[drawn.valid].bincount(minlength=10)
    assert counts[9] == 4000
    assert (counts[:9] - 4000 * 4 / 9).abs().max() < 200  # both below .5, thus in one bin


def test_positives_and_background_may_have_samplers_of_their_own():
    sampler = MODELS.build(
        dict(
            type='CombinedSampler',
            num=8,
            pos_fraction=.5,
            pos_sampler=dict(type='InstanceBalancedPosSampler'),
            neg_sampler=dict(type='IoUBalancedNegSampler', floor_thr=-1, num_bins=2)))
    assert sampler.pos_sampler.num == sampler.neg_sampler.num == 8 and sampler.add_gt_as_proposals
    gt_index = torch.tensor([[0] * 20 + [1] * 2 + [0] * 20])
    label = torch.tensor([[1] * 22 + [0] * 20])
    overlap = torch.tensor([[1.] * 22 + [0.] * 16 + [.1, .2, .6, .7]])
    sampled = [drawn_of(sampler, Match(gt_index, label, overlap), 0) for _ in range(20)]
    assert all(sum(i >= 20 for i in positives) >= 1 for positives, _ in sampled)
    assert all(sorted(background) == [38, 39, 40, 41] for _, background in sampled)


def test_nothing_waits_for_the_device():
    sampler = CombinedSampler(
        InstanceBalancedPosSampler(16, .5), IoUBalancedNegSampler(16, .5), 16, .5)
    label = torch.randint(-1, 2, (2, 50))
    match = Match(torch.randint(0, 4, (2, 50)), label, torch.rand(2, 50))
    with NoSync():
        sampler.draw(match)


@pytest.mark.parametrize('arguments, message', [
    (dict(floor_thr=-.5), 'floor_thr is -0.5; write an overlap, or -1'),
    (dict(floor_fraction=2), 'floor_fraction is 2'),
    (dict(num_bins=0), 'num_bins is 0'),
])
def test_wrong_bins_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        IoUBalancedNegSampler(16, .5, **arguments)


def balanced(difference, alpha, gamma, beta):
    """Equations 9 to 11 of Libra R-CNN, with V2's beta."""
    b, size = math.exp(gamma / alpha) - 1, abs(difference)
    if size < beta:
        return alpha / b * (b * size + 1) * math.log(b * size / beta + 1) - alpha * size
    return gamma * size + gamma / b - alpha * beta


@pytest.mark.parametrize('alpha, gamma, beta', [(.5, 1.5, 1.), (.3, 2., .11)])
def test_the_balanced_l1_loss_is_that_of_the_paper(alpha, gamma, beta):
    pred = torch.tensor([[0., .01, .5, 2.], [-.3, 1., -5., float('nan')]], requires_grad=True)
    target = torch.tensor([[0., .02, -.4, 1.95], [.3, 1.5, 5., 0.]])
    weight = torch.tensor([[1., 1., 2., 1.], [1., 1., 1., 0.]])
    loss = BalancedL1Loss(alpha, gamma, beta, loss_weight=3.)(pred, target, weight, avg_factor=2)
    expected = sum(w * balanced(p - t, alpha, gamma, beta)
                   for p, t, w in zip(pred.flatten().tolist(),
                                      target.flatten().tolist(),
                                      weight.flatten().tolist()) if w)
    assert loss.item() == pytest.approx(3 * expected / 2, rel=1e-5)
    loss.backward()
    assert pred.grad.isfinite().all() and pred.grad[1, 3] == 0


def test_both_limits_of_the_balanced_loss_must_be_above_zero():
    with pytest.raises(ValueError, match='both must be above 0'):
        BalancedL1Loss(beta=0)
