"""Matching by the cost of predictions (SimOTA)."""
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import pairwise_overlap, unit_box

# V2's cost of a point that is in the box or in the center of an object, but not in both.
FAR = 100000.
LEAST_LOG = -100.  # of a probability, as in PyTorch's binary cross entropy


class CostMatch(NamedTuple):
    gt_index: Tensor  # int64 [B, A], which ground truth; meaningful where positive
    positive: Tensor  # bool [B, A]
    overlap: Tensor  # float32 [B, A], IoU of the predicted box with that ground truth


def match_by_cost(points: Tensor, strides: Tensor, scores: Tensor, boxes: Tensor, gt_boxes: Tensor,
                  gt_labels: Tensor, gt_valid: Tensor, radius: float, topk: int, cls_weight: float,
                  iou_weight: float) -> CostMatch:
    """Match points to ground truths by their predictions (YOLOX, sec. 2.1; OTA's cost).

    A point takes part if it is in a ground truth or in a center. The cost of a pair is the cross
    entropy of the scores, -log IoU, and FAR unless the point is in both for this ground truth. A
    ground truth gets as many points of the lowest cost as its `topk` best IoUs add up to, at least
    one. Of several ground truths that of the lowest cost wins.

    Args:
        points [A, 2]; strides [A, 1], pixels per cell: a center reaches `radius` strides.
        scores [B, A, K], 0 to 1; boxes [B, A, 4], predicted.
        gt_boxes [B, G, 4], gt_labels [B, G]; gt_valid [B, G]; padding may hold any values.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(boxes))
    in_box, in_center = _regions(points, strides * radius, gt_boxes)  # [B, G, A]
    usable = ((in_box | in_center) & gt_valid[..., None]).any(1, keepdim=True)  # [B, 1, A]
    usable = usable & gt_valid[..., None]  # [B, G, A]
    overlap = pairwise_overlap(gt_boxes, boxes).masked_fill(~usable, 0.)
    cost = _class_cost(scores, gt_labels.masked_fill(~gt_valid, 0)) * cls_weight
    cost = cost - torch.log(overlap + 1e-7) * iou_weight + (~(in_box & in_center)) * FAR
    cost = cost.masked_fill(~usable, float('inf'))

    chosen = _cheapest(cost, overlap, min(topk, cost.shape[2]))  # [B, G, A]
    times = chosen.sum(1)  # [B, A]
    gt_index = torch.where(times > 1, cost.min(1).indices, chosen.long().max(1).indices)
    return CostMatch(gt_index, times > 0, overlap.gather(1, gt_index[:, None])[:, 0])


def _regions(points: Tensor, reach: Tensor, gt_boxes: Tensor):
    """Check which points are inside each box, and inside its center: two of bool [B, G, A]."""
    low, high = gt_boxes[:, :, None, :2], gt_boxes[:, :, None, 2:]  # [B, G, 1, 2]
    in_box = torch.minimum(points - low, high - points).amin(-1) > 0
    center = (low + high) / 2
    in_center = torch.minimum(points - (center - reach), (center + reach) - points).amin(-1) > 0
    return in_box, in_center


def _class_cost(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of the roots of all K scores, summed: [B, A, K], [B, G] -> [B, G, A].

    Without a tensor of B * G * A * K numbers: one class at a time is the target.
    """
    root = scores.float().sqrt()
    missing = -torch.log1p(-root).clamp(min=LEAST_LOG)  # of a class that is not there
    present = -root.log().clamp(min=LEAST_LOG)
    index = labels[..., None].expand(-1, -1, scores.shape[1])
    return missing.sum(-1)[:, None] + (present - missing).transpose(1, 2).gather(1, index)


def _cheapest(cost: Tensor, overlap: Tensor, count: int) -> Tensor:
    """Choose the points of the lowest cost, as many as the `count` best overlaps add up to: bool [B, G, A]."""
    number = overlap.topk(count, 2).values.sum(2).int().clamp(min=1)  # [B, G]
    value, index = cost.topk(count, 2, largest=False)
    rank = torch.arange(count, device=cost.device)
    within = (rank < number[..., None]) & value.isfinite()
    return torch.zeros_like(cost, dtype=torch.bool).scatter(2, index, within)
