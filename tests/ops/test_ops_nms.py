import pytest
import torch

from mmdet_ft.ops.nms import nms_keep, nms_keep_on_device
from tests.ops.helpers import GARBAGE, random_boxes
from tests.reference import boxes as reference


@pytest.mark.parametrize('op', [nms_keep, nms_keep_on_device], ids=['loop', 'rounds'])
@pytest.mark.parametrize('threshold', [.3, .5, .7])
@pytest.mark.parametrize('garbage', GARBAGE)
def test_suppression_equals_the_reference_whatever_is_in_the_padding(op, threshold, garbage):
    generator = torch.Generator().manual_seed(1)
    boxes, scores = random_boxes(
        5, 60, size=50, generator=generator), torch.rand(
            5, 60, generator=generator)
    valid = torch.rand(5, 60, generator=generator) < torch.tensor([0., .2, .5, .9, 1.])[:, None]
    keep = op(
        torch.where(valid[..., None], boxes, garbage), torch.where(valid, scores, garbage), valid,
        threshold)
    for number in range(5):
        real = valid[number].nonzero()[:, 0].tolist()
        kept = reference.nms(boxes[number, real].tolist(), scores[number, real].tolist(), threshold)
        assert sorted(real[k] for k in kept) == keep[number].nonzero()[:, 0].tolist()


def test_rounds_reach_through_a_chain_of_suppressions():
    """Each box overlaps only its neighbours: every second one survives, known only from the first
    on.
    """
    x = torch.arange(60.) * 4
    boxes = torch.stack([x, x * 0, x + 10, x * 0 + 10], -1)[None]
    scores = torch.linspace(1, .1, 60)[None]
    keep = nms_keep_on_device(boxes, scores, torch.ones(1, 60, dtype=torch.bool), .4)
    assert keep[0].tolist() == [True, False] * 30


def test_the_operator_has_a_fake_kernel_and_is_registered_soundly():
    boxes, scores = random_boxes(2, 6), torch.rand(2, 6)
    torch.library.opcheck(nms_keep, (boxes, scores, torch.ones(2, 6, dtype=torch.bool), .5))
