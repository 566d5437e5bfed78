"""Varifocal loss (VarifocalNet: An IoU-aware Dense Object Detector)."""
import functools
from typing import Optional, Tuple, Union

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.losses.gfocal import Rule, loss_of_qualities
from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, expand_right,
                                              full_precision, masked, weight_reduce_loss)
from mmdet_ft.registry import MODELS


def _own_entry(iou_weighted: bool, logit: Tensor, quality: Tensor) -> Tuple[Tensor, Tensor]:
    """Return loss and slope of positives (eq. 2), for logits and qualities above 0 [N, 1]."""
    entropy = F.binary_cross_entropy_with_logits(logit, quality, reduction='none')
    slope = logit.sigmoid() - quality
    return (quality * entropy, quality * slope) if iou_weighted else (entropy, slope)


def plain_varifocal_loss(pred: Tensor, target: Tensor, weight: Optional[Tensor], alpha: float,
                         gamma: float, iou_weighted: bool) -> Tensor:
    """Compute the loss of logits against qualities 0..1 of each class, by autograd.

    pred, target [N, K]; weight [N] or [N, K]. Returns [N, K].
    """
    pred, target = full_precision(pred), full_precision(target)
    if weight is not None:
        pred, target = masked(pred, weight != 0), masked(target, weight != 0)
    negative = alpha * (pred.sigmoid() - target).abs().pow(gamma)
    factor = negative.where(target <= 0, target if iou_weighted else target.sign())
    loss = F.binary_cross_entropy_with_logits(pred, target, reduction='none') * factor
    return loss if weight is None else loss * expand_right(weight, loss.dim())


@MODELS.register_module()
class VarifocalLoss(nn.Module):
    """Cross entropy against qualities, which weigh the positives; negatives as in focal loss (eq. 2).

    Args:
        use_sigmoid: True; there is no softmax form.
        alpha: weight of negatives.
        gamma: exponent of the probabilities of negatives.
        iou_weighted: positives are weighted by their quality.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
    """
    needs_every_anchor = True

    def __init__(self,
                 use_sigmoid: bool = True,
                 alpha: float = 0.75,
                 gamma: float = 2.0,
                 iou_weighted: bool = True,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0):
        super().__init__()
        if not use_sigmoid:
            raise ValueError('VarifocalLoss: there is no softmax form; write use_sigmoid=True')
        self.use_sigmoid = use_sigmoid
        self.alpha, self.gamma, self.iou_weighted = alpha, gamma, iou_weighted
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def forward(self,
                pred: Tensor,
                target: Union[Tensor, Tuple[Tensor, Tensor]],
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss.

        pred [N, K] logits; target: qualities [N, K], or labels int64 [N] in 0..K, K the background,
        and the quality of that class [N], which needs less memory; weight [N], or [N, K] with the former.
        """
        if isinstance(target, Tensor):
            loss = plain_varifocal_loss(pred, target, weight, self.alpha, self.gamma,
                                        self.iou_weighted)
        else:
            rule = Rule(self.gamma, self.alpha, functools.partial(_own_entry, self.iou_weighted))
            loss = loss_of_qualities(pred, *target, weight, rule)
        return self.loss_weight * weight_reduce_loss(
            loss, None, check_reduction(reduction_override or self.reduction), avg_factor)
