"""Top-k selection of boxes with many equal scores.

In float32 the sigmoid of a confident logit has few distinct values left. Of two overlapping boxes
the first removes the other, so their order decides the proposals of an image. On the CPU the order
is that of MMDetection 2, which sorts all scores even where `topk` would do: torch.sort orders equal
values in its own way, on Linux the same in torch 2.0 to 2.15. On a GPU, where a full sort costs more
than topk, the order of equal scores is arbitrary.
"""
from typing import Tuple

import torch
from torch import Tensor


def top_k(scores: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Return the `count` best of each row, best first, and their indices: [B, N] -> [B, count] each."""
    if scores.is_cuda:
        return scores.topk(count, 1)
    scores, index = scores.sort(1, descending=True)
    return scores[:, :count], index[:, :count]


@torch.library.custom_op('mmdet_ft::precedence', mutates_args=())
def rank_boxes(scores: Tensor, valid: Tensor) -> Tensor:
    """Return a rank for each box of an image, higher for boxes that come first; -1 for invalid boxes.

    scores [B, N] in 0..1, in MMDetection's order; valid [B, N]. Returns float32 [B, N]. No two ranks
    are equal on the CPU.
    """
    numbers = torch.full_like(scores, -1., dtype=torch.float32)
    for image in range(scores.shape[0]):
        index = valid[image].nonzero().squeeze(1)
        order = index[scores[image, index].sort(descending=True).indices]
        numbers[image, order] = torch.arange(len(order), 0, -1, dtype=torch.float32)
    return numbers


@rank_boxes.register_fake
def _(scores: Tensor, valid: Tensor) -> Tensor:
    return torch.empty_like(scores, dtype=torch.float32)


@rank_boxes.register_kernel('cuda')
def _(scores: Tensor, valid: Tensor) -> Tensor:
    return scores.float().masked_fill(~valid, -1.)
