"""Choice of positives by a mixture of two Gaussians (Probabilistic Anchor Assignment, PAA)."""
import math
from typing import List, Sequence

import torch
from torch import Tensor

# Those of scikit-learn's GaussianMixture, which V2 calls for each object.
ROUNDS, TOLERANCE, LEAST_VARIANCE = 100, 1e-3, 1e-6


def choose_by_costs(cost: Tensor, gt_index: Tensor, positive: Tensor, counts: Sequence[int],
                    num_gts: int, topk: int, is_tied: bool) -> Tensor:
    """Choose the anchors with low costs among the positives of each ground truth (PAA, alg. 1).

    The `topk` cheapest of each level are fitted by two Gaussians, of low and of high costs. Chosen are those
    more likely of the former, up to the most likely cost of all. A ground truth with one positive loses it.

    Args:
        cost [B, A]; gt_index int64 [B, A], the ground truth of each anchor, below num_gts.
        positive [B, A]; counts: anchors of each level; is_tied: both Gaussians have one variance.

    Returns bool [B, A].
    """
    own = gt_index[:, None] == torch.arange(num_gts, device=cost.device)[:, None]  # [B, G, A]
    costs = cost[:, None].masked_fill(~(own & positive[:, None]), float('inf'))
    values: List[Tensor] = []
    places: List[Tensor] = []
    start = 0
    for part in costs.split(list(counts), 2):
        value, index = part.topk(min(topk, part.shape[2]), 2, largest=False)
        values.append(value)
        places.append(index + start)
        start += part.shape[2]
    value, order = torch.cat(values, 2).sort(2)  # [B, G, C]
    index = torch.cat(places, 2).gather(2, order)
    valid = value.isfinite()
    density = two_gaussians(value.flatten(0, 1), valid.flatten(0, 1), is_tied)
    density = density.unflatten(0, value.shape[:2])  # [B, G, 2, C]
    is_low = valid & (density[:, :, 0] >= density[:, :, 1])
    likelihood = density.logsumexp(2).masked_fill(~is_low, -float('inf'))
    last = likelihood.argmax(2, keepdim=True)
    chosen = is_low & (torch.arange(value.shape[2], device=cost.device) <= last)
    chosen &= valid.sum(2, keepdim=True) >= 2
    found = torch.zeros_like(gt_index)
    return found.scatter_reduce(1, index.flatten(1), chosen.flatten(1).long(), 'amax') > 0


def two_gaussians(x: Tensor, valid: Tensor, is_tied: bool) -> Tensor:
    """Fit two Gaussians to each row by expectation maximization; return the log of their weighted densities.

    They begin at the smallest and the largest value, with weight 1/2 and variance 1. A row is fitted until its
    mean log-likelihood changes by less than TOLERANCE; every row takes the same number of operations.

    x [P, C], valid [P, C]. Returns float64 [P, 2, C].
    """
    x = x.double().masked_fill(~valid, 0.)
    count = valid.sum(1).clamp(min=1)
    ends = torch.stack(
        [x.masked_fill(~valid, float('inf')).amin(1),
         x.masked_fill(~valid, -float('inf')).amax(1)],
        1).masked_fill(~valid.any(1, keepdim=True), 0.)
    mixture = torch.stack([torch.full_like(ends, .5), ends, torch.ones_like(ends)], 1)  # [P, 3, 2]
    before = x.new_full(x.shape[:1], -float('inf'))
    is_done = torch.zeros_like(before, dtype=torch.bool)
    for _ in range(ROUNDS):
        density = _log_density(x, mixture)
        total = torch.logaddexp(density[:, 0], density[:, 1])  # [P, C]
        share = (density - total[:, None]).exp().masked_fill(~valid[:, None], 0.)
        mixture = torch.where(is_done[:, None, None], mixture, _estimate(x, share, is_tied))
        likelihood = total.masked_fill(~valid, 0.).sum(1) / count
        is_done = is_done | ((likelihood - before).abs() < TOLERANCE)
        before = likelihood
    return _log_density(x, mixture)


def _log_density(x: Tensor, mixture: Tensor) -> Tensor:
    """Return the log of weighted densities [P, 2, C] of weights, means and variances [P, 3, 2]."""
    weight, mean, variance = mixture[..., None].unbind(1)  # [P, 2, 1] each
    square = (x[:, None] - mean).square() / variance
    return weight.log() - .5 * (square + variance.log() + math.log(2 * math.pi))


def _estimate(x: Tensor, share: Tensor, is_tied: bool) -> Tensor:
    """Return weights, means and variances [P, 3, 2] of values [P, C] that belong by `share` [P, 2, C]."""
    size = share.sum(2) + 10 * torch.finfo(share.dtype).eps
    mean = (share * x[:, None]).sum(2) / size
    square = (share * (x[:, None] - mean[..., None]).square()).sum(2)
    whole = size.sum(1, keepdim=True)
    variance = square.sum(1, keepdim=True).expand_as(square) / whole if is_tied else square / size
    return torch.stack([size / whole, mean, variance + LEAST_VARIANCE], 1)
