"""Matching of boxes to ground truths."""
from typing import NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.ops.boxes import area, pairwise_overlap, unit_box

# Elements of one overlap matrix held at a time; more ground truths are processed in chunks
# (same result, bounded memory).
MAX_OVERLAPS = 1 << 28


class Match(NamedTuple):
    gt_index: Tensor  # int64 [B, N], which ground truth; meaningful where label is 1
    label: Tensor  # int64 [B, N]: 1 positive, 0 background, -1 neither
    overlap: Optional[
        Tensor] = None  # float32 [B, N] in 0..1, the largest of a box with any ground truth


def match(boxes: Tensor,
          gt_boxes: Tensor,
          gt_valid: Tensor,
          pos_iou: float,
          neg_iou: Union[float, Tuple[float, float]],
          min_pos_iou: float,
          low_quality: bool = True,
          all_best: bool = True,
          box_valid: Optional[Tensor] = None,
          ignore: Optional[Tensor] = None) -> Match:
    """Match each box to a ground truth, to the background, or to neither.

    A box is positive from `pos_iou` up, background below `neg_iou` (or inside that range), and
    neither in between. With `low_quality` each ground truth also claims its best boxes from
    `min_pos_iou` up (Faster R-CNN, sec. 3.1.2 case i), ties included under `all_best`. If two
    ground truths claim a box, the later one wins, as in V2. Without any ground truth every box is
    background, ignored regions or not, as in V2.

    Args:
        boxes [B, N, 4] or [N, 4]; box_valid [B, N]: an invalid box is neither.
        gt_boxes [B, G, 4]; gt_valid [B, G]; padding may hold any values.
        ignore [B, N]: boxes in ignored regions, which overlap nothing.
    """
    num_boxes, (num_images, num_gts) = boxes.shape[-2], gt_valid.shape
    low, high = neg_iou if isinstance(neg_iou, (tuple, list)) else (0., neg_iou)
    blocked = None if box_valid is None else ~box_valid
    if ignore is not None:
        blocked = ignore if blocked is None else blocked | ignore
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(boxes))

    best = boxes.new_full((num_images, num_boxes), -1.)
    best_index = gt_valid.new_zeros((num_images, num_boxes), dtype=torch.long)
    claimed = torch.full_like(best_index, -1)
    step = max(1, MAX_OVERLAPS // max(1, num_images * num_boxes))
    for start in range(0, num_gts, step):
        part = slice(start, start + step)
        overlap = pairwise_overlap(gt_boxes[:, part], boxes)  # [B, g, N]
        refused = ~gt_valid[:, part, None]
        if blocked is not None:
            refused = refused | blocked[:, None]
        overlap = overlap.masked_fill(refused, -1.)
        part_best, part_index = overlap.max(1)  # [B, N]
        better = part_best > best
        best = torch.where(better, part_best, best)
        best_index = torch.where(better, part_index + start, best_index)
        if low_quality:
            claimed = torch.maximum(claimed, _claims(overlap, min_pos_iou, all_best, start))

    label = torch.full_like(best_index, -1)
    label = label.masked_fill((best >= low) & (best < high), 0)
    label = label.masked_fill((best >= pos_iou) | (claimed >= 0), 1)
    gt_index = torch.where(claimed >= 0, claimed, best_index)
    label = label.masked_fill(~gt_valid.any(1, keepdim=True), 0)
    if box_valid is not None:
        label = label.masked_fill(~box_valid, -1)
    return Match(gt_index, label, best.clamp(min=0))


def _claims(overlap: Tensor, min_pos_iou: float, all_best: bool, start: int) -> Tensor:
    """Return the last ground truth whose best box this is, or -1: overlap [B, g, N] -> [B, N]."""
    num_boxes = overlap.shape[-1]
    if num_boxes == 0:
        return overlap.new_full((overlap.shape[0], 0), -1, dtype=torch.long)
    gt_best, gt_best_index = overlap.max(2, keepdim=True)  # [B, g, 1]
    if all_best:
        claim = overlap == gt_best
    else:
        claim = torch.arange(num_boxes, device=overlap.device) == gt_best_index
    claim = claim & (gt_best >= max(min_pos_iou, 0)
                     )  # below 0: boxes that may not be claimed at all
    number = torch.arange(start, start + overlap.shape[1], device=overlap.device)[:, None]
    return number.masked_fill(~claim, -1).amax(1)


def in_ignored_region(boxes: Tensor, ignore: Tensor, ignore_valid: Tensor, iof_thr: float,
                      wrt_boxes: bool) -> Tensor:
    """Check which boxes overlap an ignored region by more than `iof_thr`: bool [B, N].

    The intersection is divided by the box's area, or by the region's if `wrt_boxes` is False (V2's
    `ignore_wrt_candidates`). boxes [B, N, 4] or [N, 4], ignore [B, I, 4], ignore_valid [B, I].
    """
    ignore = torch.where(ignore_valid[..., None], ignore, unit_box(boxes))
    if wrt_boxes:
        overlap = pairwise_overlap(boxes, ignore, 'iof')  # [B, N, I]
    else:
        overlap = pairwise_overlap(ignore, boxes, 'iof').transpose(1, 2)
    return (overlap.masked_fill(~ignore_valid[:, None], -1.) > iof_thr).any(-1)


def match_points(points: Tensor,
                 ranges: Tensor,
                 gt_boxes: Tensor,
                 gt_valid: Tensor,
                 radius: Optional[Tensor] = None) -> Match:
    """Match each point to the smallest ground truth around it, or to the background (FCOS, sec. 3.2).

    The largest of a point's distances to the sides of the box must be in the point's range. With
    `radius` the point must also be that near to the box's center, in x and in y.

    Args:
        points [A, 2]; ranges [A, 2], smallest and largest distance; radius [A], in pixels.
        gt_boxes [B, G, 4]; gt_valid [B, G]; padding may hold any values.
    """
    gt_boxes = torch.where(gt_valid[..., None], gt_boxes, unit_box(points))[:, :,
                                                                            None]  # [B, G, 1, 4]
    low, high = gt_boxes[..., :2], gt_boxes[..., 2:]
    largest = torch.maximum(points - low, high - points).amax(-1)  # [B, G, A]
    if radius is not None:
        center = (low + high) / 2
        low = torch.maximum(low, center - radius[:, None])
        high = torch.minimum(high, center + radius[:, None])
    inside = torch.minimum(points - low, high - points).amin(-1) > 0
    fits = inside & (largest >= ranges[:, 0]) & (largest <= ranges[:, 1]) & gt_valid[..., None]
    size = area(gt_boxes).expand_as(largest).masked_fill(~fits, float('inf'))
    smallest, gt_index = size.min(1)  # [B, A]
    return Match(gt_index, smallest.isfinite().long())
