import sys

import pytest
import torch

from mmdet_ft.ops.topk import rank_boxes, top_k
from tests.ops.helpers import GARBAGE

# 40 scores of three values, and how torch 2.0.1, which MMDetection 2 runs on, sorts them on a CPU.
SCORES = (torch.arange(40) * 7 % 3).float() / 4
ORDER = [
    29, 20, 17, 23, 14, 26, 11, 8, 32, 5, 35, 2, 38, 31, 1, 34, 28, 25, 37, 22, 16, 13, 4, 10, 19,
    7, 30, 39, 0, 3, 36, 6, 33, 9, 12, 27, 15, 24, 18, 21
]
as_recorded = pytest.mark.skipif(sys.platform != 'linux', reason='C++ libraries sort differently')


@as_recorded
def test_the_best_of_equal_scores_are_those_of_mmdetection():
    scores, index = top_k(torch.stack([SCORES, SCORES + .125]), 20)
    assert index.tolist() == [ORDER[:20], ORDER[:20]]
    assert torch.equal(scores[0], SCORES[ORDER[:20]])


@as_recorded
def test_no_two_boxes_have_the_same_place_and_those_in_between_that_are_not_valid_have_none():
    among = torch.zeros(2, 60, dtype=torch.bool)
    among[0, 10:50] = True
    among[1, :40] = True
    scores = torch.tensor(GARBAGE * 40).view(2, 60)
    scores[among] = SCORES.repeat(2)
    indices = rank_boxes(scores, among)
    assert indices[0, 10:50].argsort(descending=True).tolist() == ORDER
    assert indices[1, :40].argsort(descending=True).tolist() == ORDER
    assert len(set(indices[0, 10:50].tolist())) == 40 and indices[among].min() > 0
    assert (indices[~among] == -1).all()


@pytest.mark.parametrize('num_boxes', [0, 5])
def test_the_operator_has_a_fake_kernel_and_is_registered_soundly(num_boxes):
    torch.library.opcheck(rank_boxes, (torch.rand(2, num_boxes), torch.rand(2, num_boxes) < .5))
