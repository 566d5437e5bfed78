import math
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, expand_right,
                                              full_precision, weight_reduce_loss)
from mmdet_ft.registry import MODELS


def elementwise_loss(function: Callable[[Tensor], Tensor],
                     pred: Tensor,
                     target: Tensor,
                     weight: Optional[Tensor] = None,
                     reduction: str = 'mean',
                     avg_factor: AvgFactor = None) -> Tensor:
    """Return `function` of pred - target, weighted and reduced; entries of weight 0 are skipped.

    pred and target of one shape; weight of it, or of its first dimensions.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f'pred is {tuple(pred.shape)}, target {tuple(target.shape)}; they must be alike')
    difference = full_precision(pred) - full_precision(target)
    if weight is not None:
        weight = expand_right(weight, pred.dim())
        # The gradient of a difference is that of its result, so masking here masks both inputs.
        difference = difference.masked_fill(weight == 0, 0)
    return weight_reduce_loss(function(difference), weight, reduction, avg_factor)


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Return a loss that is quadratic within `beta` and linear beyond (Fast R-CNN, eq. 3)."""
    size = difference.abs()
    return torch.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def balanced_l1(difference: Tensor, beta: float, alpha: float, gamma: float) -> Tensor:
    """Return a loss whose gradient is alpha * log(b d / beta + 1) within `beta`, and gamma beyond
    (Libra R-CNN, eq. 10), where b = e^(gamma / alpha) - 1 joins the two.
    """
    size, b = difference.abs(), math.expm1(gamma / alpha)
    near = alpha / b * (b * size + 1) * torch.log(b * size / beta + 1) - alpha * size
    return torch.where(size < beta, near, gamma * size + gamma / b - alpha * beta)


@MODELS.register_module()
class L1Loss(nn.Module):
    """Absolute difference; `reduction` 'none', 'mean' or 'sum', `loss_weight` a factor."""

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
        """Compute the loss of pred and target of one shape.

        weight has that shape or its first dimensions; `avg_factor` divides the sum.
        """
        return self.loss_weight * elementwise_loss(torch.abs, pred, target, weight,
                                                   reduction_override or self.reduction, avg_factor)


@MODELS.register_module()
class SmoothL1Loss(nn.Module):
    """Squared difference within `beta`, linear beyond; arguments otherwise as `L1Loss`."""

    def __init__(self, beta: float = 1.0, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__()
        if beta <= 0:
            raise ValueError(
                f'SmoothL1Loss: beta is {beta}; it must be above 0 (L1Loss is the limit at 0)')
        self.beta = beta
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss as `L1Loss.forward`."""
        return self.loss_weight * elementwise_loss(
            lambda difference: smooth_l1(difference, self.beta), pred, target, weight,
            reduction_override or self.reduction, avg_factor)


@MODELS.register_module()
class BalancedL1Loss(nn.Module):
    """Smooth L1 loss with larger gradients for small differences; arguments otherwise as `L1Loss`.

    Args:
        alpha: lower means more gradient for small differences.
        gamma: largest gradient.
        beta: difference from which the loss is linear.
    """

    def __init__(self,
                 alpha: float = 0.5,
                 gamma: float = 1.5,
                 beta: float = 1.0,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0):
        super().__init__()
        if min(alpha, beta) <= 0:
            raise ValueError(
                f'BalancedL1Loss: alpha is {alpha}, beta is {beta}; both must be above 0')
        self.alpha, self.gamma, self.beta = alpha, gamma, beta
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss as `L1Loss.forward`."""
        return self.loss_weight * elementwise_loss(
            lambda difference: balanced_l1(difference, self.beta, self.alpha, self.gamma), pred,
            target, weight, reduction_override or self.reduction, avg_factor)


@MODELS.register_module()
class MSELoss(nn.Module):
    """Squared difference; arguments as `L1Loss`."""

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
        """Compute the loss as `L1Loss.forward`."""
        return self.loss_weight * elementwise_loss(torch.square, pred, target, weight,
                                                   reduction_override or self.reduction, avg_factor)
