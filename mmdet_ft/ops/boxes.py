"""Boxes as tensors: xyxy, pixels, any leading dimensions."""
import torch
from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """Gather rows of `x` by a batched index: x [B, N, ...], index [B, M] -> [B, M, ...]."""
    for _ in range(x.dim() - index.dim()):
        index = index.unsqueeze(-1)
    return torch.gather(x, 1, index.expand(*index.shape[:2], *x.shape[2:]))


def unit_box(boxes: Tensor) -> Tensor:
    """Return the box 0 0 1 1 in the dtype and on the device of `boxes`.

    It is created on the device: a list of numbers would be copied there.
    """
    return torch.arange(4, device=boxes.device, dtype=boxes.dtype).div_(2, rounding_mode='floor')


def area(boxes: Tensor) -> Tensor:
    """Return width times height: [..., 4] -> [...]."""
    size = boxes[..., 2:] - boxes[..., :2]
    return size[..., 0] * size[..., 1]


def pairwise_overlap(a: Tensor, b: Tensor, mode: str = 'iou', eps: float = 1e-6) -> Tensor:
    """Return the overlap of every box of one set with every box of another.

    `iou` divides the intersection by the union, `iof` by the area of `a`. Both follow V2's
    bbox_overlaps, where a denominator is at least `eps`.

    a [..., N, 4], b [..., M, 4]. Returns [..., N, M] in 0..1.
    """
    assert mode in ('iou', 'iof'), mode
    a, b = a[..., :, None, :], b[..., None, :, :]
    size = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    size = size.clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    whole = area(a) + area(b) - inter if mode == 'iou' else area(a).expand_as(inter)
    return inter / whole.clamp(min=eps)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip boxes to their image: boxes [B, N, 4], sizes [B, 2] as (h, w)."""
    limit = sizes.flip(-1).repeat(1, 2)[:, None]  # [B, 1, 4] as w h w h
    return torch.minimum(boxes.clamp(min=0), limit)


def scale_around_centers(boxes: Tensor, factor: float) -> Tensor:
    """Multiply widths and heights of boxes [..., 4]; their centers stay."""
    center = (boxes[..., :2] + boxes[..., 2:]) * .5
    half = (boxes[..., 2:] - boxes[..., :2]) * factor * .5
    return torch.cat([center - half, center + half], -1)


def flip(boxes: Tensor, sizes: Tensor, direction: str) -> Tensor:
    """Flip boxes in their image; `direction` is horizontal, vertical or diagonal (both).

    boxes [B, N, 4], sizes [B, 2] as (h, w). The operation is its own inverse.
    """
    assert direction in ('horizontal', 'vertical', 'diagonal'), direction
    x0, y0, x1, y1 = boxes.unbind(-1)
    height, width = sizes[:, None, 0], sizes[:, None, 1]
    if direction != 'vertical':
        x0, x1 = width - x1, width - x0
    if direction != 'horizontal':
        y0, y1 = height - y1, height - y0
    return torch.stack([x0, y0, x1, y1], -1)
