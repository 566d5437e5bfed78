"""Matching by regions around the centers of objects (Feature Selective Anchor-Free Module, sec. 3.1)."""
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import area, pairwise_overlap, take, unit_box


class RegionMatch(NamedTuple):
    gt_index: Tensor  # int64 [B, A], which ground truth; meaningful where label is 1
    label: Tensor  # int64 [B, A]: 1 positive, 0 background, -1 neither
    shadowed: Tensor  # bool [B, A, K], classes that the box does not learn


def match_regions(boxes: Tensor,
                  gt_boxes: Tensor,
                  gt_labels: Tensor,
                  gt_valid: Tensor,
                  num_classes: int,
                  scales: Tuple[float, float],
                  min_iof: float,
                  positive_wins: bool,
                  box_valid: Tensor,
                  ignore: Optional[Tensor] = None) -> RegionMatch:
    """Match each box to the smallest object whose core it covers, or to the background.

    A box covers a region if more than `min_iof` of its own area is in it. The core of an object is
    the object scaled by scales[0]; the box's center must be in the object too. A box in the rest of
    scales[1], or in the core of a larger object, does not learn that class.

    Args:
        boxes [A, 4]; gt_boxes [B, G, 4]; gt_labels, gt_valid [B, G]; padding may hold any boxes.
        positive_wins: a box that is positive of a class it should not learn stays positive, or
            else becomes background.
        box_valid [B, A]: an invalid box is neither positive nor background.
        ignore [B, A]: boxes in ignored regions, which are neither.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(boxes))
    core, shadow = _regions(boxes, gt_boxes, gt_valid, scales, min_iof)  # [B, A, G]
    rank = area(gt_boxes).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    best, gt_index = rank[:, None].masked_fill(~core, -1).max(2)  # [B, A]
    numbers = torch.arange(gt_boxes.shape[1], device=boxes.device)
    shadow = shadow | core & (numbers != gt_index[..., None])
    usable = box_valid if ignore is None else box_valid & ~ignore
    positive = (best >= 0) & usable

    is_own = gt_labels[:, None] == take(gt_labels, gt_index)[..., None]  # [B, A, G], classes
    conflict = positive & (shadow & is_own).any(-1)
    classes = torch.arange(num_classes, device=boxes.device)
    is_class = gt_labels[..., None] == classes  # [B, G, K]
    if positive_wins:
        shadow = shadow & ~(is_own & conflict[..., None])
    else:
        positive = positive & ~conflict
    shadowed = (shadow.float() @ is_class.float()) > 0  # [B, A, K]
    return RegionMatch(gt_index, positive.long().masked_fill(~usable, -1), shadowed)


def _regions(boxes: Tensor, gt_boxes: Tensor, gt_valid: Tensor, scales: Tuple[float, float],
             min_iof: float) -> Tuple[Tensor, Tensor]:
    """Check which boxes are in the core, and which in the rest of each object: two of [B, A, G]."""
    core, rest = (
        pairwise_overlap(boxes, scale_boxes(gt_boxes, scale), 'iof') > min_iof for scale in scales)
    core = core & centers_inside(boxes, gt_boxes) & gt_valid[:, None]
    return core, rest & ~core & gt_valid[:, None]


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Return boxes [..., 4] of the same centers, `scale` times as wide and high."""
    center = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    half = (boxes[..., 2:] - boxes[..., :2]) * 0.5 * scale
    return torch.cat([center - half, center + half], -1)


def centers_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Check which boxes [A, 4] have their center inside which regions [B, G, 4]: bool [B, A, G]."""
    center = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]  # [A, 1, 2]
    regions = regions[:, None]  # [B, 1, G, 4]
    return ((center > regions[..., :2]) & (center < regions[..., 2:])).all(-1)
