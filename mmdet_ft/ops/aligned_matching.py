"""Matching by predictions (TOOD: Task-aligned One-stage Object Detection)."""
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import pairwise_overlap, unit_box
from mmdet_ft.ops.matching import Match


class Alignment(NamedTuple):
    """Matches of anchors by their predictions."""
    match: Match  # [B, A]
    quality: Tensor  # float32 [B, A], what a positive's score learns, 0 for all others


def match_by_alignment(scores: Tensor, boxes: Tensor, points: Tensor, gt_boxes: Tensor,
                       gt_labels: Tensor, gt_valid: Tensor, usable: Tensor, topk: int, alpha: float,
                       beta: float) -> Alignment:
    """Match each anchor to a ground truth or to the background, by score ** alpha * IoU ** beta (sec. 3.3).

    The `topk` anchors with the highest value are positive for a ground truth, if their point is inside it. Of
    several ground truths the one with the highest IoU wins. The quality is the value, scaled so that the
    largest of a ground truth is its largest IoU.

    Args:
        scores [B, A, K], in 0..1; boxes [B, A, 4], both predicted; points [A, 2].
        gt_boxes [B, G, 4]; gt_labels int64 [B, G]; gt_valid [B, G]; padding may hold any values.
        usable [B, A]: other anchors are neither positive nor background.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(points))
    overlap = pairwise_overlap(gt_boxes, boxes)  # [B, G, A]
    labels = gt_labels.masked_fill(~gt_valid, 0)[..., None].expand_as(overlap)
    value = scores.transpose(1, 2).gather(1, labels)**alpha * overlap**beta
    best, index = value.masked_fill(~usable[:, None], -1.).topk(min(topk, value.shape[2]), 2)
    is_positive = (best > 0) & gt_valid[..., None] & _inside(points[index], gt_boxes[:, :, None])

    chosen = torch.full_like(overlap, -1.)
    chosen = chosen.scatter(2, index, overlap.gather(2, index).masked_fill(~is_positive, -1.))
    iou, gt_index = chosen.max(1)  # [B, A]
    positive = iou >= 0
    quality = value.gather(1, gt_index[:, None])[:, 0].masked_fill(~positive, 0.)
    iou = iou.masked_fill(~positive, 0.)
    scale = _largest_of_its_object(iou, gt_index, gt_valid) / (
        _largest_of_its_object(quality, gt_index, gt_valid) + 1e-7)  # V2's epsilon
    match = Match(gt_index, positive.long().masked_fill(~usable, -1))
    return Alignment(match, (quality * scale).masked_fill(~positive, 0.))


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Check which points [..., 2] are at least 0.01 pixels inside boxes [..., 4]."""
    return torch.minimum(points - boxes[..., :2], boxes[..., 2:] - points).amin(-1) > 0.01


def _largest_of_its_object(value: Tensor, gt_index: Tensor, gt_valid: Tensor) -> Tensor:
    """Return the largest value among the anchors of the same ground truth: [B, A] >= 0 -> [B, A]."""
    largest = value.new_zeros(gt_valid.shape).scatter_reduce(1, gt_index, value, 'amax')
    return largest.gather(1, gt_index)
