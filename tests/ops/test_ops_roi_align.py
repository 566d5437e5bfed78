import pytest
import torch
import torchvision

from mmdet_ft.ops import roi_align
from mmdet_ft.ops.roi_align import multi_level_roi_align
from tests.ops.helpers import random_boxes


def world(dtype=torch.float64, num_rois=9):
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, 3, size, size, generator=generator, dtype=dtype).requires_grad_()
        for size in (16, 8, 4)
    ]
    boxes = random_boxes(num_rois, size=60, generator=generator)
    image = torch.randint(0, 2, (num_rois, 1), generator=generator)
    level = torch.randint(0, 3, (num_rois, ), generator=generator)
    return features, torch.cat([image, boxes], 1).to(dtype), level, [1 / 4, 1 / 8, 1 / 16]


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_each_region_is_pooled_from_its_level_alone(sampling_ratio, aligned):
    features, rois, level, scales = world()
    out = multi_level_roi_align(features, rois, level, scales, 7, sampling_ratio, aligned)
    for number in range(len(rois)):
        expected = torchvision.ops.roi_align(features[level[number]], rois[number:number + 1], 7,
                                             scales[level[number]], sampling_ratio or -1, aligned)
        assert torch.allclose(out[number], expected[0], atol=1e-12)


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_the_way_without_an_index_list_gives_the_same(sampling_ratio):
    features, rois, level, scales = world()
    arguments = (rois, level, scales, 7, sampling_ratio, True)
    indexed = roi_align._roi_align([f.detach() for f in features], *arguments)
    masked = roi_align._roi_align_masked([f.detach() for f in features], *arguments)
    assert torch.allclose(indexed, masked, atol=1e-12)
    grad = torch.randn_like(indexed)
    shape = (2, 3, [16, 16, 8, 8, 4, 4])
    for a, b in zip(
            roi_align._roi_align_backward(grad, *arguments, *shape),
            roi_align._roi_align_backward_masked(grad, *arguments, *shape)):
        assert torch.allclose(a, b, atol=1e-12)


def test_gradients_equal_those_of_torchvision_level_by_level():
    features, rois, level, scales = world()
    out = multi_level_roi_align(features, rois, level, scales, 7, 0, True)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), features)
    for number, feature in enumerate(features):
        here = level == number
        expected = torchvision.ops.roi_align(feature, rois[here], 7, scales[number], -1, True)
        grad, = torch.autograd.grad((expected * weight[here]).sum(), feature)
        assert torch.allclose(grads[number], grad, atol=1e-12)


def test_the_operators_are_registered_soundly():
    features, *arguments = world(torch.float32)
    arguments += [7, 2, True]
    torch.library.opcheck(roi_align._roi_align, (features, *arguments))
    torch.library.opcheck(roi_align._roi_align_backward,
                          (torch.rand(9, 3, 7, 7), *arguments, 2, 3, [16, 16, 8, 8, 4, 4]))


def test_a_gradient_is_taken_as_it_lies_in_memory():
    features, *arguments = world()
    out = multi_level_roi_align(features, *arguments, 7, 0, True)
    grad = torch.randn_like(out)
    rows = grad.contiguous(memory_format=torch.channels_last)
    for a, b in zip(
            torch.autograd.grad(out, features, grad, retain_graph=True),
            torch.autograd.grad(out, features, rows)):
        assert torch.equal(a, b)


def test_half_precision_features_are_pooled_in_float32():
    features, rois, level, scales = world(torch.float32)
    half = [feature.detach().bfloat16() for feature in features]
    out = multi_level_roi_align(half, rois, level, scales, 7, 0, True)
    expected = multi_level_roi_align([feature.float() for feature in half], rois, level, scales, 7,
                                     0, True)
    assert out.dtype == torch.bfloat16 and torch.equal(out, expected.bfloat16())
