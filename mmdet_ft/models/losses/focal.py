from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    each class [N, K]; weight [N], [N, K] or [N * K]. Returns a scalar, or [N, K] for reduction 'none'.
    """
    pred = full_precision(pred)
    positive = target
    if target.dim() < pred.dim():
        positive = target.unsqueeze(-1) == torch.arange(
            pred.size(-1), device=target.device)  # [N, K]
    if weight is not None:
        if weight.dim() == 1:
            weight = weight.unsqueeze(1) if len(weight) == len(pred) else weight.reshape(pred.shape)
        pred = pred.masked_fill(weight == 0, 0.5 if activated else 0)
    positive = positive.to(pred.dtype)
    probability = pred if activated else pred.sigmoid()
    miss = (1 - probability) * positive + probability * (1 - positive)
    modulation = (alpha * positive + (1 - alpha) * (1 - positive)) * miss.pow(gamma)
    if activated:
        # V2's binary_cross_entropy, which autocast refuses: log is clamped at -100.
        entropy = -(
            positive * pred.log().clamp(min=-100) + (1 - positive) *
            (1 - pred).log().clamp(min=-100))
    else:
        entropy = F.binary_cross_entropy_with_logits(pred, positive, reduction='none')
    return weight_reduce_loss(entropy * modulation, weight, reduction, avg_factor)


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
