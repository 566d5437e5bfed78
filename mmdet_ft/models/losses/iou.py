"""IoU losses of predicted boxes and their targets; boxes xyxy, any unit, pair by pair."""
import math
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision,
                                              weight_reduce_loss)
from mmdet_ft.registry import MODELS


class Pairs(NamedTuple):
    """Common quantities of pairs of boxes, each [...]."""
    overlap: Tensor  # area of the intersection
    union: Tensor
    hull: Tensor  # [..., 2], width and height of the smallest box around both


def pairs_of(pred: Tensor, target: Tensor) -> Pairs:
    """Return the quantities of pred and target, both [..., 4]."""
    pred_area = (pred[..., 2] - pred[..., 0]) * (pred[..., 3] - pred[..., 1])
    target_area = (target[..., 2] - target[..., 0]) * (target[..., 3] - target[..., 1])
    common = torch.minimum(pred[..., 2:], target[..., 2:]) - torch.maximum(
        pred[..., :2], target[..., :2])
    common = common.clamp(min=0)
    overlap = common[..., 0] * common[..., 1]
    hull = torch.maximum(pred[..., 2:], target[..., 2:]) - torch.minimum(
        pred[..., :2], target[..., :2])
    return Pairs(overlap, pred_area + target_area - overlap, hull.clamp(min=0))


def aligned_iou(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the IoU of boxes pair by pair: [..., 4] -> [...]; unions are at least `eps`."""
    pairs = pairs_of(a, b)
    return pairs.overlap / pairs.union.clamp(min=eps)


def iou_loss(pred: Tensor, target: Tensor, mode: str = 'log', eps: float = 1e-6) -> Tensor:
    """Return -log IoU (UnitBox), 1 - IoU ('linear') or 1 - IoU^2 ('square'); IoU at least `eps`.

    pred, target [..., 4] -> [...].
    """
    iou = aligned_iou(pred, target, eps).clamp(min=eps)
    if mode == 'log':
        return -iou.log()
    return 1 - iou if mode == 'linear' else 1 - iou**2


def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Return 1 - generalized IoU, which adds the hull's empty share. [..., 4] -> [...] in 0..2."""
    pairs = pairs_of(pred, target)
    union = pairs.union.clamp(min=eps)
    hull = (pairs.hull[..., 0] * pairs.hull[..., 1]).clamp(min=eps)
    return 1 - (pairs.overlap / union - (hull - union) / hull)


def _distance_iou(pred: Tensor, target: Tensor, eps: float):
    """Return IoU, and the squared center distance over the squared diagonal of the hull."""
    pairs = pairs_of(pred, target)
    diagonal = pairs.hull[..., 0]**2 + pairs.hull[..., 1]**2 + eps
    offset = (target[..., :2] + target[..., 2:]) - (pred[..., :2] + pred[..., 2:]
                                                    )  # twice the offset of the centers
    distance = offset[..., 0]**2 / 4 + offset[..., 1]**2 / 4
    return pairs.overlap / (pairs.union + eps), distance / diagonal


def diou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Return 1 - IoU plus the relative center distance (Distance-IoU loss). [..., 4] -> [...]."""
    iou, distance = _distance_iou(pred, target, eps)
    return 1 - (iou - distance)


def ciou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Return DIoU with a term for the aspect ratios (Complete-IoU loss). [..., 4] -> [...] in 0..2."""
    iou, distance = _distance_iou(pred, target, eps)
    pred_width, pred_height = pred[..., 2] - pred[..., 0], pred[..., 3] - pred[..., 1] + eps
    target_width, target_height = target[..., 2] - target[..., 0], target[..., 3] - target[...,
                                                                                           1] + eps
    angle = torch.atan(target_width / target_height) - torch.atan(pred_width / pred_height)
    shape = 4 / math.pi**2 * angle**2
    with torch.no_grad():
        # A perfect large box gives 0 / 0 here in float32: its aspect ratio is correct.
        trade_off = (iou > 0.5) * shape / (1 - iou + shape).clamp(min=torch.finfo(iou.dtype).tiny)
    return 1 - (iou - (distance + trade_off * shape)).clamp(min=-1, max=1)


def bounded_iou_loss(pred: Tensor, target: Tensor, beta: float = 0.2, eps: float = 1e-3) -> Tensor:
    """Return smooth L1 of an upper bound of the IoU for each of x, y, w, h (Fitness NMS and Bounded IoU loss).

    [..., 4] -> [..., 4].
    """
    pred_size, target_size = pred[..., 2:] - pred[..., :2], target[..., 2:] - target[..., :2]
    offset = ((target[..., :2] + target[..., 2:]) - (pred[..., :2] + pred[..., 2:])).abs() * 0.5
    by_offset = 1 - ((target_size - 2 * offset) / (target_size + 2 * offset + eps)).clamp(min=0)
    by_size = 1 - torch.minimum(target_size / (pred_size + eps), pred_size / (target_size + eps))
    loss = torch.cat([by_offset, by_size], -1)
    return torch.where(loss < beta, 0.5 * loss * loss / beta, loss - 0.5 * beta)


def weighted_box_loss(function: Callable[[Tensor, Tensor], Tensor],
                      pred: Tensor,
                      target: Tensor,
                      weight: Optional[Tensor] = None,
                      reduction: str = 'mean',
                      avg_factor: AvgFactor = None) -> Tensor:
    """Return `function` of pairs of boxes, weighted and reduced; pairs of weight 0 are not evaluated.

    pred, target [..., 4]; weight [...], or [..., 4], averaged if `function` returns one number per pair.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f'pred is {tuple(pred.shape)}, target {tuple(target.shape)}; they must be alike')
    pred, target = full_precision(pred), full_precision(target)
    if weight is not None:
        if weight.dim() == pred.dim():
            weight = weight.mean(-1)
        absent = (weight == 0).unsqueeze(-1)
        pred, target = pred.masked_fill(absent, 0), target.masked_fill(absent, 0)
    loss = function(pred, target)
    if weight is not None and loss.dim() > weight.dim():
        weight = weight.unsqueeze(-1)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


class _BoxLoss(nn.Module):
    """Base class of box losses."""
    compares_boxes = True  # not deltas

    def __init__(self, eps: float, reduction: str, loss_weight: float):
        super().__init__()
        self.eps = eps
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss of decoded boxes.

        pred, target [..., 4]; weight [...] or [..., 4]; `avg_factor` divides the sum.
        """
        return self.loss_weight * weighted_box_loss(self.elementwise, pred, target, weight,
                                                    reduction_override or self.reduction,
                                                    avg_factor)


def require_boxes(loss: nn.Module, are_decoded: bool, owner: str) -> None:
    """Raise ValueError for a loss of boxes in a head that gives it deltas."""
    if getattr(loss, 'compares_boxes', False) and not are_decoded:
        raise ValueError(f'{owner}: loss_bbox is {type(loss).__name__}, which compares boxes, and '
                         'reg_decoded_bbox=False gives it deltas; write reg_decoded_bbox=True')


@MODELS.register_module()
class IoULoss(_BoxLoss):
    """See `iou_loss`; `mode` is 'log', 'linear' or 'square', and `linear=True` is the older form of 'linear'."""

    def __init__(self,
                 linear: bool = False,
                 eps: float = 1e-6,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 mode: str = 'log'):
        super().__init__(eps, reduction, loss_weight)
        if mode not in ('linear', 'square', 'log'):
            raise ValueError(f"IoULoss: mode is {mode!r}; write 'log', 'linear' or 'square'")
        self.linear = linear
        self.mode = 'linear' if linear else mode

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return iou_loss(pred, target, self.mode, self.eps)


@MODELS.register_module()
class GIoULoss(_BoxLoss):
    """See `giou_loss`."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__(eps, reduction, loss_weight)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return giou_loss(pred, target, self.eps)


@MODELS.register_module()
class DIoULoss(_BoxLoss):
    """See `diou_loss`."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__(eps, reduction, loss_weight)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return diou_loss(pred, target, self.eps)


@MODELS.register_module()
class CIoULoss(_BoxLoss):
    """See `ciou_loss`."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__(eps, reduction, loss_weight)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return ciou_loss(pred, target, self.eps)


@MODELS.register_module()
class BoundedIoULoss(_BoxLoss):
    """See `bounded_iou_loss`."""

    def __init__(self,
                 beta: float = 0.2,
                 eps: float = 1e-3,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0):
        super().__init__(eps, reduction, loss_weight)
        self.beta = beta

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return bounded_iou_loss(pred, target, self.beta, self.eps)
