"""The Triton kernels beside their twins in plain PyTorch, run by Triton's interpreter where there is no GPU."""
import pytest
import torch
import torchvision

pytest.importorskip('triton')

from mmdet_ft.ops import masks, roi_align, triton_kernels  # noqa: E402
from tests.ops.helpers import random_boxes  # noqa: E402

# The interpreter is numpy: an empty box divided by an empty union is a warning there.
pytestmark = pytest.mark.filterwarnings('ignore:invalid value encountered in divide')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.mark.parametrize('num_boxes', [1, 63, 64, 200])
def test_nms_keeps_what_torchvision_keeps(num_boxes):
    generator = torch.Generator().manual_seed(num_boxes)
    boxes = torch.stack([random_boxes(num_boxes, size=60, generator=generator) for _ in range(2)])
    valid = torch.rand(2, num_boxes, generator=generator) > .2
    keep = triton_kernels.nms(boxes.to(DEVICE), valid.to(DEVICE), .5).cpu()
    scores = torch.arange(num_boxes, 0, -1.)
    for row, box, real in zip(keep, boxes, valid):
        index = real.nonzero().squeeze(1)
        kept = index[torchvision.ops.nms(box[index], scores[index], .5)]
        assert row.nonzero().squeeze(1).tolist() == sorted(kept.tolist())


def test_a_chain_of_any_length_is_settled():
    """Each box overlaps the next alone: every other one survives."""
    x = torch.arange(150.) * 4
    boxes = torch.stack([x, torch.zeros(150), x + 10, torch.full((150, ), 10.)], 1)[None]
    keep = triton_kernels.nms(boxes.to(DEVICE), torch.ones(1, 150, dtype=torch.bool).to(DEVICE), .4)
    assert keep[0].tolist() == [True, False] * 75


def pyramid(dtype, channels=5):
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, channels, size, size + 2, generator=generator).to(DEVICE, dtype)
        for size in (12, 6, 3)
    ]
    boxes = random_boxes(7, size=56, generator=generator) - 4  # over the border too
    image = torch.randint(0, 2, (7, 1), generator=generator)
    level = torch.randint(0, 3, (7, ), generator=generator)
    return features, torch.cat([image, boxes],
                               1).to(DEVICE), level.to(DEVICE), [1 / 4, 1 / 8, 1 / 16]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_and_its_gradient_are_torchvisions(sampling_ratio, aligned):
    features, rois, level, scales = pyramid(torch.float32)
    arguments = (rois, level, scales, 3, sampling_ratio, aligned)
    out = triton_kernels.roi_align(features, *arguments)
    torch.testing.assert_close(out, roi_align._roi_align(features, *arguments))
    assert out.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    sizes = [tuple(feature.shape[2:]) for feature in features]
    mine = triton_kernels.roi_align_backward(grad, rois, level, scales, sampling_ratio, aligned, 2,
                                             sizes)
    theirs = roi_align._roi_align_backward(grad, *arguments, 2, 5,
                                           [x for size in sizes for x in size])
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b)


def test_half_precision_is_summed_in_full():
    features, rois, level, scales = pyramid(torch.float16)
    out = triton_kernels.roi_align(features, rois, level, scales, 3, 0, True)
    expected = roi_align._roi_align([x.float() for x in features], rois, level, scales, 3, 0, True)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, expected.half())


def test_mask_targets_are_those_of_the_crops():
    generator = torch.Generator().manual_seed(0)
    rect = torch.tensor([[3, 4, 20, 9], [0, 0, 7, 30], [5, 5, 0, 0], [2, 8, 11, 11]])
    sizes = rect[:, 2] * rect[:, 3]
    offset = sizes.cumsum(0) - sizes
    data = (torch.rand(int(sizes.sum()), generator=generator) > .4).to(torch.uint8)
    boxes = torch.tensor([[2., 3, 25, 14], [0, 0, 6.5, 28], [5, 5, 9, 9], [4.2, 9.1, 10.6, 17.3]])
    expected = masks._mask_targets(data, offset, rect, boxes, 14, [30, 20])
    out = triton_kernels.mask_targets(*(x.to(DEVICE) for x in (data, offset, rect, boxes)), 14)
    torch.testing.assert_close(out.cpu(), expected)
    assert 0 < expected.mean() < 1
