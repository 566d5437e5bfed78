"""Matching of cells to the inner parts of objects (FoveaBox, sec. 3.2)."""
from typing import Tuple

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import area, unit_box
from mmdet_ft.ops.matching import Match


def match_foveas(size: Tuple[int, int], stride: float, scales: Tuple[float, float], sigma: float,
                 gt_boxes: Tensor, gt_valid: Tensor) -> Match:
    """Match each cell of a level to the smallest object whose fovea holds it, or to the background.

    The fovea of an object is its box shrunk by `sigma` around the center. Only objects whose scale, the root
    of their area in pixels, is in `scales` take part. Of equal objects the last one wins, as in V2.

    Args:
        size: (H, W) of the level; stride: pixels per cell.
        gt_boxes [B, G, 4]; gt_valid [B, G]; padding may hold any values.

    Returns gt_index and label, 1 or 0, [B, H * W], row by row.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(gt_boxes)).flip(1)
    scale = area(gt_boxes).sqrt()  # [B, G], the last object first
    fits = gt_valid.flip(1) & (scale >= scales[0]) & (scale <= scales[1])
    low, high = (gt_boxes / stride).split(2, -1)
    half = (high - low) * .5
    first = (low + (1 - sigma) * half - .5).ceil()
    last = (low + (1 + sigma) * half - .5).floor()
    rows, columns = (_between(first[..., axis], last[..., axis], count)
                     for axis, count in ((1, size[0]), (0, size[1])))
    inside = rows[..., None] & columns[..., None, :] & fits[..., None, None]  # [B, G, H, W]
    smallest, place = scale[..., None].masked_fill(~inside.flatten(2), float('inf')).min(1)
    return Match(gt_boxes.shape[1] - 1 - place, smallest.isfinite().long())


def _between(first: Tensor, last: Tensor, count: int) -> Tensor:
    """Check which of `count` cells are from `first` to `last`, clipped to the cells: [...] -> bool [..., count]."""
    cells = torch.arange(count, device=first.device)
    first, last = (bound.clamp(0, count - 1)[..., None] for bound in (first, last))
    return (cells >= first) & (cells <= last)
