"""Operators of mmdet_ft.ops and mmdet_ft.models in forms that ONNX's standard operators express.

Each takes and returns what its operator does, but for the exceptions named. Those that are autograd functions become
one node, whose `symbolic` writes it; the others are plain arithmetic. tests/deploy/test_forms.py compares each with
its operator.
"""
from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from mmdet_ft.ops.nms import nms_keep


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression with one class for each problem."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou_threshold: float,
                score_threshold: float) -> Tensor:
        keep = nms_keep(boxes, scores[:, 0], scores[:, 0] > score_threshold, iou_threshold)
        problem, box = keep.nonzero().unbind(1)
        return torch.stack([problem, torch.zeros_like(problem), box], 1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou_threshold: float,
                 score_threshold: float) -> Any:
        no_limit = g.op('Constant', value_t=torch.tensor([2**31 - 1]))
        thresholds = [
            g.op('Constant', value_t=torch.tensor([value], dtype=torch.float32))
            for value in (iou_threshold, score_threshold)
        ]
        return g.op('NonMaxSuppression', boxes, scores, no_limit, *thresholds)


def nms_keep_form(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Return the survivors as ops.nms.nms_keep: bool [R, N].

    boxes [R, N, 4], scores [R, N] above -1, valid [R, N]. Of equal scores the first box comes first.
    """
    scores = torch.where(valid, scores, torch.full_like(scores, -1.))
    kept = _NonMaxSuppression.apply(boxes, scores[:, None], iou_threshold, -1.)
    keep = torch.zeros_like(scores).flatten()
    place = kept[:, 0] * scores.shape[1] + kept[:, 2]
    return keep.scatter(0, place, torch.ones_like(place, dtype=keep.dtype)).view_as(scores) > 0


class _RoIAlign(torch.autograd.Function):
    """ONNX's RoIAlign, of one feature map."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, rois: Tensor, scale: float, size: int, ratio: int,
                aligned: bool) -> Tensor:
        return torchvision.ops.roi_align(feature, rois, size, scale, ratio, aligned)

    @staticmethod
    def symbolic(g: Any, feature: Any, rois: Any, scale: float, size: int, ratio: int,
                 aligned: bool) -> Any:

        def columns(start: int, end: int) -> Any:
            bounds = [g.op('Constant', value_t=torch.tensor([value])) for value in (start, end, 1)]
            return g.op('Slice', rois, *bounds)

        column = g.op('Squeeze', columns(0, 1), g.op('Constant', value_t=torch.tensor([1])))
        return g.op(
            'RoiAlign',
            feature,
            columns(1, 5),
            g.op('Cast', column, to_i=7),  # int64
            coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
            mode_s='avg',
            output_height_i=size,
            output_width_i=size,
            sampling_ratio_i=ratio,
            spatial_scale_f=scale)


def roi_align_form(features: Sequence[Tensor], rois: Tensor, level: Tensor, scales: Sequence[float],
                   output_size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """Pool each region from its level as ops.roi_align.multi_level_roi_align: [R, C, size, size]."""
    pooled, places = [], []
    for number, (feature, scale) in enumerate(zip(features, scales)):
        here = (level == number).nonzero()[:, 0]
        places.append(here)
        pooled.append(
            _RoIAlign.apply(feature, rois[here], scale, output_size, sampling_ratio, aligned))
    if len(pooled) == 1:
        return pooled[0]
    order = torch.cat(places)
    back = torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0]))
    return torch.cat(pooled)[back]


def paste_form(masks: Tensor, boxes: Tensor, height: Tensor, width: Tensor,
               threshold: float) -> Tensor:
    """Paste masks into the whole image, with the pixels of ops.paste.paste_to_rle: bool [N, H, W].

    masks [N, M, M] in 0..1, boxes [N, 4] in pixels of the image.
    """
    count = masks.shape[-1]
    rows = _stretch(height, boxes[:, 1], boxes[:, 3], count)
    columns = _stretch(width, boxes[:, 0], boxes[:, 2], count)
    return (rows @ masks @ columns.transpose(1, 2)) >= threshold


def _stretch(length: Any, low: Tensor, high: Tensor, count: int) -> Tensor:
    """Return bilinear weights [N, length, count] of mask cells over low..high, zero beyond a pixel around."""
    start = torch.arange(length).to(low)[None]
    low, high = low[:, None], high[:, None]
    is_flat = high <= low
    size = torch.where(is_flat, torch.ones_like(low), high - low)
    place = (start + .5 - low) / size * count - .5
    place = torch.where(is_flat, torch.full_like(place, (count - 1) / 2), place)
    near = (start >= low.floor() - 1) & (start < high.ceil() + 1)
    weights = (1 - (place[..., None] - torch.arange(count).to(low)).abs()).clamp(min=0)
    return weights * near[..., None].to(weights)


def deform_conv_form(x: Tensor, offset: Tensor, weight: Tensor, bias: Optional[Tensor],
                     stride: Tuple[int, int], padding: Tuple[int, int], dilation: Tuple[int, int],
                     mask: Optional[Tensor]) -> Tensor:
    """Convolve at shifted points as torchvision.ops.deform_conv2d, by GridSample and a product.

    x [B, C, H, W]; offset [B, 2 * D * k, H', W'], y and x of k points for each of D groups of channels; weight
    [O, C / groups, kh, kw]; mask [B, D * k, H', W'] or None. Returns [B, O, H', W'].
    """
    points = weight.shape[2] * weight.shape[3]
    parts = offset.shape[1] // (2 * points)
    height, width = x.shape[2], x.shape[3]
    rows, columns = offset.shape[2], offset.shape[3]
    offset = offset.reshape(-1, points, 2, rows, columns)  # [B*D, k, 2, H', W']
    y = offset[:, :, 0] + _grid(rows, stride[0], padding[0])[:, None]
    x_place = offset[:, :, 1] + _grid(columns, stride[1], padding[1])
    tap = torch.arange(points)
    y = y + (torch.div(tap, weight.shape[3], rounding_mode='floor') * dilation[0]).to(x)[:, None,
                                                                                         None]
    x_place = x_place + (tap % weight.shape[3] * dilation[1]).to(x)[:, None, None]
    place = torch.stack([_to_unit(x_place, width), _to_unit(y, height)], -1)  # [B*D, k, H', W', 2]
    sampled = F.grid_sample(
        x.reshape(-1, x.shape[1] // parts, height, width),
        place.reshape(-1, points * rows, columns, 2),
        padding_mode='zeros',
        align_corners=False)  # [B*D, C/D, k*H', W']
    sampled = sampled.reshape(-1, x.shape[1] // parts, points, rows, columns)
    if mask is not None:
        sampled = sampled * mask.reshape(-1, 1, points, rows, columns)
    groups = x.shape[1] // weight.shape[1]
    sampled = sampled.reshape(-1, groups, weight.shape[1] * points, rows * columns)
    kernel = weight.reshape(groups, -1,
                            weight.shape[1] * points)  # [groups, O/groups, C/groups * k]
    out = torch.matmul(kernel, sampled).reshape(-1, weight.shape[0], rows, columns)
    return out if bias is None else out + bias[:, None, None]


def _grid(length: Any, stride: int, padding: int) -> Tensor:
    return torch.arange(length).float() * stride - padding


def _to_unit(place: Tensor, length: Any) -> Tensor:
    """Return pixels as GridSample counts them: -1 at the outer edge of the first, 1 at that of the last."""
    return (place * 2. + 1.) / length - 1.


def top_k(scores: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Return the best `count` of each row, or all where there are fewer, and their indices: [B, k] each."""
    limit = torch.minimum(torch.tensor(count), torch.as_tensor(scores.shape[1]))
    traced: Any = limit  # tracing takes a tensor for a number
    values, index = scores.topk(traced, 1)
    return values, index
