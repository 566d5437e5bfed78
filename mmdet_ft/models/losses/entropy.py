from typing import List, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, expand_right,
                                              full_precision, masked, weight_reduce_loss)
from mmdet_ft.registry import MODELS


def cross_entropy(pred: Tensor,
                  label: Tensor,
                  weight: Optional[Tensor] = None,
                  reduction: str = 'mean',
                  avg_factor: AvgFactor = None,
                  class_weight: Optional[Tensor] = None,
                  ignore_index: Optional[int] = None,
                  avg_non_ignore: bool = False) -> Tensor:
    """Compute softmax cross entropy of logits.

    pred [N, C, ...]; label int64 [N, ...] in 0..C-1 or `ignore_index` (default -100); weight like label;
    class_weight [C]. With `avg_non_ignore` the mean is over the labels that are not ignored. Returns a scalar,
    or [N, ...] for reduction 'none'.
    """
    pred = full_precision(pred)
    ignore = -100 if ignore_index is None else ignore_index
    if avg_factor is None and avg_non_ignore and reduction == 'mean':
        avg_factor = (label != ignore).sum()
    if weight is not None:
        weight = weight.float()
        label = label.masked_fill(weight == 0, ignore)
    if weight is not None or ignore_index is not None:
        # The gradient of softmax is a product: an ignored NaN would return as 0 * NaN.
        pred = pred.masked_fill((label == ignore).unsqueeze(1), 0)
    loss = F.cross_entropy(pred, label, weight=class_weight, ignore_index=ignore, reduction='none')
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def entropy_of_probability(pred: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross entropy of probabilities of any shape, at most 100, with a finite slope."""
    with torch.autocast(pred.device.type, enabled=False):  # which refuses the function
        return F.binary_cross_entropy(pred, target, reduction='none')


def soft_cross_entropy(pred: Tensor,
                       label: Tensor,
                       weight: Optional[Tensor] = None,
                       reduction: str = 'mean',
                       avg_factor: AvgFactor = None,
                       class_weight: Optional[Tensor] = None) -> Tensor:
    """Compute softmax cross entropy of logits against shares of the classes.

    pred [N, K]; label float32 [N, K], or int64 [N] for one class each; weight [N]; class_weight [K]. Returns a
    scalar, or [N] for reduction 'none'.
    """
    pred = full_precision(pred)
    if weight is not None:
        pred = masked(pred, weight != 0)
    loss = -to_shares(label, pred.size(1)) * F.log_softmax(pred, dim=1)
    if class_weight is not None:
        loss = loss * class_weight
    return weight_reduce_loss(loss.sum(1), weight, reduction, avg_factor)


def to_shares(label: Tensor, num_classes: int) -> Tensor:
    """Convert int64 [N] or shares [N, K] to shares float32 [N, K]."""
    if label.dim() == 1:  # F.one_hot would synchronize
        label = label.unsqueeze(1) == torch.arange(num_classes, device=label.device)
    return label.float()


def binary_cross_entropy(pred: Tensor,
                         label: Tensor,
                         weight: Optional[Tensor] = None,
                         reduction: str = 'mean',
                         avg_factor: AvgFactor = None,
                         class_weight: Optional[Tensor] = None,
                         ignore_index: Optional[int] = None,
                         avg_non_ignore: bool = False) -> Tensor:
    """Compute sigmoid cross entropy of logits, one per class.

    pred [N, C] with label [N]: the index of the column that is 1; C or more means background; weight [N]. Or
    pred and label of one shape, label in 0..1, weight broadcastable. Negative labels and `ignore_index` have
    weight 0. class_weight [C] multiplies the positive term. Returns a scalar, or pred's shape for reduction
    'none'.
    """
    pred = full_precision(pred)
    counted = label >= 0
    if ignore_index is not None and ignore_index >= 0:
        counted = counted & (label != ignore_index)
    if pred.dim() != label.dim():
        num_classes = pred.size(-1)
        if weight is not None:
            weight = weight.reshape(-1, 1)
        target = label.unsqueeze(-1) == torch.arange(num_classes, device=label.device)  # [N, C]
        counted = counted.unsqueeze(-1)  # [N, 1]
        columns = num_classes
    else:
        target = label
        columns = 1
    if avg_factor is None and avg_non_ignore and reduction == 'mean':
        avg_factor = counted.sum() * columns
    weight = counted.float() if weight is None else weight.float() * counted
    uncounted = weight == 0
    pred = pred.masked_fill(uncounted, 0)
    target = target.to(pred.dtype).masked_fill(uncounted, 0)
    loss = F.binary_cross_entropy_with_logits(
        pred, target, pos_weight=class_weight, reduction='none')
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def mask_cross_entropy(pred: Tensor,
                       target: Tensor,
                       label: Optional[Tensor] = None,
                       class_weight: Optional[Tensor] = None,
                       valid: Optional[Tensor] = None) -> Tensor:
    """Compute the mean sigmoid cross entropy of masks (Mask R-CNN, sec. 3).

    pred [N, K, ...] with label int64 [N], the class of the mask used, or pred [N, ...] selected already; target
    [N, ...] in 0..1; class_weight broadcastable to it; valid bool [N], the rows that count. Returns a scalar; 0
    for no rows.
    """
    if pred.dim() > target.dim():
        assert label is not None, 'masks of several classes need a label each'
        index = expand_right(label, pred.dim() - 1).unsqueeze(1)  # [N, 1, 1, 1]
        pred = pred.gather(1, index.expand(-1, 1, *pred.shape[2:])).squeeze(1)
    pred, target = full_precision(pred), full_precision(target)
    avg_factor: Union[Tensor, int] = max(target.numel(), 1)
    if valid is not None:
        empty = expand_right(~valid, pred.dim())
        pred, target = pred.masked_fill(empty, 0), target.masked_fill(empty, 0)
        avg_factor = valid.sum().clamp(min=1) * max(target[:1].numel(), 1)
    loss = F.binary_cross_entropy_with_logits(pred, target, weight=class_weight, reduction='none')
    if valid is not None:
        loss = loss.masked_fill(empty, 0)  # an empty row would add log 2 per pixel
    return loss.sum() / avg_factor


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Softmax, sigmoid or mask cross entropy, with V2's arguments, including those of classification.

    Args:
        use_sigmoid: a sigmoid for each class instead of the softmax.
        use_mask: masks of rows; `label` is then the target masks and `weight` the rows' classes.
        reduction: 'none', 'mean' or 'sum'.
        class_weight: one factor per class; with `use_sigmoid` only for the positive term, but see
            `weigh_negatives`.
        ignore_index: label with weight 0.
        loss_weight: factor of the result.
        avg_non_ignore: average over the labels that are not ignored, as PyTorch does, not over all.
        use_soft: labels are shares of the classes [N, C].
        pos_weight: one factor per class for the positive term of `use_sigmoid`.
        weigh_negatives: `class_weight` of `use_sigmoid` applies to both terms, as in MMClassification; a
            classifier sets this itself.
    """

    class_weight_table: Optional[Tensor]
    pos_weight_table: Optional[Tensor]

    def __init__(self,
                 use_sigmoid: bool = False,
                 use_mask: bool = False,
                 reduction: str = 'mean',
                 class_weight: Optional[List[float]] = None,
                 ignore_index: Optional[int] = None,
                 loss_weight: float = 1.0,
                 avg_non_ignore: bool = False,
                 use_soft: bool = False,
                 pos_weight: Optional[List[float]] = None,
                 weigh_negatives: bool = False):
        super().__init__()
        if use_sigmoid and use_mask:
            raise ValueError(
                'CrossEntropyLoss: use_mask is a sigmoid already; write use_sigmoid=False')
        if use_soft and (use_sigmoid or use_mask):
            raise ValueError('CrossEntropyLoss: use_soft is a softmax; write use_sigmoid=False')
        self.use_sigmoid = use_sigmoid
        self.use_mask = use_mask
        self.reduction = check_reduction(reduction)
        self.class_weight = class_weight
        self.ignore_index = ignore_index
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self.use_soft = use_soft
        if use_sigmoid and not weigh_negatives:
            class_weight, pos_weight = None, class_weight if pos_weight is None else pos_weight
        # Copied to the device once, and not in the state_dict.
        for name, values in (('class_weight_table', class_weight), ('pos_weight_table',
                                                                    pos_weight)):
            table = None if values is None else torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)

    def forward(self,
                cls_score: Tensor,
                label: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None,
                ignore_index: Optional[int] = None,
                valid: Optional[Tensor] = None) -> Tensor:
        """Compute the loss; shapes as in `cross_entropy`, `binary_cross_entropy` or, with `use_mask`,
        `mask_cross_entropy`.

        `avg_factor`, a number or a tensor, divides the sum. `valid` bool [N] is for masks: the rows that count.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        class_weight, pos_weight = (
            table.double() if table is not None and cls_score.dtype == torch.float64 else table
            for table in (self.class_weight_table, self.pos_weight_table))
        if self.use_mask:
            assert reduction == 'mean' and avg_factor is None and ignore_index is None, 'a mask loss is a plain mean'
            return self.loss_weight * mask_cross_entropy(
                cls_score, label, weight, class_weight=class_weight, valid=valid)
        assert valid is None, 'valid is for masks; give other losses a weight of 0'
        if self.use_soft:
            return self.loss_weight * soft_cross_entropy(cls_score, label, weight, reduction,
                                                         avg_factor, class_weight)
        if not self.use_sigmoid:
            return self.loss_weight * cross_entropy(cls_score, label, weight, reduction, avg_factor,
                                                    class_weight, ignore_index, self.avg_non_ignore)
        if class_weight is not None:
            label = to_shares(label, cls_score.size(1))
            factors = class_weight if weight is None else weight.reshape(-1, 1) * class_weight
            weight = factors.expand_as(cls_score)
        return self.loss_weight * binary_cross_entropy(cls_score, label, weight, reduction,
                                                       avg_factor, pos_weight, ignore_index,
                                                       self.avg_non_ignore)
