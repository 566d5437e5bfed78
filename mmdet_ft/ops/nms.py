"""Non-maximum suppression of many independent problems at once."""
import torch
import torchvision
from torch import Tensor

from mmdet_ft.ops.boxes import pairwise_overlap
from mmdet_ft.ops.switches import triton_kernels

# A chain of n boxes, each suppressed but for the one before, needs n rounds; random chains are much
# shorter (at 2000 boxes a problem: median 5, longest seen 11). So many are made before the host asks
# the device whether they were enough, which is the one wait of this operator.
ROUNDS = 16
# Elements of one overlap matrix held at a time on a CUDA device.
MAX_OVERLAPS = 1 << 28


@torch.library.custom_op('mmdet_ft::nms_keep', mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes survive greedy suppression, problem by problem.

    The best-scored box of a problem survives and removes those that overlap it by more than
    `iou_threshold`; the next best of the rest likewise.

    boxes [R, N, 4], scores [R, N], valid [R, N]: what is not valid neither survives nor removes.
    Returns bool [R, N].
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
    """The same for all problems at once: sorted, then settled by the Triton kernel, which asks the
    host nothing, or by rounds."""
    num_problems, num_boxes = scores.shape
    keep = torch.empty_like(valid)
    kernels = triton_kernels()
    if kernels is None:
        settle, step = nms_by_rounds, max(1, MAX_OVERLAPS // max(1, num_boxes * num_boxes))
    else:
        settle, step = kernels.nms, max(1, num_problems)  # it holds no overlaps
    for start in range(0, num_problems, step):
        part = slice(start, start + step)
        score = scores[part].float().masked_fill(~valid[part], -float('inf'))
        order = score.argsort(dim=1, descending=True, stable=True)
        sorted_boxes = boxes[part].float().gather(1, order[..., None].expand(-1, -1, 4))
        real = valid[part].gather(1, order)
        keep[part] = torch.zeros_like(real).scatter(1, order,
                                                    settle(sorted_boxes, real, iou_threshold))
    return keep


def nms_by_rounds(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Survivors of boxes [R, N, 4] that are sorted, best first: bool [R, N].

    A box survives when no surviving better box overlaps it: rounds to the fixed point, which is the
    greedy answer.
    """
    # torchvision's own arithmetic has no floor under the union.
    over = (pairwise_overlap(boxes, boxes, eps=0.) > iou_threshold).triu(1)  # [R, better, worse]
    alive = valid
    while True:
        for _ in range(ROUNDS):
            before, alive = alive, valid & ~(over & alive[..., None]).any(1)
        if torch.equal(before, alive):
            return alive
