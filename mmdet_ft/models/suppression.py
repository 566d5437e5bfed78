"""Suppression by the `nms` of a config, for both stages."""
from typing import Tuple

import torch.nn.functional as F
from torch import Tensor

from mmdet_ft.models.settings import NMSSettings
from mmdet_ft.ops.nms import nms_keep
from mmdet_ft.ops.soft_nms import soft_nms


def suppress(boxes: Tensor,
             scores: Tensor,
             order: Tensor,
             valid: Tensor,
             settings: NMSSettings,
             max_num: int = -1) -> Tuple[Tensor, Tensor]:
    """Return scores and order after suppression among the boxes of a group (a class, a level).

    Removed boxes get -1. boxes [B, G, N, 4], scores [B, G, N], order [B, G, N] as returned by
    ops.topk.precedence for an image's boxes, valid [B, G, N]; returns two of [B, G, N]. With
    `class_agnostic` all groups are one. With `max_num` > 0 only that many per image are needed:
    soft_nms may remove boxes after them.
    """
    shape = scores.shape
    if settings.type == 'soft_nms':
        # Scores too low from the start are not candidates, except for an image's best.
        best = scores.masked_fill(~valid, -1.).amax((1, 2), keepdim=True)
        valid = valid & ((scores >= settings.min_score) | (scores == best))
    elif settings.score_threshold > 0:
        valid = valid & (scores > settings.score_threshold)
    start, end = (1, 2) if settings.class_agnostic else (0, 1)
    boxes, scores, order, valid = (x.flatten(start, end) for x in (boxes, scores, order, valid))
    if settings.offset:
        boxes = boxes + F.pad(boxes.new_zeros(2), [0, 2], value=settings.offset)
    if settings.type == 'soft_nms':
        scores = soft_nms(boxes, scores, valid, settings.iou_threshold, settings.sigma,
                          settings.min_score, settings.method, max_num)
        return scores.view(shape), scores.view(shape)
    removed = ~nms_keep(boxes, order, valid, settings.iou_threshold)
    return scores.masked_fill(removed, -1.).view(shape), order.masked_fill(removed, -1.).view(shape)
