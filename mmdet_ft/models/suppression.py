"""Suppression by the `nms` of a config, for the first stage and the second."""
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
    """Scores and order after suppression among the boxes of a group (a class, a level): -1 for what
    is removed.

    boxes [B, G, N, 4], scores [B, G, N], order [B, G, N] as ops.ranking.precedence numbers an
    image's boxes, valid [B, G, N]; returns two of [B, G, N]. The groups are one where
    `class_agnostic` is set. With `max_num` above 0 only so many of an image are asked for: soft_nms
    may remove what comes after them.
    """
    shape = scores.shape
    if settings.type == 'soft_nms':
        # What is too low from the start is no candidate, but for an image's best.
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
