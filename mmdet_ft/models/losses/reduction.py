"""Precision, masked slots, weights and averages of all losses; nothing waits for the device.

**Masked slots.** Batches are padded, so a loss gets empty slots with weight 0. Their values may be anything,
NaN included. NaN times 0 is NaN, in the value and in the gradient. So where the weight is 0 the *inputs* are
replaced before the arithmetic: every loss here does that itself when given `weight`. A caller (a coder, a log)
does the same with `masked`.
"""
import functools
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor

AvgFactor = Union[Tensor, float, int, None]


def masked(x: Tensor, valid: Tensor, fill: float = 0.) -> Tensor:
    """Return `x` with `fill` where `valid` is False; the masked values affect neither value nor gradient.

    x [..., *], valid bool [...]: missing dimensions of `valid` are the last ones of `x`. (`masked_fill` is
    one operation, `torch.where` with a number is two.)
    """
    return x.masked_fill(expand_right(~valid, x.dim()), fill)


def expand_right(x: Tensor, num_dims: int) -> Tensor:
    """Append dimensions of size one to x, up to `num_dims`."""
    return x.reshape(x.shape + (1, ) * (num_dims - x.dim())) if x.dim() < num_dims else x


def full_precision(x: Tensor) -> Tensor:
    """Cast float16 and bfloat16 (autocast's outputs) and integers to float32, the precision of losses."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_reduction(reduction: str) -> str:
    if reduction not in ('none', 'mean', 'sum'):
        raise ValueError(f"reduction is {reduction!r}; write 'none', 'mean' or 'sum'")
    return reduction


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes of a run (V2's reduce_mean); without gradient."""
    x = x.detach()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    x = x / torch.distributed.get_world_size()
    torch.distributed.all_reduce(x)
    return x


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Return an elementwise loss as it is, its mean or its sum; an empty mean is 0 and keeps the graph."""
    if check_reduction(reduction) == 'none':
        return loss
    return loss.mean() if reduction == 'mean' and loss.numel() else loss.sum()


def weight_reduce_loss(loss: Tensor,
                       weight: Optional[Tensor] = None,
                       reduction: str = 'mean',
                       avg_factor: AvgFactor = None) -> Tensor:
    """Weight an elementwise loss and reduce it, with V2's average.

    Args:
        loss: elementwise, any shape.
        weight: broadcastable to it.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: divisor of the sum for 'mean', instead of the number of elements; a tensor stays on the
            device.

    Raises ValueError for an `avg_factor` with 'sum'.
    """
    if weight is not None:
        loss = loss * weight
    if avg_factor is None:
        return reduce_loss(loss, reduction)
    if check_reduction(reduction) == 'sum':
        raise ValueError("avg_factor belongs to reduction='mean'; a sum is not averaged")
    # V2 adds this epsilon to avoid division by zero when all labels of an image are ignored.
    return loss.sum() / (avg_factor +
                         torch.finfo(torch.float32).eps) if reduction == 'mean' else loss


def weighted_loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a loss with V2's weight and average, from an elementwise `function(pred, target, **options)`.

        weighted(pred, target, weight=None, reduction='mean', avg_factor=None, **options)

    A decorator. Elements of weight 0 are not evaluated: both inputs are 0 there.
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
            # a weight per number, or per box: `masked` needs only its first dimensions
            pred = masked(pred, weight != 0)
            target = masked(target, weight != 0) if target.shape == pred.shape else target
        return weight_reduce_loss(function(pred, target, **options), weight, reduction, avg_factor)

    return weighted
