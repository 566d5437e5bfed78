"""Non-maximum suppression of many independent problems at once."""
from typing import Tuple

import torch
import torchvision
from torch import Tensor

from mmdet_ft.ops.backends import triton_kernels
from mmdet_ft.ops.boxes import pairwise_overlap

# A chain of n boxes, each suppressed only by the one before, needs n rounds. Random chains are
# much shorter (at 2000 boxes a problem: median 5, longest seen 11). This many rounds run before the
# host checks convergence on the device, the only synchronization of this operator.
ROUNDS = 16
# Overlaps held at a time on a CUDA device: some 1.5 GB including intermediate tensors.
MAX_OVERLAPS = 1 << 26


@torch.library.custom_op('mmdet_ft::nms_keep', mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Return which boxes survive greedy suppression in each problem.

    The best-scored box of a problem survives and removes those that overlap it by more than
    `iou_threshold`; the next best of the rest likewise.

    boxes [R, N, 4], scores [R, N], valid [R, N]: an invalid box neither survives nor removes
    others. Returns bool [R, N].
    """
    keep = torch.zeros_like(valid)
    boxes, scores = boxes.float(), scores.float()
    for problem in range(boxes.shape[0]):
        index = valid[problem].nonzero().squeeze(1)
        if index.numel():
            kept = torchvision.ops.nms(boxes[problem, index], scores[problem, index], iou_threshold)
            keep[problem, index[kept]] = True
    return keep


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)


@nms_keep.register_kernel('cuda')
def nms_keep_on_device(boxes: Tensor, scores: Tensor, valid: Tensor,
                       iou_threshold: float) -> Tensor:
    """Suppress all problems at once on the device.

    Boxes are sorted, then resolved by the Triton kernel, which never synchronizes, or by rounds.
    """
    score = scores.float().masked_fill(~valid, -float('inf'))
    order = score.argsort(dim=1, descending=True, stable=True)
    sorted_boxes = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    kernels = triton_kernels()
    settle = nms_by_rounds if kernels is None else kernels.nms
    alive = settle(sorted_boxes, valid.gather(1, order), iou_threshold)
    return torch.zeros_like(alive).scatter(1, order, alive)


def nms_by_rounds(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Return the survivors of sorted boxes [R, N, 4], best first, as bool [R, N].

    A box survives if no better survivor overlaps it. Rounds iterate to the fixed point, which is
    the greedy result.
    """
    if not valid.numel():
        return valid
    step, rounds = max(1, MAX_OVERLAPS // valid.shape[1]**2), ROUNDS
    while True:
        parts = zip(boxes.split(step), valid.split(step))
        before, alive = zip(*(_rounds(*part, iou_threshold, rounds) for part in parts))
        settled = torch.cat(alive)
        if torch.equal(torch.cat(before), settled):  # one synchronization for any number of chunks
            return settled
        rounds *= 4


def _rounds(boxes: Tensor, valid: Tensor, iou_threshold: float,
            rounds: int) -> Tuple[Tensor, Tensor]:
    """Return the survivors of the last but one and of the last round."""
    # torchvision's own arithmetic does not clamp the union.
    over = (pairwise_overlap(boxes, boxes, eps=0.) > iou_threshold).triu(1)  # [R, better, worse]
    before = alive = valid
    for _ in range(rounds):
        before, alive = alive, valid & ~(over & alive[..., None]).any(1)
    return before, alive
