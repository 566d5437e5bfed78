"""The Triton kernels beside their twins in plain PyTorch, run by Triton's interpreter where there is no GPU."""
import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode

triton = pytest.importorskip('triton')

from mmdet_ft.ops import backends  # noqa: E402
from mmdet_ft.ops import masks, nms, roi_align, triton_kernels  # noqa: E402
from mmdet_ft.ops.roi_align import _roi_align, _roi_align_backward  # noqa: E402
from tests.ops.helpers import GARBAGE, random_boxes  # noqa: E402

# The interpreter is numpy, which warns where an empty region is divided by its no samples.
pytestmark = [pytest.mark.filterwarnings('ignore:.* encountered in:RuntimeWarning')]
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
if DEVICE == 'cuda':
    pytestmark.append(pytest.mark.gpu)
CLOSE = dict(rtol=1e-5, atol=3e-5)  # a GPU multiplies and adds in one, in an order of its own


@triton.jit
def _count_to(number):
    for _ in range(number):
        pass


if DEVICE == 'cpu':
    try:
        _count_to[(1, )](2)
    except Exception as error:  # up to 3.6 it needs numpy<2.4
        pytest.skip(f"Triton's interpreter does not loop here: {error}", allow_module_level=True)


@pytest.mark.parametrize('num_boxes', [1, 63, 64, 200])
@pytest.mark.parametrize('threshold', [.3, .5, .7])
def test_nms_keeps_what_torchvision_keeps(num_boxes, threshold):
    generator = torch.Generator().manual_seed(num_boxes)
    boxes = torch.stack([random_boxes(num_boxes, size=60, generator=generator) for _ in range(2)])
    boxes[1] = boxes[1].round()  # shares of small numbers, some the threshold itself
    valid = torch.rand(2, num_boxes, generator=generator) > .2
    keep = triton_kernels.nms(boxes.to(DEVICE), valid.to(DEVICE), threshold).cpu()
    scores = torch.arange(num_boxes, 0, -1.)
    for row, box, real in zip(keep, boxes, valid):
        index = real.nonzero().squeeze(1)
        kept = index[torchvision.ops.nms(box[index], scores[index], threshold)]
        assert row.nonzero().squeeze(1).tolist() == sorted(kept.tolist())


@pytest.mark.parametrize('threshold', [.1, .3, .5, .7, .9])
def test_an_overlap_of_exactly_the_threshold_suppresses_nothing(threshold):
    """Boxes of 1000 pixels that share a tenth, three tenths ... of their union, and one pixel more."""
    inter = round(threshold * 1000)
    for height in (inter, inter + 1):
        boxes = torch.tensor([[[0., 0, 1, 1000], [0, 0, 1, height]]])
        keep = triton_kernels.nms(
            boxes.to(DEVICE),
            torch.ones(1, 2, dtype=torch.bool).to(DEVICE), threshold)
        assert keep[0].tolist() == [True, height == inter]


def test_a_chain_of_any_length_is_settled():
    """Each box overlaps the next alone: every other one survives."""
    x = torch.arange(150.) * 4
    boxes = torch.stack([x, torch.zeros(150), x + 10, torch.full((150, ), 10.)], 1)[None]
    keep = triton_kernels.nms(boxes.to(DEVICE), torch.ones(1, 150, dtype=torch.bool).to(DEVICE), .4)
    assert keep[0].tolist() == [True, False] * 75


@pytest.mark.parametrize('garbage', GARBAGE)
def test_boxes_without_numbers_are_no_ones_rivals(garbage):
    boxes = torch.tensor([[[garbage] * 4, [0., 0, 9, 9], [0, 0, 9, 8], [garbage, 0, 9, 9]]])
    valid = torch.tensor([[False, True, True, False]])
    keep = triton_kernels.nms(boxes.to(DEVICE), valid.to(DEVICE), .5)
    assert keep[0].tolist() == [False, True, False, False]


def test_all_problems_of_the_operator_are_one_launch(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(3, 40, size=40, generator=generator).to(DEVICE)
    scores = torch.rand(3, 40, generator=generator).to(DEVICE)
    valid = torch.rand(3, 40, generator=generator).to(DEVICE) > .2
    monkeypatch.setattr(nms, 'MAX_OVERLAPS', 1)  # the limit of the way by rounds
    expected = nms.nms_keep_on_device(boxes, scores, valid, .5)
    launched = []

    def spy(*arguments):
        launched.append(1)
        return settle(*arguments)

    settle = triton_kernels.nms
    monkeypatch.setattr(triton_kernels, 'nms', spy)
    monkeypatch.setattr(nms, 'triton_kernels', lambda: triton_kernels)
    assert torch.equal(nms.nms_keep_on_device(boxes, scores, valid, .5), expected)
    assert len(launched) == 1


def test_kernels_that_cannot_be_launched_are_left_off_with_the_reason(monkeypatch):

    def fail(*arguments):
        raise RuntimeError('no compiler here\nand much more')

    assert backends.use_triton(True, torch.device(DEVICE)) is None
    assert backends.triton_kernels() is triton_kernels
    monkeypatch.setattr(triton_kernels, 'nms', fail)
    assert backends.use_triton(True, torch.device(DEVICE)) == 'no compiler here'
    assert backends.triton_kernels() is None


def pyramid(dtype=torch.float32, num_levels=3, num_rois=5, channels=5):
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, channels, size, size + 2, generator=generator).to(DEVICE, dtype)
        for size in (8, 4, 3, 2, 1)[:num_levels]
    ]
    boxes = random_boxes(num_rois, size=32, generator=generator) - 4  # over the border too
    image = torch.randint(0, 2, (num_rois, 1), generator=generator)
    level = torch.arange(num_rois) % num_levels
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64][:num_levels]
    return features, torch.cat([image, boxes], 1).to(DEVICE), level.to(DEVICE), scales


def both_ways(features, *arguments):
    """Pooled features and, of the same random gradient, the gradients of all maps: of the kernels, of the twin."""
    rois, level, scales, size, sampling_ratio, aligned = arguments
    out = triton_kernels.roi_align(features, *arguments)
    full = [feature.float() for feature in features]
    expected = _roi_align(full, *arguments)
    grad = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, features[0].dtype)
    sizes = [tuple(feature.shape[2:]) for feature in features]
    grads = triton_kernels.roi_align_backward(grad, rois, level, scales, sampling_ratio, aligned,
                                              len(features[0]), sizes)
    expected_grads = _roi_align_backward(grad.float(), *arguments, *features[0].shape[:2],
                                         [x for size in sizes for x in size])
    return out, grads, expected, expected_grads


@pytest.mark.parametrize('sampling_ratio, aligned, num_levels, channels_last', [
    (0, True, 5, True),
    (0, False, 4, False),
    (2, True, 4, False),
    (2, False, 5, True),
])
def test_roi_align_and_its_gradient_are_torchvisions(sampling_ratio, aligned, num_levels,
                                                     channels_last):
    features, rois, level, scales = pyramid(num_levels=num_levels)
    if channels_last:
        features = [x.contiguous(memory_format=torch.channels_last) for x in features]
    out, grads, expected, expected_grads = both_ways(features, rois, level, scales, 3,
                                                     sampling_ratio, aligned)
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(grads, expected_grads, **CLOSE)


def test_a_region_of_more_bins_than_pixels_and_a_long_one():
    features, rois, level, scales = pyramid(num_rois=2)
    rois[:, 1:] = torch.tensor([[9., 9, 12, 13], [-6, 20, 40, 24]], device=DEVICE)
    out, grads, expected, expected_grads = both_ways(features, rois, level * 0, scales, 4, 0, True)
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(grads, expected_grads, **CLOSE)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_full(dtype):
    features, *arguments = pyramid(dtype, num_rois=3)
    out, grads, expected, expected_grads = both_ways(features, *arguments, 3, 0, True)
    assert out.dtype == dtype and {grad.dtype for grad in grads} == {dtype}
    torch.testing.assert_close(out, expected.to(dtype))
    torch.testing.assert_close(grads, [grad.to(dtype) for grad in expected_grads])


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_a_region_without_numbers_is_pooled_as_nothing_and_touches_no_other(sampling_ratio):
    features, rois, level, scales = pyramid()
    rois[1, 1:], rois[2, 1] = float('nan'), float('nan')
    level[1] = torch.iinfo(torch.int64).min  # NaN, cast to a whole number
    rest = torch.tensor([0, 3, 4], device=DEVICE)
    out = triton_kernels.roi_align(features, rois, level, scales, 3, sampling_ratio, True)
    assert not out[1:3].any()
    sizes = [tuple(feature.shape[2:]) for feature in features]

    def grads(index):
        return triton_kernels.roi_align_backward(out[index], rois[index], level[index], scales,
                                                 sampling_ratio, True, 2, sizes)

    torch.testing.assert_close(grads(torch.arange(5, device=DEVICE)), grads(rest), **CLOSE)


def test_no_regions_give_no_features_and_no_gradient():
    features, rois, level, scales = pyramid()
    out, grads, *_ = both_ways(features, rois[:0], level[:0], scales, 3, 0, True)
    assert out.shape == (0, 5, 3, 3) and not any(grad.any() for grad in grads)


def test_maps_whose_channels_are_innermost_are_not_copied(monkeypatch):
    features, rois, level, scales = pyramid()
    seen = []
    monkeypatch.setattr(triton_kernels, '_launch', lambda *arguments: seen.extend(arguments[2]))
    features[0] = features[0].contiguous(memory_format=torch.channels_last)
    triton_kernels.roi_align(features, rois, level, scales, 3, 0, True)
    same = [a.data_ptr() == b.data_ptr() for a, b in zip(seen, features)]
    assert same == [True, False, False]


def test_results_lie_in_memory_as_the_operators_promise(monkeypatch):
    """torch.compile counts on the strides of the fake kernels; an operator may not return views of one tensor."""
    features, rois, level, scales = pyramid(torch.float16, num_rois=1)
    out, grads, *_ = both_ways(features, rois, level, scales, 3, 0, True)
    monkeypatch.setattr(roi_align, 'triton_kernels', lambda: triton_kernels)
    with FakeTensorMode() as mode:
        maps = [torch.empty(x.shape, dtype=x.dtype, device='cuda') for x in features]
        rois, level = (torch.empty(x.shape, dtype=x.dtype, device='cuda') for x in (rois, level))
        fake = _roi_align(maps, rois, level, scales, 3, 0, True)
        sizes = [x for feature in features for x in feature.shape[2:]]
        fake_grads = _roi_align_backward(fake, rois, level, scales, 3, 0, True, 2, 5, sizes)
    assert mode is not None
    for real, promised in zip([out, *grads], [fake, *fake_grads]):
        assert (real.shape, real.stride(), real.dtype) == (promised.shape, promised.stride(),
                                                           promised.dtype)
    assert len({grad.untyped_storage().data_ptr() for grad in grads}) == len(grads)


def test_mask_targets_are_those_of_the_crops_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    rect = torch.tensor([[3, 4, 20, 9], [0, 0, 7, 30], [5, 5, 0, 0], [2, 8, 11, 11]])
    sizes = rect[:, 2] * rect[:, 3]
    offset = sizes.cumsum(0) - sizes
    data = (torch.rand(int(sizes.sum()), generator=generator) > .4).to(torch.uint8)
    boxes = torch.tensor([[2., 3, 25, 14], [0, 0, 6.5, 28], [5, 5, 9, 9], [4.2, 9.1, 10.6, 17.3]])
    expected = masks._mask_targets(data, offset, rect, boxes, 14, [30, 20])
    out = triton_kernels.mask_targets(*(x.to(DEVICE) for x in (data, offset, rect, boxes)), 14)
    assert torch.equal(out.cpu(), expected)
    assert 0 < expected.mean() < 1
    assert triton_kernels.mask_targets(data, offset[:0], rect[:0], boxes[:0],
                                       14).shape == (0, 14, 14)
