from typing import Optional

import torch
from torch import Tensor, nn

from mmdet_ft.models.losses.entropy import binary_cross_entropy, soft_cross_entropy, to_shares
from mmdet_ft.models.losses.reduction import AvgFactor, check_reduction
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class LabelSmoothLoss(nn.Module):
    """Cross entropy against labels of which a share e is spread over all classes (Rethinking the
    Inception Architecture, sec. 7).

    Args:
        label_smooth_val: e, 0 <= e < 1.
        num_classes: checked against the logits if given.
        mode: 'original', (1 - e) label + e / K; 'classy_vision', (label + e / K) / (1 + e); or 'multi_label', a
            sigmoid for each class against 1 - e and e.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result. (MMClassification 0.25 reads neither of these two here.)
    """

    def __init__(self,
                 label_smooth_val: float,
                 num_classes: Optional[int] = None,
                 mode: str = 'original',
                 reduction: str = 'mean',
                 loss_weight: float = 1.0):
        super().__init__()
        if not 0 <= label_smooth_val < 1:
            raise ValueError(f'LabelSmoothLoss: label_smooth_val is {label_smooth_val!r}; write a '
                             'number from 0 up and below 1')
        if mode not in ('original', 'classy_vision', 'multi_label'):
            raise ValueError(f"LabelSmoothLoss: mode is {mode!r}; write 'original', "
                             "'classy_vision' or 'multi_label'")
        self.share = label_smooth_val / (1 + label_smooth_val if mode == 'classy_vision' else 1)
        self.num_classes = num_classes
        self.mode = mode
        self.reduction = check_reduction(reduction)
        self.loss_weight = loss_weight

    def forward(self,
                cls_score: Tensor,
                label: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss of logits [N, K]; label int64 [N] or shares [N, K]; weight [N]."""
        num_classes = cls_score.size(1)
        if self.num_classes not in (None, num_classes):
            raise ValueError(
                f'LabelSmoothLoss: num_classes is {self.num_classes}, but the head has '
                f'{num_classes}; write num_classes={num_classes}, or leave it out')
        label = to_shares(label, num_classes)
        reduction = reduction_override or self.reduction
        if self.mode == 'multi_label':
            label = torch.where(label > 0, 1 - self.share, self.share)
            weight = None if weight is None else weight.reshape(-1, 1)
            return self.loss_weight * binary_cross_entropy(cls_score, label, weight, reduction,
                                                           avg_factor)
        label = label * (1 - self.share) + self.share / num_classes
        return self.loss_weight * soft_cross_entropy(cls_score, label, weight, reduction,
                                                     avg_factor)
