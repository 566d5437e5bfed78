"""Generalized focal losses (Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes)."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision, masked,
                                              weight_reduce_loss)
from mmdet_ft.registry import MODELS


def quality_focal_loss(pred: Tensor,
                       target: Tuple[Tensor, Tensor],
                       beta: float = 2.0,
                       activated: bool = False) -> Tensor:
    """Compute sigmoid cross entropy against qualities 0..1, weighted by the distance to them (eq. 4).

    pred [N, K] logits, or probabilities if `activated`; target: labels int64 [N] in 0..K, K the
    background, and the quality of that class [N]. Returns [N].
    """
    label, score = target
    is_own = label.unsqueeze(1) == torch.arange(pred.size(1), device=label.device)
    quality = score.unsqueeze(1).masked_fill(~is_own, 0)  # [N, K]
    probability = pred if activated else pred.sigmoid()
    if activated:
        # V2's binary_cross_entropy, which autocast refuses: log is clamped at -100.
        entropy = -(
            quality * pred.log().clamp(min=-100) + (1 - quality) * (1 - pred).log().clamp(min=-100))
    else:
        entropy = F.binary_cross_entropy_with_logits(pred, quality, reduction='none')
    return (entropy * (quality - probability).abs().pow(beta)).sum(1)


def distribution_focal_loss(pred: Tensor, label: Tensor) -> Tensor:
    """Compute cross entropy against the two whole numbers around a distance (eq. 6).

    pred [N, n + 1] logits of the distances 0..n; label float [N] in 0..n, below n. Returns [N].
    """
    left = label.long()
    share = label - left
    return (F.cross_entropy(pred, left, reduction='none') * (1 - share) +
            F.cross_entropy(pred, left + 1, reduction='none') * share)


@MODELS.register_module()
class QualityFocalLoss(nn.Module):
    """See `quality_focal_loss`.

    Args:
        use_sigmoid: True; there is no softmax form.
        beta: exponent of the distance.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        activated: predictions are probabilities already.
    """
    needs_every_anchor = True

    def __init__(self,
                 use_sigmoid: bool = True,
                 beta: float = 2.0,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 activated: bool = False):
        super().__init__()
        if not use_sigmoid:
            raise ValueError('QualityFocalLoss: there is no softmax form; write use_sigmoid=True')
        self.use_sigmoid = use_sigmoid
        self.beta = beta
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight
        self.activated = activated

    def forward(self,
                pred: Tensor,
                target: Tuple[Tensor, Tensor],
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss; weight [N], other shapes as in `quality_focal_loss`."""
        pred, (label, score) = full_precision(pred), target
        if weight is not None:
            pred = masked(pred, weight != 0, .5 if self.activated else 0.)
            score = masked(score, weight != 0)
        loss = quality_focal_loss(pred, (label, score), self.beta, self.activated)
        return self.loss_weight * weight_reduce_loss(
            loss, weight, check_reduction(reduction_override or self.reduction), avg_factor)


@MODELS.register_module()
class DistributionFocalLoss(nn.Module):
    """See `distribution_focal_loss`; `reduction` 'none', 'mean' or 'sum', `loss_weight` a factor."""

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__()
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss; weight [N], other shapes as in `distribution_focal_loss`."""
        pred = full_precision(pred)
        if weight is not None:
            pred, target = masked(pred, weight != 0), masked(target, weight != 0)
        return self.loss_weight * weight_reduce_loss(
            distribution_focal_loss(pred, target), weight,
            check_reduction(reduction_override or self.reduction), avg_factor)
