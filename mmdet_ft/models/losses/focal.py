from typing import Callable, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_ft.models.losses.entropy import entropy_of_probability
from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision,
                                              weight_reduce_loss)
from mmdet_ft.registry import MODELS


def sigmoid_focal_loss(pred: Tensor,
                       target: Tensor,
                       weight: Optional[Tensor] = None,
                       gamma: float = 2.0,
                       alpha: float = 0.25,
                       reduction: str = 'mean',
                       avg_factor: AvgFactor = None,
                       activated: bool = False) -> Tensor:
    """Compute sigmoid focal loss, which down-weights well-classified examples (Focal Loss, eq. 5).

    pred [N, K] logits, or probabilities if `activated`; target int64 [N] in 0..K, K the background, or 0..1 for
    each class [N, K]; weight [N], [N, K] or [N * K], without
    gradient. Returns a scalar, or [N, K] for reduction 'none'.

    With labels [N] only the logits are kept for the backward pass, in their own precision.
    """
    if weight is not None and weight.dim() == 1:
        weight = weight.unsqueeze(1) if len(weight) == len(pred) else weight.reshape(pred.shape)
    if target.dim() < pred.dim() and not activated:
        loss = _FocalOfLabels.apply(pred, target, weight, gamma, alpha)
        return weight_reduce_loss(loss, None, reduction, avg_factor)
    return plain_focal_loss(pred, target, weight, gamma, alpha, reduction, avg_factor, activated)


def plain_focal_loss(pred: Tensor, target: Tensor, weight: Optional[Tensor], gamma: float,
                     alpha: float, reduction: str, avg_factor: AvgFactor,
                     activated: bool) -> Tensor:
    """Compute `sigmoid_focal_loss` by autograd, which keeps some nine tensors of pred's size.

    It takes any target and probabilities. weight is broadcastable to pred.
    """
    pred = full_precision(pred)
    positive = target
    if target.dim() < pred.dim():
        positive = target.unsqueeze(-1) == torch.arange(
            pred.size(-1), device=target.device)  # [N, K]
    if weight is not None:
        pred = pred.masked_fill(weight == 0, 0.5 if activated else 0)
    positive = positive.to(pred.dtype)
    probability = pred if activated else pred.sigmoid()
    miss = (1 - probability) * positive + probability * (1 - positive)
    modulation = (alpha * positive + (1 - alpha) * (1 - positive)) * miss.pow(gamma)
    if activated:
        entropy = entropy_of_probability(pred, positive)
    else:
        entropy = F.binary_cross_entropy_with_logits(pred, positive, reduction='none')
    return weight_reduce_loss(entropy * modulation, weight, reduction, avg_factor)


class _FocalOfLabels(torch.autograd.Function):
    """Weighted focal loss [N, K] of logits [N, K], labels [N] and a weight [N, 1], [N, K] or None.

    All entries are computed as negatives; then the one positive entry of a row replaces its own. With
    z = x for a negative and -x for a positive, m = sigmoid(z) and c = log(1 + e^z):

        loss = a m^gamma c        dloss/dz = a m^gamma (gamma (1 - m) c + m)
    """

    @staticmethod
    def forward(ctx, pred: Tensor, label: Tensor, weight: Optional[Tensor], gamma: float,
                alpha: float) -> Tensor:
        ctx.save_for_backward(pred, label, weight)
        ctx.gamma, ctx.alpha = gamma, alpha
        return _by_row(negative_loss, 1, pred, label, weight, gamma, alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        pred, label, weight = ctx.saved_tensors
        slope = _by_row(negative_slope, -1, pred, label, weight, ctx.gamma, ctx.alpha)
        return slope.mul_(grad).to(pred.dtype), None, None, None, None


# Of z, gamma and the factor a: see _FocalOfLabels.
Part = Callable[[Tensor, float, float], Tensor]


def negative_loss(z: Tensor, gamma: float, factor: float) -> Tensor:
    """Return the focal loss of negatives with logits z."""
    return z.sigmoid().pow_(gamma).mul_(F.logsigmoid(-z)).mul_(-factor)


def negative_slope(z: Tensor, gamma: float, factor: float) -> Tensor:
    """Return the derivative of `negative_loss` by z."""
    miss = z.sigmoid()
    slope = F.logsigmoid(-z).mul_(1 - miss).mul_(-gamma).add_(miss)
    return slope.mul_(miss.pow_(gamma)).mul_(factor)


def _by_row(part: Part, sign: int, pred: Tensor, label: Tensor, weight: Optional[Tensor],
            gamma: float, alpha: float) -> Tensor:
    """Return a part of all entries [N, K], weighted; that of positive entries times `sign`."""
    pred = full_precision(pred)
    if weight is not None:
        pred = pred.masked_fill(weight == 0, 0)
    out = part(pred, gamma, 1 - alpha)
    if pred.size(1):
        column = label.clamp(0, pred.size(1) - 1).unsqueeze(1)  # [N, 1]
        positive = sign * part(-pred.gather(1, column), gamma, alpha)
        is_positive = label.unsqueeze(1) == column
        out.scatter_(1, column, torch.where(is_positive, positive, out.gather(1, column)))
    return out if weight is None else out.mul_(weight)


@MODELS.register_module()
class FocalLoss(nn.Module):
    """Sigmoid focal loss with V2's arguments.

    Args:
        use_sigmoid: True; there is no softmax form.
        gamma: focusing exponent: larger values down-weight easy examples more.
        alpha: weight of positives, 1 - alpha of negatives.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        activated: predictions are probabilities already.
    """
    needs_every_anchor = True

    def __init__(self,
                 use_sigmoid: bool = True,
                 gamma: float = 2.0,
                 alpha: float = 0.25,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 activated: bool = False):
        super().__init__()
        if not use_sigmoid:
            raise ValueError('FocalLoss: there is no softmax form; write use_sigmoid=True')
        self.use_sigmoid = use_sigmoid
        self.gamma = gamma
        self.alpha = alpha
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight
        self.activated = activated

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss; shapes as in `sigmoid_focal_loss`."""
        return self.loss_weight * sigmoid_focal_loss(pred, target, weight, self.gamma, self.alpha,
                                                     reduction_override or self.reduction,
                                                     avg_factor, self.activated)
