"""Gradient harmonizing (Gradient Harmonized Single-stage Detector): rare gradient sizes weigh more."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision,
                                              weight_reduce_loss)
from mmdet_ft.registry import MODELS


class _Harmonized(nn.Module):
    """Weights of elements by how many have a gradient of their size, with V2's buffers.

    Args:
        bins: number of equal parts of the gradient sizes 0..1.
        momentum: share of the previous counts in a moving average; 0 for no average.
        last_edge: end of the last bin.
    """
    edges: Tensor
    acc_sum: Tensor

    def __init__(self, bins: int, momentum: float, last_edge: float, loss_weight: float,
                 reduction: str):
        super().__init__()
        self.bins = bins
        self.momentum = momentum
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)
        edges = torch.arange(bins + 1).float() / bins
        edges[-1] = last_edge
        self.register_buffer('edges', edges)
        if momentum > 0:
            self.register_buffer('acc_sum', torch.zeros(bins))

    @torch.no_grad()
    def harmony(self, size: Tensor, valid: Tensor, total: Tensor) -> Tensor:
        """Return the weight of each element: total / (elements of its bin * bins in use).

        size: of the gradient, any shape; valid bool of that shape; total: scalar.
        """
        index = torch.bucketize(size, self.edges, right=True) - 1
        valid = valid & (index >= 0) & (index < self.bins)
        index = index.clamp(0, self.bins - 1).flatten()
        counts = torch.zeros(self.bins, dtype=torch.long, device=size.device)
        counts = counts.scatter_add(0, index, valid.flatten().long())
        in_use = counts > 0
        held = counts.float()
        if self.momentum > 0:
            averaged = self.momentum * self.acc_sum + (1 - self.momentum) * held
            self.acc_sum.copy_(torch.where(in_use, averaged, self.acc_sum))
            held = self.acc_sum
        weight = total / held.masked_fill(~in_use, 1.) / in_use.sum().clamp(min=1)
        return weight[index].view_as(size) * valid


@MODELS.register_module()
class GHMC(_Harmonized):
    """Sigmoid cross entropy of logits, harmonized (GHM-C); called for each level, as in V2.

    Args:
        bins, momentum: see _Harmonized.
        use_sigmoid: True; there is no softmax form.
        loss_weight: factor of the result.
        reduction: 'none', 'mean' or 'sum'.
    """
    needs_every_anchor = True

    def __init__(self,
                 bins: int = 10,
                 momentum: float = 0,
                 use_sigmoid: bool = True,
                 loss_weight: float = 1.0,
                 reduction: str = 'mean'):
        if not use_sigmoid:
            raise ValueError('GHMC: there is no softmax form; write use_sigmoid=True')
        super().__init__(bins, momentum, 1 + 1e-6, loss_weight, reduction)
        self.use_sigmoid = use_sigmoid

    def forward(self,
                pred: Tensor,
                target: Tensor,
                label_weight: Tensor,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss.

        pred [N, K]; target int64 [N] in 0..K, K the background, or 0..1 [N, K]; label_weight [N] or [N, K], of which
        only 0 or not counts. The mean is over the elements of nonzero weight, and `avg_factor` is not used.
        """
        target, valid = _of_classes(pred, target, label_weight)
        pred = full_precision(pred).masked_fill(~valid, 0)
        total = valid.sum().clamp(min=1).float()
        size = (pred.detach().sigmoid() - target).abs()
        weight = self.harmony(size, valid, total)
        loss = F.binary_cross_entropy_with_logits(pred, target, reduction='none')
        return self.loss_weight * weight_reduce_loss(
            loss, weight, check_reduction(reduction_override or self.reduction), total)


def _of_classes(pred: Tensor, target: Tensor, label_weight: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the targets 0..1 and the counted elements, both [N, K]."""
    if target.dim() < pred.dim():
        target = target.unsqueeze(1) == torch.arange(pred.size(1), device=target.device)
        label_weight = label_weight.reshape(-1, 1)
    valid = (label_weight > 0).expand_as(pred)
    return target.float().masked_fill(~valid, 0), valid


@MODELS.register_module()
class GHMR(_Harmonized):
    """Smooth L1 loss of box deltas, harmonized (GHM-R); called for each level, as in V2.

    Args:
        mu: half the width of the quadratic part.
        bins, momentum: see _Harmonized.
        loss_weight: factor of the result.
        reduction: 'none', 'mean' or 'sum'.
    """

    def __init__(self,
                 mu: float = 0.02,
                 bins: int = 10,
                 momentum: float = 0,
                 loss_weight: float = 1.0,
                 reduction: str = 'mean'):
        super().__init__(bins, momentum, 1e3, loss_weight, reduction)
        self.mu = mu

    def forward(self,
                pred: Tensor,
                target: Tensor,
                label_weight: Tensor,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss.

        pred, target, label_weight [N, 4]. The mean is over the sum of the weights, and `avg_factor` is not used.
        """
        valid = label_weight > 0
        difference = (full_precision(pred) - full_precision(target)).masked_fill(~valid, 0)
        root = (difference.square() + self.mu**2).sqrt()
        total = label_weight.float().sum().clamp(min=1)
        weight = self.harmony((difference / root).detach().abs(), valid, total)
        return self.loss_weight * weight_reduce_loss(
            root - self.mu, weight, check_reduction(reduction_override or self.reduction), total)
