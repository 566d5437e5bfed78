import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.ops.nms import nms_keep
from mmdet_ft.ops.soft_nms import METHODS, soft_nms
from tests.ops.helpers import GARBAGE, random_boxes
from tests.reference import boxes as reference
from tools.benchmarks.no_sync import NoSync


def problem(seed, num_problems=4, num_boxes=40):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(num_problems, num_boxes, size=40, generator=generator)
    scores = torch.rand(num_problems, num_boxes, generator=generator)
    share = torch.linspace(0, 1, num_problems)[:, None]
    return boxes, scores, torch.rand(num_problems, num_boxes, generator=generator) < share


@pytest.mark.parametrize('method', METHODS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1 << 30),
    threshold=st.sampled_from([.2, .3, .5, .7]),
    sigma=st.sampled_from([.1, .5, 1.]),
    min_score=st.sampled_from([0., 1e-3, .05, .3]),
    garbage=st.sampled_from(GARBAGE))
def test_scores_sink_as_in_the_reference_whatever_is_in_the_padding(method, seed, threshold, sigma,
                                                                    min_score, garbage):
    boxes, scores, valid = problem(seed)
    found = soft_nms(
        torch.where(valid[..., None], boxes, garbage), torch.where(valid, scores, garbage), valid,
        threshold, sigma, min_score, method)
    for number in range(len(boxes)):
        real = valid[number].nonzero()[:, 0]
        taken = reference.soft_nms(boxes[number, real].tolist(), scores[number, real].tolist(),
                                   threshold, sigma, min_score, method)
        expected = torch.full_like(scores[number], -1.)
        for index, score in taken:
            expected[real[index]] = score
        assert torch.allclose(found[number], expected, rtol=1e-4, atol=1e-6)


def test_by_hand():
    """Of two halves of a box and the box itself: overlap .5 with the better one, none of each other."""
    boxes = torch.tensor([[[0., 0, 10, 10], [0, 0, 5, 10], [5, 0, 10, 10]]])
    scores, valid = torch.tensor([[.8, .9, .7]]), torch.ones(1, 3, dtype=torch.bool)

    def scores_by(**settings):
        return soft_nms(boxes, scores, valid, **settings)[0].tolist()

    # The left half is taken and the whole sinks to .4: the right half comes before it and halves it
    # once more.
    assert scores_by(iou_threshold=.5) == pytest.approx([.2, .9, .7])
    assert scores_by(iou_threshold=.5, min_score=.3) == pytest.approx([-1, .9, .7])
    assert scores_by(iou_threshold=.5, method='naive') == pytest.approx([-1, .9, .7])
    assert scores_by(iou_threshold=.51) == pytest.approx([.8, .9, .7])
    assert scores_by(iou_threshold=.5, max_num=1) == pytest.approx([-1, .9, -1])


def test_naive_is_suppression():
    boxes, scores, valid = problem(3)
    found = soft_nms(boxes, scores, valid, .5, method='naive', min_score=1e-9)
    keep = nms_keep(boxes, scores, valid, .5)
    assert torch.equal(found >= 0, keep)
    assert torch.equal(found[keep], scores[keep])


def test_the_best_box_stays_below_the_least_score_too():
    boxes, valid = random_boxes(1, 3), torch.ones(1, 3, dtype=torch.bool)
    found = soft_nms(boxes, torch.tensor([[.01, .02, .015]]), valid, min_score=.5)
    assert found[0].tolist() == pytest.approx([-1, .02, -1])


@pytest.mark.parametrize('method', METHODS)
def test_a_limit_leaves_the_best_and_more_slots_change_nothing(method):
    boxes, scores, valid = problem(5)
    whole = soft_nms(boxes, scores, valid, method=method)
    few = soft_nms(boxes, scores, valid, method=method, max_num=5)
    best = whole.topk(5, 1)
    assert torch.equal(few.topk(5, 1).values, best.values)
    assert (few >= 0).sum(1).tolist() == (whole >= 0).sum(1).clamp(max=5).tolist()
    more = soft_nms(
        torch.cat([boxes, boxes], 1), torch.cat([scores, scores], 1),
        torch.cat([valid, torch.zeros_like(valid)], 1))
    assert torch.equal(more[:, :40], soft_nms(boxes, scores, valid)) and (more[:, 40:] == -1).all()


@pytest.mark.parametrize('method', METHODS)
def test_boxes_without_area_overlap_nothing(method):
    boxes, valid = torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)
    found = soft_nms(boxes, torch.tensor([[.5, .6]]), valid, method=method)
    assert found[0].tolist() == pytest.approx([.5, .6])


def test_nothing_at_all():
    assert soft_nms(torch.zeros(2, 0, 4), torch.zeros(2, 0),
                    torch.zeros(2, 0).bool()).shape == (2, 0)
    none = soft_nms(torch.zeros(2, 3, 4), torch.zeros(2, 3), torch.zeros(2, 3).bool())
    assert (none == -1).all()


def test_it_waits_once():
    boxes, scores, valid = problem(7)
    with NoSync(limit=1) as seen:
        soft_nms(boxes, scores, valid)
    assert len(seen.syncs) == 1
