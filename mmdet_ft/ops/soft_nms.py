"""Soft non-maximum suppression of many independent problems at once."""
import torch
from torch import Tensor

from mmdet_ft.ops.boxes import pairwise_overlap, take

METHODS = ('naive', 'linear', 'gaussian')


def soft_nms(boxes: Tensor,
             scores: Tensor,
             valid: Tensor,
             iou_threshold: float = .3,
             sigma: float = .5,
             min_score: float = 1e-3,
             method: str = 'linear',
             max_num: int = -1) -> Tensor:
    """Return scores decayed by each better box that overlaps (Soft-NMS, sec. 3), as mmcv 1.7.

    The best-scored box of a problem is taken. Every other score is multiplied by a weight that depends
    on the overlap with it; boxes then below `min_score` are removed. The best of the rest is taken
    likewise. So the best box of a problem stays, whatever its score.

    The weight is 1 below `iou_threshold`, and from there up 0 (`naive`, which is nms) or 1 - overlap
    (`linear`); under `gaussian` it is exp(-overlap^2 / sigma) at any overlap. Boxes without area overlap
    nothing here; mmcv gives them a NaN score.

    boxes [R, N, 4]; scores [R, N] in 0..1; valid [R, N]: an invalid box is neither taken nor decays
    others. With `max_num` > 0 a problem ends after that many boxes. Returns float32 [R, N]: the score
    at which a box was taken, -1 if it was not. Synchronizes with the device once, to process no more
    than the valid boxes.
    """
    assert method in METHODS, method
    num_valid = int(valid.sum(1).max()) if valid.numel() else 0
    live, order = scores.float().masked_fill(~valid, -1.).topk(num_valid, 1)  # [R, M]
    boxes = take(boxes.float().masked_fill(~valid[..., None], 0.), order)
    taken = torch.full_like(live, -1.)
    for _ in range(min(num_valid, max_num) if max_num > 0 else num_valid):
        best, index = live.max(1, keepdim=True)  # [R, 1]
        taken.scatter_reduce_(1, index, best, 'amax')  # once a problem has ended, best is -1
        overlap = pairwise_overlap(take(boxes, index), boxes, eps=0.)[:, 0].nan_to_num(0.)  # [R, M]
        sunk = live * _weight(overlap, iou_threshold, sigma, method)
        live = sunk.masked_fill((live < 0) | (sunk < min_score), -1.).scatter(1, index, -1.)
    return torch.full_like(scores, -1., dtype=torch.float32).scatter_(1, order, taken)


def _weight(overlap: Tensor, iou_threshold: float, sigma: float, method: str) -> Tensor:
    if method == 'gaussian':
        return (-overlap.square() / sigma).exp()
    weight = torch.zeros_like(overlap) if method == 'naive' else 1 - overlap
    return weight.masked_fill(overlap < iou_threshold, 1.)
