"""Each operator on each device gives what it gives on the CPU, with Triton's kernels and without."""
import pytest
import torch

from mmdet_ft.ops.backends import use_triton
from mmdet_ft.ops.masks import mask_targets
from mmdet_ft.ops.matching import match
from mmdet_ft.ops.nms import nms_keep
from mmdet_ft.ops.roi_align import multi_level_roi_align
from mmdet_ft.ops.sampling import sample
from mmdet_ft.ops.soft_nms import soft_nms
from mmdet_ft.structures import Outlines, to_device
from tests.models.tiny import tiny_batch
from tests.ops.helpers import random_boxes

CPU = torch.device('cpu')


@pytest.fixture(params=['plain', 'triton'])
def kernels(request, device):
    """What an operator uses on a GPU; on the CPU it makes no difference."""
    reason = use_triton(request.param == 'triton')
    if reason is not None:
        pytest.skip(reason)
    yield request.param
    use_triton(False)


def boxes_of(*shape, size=100.):
    return random_boxes(*shape, size=size, generator=torch.Generator().manual_seed(0))


def test_suppression(device, kernels):
    generator = torch.Generator().manual_seed(1)
    problems = (boxes_of(6, 500, size=60.), torch.rand(6, 500, generator=generator),
                torch.rand(6, 500, generator=generator) > .2)
    for threshold in (.3, .7):
        keep = nms_keep(*to_device(problems, device), threshold)
        assert keep.device.type == device.type
        assert torch.equal(keep.cpu(), nms_keep(*problems, threshold))
    scores = soft_nms(*to_device(problems, device))
    torch.testing.assert_close(scores.cpu(), soft_nms(*problems))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_pooling_and_its_gradient(device, kernels, dtype, memory_format):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 8, size, size + 2, generator=generator) for size in (24, 12, 6)]
    image = torch.randint(0, 2, (40, 1), generator=generator)
    rois = torch.cat([image, boxes_of(40) - 4], 1)  # over the border too
    level = torch.randint(0, 3, (40, ), generator=generator)
    weight = torch.randn(40, 8, 7, 7, generator=generator)

    def pool(device, dtype):
        inputs = [
            x.to(device, dtype).to(memory_format=memory_format).requires_grad_() for x in maps
        ]
        out = multi_level_roi_align(inputs, rois.to(device), level.to(device),
                                    [1 / 4, 1 / 8, 1 / 16], 7, 0, True)
        grads = torch.autograd.grad((out.float() * weight.to(device)).sum(), inputs)
        assert out.dtype == dtype and out.device.type == device.type
        return [x.cpu().float() for x in (out, *grads)]

    # of what dtype holds of the maps, summed in full
    expected = pool(CPU, dtype)
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}[dtype]
    for mine, theirs in zip(pool(device, dtype), expected):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_targets_of_bitmaps(device, kernels):
    batch = tiny_batch((3, 2))
    image_index = torch.tensor([0, 0, 1, 1, 0, 1])
    gt_index = torch.tensor([0, 1, 0, 1, 2, 7])  # the last one an empty slot
    boxes = batch.gt.boxes[image_index, gt_index] + torch.tensor([-3., 2., 4., 1.])
    arguments = batch.gt.masks, image_index, gt_index, boxes
    expected = mask_targets(*arguments, 28)
    assert .05 < expected.mean() < .95
    targets = mask_targets(*to_device(arguments, device), 28).cpu()
    assert (targets != expected).float().mean() < 1e-3  # a half up to rounding


def test_targets_of_polygons(device):
    generator = torch.Generator().manual_seed(0)
    corners = (torch.rand(2, 8, 4, 2, generator=generator) * 60).double()
    sides = torch.cat([corners, corners.roll(-1, 2)], -1).flatten(0, 2)  # quadrilaterals
    start = torch.arange(0, 64, 4).view(2, 8)
    outlines = Outlines(sides, torch.zeros(64, dtype=torch.long), start, torch.full_like(start, 4),
                        4, 1)  # yapf: disable
    image_index, gt_index = torch.arange(16) // 8, torch.arange(16) % 8
    arguments = outlines, image_index, gt_index, boxes_of(16, size=50.)
    targets = mask_targets(*to_device(arguments, device), 28)
    assert torch.equal(targets.cpu(), mask_targets(*arguments, 28)) and targets.any()


def test_matching_and_sampling(device):
    generator = torch.Generator().manual_seed(0)
    arguments = boxes_of(3, 300), boxes_of(3, 8), torch.arange(8) < torch.tensor([[8], [3], [0]])
    on_device = match(*to_device(arguments, device), .7, .3, .3)
    expected = match(*arguments, .7, .3, .3)
    assert torch.equal(on_device.label.cpu(), expected.label)
    positive = expected.label == 1
    assert torch.equal(on_device.gt_index.cpu()[positive], expected.gt_index[positive])
    keys = torch.rand(3, 300, generator=generator)
    index, valid = sample(on_device.label, 64, .5, keys=keys.to(device))
    same_index, same_valid = sample(expected.label, 64, .5, keys=keys)
    assert torch.equal(valid.cpu(), same_valid)
    assert torch.equal(index.cpu()[same_valid], same_index[same_valid])
    drawn = sample(on_device.label, 64, .5)[0]  # of the device's own generator
    assert drawn.device.type == device.type
