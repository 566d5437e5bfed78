"""Matching by statistics of each object (Adaptive Training Sample Selection)."""
from typing import List, Optional, Sequence

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import pairwise_overlap, take, unit_box
from mmdet_ft.ops.matching import Match


def match_adaptively(boxes: Tensor,
                     counts: Sequence[int],
                     gt_boxes: Tensor,
                     gt_valid: Tensor,
                     topk: int,
                     box_valid: Tensor,
                     ignore: Optional[Tensor] = None) -> Match:
    """Match each anchor to a ground truth or to the background (ATSS, alg. 1).

    Candidates of a ground truth are the `topk` anchors of each level nearest to its center. Those are
    positive whose overlap is at least mean + standard deviation of all its candidates, and whose
    center is inside it. Of several ground truths the one with the highest overlap wins.

    Args:
        boxes [A, 4], by level; counts: anchors of each level.
        gt_boxes [B, G, 4]; gt_valid [B, G]; padding may hold any values.
        box_valid [B, A]: an invalid box is neither positive nor background.
        ignore [B, A]: boxes in ignored regions, which are neither.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(boxes))
    usable = box_valid if ignore is None else box_valid & ~ignore
    overlap = pairwise_overlap(gt_boxes, boxes)  # [B, G, A]
    index = _nearest(boxes, counts, gt_boxes, topk, usable)  # [B, G, C]
    is_candidate = usable[:, None].expand_as(overlap).gather(2, index)
    near = overlap.gather(2, index)  # [B, G, C]
    is_positive = (near >= _threshold(near, is_candidate)) & is_candidate & gt_valid[..., None]
    is_positive &= _inside(boxes, index, gt_boxes)

    chosen = torch.full_like(overlap, -1.)
    chosen = chosen.scatter(2, index, near.masked_fill(~is_positive, -1.))
    best, gt_index = chosen.max(1)  # [B, A]
    label = (best >= 0).long()
    if ignore is not None:  # as in V2, only where there is an object
        label = label.masked_fill(ignore & gt_valid.any(1, keepdim=True), -1)
    return Match(gt_index, label.masked_fill(~box_valid, -1))


def _nearest(boxes: Tensor, counts: Sequence[int], gt_boxes: Tensor, topk: int,
             usable: Tensor) -> Tensor:
    """Return the index of each level's `topk` boxes nearest to each center: [B, G, C]."""
    center, gt_center = (part[..., :2] + part[..., 2:] for part in (boxes, gt_boxes))
    offset = (center / 2)[None, None] - (gt_center / 2)[:, :, None]  # [B, G, A, 2]
    distance = offset.square().sum(-1).sqrt().masked_fill(~usable[:, None], float('inf'))
    found: List[Tensor] = []
    start = 0
    for part in distance.split(list(counts), 2):
        found.append(part.topk(min(topk, part.shape[2]), 2, largest=False).indices + start)
        start += part.shape[2]
    return torch.cat(found, 2)


def _threshold(near: Tensor, valid: Tensor) -> Tensor:
    """Return mean + standard deviation of the valid overlaps of each ground truth: [B, G, 1].

    A single candidate has no deviation: NaN, which nothing reaches, as in V2.
    """
    count = valid.sum(2, keepdim=True)
    mean = (near * valid).sum(2, keepdim=True) / count
    square = ((near - mean).square() * valid).sum(2, keepdim=True)
    return mean + (square / (count - 1)).sqrt()


def _inside(boxes: Tensor, index: Tensor, gt_boxes: Tensor) -> Tensor:
    """Check which candidates, index [B, G, C], have their center inside their ground truth."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    point = take(center.expand(len(index), -1, -1), index.flatten(1)).unflatten(1, index.shape[1:])
    gt_boxes = gt_boxes[:, :, None]  # [B, G, 1, 4]
    return torch.minimum(point - gt_boxes[..., :2], gt_boxes[..., 2:] - point).amin(-1) > 0.01
