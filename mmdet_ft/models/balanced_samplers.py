"""Samplers of Libra R-CNN (sec. 3.1): even over ground truths, and even over overlaps."""
from typing import Dict, Optional, Union

import torch
from torch import Tensor

from mmdet_ft.models.assigners import RandomSampler
from mmdet_ft.ops.matching import Match
from mmdet_ft.ops.sampling import rank_in_group
from mmdet_ft.registry import MODELS


def _random_like(x: Tensor) -> Tensor:
    return torch.rand(x.shape, device=x.device)


@MODELS.register_module()
class InstanceBalancedPosSampler(RandomSampler):
    """Sample about as many positives of each ground truth; background at random.

    Arguments as RandomSampler. Where positives are more than needed, each ground truth first gives
    one more than its equal share.
    """

    def keys_of(self, match: Match) -> Tensor:
        positive = match.label == 1
        rank = rank_in_group(match.gt_index.masked_fill(~positive, -1), _random_like(match.label))
        num_gts = (positive & (rank == 0)).sum(1, keepdim=True).clamp(min=1)
        share = (int(self.num * self.pos_fraction) / num_gts).round() + 1
        return (positive & (rank < share)) + _random_like(match.label)


@MODELS.register_module()
class IoUBalancedNegSampler(RandomSampler):
    """Sample background evenly over bins of its overlap with objects; positives at random.

    Overlaps from `floor_thr` to the largest are split into `num_bins`. Too small a bin leaves room
    for others. Boxes below fill what remains.

    Args:
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals: as RandomSampler.
        floor_thr: smallest overlap of the bins; at 0 boxes without any overlap are below. -1 is the
            same, as in V2 from its second image on.
        floor_fraction: share of the background sampled below `floor_thr`.
        num_bins: 1 samples at random above `floor_thr`.
    """

    def __init__(self,
                 num: int,
                 pos_fraction: float,
                 floor_thr: float = -1,
                 floor_fraction: float = 0,
                 num_bins: int = 3,
                 neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True):
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        if not (floor_thr >= 0 or floor_thr == -1):
            raise ValueError(
                f'IoUBalancedNegSampler: floor_thr is {floor_thr}; write an overlap, or -1')
        if not 0 <= floor_fraction <= 1 or num_bins < 1:
            raise ValueError(f'IoUBalancedNegSampler: floor_fraction is {floor_fraction}, num_bins '
                             f'is {num_bins}; write a fraction from 0 to 1, and at least 1 bin')
        self.floor_thr, self.floor_fraction, self.num_bins = floor_thr, floor_fraction, num_bins

    def keys_of(self, match: Match) -> Tensor:
        overlap, floor = match.overlap, max(self.floor_thr, 0)
        assert overlap is not None, 'the assigner gives no overlaps'
        background = match.label == 0
        high = background & (overlap >= floor) & (overlap > 0)
        wanted = (self._num_background(match.label) * (1 - self.floor_fraction)).long()  # [B, 1]
        order = self._is_in_bin_share(overlap, high, wanted) + _random_like(overlap)
        best = high & (rank_in_group(high.long(), order) < wanted)
        return best * 2 + (background & ~high) + _random_like(overlap)

    def _num_background(self, label: Tensor) -> Tensor:
        """Return the number of background boxes to sample, [B, 1]."""
        num_positive = (label == 1).sum(
            1, keepdim=True).clamp(max=int(self.num * self.pos_fraction))
        room = self.num - num_positive
        if self.neg_pos_ub >= 0:
            room = torch.minimum(room, (self.neg_pos_ub * num_positive.clamp(min=1)).long())
        return room

    def _is_in_bin_share(self, overlap: Tensor, high: Tensor, wanted: Tensor) -> Tensor:
        """Choose an equal share of `wanted` from each bin of the boxes `high`, bool [B, N]."""
        if self.num_bins == 1:
            return torch.zeros_like(high)
        floor = max(self.floor_thr, 0)
        width = (overlap.amax(1, keepdim=True) - floor) / self.num_bins
        number = ((overlap - floor) / width.clamp(min=1e-6)).long()
        in_bin = high & (number < self.num_bins)  # the largest overlap is in none, as in V2
        rank = rank_in_group(number.masked_fill(~in_bin, -1), _random_like(overlap))
        return in_bin & (rank < wanted // self.num_bins)


@MODELS.register_module()
class CombinedSampler(RandomSampler):
    """Sample positives by one sampler and background by another.

    Args:
        pos_sampler, neg_sampler: samplers, or their configs, which need not repeat other arguments.
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals: as RandomSampler.
    """
    shares = dict.fromkeys(('pos_sampler', 'neg_sampler'),
                           ('num', 'pos_fraction', 'neg_pos_ub', 'add_gt_as_proposals'))

    def __init__(self,
                 pos_sampler: Union[Dict, RandomSampler],
                 neg_sampler: Union[Dict, RandomSampler],
                 num: int,
                 pos_fraction: float,
                 neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True):
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        shared = dict(
            num=num,
            pos_fraction=pos_fraction,
            neg_pos_ub=neg_pos_ub,
            add_gt_as_proposals=add_gt_as_proposals)
        self.pos_sampler: RandomSampler = MODELS.build(pos_sampler, **shared)
        self.neg_sampler: RandomSampler = MODELS.build(neg_sampler, **shared)

    def keys_of(self, match: Match) -> Optional[Tensor]:
        positive = self._keys(self.pos_sampler, match)
        return torch.where(match.label == 1, positive, self._keys(self.neg_sampler, match))

    @staticmethod
    def _keys(sampler: RandomSampler, match: Match) -> Tensor:
        keys = sampler.keys_of(match)
        return _random_like(match.label) if keys is None else keys
