import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.ops import matching
from mmdet_ft.ops.boxes import pairwise_overlap
from mmdet_ft.ops.matching import in_ignored_region, match
from tests.ops.helpers import GARBAGE, random_boxes
from tests.reference import boxes as reference


def test_a_box_is_positive_background_or_neither_by_hand():
    gt = torch.tensor([[[0., 0., 10., 10.]]])
    boxes = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 5.], [20., 20., 30., 30.],
                          [0., 0., 10., 4.]])
    result = match(boxes, gt, torch.ones(1, 1, dtype=torch.bool), .7, .3, .3)
    assert result.label.tolist() == [[1, -1, 0, -1]]


def test_the_best_box_of_an_object_is_positive_below_the_threshold_and_ties_too():
    gt = torch.tensor([[[0., 0., 10., 10.]]])
    boxes = torch.tensor([[0., 0., 10., 5.], [0., 5., 10., 10.], [0., 0., 10., 3.5]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert match(boxes, gt, valid, .7, .3, .3).label.tolist() == [[1, 1, -1]]
    assert match(boxes, gt, valid, .7, .3, .3, all_best=False).label.tolist() == [[1, -1, -1]]
    assert match(boxes, gt, valid, .7, .3, .3, low_quality=False).label.tolist() == [[-1, -1, -1]]


def test_of_two_claims_on_a_box_the_later_object_wins():
    gt = torch.tensor([[[0., 0., 10., 10.], [0., 0., 10., 10.]]])
    result = match(gt[0, :1], gt, torch.ones(1, 2, dtype=torch.bool), .7, .3, .3)
    assert result.gt_index.tolist() == [[1]]


def test_an_image_without_objects_has_only_background_even_in_ignored_regions():
    gt = torch.tensor([[[0., 0., 1., 1.]]])
    boxes = random_boxes(5)
    result = match(
        boxes,
        gt,
        torch.zeros(1, 1, dtype=torch.bool),
        .7,
        .3,
        .3,
        ignore=torch.ones(1, 5, dtype=torch.bool))
    assert result.label.tolist() == [[0] * 5]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_gts=st.integers(0, 6),
    padding=st.integers(0, 5),
    num_boxes=st.integers(1, 30),
    num_ignored=st.integers(0, 3),
    low_quality=st.booleans(),
    all_best=st.booleans(),
    neg=st.sampled_from([(0., .3), (.1, .5)]),
    min_pos=st.sampled_from([0., .3, .5]))
def test_matching_equals_the_reference_whatever_is_in_the_padding(seed, num_gts, padding, num_boxes,
                                                                  num_ignored, low_quality,
                                                                  all_best, neg, min_pos):
    generator = torch.Generator().manual_seed(seed)
    gts = random_boxes(num_gts, generator=generator).round()
    boxes = random_boxes(num_boxes, generator=generator).round()
    ignored = random_boxes(num_ignored, generator=generator).round()
    usable = torch.rand(num_boxes, generator=generator) < .8
    expected = reference.match(boxes.tolist(), gts.tolist(), .5, neg, min_pos, low_quality,
                               all_best, usable.tolist(), ignored.tolist(), .4)
    slots = num_gts + padding
    padded = torch.full((1, max(slots, 1), 4), GARBAGE[seed % 3])
    padded[0, :num_gts] = gts
    valid = torch.arange(max(slots, 1))[None] < num_gts
    garbage = torch.full((1, num_ignored + 1, 4), GARBAGE[seed % 3])
    garbage[0, :num_ignored] = ignored
    ignore_valid = torch.arange(num_ignored + 1)[None] < num_ignored
    ignore = in_ignored_region(boxes, garbage, ignore_valid, .4, True)
    result = match(boxes, padded, valid, .5, neg, min_pos, low_quality, all_best, usable[None],
                   ignore)
    assert result.label[0].tolist() == [label for _, label in expected]
    for index, (gt, label) in zip(result.gt_index[0].tolist(), expected):
        assert label != 1 or index == gt


def test_taking_ground_truths_in_turns_changes_nothing(monkeypatch):
    boxes, gts = random_boxes(2, 50), random_boxes(2, 9)
    valid = torch.arange(9)[None].expand(2, -1) < torch.tensor([[9], [5]])
    whole = match(boxes, gts, valid, .5, .4, .1)
    monkeypatch.setattr(matching, 'MAX_OVERLAPS', 250)
    parts = match(boxes, gts, valid, .5, .4, .1)
    assert (whole.label == 1).any()
    assert torch.equal(whole.label, parts.label)
    assert torch.equal(whole.gt_index[whole.label == 1], parts.gt_index[whole.label == 1])


@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_overlaps_equal_the_reference(mode):
    a, b = random_boxes(4), random_boxes(7)
    table = pairwise_overlap(a, b, mode)
    for i in range(4):
        for j in range(7):
            assert table[i, j].item() == pytest.approx(
                reference.overlap(a[i].tolist(), b[j].tolist(), mode), abs=1e-6)
