"""What all losses share: full precision, masked slots, weights and averages; nothing waits for the device.

**Masked slots.** Batches are padded, so a loss sees slots that stand for nothing, with weight 0. Their values may be
anything, NaN included. Multiplying a NaN by 0 gives a NaN, in the value and in the gradient, so where the weight is 0
the *inputs* are replaced before the arithmetic: every loss here does that by itself when it is given `weight`. A
function further up (a coder, a log) does the same with `masked`.
"""
import functools
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor

AvgFactor = Union[Tensor, float, int, None]


def masked(x: Tensor, valid: Tensor, fill: float = 0.) -> Tensor:
    """`x` with `fill` where `valid` is False; neither the value nor the gradient sees what was there.

    x [..., *], valid bool [...]: missing dimensions of `valid` are the last ones of `x`. (`masked_fill` is
    one operation where `torch.where` with a number is two.)
    """
    return x.masked_fill(expand_right(~valid, x.dim()), fill)


def expand_right(x: Tensor, num_dims: int) -> Tensor:
    """x with dimensions of size one appended up to `num_dims`."""
    return x.reshape(x.shape + (1, ) * (num_dims - x.dim())) if x.dim() < num_dims else x


def full_precision(x: Tensor) -> Tensor:
    """float16 and bfloat16 (autocast's outputs) and integers as float32; losses are not computed in less."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_reduction(reduction: str) -> str:
    if reduction not in ('none', 'mean', 'sum'):
        raise ValueError(f"reduction is {reduction!r}; write 'none', 'mean' or 'sum'")
    return reduction


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """An elementwise loss as it is, its mean or its sum; the mean of nothing is 0 and keeps the graph."""
    if check_reduction(reduction) == 'none':
        return loss
    return loss.mean() if reduction == 'mean' and loss.numel() else loss.sum()


def weight_reduce_loss(loss: Tensor,
                       weight: Optional[Tensor] = None,
                       reduction: str = 'mean',
                       avg_factor: AvgFactor = None) -> Tensor:
    """Weigh an elementwise loss and reduce it, with V2's average.

    Args:
        loss: elementwise, any shape.
        weight: broadcastable to it.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: what 'mean' divides the sum by in place of the number of elements; a tensor stays on the device.

    Raises ValueError for an `avg_factor` with 'sum'.
    """
    if weight is not None:
        loss = loss * weight
    if avg_factor is None:
        return reduce_loss(loss, reduction)
    if check_reduction(reduction) == 'sum':
        raise ValueError("avg_factor belongs to reduction='mean'; a sum is not averaged")
    # V2 adds this epsilon so that an image whose labels are all ignored does not divide by zero.
    return loss.sum() / (avg_factor +
                         torch.finfo(torch.float32).eps) if reduction == 'mean' else loss


def weighted_loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator: an elementwise `function(pred, target, **options)` becomes a loss with V2's weight and average.

        weighted(pred, target, weight=None, reduction='mean', avg_factor=None, **options)

    What has weight 0 is not looked at: both inputs are 0 there.
    """

    @functools.wraps(function)
    def weighted(pred: Tensor,
                 target: Tensor,
                 weight: Optional[Tensor] = None,
                 reduction: str = 'mean',
                 avg_factor: AvgFactor = None,
                 **options: Any) -> Tensor:
        pred = full_precision(pred)
        if weight is not None:
            # a weight for each number, or one for each box: what `masked` needs is said by its first dimensions
            pred = masked(pred, weight != 0)
            target = masked(target, weight != 0) if target.shape == pred.shape else target
        return weight_reduce_loss(function(pred, target, **options), weight, reduction, avg_factor)

    return weighted
