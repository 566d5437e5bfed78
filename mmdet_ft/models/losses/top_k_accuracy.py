"""Accuracy of classes: the share of rows whose target is among the k best scores."""
from typing import Optional, Sequence, Tuple, Union

from torch import Tensor, nn


def accuracy(pred: Tensor,
             target: Tensor,
             topk: Union[int, Sequence[int]] = 1,
             thresh: Optional[float] = None,
             valid: Optional[Tensor] = None) -> Union[Tensor, Tuple[Tensor, ...]]:
    """Return the percentage of rows whose target is among the k best scores.

    pred [N, C]; target int64 [N]; valid bool [N], the rows that count; a score must exceed `thresh`. Returns a
    scalar tensor for one k, a tuple for several; 0 for no rows.

    Raises ValueError when k exceeds C.
    """
    ks = (topk, ) if isinstance(topk, int) else tuple(topk)
    num_rows, num_classes = pred.shape
    if max(ks) > num_classes:
        raise ValueError(f'accuracy: the best {max(ks)} of {num_classes} classes; lower topk')
    scores, labels = pred.detach().topk(max(ks), dim=1)  # [N, k]
    correct = labels == target.unsqueeze(1)
    if thresh is not None:
        correct = correct & (scores > thresh)
    total: Union[Tensor, int] = max(num_rows, 1)
    if valid is not None:
        correct = correct & valid.unsqueeze(1)
        total = valid.sum().clamp(min=1)
    shares = tuple(correct[:, :k].sum() * (100. / total) for k in ks)
    return shares[0] if isinstance(topk, int) else shares


class Accuracy(nn.Module):
    """`accuracy` with fixed settings."""

    def __init__(self, topk: Union[int, Sequence[int]] = (1, ), thresh: Optional[float] = None):
        super().__init__()
        self.topk = topk
        self.thresh = thresh

    def forward(self, pred: Tensor, target: Tensor, valid: Optional[Tensor] = None):
        return accuracy(pred, target, self.topk, self.thresh, valid)
