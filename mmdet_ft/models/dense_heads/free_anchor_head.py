"""Head of FreeAnchor: Learning to Match Anchors for Visual Object Detection."""
from typing import Callable, Dict, Optional, Union

import torch
from torch import Tensor

from mmdet_ft.models.anchors import AnchorGenerator
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTestSettings,
                                                    DenseTrainSettings)
from mmdet_ft.models.dense_heads.retina_head import ANCHORS, CODER, RetinaHead
from mmdet_ft.ops.boxes import pairwise_overlap, take, unit_box
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

EPS = 1e-12
MIN_LOG = -100.  # V2's binary_cross_entropy, which autocast refuses: log is at least this


@MODELS.register_module()
class FreeAnchorRetinaHead(RetinaHead):
    """RetinaNet without an assigner: each object has a bag of anchors, and learns on the likeliest.

    The assigner of `train_cfg` has no effect, as in V2. V2's arguments and state_dict.

    Args:
        pre_anchor_topk: anchors of a bag, those of highest overlap with the object.
        bbox_thr: overlap up to which a decoded box is not of an object.
        gamma, alpha: of the focal loss; alpha is the share of the positives.
        Others: see RetinaHead.
    """
    takes = AnchorHead.takes  # by RetinaHead's forward

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 stacked_convs: int = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 pre_anchor_topk: int = 50,
                 bbox_thr: float = 0.6,
                 gamma: float = 2.0,
                 alpha: float = 0.5,
                 anchor_generator: Union[Dict, AnchorGenerator] = ANCHORS,
                 feat_channels: int = 256,
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = CODER,
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01))):
        super().__init__(num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg,
                         anchor_generator, feat_channels, bbox_coder, reg_decoded_bbox, loss_cls,
                         loss_bbox, train_cfg, test_cfg, init_cfg)
        self.pre_anchor_topk, self.bbox_thr = pre_anchor_topk, bbox_thr
        self.gamma, self.alpha = gamma, alpha

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return V2's losses; nothing waits for the device."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        logits, deltas = torch.cat(outputs.logits, 1).float(), torch.cat(outputs.boxes, 1).float()
        anchors = self.grid(outputs.sizes, deltas.device).anchors
        gt = gt._replace(boxes=torch.where(gt.valid[..., None], gt.boxes, unit_box(anchors)))
        bag = self.bags(anchors, gt)
        positive = self.positive_bag_loss(
            self.class_probability(logits, gt, bag), self.box_probability(anchors, deltas, gt, bag))
        negative = self.negative_bag_loss(logits.sigmoid(),
                                          self.object_probability(anchors, deltas, gt))
        count = gt.valid.sum()
        return dict(
            positive_bag_loss=positive.masked_fill(~gt.valid, 0).sum() / count.clamp(min=1),
            negative_bag_loss=negative.sum() / (count * self.pre_anchor_topk).clamp(min=1))

    @torch.no_grad()
    def bags(self, anchors: Tensor, gt: GroundTruth) -> Tensor:
        """Return the anchors of the bag of each object: int64 [B, G, n]."""
        size = min(self.pre_anchor_topk, len(anchors))
        return pairwise_overlap(gt.boxes, anchors).topk(size, 2, sorted=False).indices

    def class_probability(self, logits: Tensor, gt: GroundTruth, bag: Tensor) -> Tensor:
        """Return the probability of the object's class, [B, G, n]; logits [B, A, K]."""
        index = bag * logits.shape[2] + gt.labels[..., None]
        return logits.flatten(1).gather(1, index.flatten(1)).view_as(bag).sigmoid()

    def box_probability(self, anchors: Tensor, deltas: Tensor, gt: GroundTruth,
                        bag: Tensor) -> Tensor:
        """Return exp(-box loss) of each object and anchor of its bag, [B, G, n]."""
        goal = self.bbox_coder.encode(anchors[bag], gt.boxes[:, :, None])  # [B, G, n, 4]
        pred = take(deltas, bag.flatten(1))
        loss = self.loss_bbox(pred.flatten(0, 1), goal.flatten(0, 2), reduction_override='none')
        return (-loss.reshape(*bag.shape, -1).sum(-1)).exp()

    @torch.no_grad()
    def object_probability(self, anchors: Tensor, deltas: Tensor, gt: GroundTruth) -> Tensor:
        """Return how likely each anchor's box is one of an object of each class, [B, A, K] (eq. 8).

        It grows from 0 at an overlap of `bbox_thr` to 1 at the best overlap of the object.
        """
        iou = pairwise_overlap(gt.boxes, self.decode(anchors, deltas))  # [B, G, A]
        best = iou.amax(2, keepdim=True).clamp(min=self.bbox_thr + EPS)
        near = (iou > self.bbox_thr) & gt.valid[..., None]
        share = ((iou - self.bbox_thr) / (best - self.bbox_thr)).clamp(0, 1)
        nothing = iou.new_zeros(len(iou), self.num_logits, iou.shape[2])
        label = gt.labels[..., None].expand_as(iou)
        return nothing.scatter_reduce(1, label, share.masked_fill(~near, 0), 'amax').transpose(1, 2)

    def positive_bag_loss(self, class_probability: Tensor, box_probability: Tensor) -> Tensor:
        """Return -alpha * log(mean-max of the products) of each bag: [B, G, n] -> [B, G] (eq. 7)."""
        product = class_probability * box_probability
        weight = 1 / (1 - product).clamp(min=EPS)
        weight = weight / weight.sum(-1, keepdim=True)
        likelihood = (weight * product).sum(-1)
        return -self.alpha * _bounded(torch.log, likelihood, likelihood <= 0)

    def negative_bag_loss(self, class_probability: Tensor, object_probability: Tensor) -> Tensor:
        """Return the focal loss of what is of no object: two of [B, A, K] -> [B, A, K]."""
        wrong = (class_probability * (1 - object_probability)).clamp(EPS, 1 - EPS)
        return (self.alpha - 1) * wrong**self.gamma * _bounded(torch.log1p, -wrong, wrong >= 1)


def _bounded(log: Callable[[Tensor], Tensor], x: Tensor, is_infinite: Tensor) -> Tensor:
    """Return log(x), and MIN_LOG without a gradient where it is infinite."""
    return log(x.masked_fill(is_infinite, .5)).masked_fill(is_infinite, MIN_LOG)
