"""Boxes by their scores, where many scores are equal: the sigmoid of a sure logit has few values left
in float32.

Of two boxes that overlap the first removes the other, so their order decides what an image's
proposals are. On the CPU it is that of MMDetection 2, which sorts all scores where `topk` would do:
torch.sort puts equal ones into an order of its own, on Linux the same in torch 2.0 to 2.15. On a GPU,
where a sort of everything costs more than topk, equal scores come as they fall.
"""
from typing import Tuple

import torch
from torch import Tensor


def best(scores: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """The `count` best of each row, best first, and where they are: [B, N] -> two of [B, count]."""
    if scores.is_cuda:
        return scores.topk(count, 1)
    scores, index = scores.sort(1, descending=True)
    return scores[:, :count], index[:, :count]


@torch.library.custom_op('mmdet_ft::precedence', mutates_args=())
def precedence(scores: Tensor, valid: Tensor) -> Tensor:
    """A number for each box of an image, higher for the one that comes first; -1 for what is not valid.

    scores [B, N] in 0..1, listed as MMDetection lists them; valid [B, N]. Returns float32 [B, N]. No
    two are equal on the CPU.
    """
    numbers = torch.full_like(scores, -1., dtype=torch.float32)
    for image in range(scores.shape[0]):
        index = valid[image].nonzero().squeeze(1)
        order = index[scores[image, index].sort(descending=True).indices]
        numbers[image, order] = torch.arange(len(order), 0, -1, dtype=torch.float32)
    return numbers


@precedence.register_fake
def _(scores: Tensor, valid: Tensor) -> Tensor:
    return torch.empty_like(scores, dtype=torch.float32)


@precedence.register_kernel('cuda')
def _(scores: Tensor, valid: Tensor) -> Tensor:
    return scores.float().masked_fill(~valid, -1.)
