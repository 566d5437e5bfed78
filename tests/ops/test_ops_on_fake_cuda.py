"""What the operators run on a GPU without Triton, on fake tensors: nothing of the host there, shapes as promised."""
import pytest
import torch

from mmdet_ft.ops import nms
from mmdet_ft.ops.masks import _mask_targets, _mask_targets_padded
from mmdet_ft.ops.nms import nms_keep, nms_keep_on_device
from mmdet_ft.ops.patches import neighbour_table, take_patches
from mmdet_ft.ops.polygons import outline_targets
from mmdet_ft.ops.roi_align import (_roi_align, _roi_align_backward, _roi_align_backward_masked,
                                    _roi_align_masked)
from mmdet_ft.structures import Outlines
from tests.fake_cuda import CUDA, HostWork, fake_cuda, fake_cuda_works, on_fake_cuda

pytestmark = fake_cuda_works
LONG = torch.int64


def description(result):
    results = result if isinstance(result, (list, tuple)) else [result]
    return [(x.shape, x.stride(), x.dtype, x.device) for x in results]


def check(function, operator, *arguments):
    """A function for a GPU works there and returns what its operator's fake kernel promises, to the strides."""
    with fake_cuda():
        arguments = tuple(
            [on_fake_cuda(x)
             for x in argument] if isinstance(argument, list) else on_fake_cuda(argument)
            for argument in arguments)
        with HostWork() as host:
            result = function(*arguments)
        assert not host.seen
        assert description(result) == description(operator(*arguments))
        assert {x[3].type for x in description(result)} == {'cuda'}


@pytest.mark.parametrize('num_problems', [0, 3])
def test_suppression(monkeypatch, num_problems):
    monkeypatch.setattr(torch, 'equal', lambda a, b: True)  # the one question to the device
    monkeypatch.setattr(nms, 'MAX_OVERLAPS', 200)  # in parts
    shape = (num_problems, 10)
    check(nms_keep_on_device, nms_keep, torch.rand(*shape, 4), torch.rand(shape),
          torch.ones(shape, dtype=torch.bool), .5)


@pytest.mark.parametrize('sampling_ratio, aligned', [(0, True), (2, False)])
@pytest.mark.parametrize('num_rois', [0, 5])
def test_roi_align(sampling_ratio, aligned, num_rois):
    sizes = [(8, 9), (4, 5)]
    maps = [torch.rand(2, 3, *size) for size in sizes]
    arguments = (torch.rand(num_rois,
                            5), torch.zeros(num_rois,
                                            dtype=LONG), [1 / 4, 1 / 8], 7, sampling_ratio, aligned)
    check(_roi_align_masked, _roi_align, maps, *arguments)
    check(_roi_align_backward_masked, _roi_align_backward, torch.rand(num_rois, 3, 7, 7),
          *arguments, 2, 3, [8, 9, 4, 5])


@pytest.mark.parametrize('num_boxes', [0, 5])
def test_mask_targets(num_boxes):
    check(_mask_targets_padded, _mask_targets, torch.zeros(100, dtype=torch.uint8),
          torch.zeros(num_boxes, dtype=LONG), torch.zeros(num_boxes, 4, dtype=LONG),
          torch.rand(num_boxes, 4), 28, [20, 30])


def test_polygons_and_patches():
    outlines = Outlines(
        torch.rand(12, 4, dtype=torch.float64), torch.zeros(12, dtype=LONG),
        torch.zeros(2, 4, dtype=LONG), torch.zeros(2, 4, dtype=LONG), 6, 2)
    index = torch.zeros(5, dtype=LONG)
    maps = (torch.rand(2, 3, 8, 9), torch.rand(2, 3, 4, 5))
    cells = torch.zeros(2, 6, dtype=LONG)
    with fake_cuda():
        outlines, index, maps, cells = on_fake_cuda((outlines, index, maps, cells))
        boxes = torch.empty(5, 4, device=CUDA)
        with HostWork() as host:
            targets = outline_targets(outlines, index, index, boxes, 28)
            table = neighbour_table([(8, 9), (4, 5)], CUDA)
            patches = take_patches(maps, table[cells])
        assert not host.seen
        assert targets.shape == (5, 28, 28) and patches.shape == (2, 6, 27)
        assert {x.device.type for x in (targets, table, patches)} == {'cuda'}
