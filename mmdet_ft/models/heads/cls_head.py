"""Classification heads: logits, their loss, and the scores.

One label per image (softmax) or several (sigmoid); with their own linear layer, or after a backbone that
returns logits itself.
"""
from typing import List, Sequence, Tuple, Union

from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.classification_defaults import build_for_classification
from mmdet_ft.models.losses.top_k_accuracy import accuracy
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Losses

Features = Union[Tensor, Tuple[Tensor, ...]]


def take_last(features: Features) -> Tensor:
    """Return the last of several stages, [B, C]."""
    return features if isinstance(features, Tensor) else features[-1]


def linear_layer(in_channels: int, num_classes: int) -> nn.Linear:
    if num_classes <= 0:
        raise ValueError(f'num_classes is {num_classes}; write the number of classes')
    return nn.Linear(in_channels, num_classes)


@MODELS.register_module()
class ClsHead(BaseModule):
    """One label per image, from the logits of the backbone.

    Args:
        loss: of logits [B, K] and labels int64 [B], or shares of classes [B, K].
        topk: values of k of the logged accuracy, with `cal_acc`.
        cal_acc: log the accuracy of each batch as `top-k`; for mixed images that of the larger share.
    """

    learns_from = ('gt_label', )
    takes_logits = True  # it has no layer of its own
    one_label = True  # an image has one of the K labels

    def __init__(self,
                 loss: PartConfig = dict(type='CrossEntropyLoss', loss_weight=1.0),
                 topk: Union[int, Sequence[int]] = (1, ),
                 cal_acc: bool = False,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        self.topk = (topk, ) if isinstance(topk, int) else tuple(topk)
        if min(self.topk) < 1:
            raise ValueError(f'{type(self).__name__}: topk is {topk!r}; write numbers from 1 up')
        self.cal_acc = cal_acc
        self.compute_loss = build_for_classification(loss)

    def forward(self, features: Features) -> Tensor:
        """Return logits, float32 [B, K]."""
        return take_last(features).float()

    def loss(self, logits: Tensor, labels: Tensor) -> Losses:
        """Return V2's `loss`, a mean over the images, and with `cal_acc` the metrics such as `top-1`."""
        loss = self.compute_loss(logits, labels, avg_factor=len(logits))
        terms = dict(loss=loss.mean())  # over the images, by reduction='none'
        if not self.cal_acc:
            return Losses(terms)
        best = labels if labels.dim() == 1 else labels.argmax(1)
        shares = accuracy(logits, best, self.topk)
        return Losses(terms, {f'top-{k}': share for k, share in zip(self.topk, shares)})

    def scores(self, logits: Tensor) -> Tensor:
        """Return probabilities [B, K] that sum to 1."""
        return logits.softmax(1)


@MODELS.register_module()
class LinearClsHead(ClsHead):
    """One label per image, by a linear layer on the features.

    Args:
        num_classes: K.
        in_channels: of the features.
        loss, topk, cal_acc: as ClsHead.
    """

    prediction_rows = dict(fc=Rows())
    takes_logits = False

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 init_cfg: InitCfg = dict(type='Normal', layer='Linear', std=0.01),
                 loss: PartConfig = dict(type='CrossEntropyLoss', loss_weight=1.0),
                 topk: Union[int, Sequence[int]] = (1, ),
                 cal_acc: bool = False):
        super().__init__(loss, topk, cal_acc, init_cfg)
        self.num_classes = num_classes
        self.fc = linear_layer(in_channels, num_classes)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.fc.in_features, is_vector=True)]

    def forward(self, features: Features) -> Tensor:
        return self.fc(take_last(features)).float()


@MODELS.register_module()
class MultiLabelClsHead(BaseModule):
    """Any number of labels per image, from the logits of the backbone.

    Args:
        loss: of logits and labels, both [B, K].
    """

    learns_from = ('gt_label', )
    takes_logits = True  # it has no layer of its own
    one_label = False

    def __init__(self,
                 loss: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=1.0),
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        self.compute_loss = build_for_classification(loss)

    def forward(self, features: Features) -> Tensor:
        """Return logits, float32 [B, K]."""
        return take_last(features).float()

    def loss(self, logits: Tensor, labels: Tensor) -> Losses:
        """Return V2's `loss`: the sum over the classes, averaged over the images.

        Labels of -1, VOC's difficult objects, count as 1.
        """
        loss = self.compute_loss(logits, labels.float().abs(), avg_factor=len(logits))
        return Losses(dict(loss=loss.mean()))

    def scores(self, logits: Tensor) -> Tensor:
        """Return a probability for each class, [B, K]."""
        return logits.sigmoid()


@MODELS.register_module()
class MultiLabelLinearClsHead(MultiLabelClsHead):
    """Any number of labels per image, by a linear layer on the features.

    Args:
        num_classes: K.
        in_channels: of the features.
        loss: as MultiLabelClsHead.
    """

    prediction_rows = dict(fc=Rows())
    takes_logits = False

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 loss: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=1.0),
                 init_cfg: InitCfg = dict(type='Normal', layer='Linear', std=0.01)):
        super().__init__(loss, init_cfg)
        self.num_classes = num_classes
        self.fc = linear_layer(in_channels, num_classes)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.fc.in_features, is_vector=True)]

    def forward(self, features: Features) -> Tensor:
        return self.fc(take_last(features)).float()
