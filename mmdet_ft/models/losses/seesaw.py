"""Seesaw loss: softmax over classes of very unequal frequency (Wang et al. 2021, arXiv:2008.10032)."""
from typing import Dict, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.losses.entropy import cross_entropy
from mmdet_ft.models.losses.reduction import (AvgFactor, check_reduction, full_precision, masked,
                                              weight_reduce_loss)
from mmdet_ft.parts import Rows
from mmdet_ft.ranges import Positive
from mmdet_ft.registry import MODELS


def seesaw_cross_entropy(logits: Tensor, labels: Tensor, cum_samples: Tensor, p: float, q: float,
                         eps: float) -> Tensor:
    """Compute softmax cross entropy in which a row's class presses other classes down less than usual.

    The exponential of the logit of class j, in a row of class i, is multiplied by two factors (eq. 5 to 8):

        mitigation    (N_j / N_i) ** p where j is rarer than i
        compensation  (s_j / s_i) ** q where j scores higher than i

    logits float32 [N, K]; labels int64 [N] in 0..K-1; cum_samples [K], regions of each class so far (N_j, at least 1);
    eps: the least s_i. Returns [N].
    """
    of_row = labels[:, None]
    factors = torch.zeros_like(logits)  # logarithms
    if p > 0:
        counts = cum_samples.clamp(min=1).log()
        factors = factors + p * (counts[None, :] - counts[labels][:, None]).clamp(max=0)
    if q > 0:
        scores = F.log_softmax(logits.detach(), 1)
        own = scores.gather(1, of_row).exp().clamp(min=eps).log()
        factors = factors + q * (scores - own).clamp(min=0)
    factors = factors.scatter(1, of_row, 0.)
    return F.cross_entropy(logits + factors, labels, reduction='none')


@MODELS.register_module()
class SeesawLoss(nn.Module):
    """Seesaw loss of the classes of objects, and softmax cross entropy of object against background.

    A head has K + 2 logits: the classes, object, background. V2's arguments, log keys (`loss_cls_objectness`,
    `loss_cls_classes`, `acc_objectness`, `acc_classes`) and state_dict: `cum_samples`, the regions of each class and
    of the background so far.

    Args:
        use_sigmoid: False; V2 has the key.
        p: strength of the mitigation by frequency; 0 for none.
        q: strength of the compensation by score; 0 for none.
        num_classes: of the head.
        eps: the least score that the compensation divides by.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of both losses.
        return_dict: return both losses by name; False returns their sum, logged as `loss_cls`.

    Raises ValueError for use_sigmoid=True, and for a head of another number of classes.
    """
    # V2's names for a loss that decides about the logits of its head
    custom_cls_channels = custom_activation = custom_accuracy = True
    prediction_rows = dict(cum_samples=Rows(background=1))
    cum_samples: Tensor

    def __init__(self,
                 use_sigmoid: bool = False,
                 p: float = 0.8,
                 q: float = 2.0,
                 num_classes: int = 1203,
                 eps: Positive = 1e-2,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 return_dict: bool = True):
        super().__init__()
        if use_sigmoid:
            raise ValueError('SeesawLoss: it is a softmax; write use_sigmoid=False')
        self.p, self.q, self.eps, self.num_classes = p, q, eps, num_classes
        self.reduction = check_reduction(reduction)
        self.loss_weight, self.return_dict = loss_weight, return_dict
        self.register_buffer('cum_samples', torch.zeros(num_classes + 1))

    def get_cls_channels(self, num_classes: int) -> int:
        """Return the number of logits for a number of classes."""
        if num_classes != self.num_classes:
            raise ValueError(
                f'SeesawLoss: num_classes={self.num_classes}, and its head has {num_classes}; '
                f'write loss_cls=dict(num_classes={num_classes})')
        return num_classes + 2

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Return probabilities [..., K + 1] of the classes and the background, of logits [..., K + 2]."""
        objectness = cls_score[..., -2:].softmax(-1)
        classes = cls_score[..., :-2].softmax(-1) * objectness[..., :1]
        return torch.cat([classes, objectness[..., 1:]], -1)

    @torch.no_grad()
    def get_accuracy(self,
                     cls_score: Tensor,
                     labels: Tensor,
                     valid: Optional[Tensor] = None) -> Dict[str, Tensor]:
        """Return `acc_objectness` and, over objects, `acc_classes`, in percent.

        cls_score [N, K + 2]; labels [N], K for the background; valid bool [N]: rows that count.
        """
        counted = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
        is_object = counted & (labels < self.num_classes)
        right = counted & (cls_score[:, -2:].argmax(1) == (labels == self.num_classes).long())
        named = is_object & (cls_score[:, :-2].argmax(1) == labels)
        return dict(
            acc_objectness=right.sum() * (100. / counted.sum().clamp(min=1)),
            acc_classes=named.sum() * (100. / is_object.sum().clamp(min=1)))

    def forward(self,
                cls_score: Tensor,
                labels: Tensor,
                label_weights: Optional[Tensor] = None,
                avg_factor: AvgFactor = None,
                reduction_override: Optional[str] = None) -> Union[Tensor, Dict[str, Tensor]]:
        """Compute both losses, and count the labels, unless the reduction is 'none', which ranks regions.

        cls_score [N, K + 2]; labels int64 [N], K for the background; label_weights [N], 0 for rows that do not
        count. Returns {name: loss} or, without `return_dict`, their sum.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        weights = torch.ones_like(labels, dtype=torch.float32) if label_weights is None \
            else label_weights.float()
        if reduction_override != 'none':
            self._count(labels, weights)
        is_object = labels < self.num_classes
        of_objects = weights * is_object
        classes, objectness = self._split(masked(full_precision(cls_score), weights != 0))
        if avg_factor is None and reduction == 'mean':  # of the objects alone
            class_factor: AvgFactor = is_object.sum().clamp(min=1)
        else:
            class_factor = avg_factor
        losses = seesaw_cross_entropy(
            masked(classes, is_object), labels.masked_fill(~is_object, 0), self.cum_samples[:-1],
            self.p, self.q, self.eps)
        found = dict(
            loss_cls_objectness=self.loss_weight *
            cross_entropy(objectness, (~is_object).long(), weights, reduction, avg_factor),
            loss_cls_classes=self.loss_weight *
            weight_reduce_loss(losses, of_objects, reduction, class_factor))
        return found if self.return_dict else found['loss_cls_classes'] + found[
            'loss_cls_objectness']

    @staticmethod
    def _split(cls_score: Tensor) -> Tuple[Tensor, Tensor]:
        return cls_score[:, :-2], cls_score[:, -2:]

    @torch.no_grad()
    def _count(self, labels: Tensor, weights: Tensor) -> None:
        self.cum_samples.index_add_(0, labels, (weights != 0).to(self.cum_samples))
