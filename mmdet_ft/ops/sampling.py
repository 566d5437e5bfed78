"""Random sampling of the boxes that enter a loss."""
from typing import Optional, Tuple

import torch
from torch import Tensor


def sample(label: Tensor,
           num: int,
           pos_fraction: float,
           neg_pos_ub: float = -1,
           keys: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """Sample up to `num` boxes of an image: at most `pos_fraction` positive, the rest background.

    Fewer positives leave room for more background, as in V2's RandomSampler. With `neg_pos_ub` >= 0
    there are at most `neg_pos_ub` background boxes for each positive (counted as at least one).
    Positives come first, so they are always in the first `int(num * pos_fraction)` slots.

    label [B, N]: 1 positive, 0 background, -1 never sampled. keys [B, N], at least 0, give the random
    order (generated here by the default generator if None). Returns index [B, S] and valid [B, S],
    S = min(num, N).
    """
    num_boxes = label.shape[1]
    num_slots = min(num, num_boxes)
    if keys is None:
        keys = torch.rand(label.shape, device=label.device)
    max_pos = min(int(num * pos_fraction), num_boxes)
    pos_key, pos_index = keys.masked_fill(label != 1, -1.).topk(max_pos, 1)  # [B, max_pos]
    neg_key, neg_index = keys.masked_fill(label != 0, -1.).topk(num_slots, 1)  # [B, S]
    pos_valid = pos_key >= 0
    num_pos = pos_valid.sum(1, keepdim=True)  # [B, 1]
    room = num - num_pos
    if neg_pos_ub >= 0:
        room = torch.minimum(room, (neg_pos_ub * num_pos.clamp(min=1)).long())
    neg_valid = (neg_key >= 0) & (torch.arange(num_slots, device=label.device) < room)

    # Real positives, then real background, then remaining boxes as padding of the slots.
    valid = torch.cat([pos_valid, neg_valid], 1)
    order = valid.byte().sort(dim=1, descending=True, stable=True).indices[:, :num_slots]
    index = torch.cat([pos_index, neg_index], 1)
    return index.gather(1, order), valid.gather(1, order)


def rank_in_group(group: Tensor, keys: Tensor) -> Tensor:
    """Return the rank of each box in its group, 0 for the highest key: int64 [B, N].

    group int64 [B, N], keys [B, N].
    """
    by_key = keys.argsort(1, descending=True)
    group, order = group.gather(1, by_key).sort(dim=1, stable=True)
    place = torch.arange(group.shape[1], device=group.device).expand_as(group)
    rank = place - torch.searchsorted(group, group)
    return torch.empty_like(rank).scatter_(1, by_key.gather(1, order), rank)
