"""Test-time augmentation: one detection from scales and flips of an image (V2's aug_test)."""
from typing import Any, List, Protocol, Sequence, Tuple

import torch
from torch import Tensor

from mmdet_ft.models.dense_heads.dense_head import Candidates
from mmdet_ft.models.dense_heads.rpn_head import Proposals, RPNHead
from mmdet_ft.models.roi_heads.base import RoIHead
from mmdet_ft.ops import boxes as box_ops
from mmdet_ft.ops.nms import nms_keep
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.structures import Batch, Detections


class TwoStages(Protocol):
    """A detector of proposals and regions."""
    rpn_head: RPNHead
    roi_head: RoIHead

    def features_of(self, batch: Batch) -> Tuple[Tensor, ...]:
        ...


def merge_views(model: TwoStages, views: Sequence[Batch]) -> Detections:
    """Return detections of a TwoStageDetector on several views of the same images.

    Proposals of all views are suppressed together. Each proposal gets the mean over the views of
    its scores and regressed boxes, each detection the mean of its masks.
    """
    rpn_head, roi_head = model.rpn_head, model.roi_head
    features = [model.features_of(view) for view in views]
    found = [rpn_head.proposals(rpn_head(x), view) for x, view in zip(features, views)]
    return merge_regions(roi_head, features, join_proposals(rpn_head, found, views), views)


def merge_regions(roi_head: RoIHead, features: Sequence[Sequence[Tensor]], proposals: Proposals,
                  views: Sequence[Batch]) -> Detections:
    """Return detections of proposals, in original pixels, on several views of the same images.

    features: the maps of each view.
    """
    features = [roi_head.prepare(x) for x in features]
    boxes, scores = [], []
    for x, view in zip(features, views):
        moved, score = roi_head.box_predictions(x, _to_view(proposals.boxes, view), view.sizes)
        boxes.append(to_original(moved.flatten(1, 2), view).view_as(moved))
        scores.append(score)
    detections = roi_head.select(
        torch.stack(boxes).mean(0),
        torch.stack(scores).mean(0), proposals.valid)
    if roi_head.mask_head is None:
        return detections

    masks = []
    for x, view in zip(features, views):
        there = _to_view(detections.boxes,
                         view) / view.scale_factors[:, None]  # flipped, still in original pixels
        mask = roi_head.mask_predictions(x, detections._replace(boxes=there), view)
        axes = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-2, -1]}.get(_flip(view))
        masks.append(mask.flip(axes) if axes else mask)
    return detections._replace(masks=torch.stack(masks).mean(0))


def merge_candidates(parts: Sequence[Candidates], views: Sequence[Batch]) -> Candidates:
    """Return the candidates of all views of the same images, in original pixels."""
    moved = [part._replace(boxes=to_original(part.boxes, view)) for part, view in zip(parts, views)]
    return Candidates(*(torch.cat(field, 1) for field in zip(*moved)))


def _flip(view: Batch) -> Any:
    """Return the flip direction of a view, or None; the same for all its images."""
    return view.metas[0].get('flip_direction') if view.metas[0].get('flip') else None


def _to_view(boxes: Tensor, view: Batch) -> Tensor:
    """Convert boxes [B, N, 4] from original pixels to a view's."""
    boxes = boxes * view.scale_factors[:, None]
    return box_ops.flip(boxes, view.sizes, _flip(view)) if _flip(view) else boxes


def to_original(boxes: Tensor, view: Batch) -> Tensor:
    """Convert boxes [B, N, 4] from a view's pixels to the original ones."""
    boxes = box_ops.flip(boxes, view.sizes, _flip(view)) if _flip(view) else boxes
    return boxes / view.scale_factors[:, None]


def join_proposals(rpn_head: RPNHead, proposals: List[Proposals],
                   views: Sequence[Batch]) -> Proposals:
    """Return one set of proposals in original pixels: suppression over all views, then the best."""
    settings = rpn_head.test_settings
    assert settings is not None, 'no test_cfg'
    boxes = torch.cat([to_original(part.boxes, view) for part, view in zip(proposals, views)], 1)
    scores, valid = (
        torch.cat([getattr(part, name) for part in proposals], 1) for name in ('scores', 'valid'))
    order = rank_boxes(scores, valid)
    keep = nms_keep(boxes, order, valid, settings.nms.iou_threshold)  # V2: plain nms for any type
    order, index = order.masked_fill(~keep, -1.).sort(1, descending=True)
    boxes, scores, kept = box_ops.take(boxes, index), box_ops.take(scores, index), order >= 0
    # V2 sorts the remaining boxes once more, which reorders equal scores.
    index = rank_boxes(scores, kept).topk(min(settings.max_per_img, scores.shape[1]), 1).indices
    scores = box_ops.take(scores.masked_fill(~kept, -1.), index)
    return Proposals(box_ops.take(boxes, index), scores, scores >= 0)
