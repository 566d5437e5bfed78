"""RoIAlign over the levels of a feature pyramid as one operator."""
from typing import List, Optional, Sequence

import torch
import torchvision  # registers torch.ops.torchvision
from torch import Tensor

from mmdet_ft.ops.backends import triton_kernels

assert hasattr(torch.ops.torchvision, 'roi_align'), torchvision.__version__


def multi_level_roi_align(features: Sequence[Tensor], rois: Tensor, level: Tensor,
                          scales: Sequence[float], output_size: int, sampling_ratio: int,
                          aligned: bool) -> Tensor:
    """Pool each RoI from its assigned level (Mask R-CNN, sec. 3; FPN, eq. 1 assigns the level).

    features: L maps [B, C, H_l, W_l]; rois [R, 5] as (image index, x0, y0, x1, y1) in input pixels;
    level: int64 [R] in 0..L-1; scales: features per input pixel of each level. With
    `sampling_ratio` 0 a bin takes as many samples as it is feature pixels wide. Returns [R, C,
    output_size, output_size] in the features' dtype; computed in float32.
    """
    dtype = features[0].dtype
    if dtype in (torch.bfloat16, torch.float16) and not _by_triton(features[0]):
        features = [feature.float() for feature in features]
    rois = rois.to(torch.promote_types(features[0].dtype, torch.float32))
    out = _roi_align(
        list(features), rois, level, list(scales), output_size, sampling_ratio, aligned)
    return out.to(dtype)


def _by_triton(feature: Tensor) -> bool:
    return feature.is_cuda and triton_kernels() is not None


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Return an empty tensor with the strides of the device's kernels, as torch.compile expects."""
    layout = torch.channels_last if _by_triton(like) else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@torch.library.custom_op('mmdet_ft::multi_level_roi_align', mutates_args=())
def _roi_align(features: List[Tensor], rois: Tensor, level: Tensor, scales: List[float],
               output_size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    out = rois.new_zeros(rois.shape[0], features[0].shape[1], output_size, output_size)
    for number, (feature, scale) in enumerate(zip(features, scales)):
        here = (level == number).nonzero().squeeze(1)
        out[here] = torch.ops.torchvision.roi_align(feature, rois[here], scale, output_size,
                                                    output_size, sampling_ratio, aligned)
    return out


@_roi_align.register_kernel('cuda')
def _roi_align_masked(features: List[Tensor], rois: Tensor, level: Tensor, scales: List[float],
                      output_size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """Pool without an index list, which would synchronize with the host.

    At all other levels a RoI is an empty box, which costs nothing.
    """
    if _by_triton(features[0]):
        return triton_kernels().roi_align(features, rois, level, scales, output_size,
                                          sampling_ratio, aligned)
    out: Optional[Tensor] = None
    for number, (feature, scale) in enumerate(zip(features, scales)):
        here = level == number
        pooled = torch.ops.torchvision.roi_align(feature, _only(rois, here), scale, output_size,
                                                 output_size, sampling_ratio, aligned)
        # An empty box still reads a sample if sampling_ratio > 0 or not aligned.
        pooled = pooled * here[:, None, None, None]
        out = pooled if out is None else out.add_(pooled)
    assert out is not None, 'no feature map'
    return out


def _only(rois: Tensor, here: Tensor) -> Tensor:
    box = rois[:, 1:].masked_fill(~here[:, None], 0.)
    return torch.cat([rois[:, :1], box], 1)


@_roi_align.register_fake
def _(features, rois, level, scales, output_size, sampling_ratio, aligned):
    return _empty(features[0], rois.shape[0], features[0].shape[1], output_size, output_size)


@torch.library.custom_op('mmdet_ft::multi_level_roi_align_backward', mutates_args=())
def _roi_align_backward(grad: Tensor, rois: Tensor, level: Tensor, scales: List[float],
                        output_size: int, sampling_ratio: int, aligned: bool, batch: int,
                        channels: int, sizes: List[int]) -> List[Tensor]:
    """Return the gradients of all maps in the dtype of grad; `sizes` is H_0, W_0, H_1, W_1, ..."""
    grads = []
    for number, scale in enumerate(scales):
        here = (level == number).nonzero().squeeze(1)
        grads.append(
            torch.ops.torchvision._roi_align_backward(grad[here], rois[here], scale, output_size,
                                                      output_size, batch, channels,
                                                      sizes[2 * number], sizes[2 * number + 1],
                                                      sampling_ratio, aligned))
    return grads


@_roi_align_backward.register_kernel('cuda')
def _roi_align_backward_masked(grad, rois, level, scales, output_size, sampling_ratio, aligned,
                               batch, channels, sizes):
    if _by_triton(grad):
        shapes = list(zip(sizes[::2], sizes[1::2]))
        return triton_kernels().roi_align_backward(grad, rois, level, scales, sampling_ratio,
                                                   aligned, batch, shapes)
    grads = []
    for number, scale in enumerate(scales):
        here = level == number
        grads.append(
            torch.ops.torchvision._roi_align_backward(
                (grad * here[:, None, None, None]).contiguous(), _only(rois, here), scale,
                output_size, output_size, batch, channels, sizes[2 * number], sizes[2 * number + 1],
                sampling_ratio, aligned))
    return grads


@_roi_align_backward.register_fake
def _(grad, rois, level, scales, output_size, sampling_ratio, aligned, batch, channels, sizes):
    return [
        _empty(grad, batch, channels, height, width)
        for height, width in zip(sizes[::2], sizes[1::2])
    ]


def _setup_context(ctx, inputs, output):
    features, rois, level, scales, output_size, sampling_ratio, aligned = inputs
    ctx.save_for_backward(rois, level)
    ctx.arguments = (scales, output_size, sampling_ratio, aligned)
    ctx.shape = features[0].shape[:2]
    ctx.sizes = [size for feature in features for size in feature.shape[2:]]


def _backward(ctx, grad):
    rois, level = ctx.saved_tensors
    grads = _roi_align_backward(grad, rois, level, *ctx.arguments, *ctx.shape, ctx.sizes)
    return grads, None, None, None, None, None, None


_roi_align.register_autograd(_backward, setup_context=_setup_context)
