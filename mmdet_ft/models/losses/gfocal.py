"""Generalized focal losses (Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes)."""
import functools
from typing import Callable, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_ft.models.losses.entropy import entropy_of_probability
from mmdet_ft.models.losses.focal import negative_loss, negative_slope
from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision, masked,
                                              weight_reduce_loss)
from mmdet_ft.registry import MODELS


class Rule(NamedTuple):
    """A loss of logits against the quality of one class, its own; all others are negatives."""
    gamma: float  # exponent of the probabilities of negatives
    alpha: float  # factor of negatives
    own: Callable[[Tensor, Tensor], Tuple[Tensor, Tensor]]  # loss and slope of logits and qualities


def loss_of_qualities(pred: Tensor, label: Tensor, quality: Tensor, weight: Optional[Tensor],
                      rule: Rule) -> Tensor:
    """Compute a rule's weighted loss; only the logits are kept for the backward pass, in their own precision.

    pred [N, K]; label int64 [N] in 0..K, K the background; quality [N], 0 counts as a negative; weight [N].
    Returns float32 [N, K].
    """
    if weight is not None:
        quality = masked(quality, weight != 0)
    return _LossOfQualities.apply(pred, label, quality, weight, rule)


class _LossOfQualities(torch.autograd.Function):
    """All entries are computed as negatives; then the own entry of a row replaces its own."""

    @staticmethod
    def forward(ctx, pred: Tensor, label: Tensor, quality: Tensor, weight: Optional[Tensor],
                rule: Rule) -> Tensor:
        ctx.save_for_backward(pred, label, quality, weight)
        ctx.rule = rule
        return _entries(0, pred, label, quality, weight, rule)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        pred, label, quality, weight = ctx.saved_tensors
        slope = _entries(1, pred, label, quality, weight, ctx.rule)
        return slope.mul_(grad).to(pred.dtype), None, None, None, None


def _entries(which: int, pred: Tensor, label: Tensor, quality: Tensor, weight: Optional[Tensor],
             rule: Rule) -> Tensor:
    """Return losses (which = 0) or slopes (1) of all entries [N, K], weighted."""
    pred = full_precision(pred)
    if weight is not None:
        pred = masked(pred, weight != 0)
    out = (negative_loss, negative_slope)[which](pred, rule.gamma, rule.alpha)
    if pred.size(1):
        quality = quality.to(pred.dtype).unsqueeze(1)
        column = label.clamp(0, pred.size(1) - 1).unsqueeze(1)  # [N, 1]
        own = rule.own(pred.gather(1, column), quality)[which]
        is_own = (label.unsqueeze(1) == column) & (quality > 0)
        out.scatter_(1, column, torch.where(is_own, own, out.gather(1, column)))
    return out if weight is None else out.mul_(weight.unsqueeze(1))


def _own_entry(beta: float, logit: Tensor, quality: Tensor) -> Tuple[Tensor, Tensor]:
    """Return loss and slope of eq. 4, for logits and qualities [N, 1]."""
    probability = logit.sigmoid()
    distance = probability - quality
    entropy = F.binary_cross_entropy_with_logits(logit, quality, reduction='none')
    size = distance.abs()
    growth = beta * size.pow(beta - 1) * distance.sign() * probability * (1 - probability)
    return size.pow(beta) * entropy, size.pow(beta) * distance + growth * entropy


def quality_focal_loss(pred: Tensor,
                       target: Tuple[Tensor, Tensor],
                       weight: Optional[Tensor] = None,
                       beta: float = 2.0,
                       activated: bool = False) -> Tensor:
    """Compute sigmoid cross entropy against qualities 0..1, weighted by the distance to them (eq. 4).

    pred [N, K] logits, or probabilities if `activated`; target: labels int64 [N] in 0..K, K the
    background, and the quality of that class [N]; weight [N]. Returns [N].
    """
    label, score = target
    if not activated:
        rule = Rule(beta, 1., functools.partial(_own_entry, beta))
        return loss_of_qualities(pred, label, score, weight, rule).sum(1)
    pred = full_precision(pred)
    if weight is not None:
        pred, score = masked(pred, weight != 0, .5), masked(score, weight != 0)
    is_own = label.unsqueeze(1) == torch.arange(pred.size(1), device=label.device)
    quality = score.unsqueeze(1).masked_fill(~is_own, 0)  # [N, K]
    loss = entropy_of_probability(pred, quality) * (quality - pred).abs().pow(beta)
    loss = loss.sum(1)
    return loss if weight is None else loss * weight


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
        """Compute the loss; shapes as in `quality_focal_loss`."""
        loss = quality_focal_loss(pred, target, weight, self.beta, self.activated)
        return self.loss_weight * weight_reduce_loss(
            loss, None, check_reduction(reduction_override or self.reduction), avg_factor)


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
