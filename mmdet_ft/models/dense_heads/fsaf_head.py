"""Head of FSAF: Feature Selective Anchor-Free Module for Single-Shot Object Detection."""
from typing import Dict, List, NamedTuple, Optional, Sequence, Union

import torch
from torch import Tensor

from mmdet_ft.models.anchors import AnchorGenerator, usable_anchors
from mmdet_ft.models.assigners import CenterRegionAssigner
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import TBLRBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTestSettings,
                                                    DenseTrainSettings)
from mmdet_ft.models.dense_heads.retina_head import ANCHORS, CODER, RetinaHead
from mmdet_ft.models.losses.iou import require_boxes
from mmdet_ft.models.losses.top_k_accuracy import accuracy
from mmdet_ft.ops.boxes import take
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

MIN_DISTANCE = 1e-4  # V2's smallest prediction in training: no box is empty
NO_LOSS = 1e6  # of a level without positives, so that no object chooses it


class FSAFTargets(NamedTuple):
    """Targets of all anchors, before each object chooses its level."""
    labels: Tensor  # int64 [B, A], K is the background
    weight: Tensor  # float32 [B, A, K], of the classification
    positive: Tensor  # bool [B, A]
    boxes: Tensor  # float32 [B, A, 4], the object of a positive
    gt_index: Tensor  # int64 [B, A], the number of that object in its image
    num_slots: int  # objects and empty slots of an image
    num_negative: Tensor  # int64 scalar, at least 1 for each image: divides the losses without positives


@MODELS.register_module()
class FSAFHead(RetinaHead):
    """RetinaNet with one anchor per cell, whose size is its stride; each object learns on one level.

    The core of an object is positive on every level. It learns on the level with the smallest mean
    loss; on the others its anchors do not learn its class.

    V2's arguments and state_dict.

    Args:
        score_threshold: scores that do not exceed it count as wrong in the logged `pos_recall`.
        Others: see RetinaHead.
    """
    takes = AnchorHead.takes  # by this forward

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 stacked_convs: int = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 anchor_generator: Union[Dict, AnchorGenerator] = ANCHORS,
                 feat_channels: int = 256,
                 bbox_coder: Union[Dict, TBLRBBoxCoder] = CODER,
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 score_threshold: Optional[float] = None,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=[
                         dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
                         dict(type='Normal', name='retina_reg', std=0.01, bias=0.25)
                     ])):
        super().__init__(num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg,
                         anchor_generator, feat_channels, bbox_coder, reg_decoded_bbox, loss_cls,
                         loss_bbox, train_cfg, test_cfg, init_cfg)
        if not self.use_sigmoid:
            raise ValueError(
                'FSAFHead: loss_cls is a softmax, but an anchor may learn some classes '
                "only; write loss_cls=dict(type='FocalLoss', use_sigmoid=True)")
        require_boxes(self.loss_bbox, reg_decoded_bbox, 'FSAFHead')
        assigner = getattr(self, 'assigner', None)
        if assigner is not None and not isinstance(assigner, CenterRegionAssigner):
            raise ValueError(
                f'FSAFHead: train_cfg.assigner is {type(assigner).__name__}; write '
                "dict(type='CenterRegionAssigner', pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01)")
        self.score_threshold = score_threshold

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are distances, 0 or more."""
        outputs = super().forward(features)
        return outputs._replace(boxes=[part.relu() for part in outputs.boxes])

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return V2's losses, and `num_pos` and `pos_recall` to be logged; nothing waits for the device."""
        targets = self.region_targets(outputs, batch)
        logits = torch.cat(outputs.logits, 1)
        of_classes = self.class_losses(logits, targets)
        of_boxes = self.losses_of_boxes(outputs, targets)
        chosen = targets.positive & self.is_on_best_level(
            of_classes.detach().sum(-1) + of_boxes.detach(), targets, outputs)
        is_own = targets.labels[..., None] == torch.arange(self.num_classes, device=logits.device)
        of_classes = of_classes.masked_fill(is_own & ~chosen[..., None], 0)
        count = chosen.sum()
        divisor = torch.where(count > 0, count, targets.num_negative).float()
        recall = accuracy(
            logits.flatten(0, 1).float().sigmoid(),
            targets.labels.flatten(),
            thresh=self.score_threshold,
            valid=chosen.flatten())
        assert isinstance(recall, Tensor)
        return dict(
            loss_cls=of_classes.sum() / divisor,
            loss_bbox=of_boxes.masked_fill(~chosen, 0).sum() / divisor,
            num_pos=count.float() / len(logits),
            pos_recall=recall)

    @torch.no_grad()
    def region_targets(self, outputs: DenseOutputs, batch: Batch) -> FSAFTargets:
        """Return what each anchor could learn, of objects on all levels."""
        settings, gt = self.train_settings, batch.gt
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        anchors = self.grid(outputs.sizes, gt.boxes.device).anchors
        usable = usable_anchors(self.anchor_generator, outputs.sizes, batch,
                                settings.allowed_border)
        match = self.assigner.match_classes(anchors, gt, usable, self.num_classes)
        positive = match.label == 1
        weight = (match.label >= 0).float()
        if settings.pos_weight > 0:
            weight = weight.masked_fill(positive, settings.pos_weight)
        return FSAFTargets(
            labels=take(gt.labels, match.gt_index).masked_fill(~positive, self.num_classes),
            weight=weight[..., None].masked_fill(match.shadowed, 0),
            positive=positive,
            boxes=torch.where(positive[..., None], take(gt.boxes, match.gt_index), anchors),
            gt_index=match.gt_index,
            num_slots=gt.valid.shape[1],
            num_negative=(match.label == 0).sum(1).clamp(min=1).sum())

    def class_losses(self, logits: Tensor, targets: FSAFTargets) -> Tensor:
        """Return the loss of each anchor and class, [B, A, K]."""
        return self.loss_cls(
            logits.flatten(0, 1),
            targets.labels.flatten(),
            targets.weight.flatten(0, 1),
            reduction_override='none').view_as(logits)

    def losses_of_boxes(self, outputs: DenseOutputs, targets: FSAFTargets) -> Tensor:
        """Return the box loss of each anchor, [B, A]; 0 where it is not positive."""
        pred, goal = torch.cat(outputs.boxes, 1).float().clamp(min=MIN_DISTANCE), targets.boxes
        anchors = self.grid(outputs.sizes, goal.device).anchors
        if self.reg_decoded_bbox:
            pred = self.decode(anchors, pred)
        else:
            goal = self.bbox_coder.encode(anchors, goal)
        losses = self.loss_bbox(
            pred.flatten(0, 1),
            goal.flatten(0, 1),
            targets.positive.flatten()[:, None].expand(-1, 4).float(),
            reduction_override='none')
        return losses.reshape(*targets.positive.shape, -1).sum(-1)

    def is_on_best_level(self, losses: Tensor, targets: FSAFTargets,
                         outputs: DenseOutputs) -> Tensor:
        """Check which anchors are on the level with the smallest mean loss of their object: bool [B, A]."""
        counts: List[int] = [part.shape[1] for part in outputs.boxes]
        level = torch.cat(
            [targets.gt_index.new_full((count, ), i) for i, count in enumerate(counts)])  # [A]
        slot = level * targets.num_slots + targets.gt_index  # [B, A]
        empty = losses.new_zeros(len(losses), len(counts) * targets.num_slots)
        total = empty.scatter_add(1, slot, losses.masked_fill(~targets.positive, 0))
        number = empty.scatter_add(1, slot, targets.positive.to(losses.dtype))
        mean = (total / number.clamp(min=1)).masked_fill(number == 0, NO_LOSS)
        best = mean.unflatten(1, (len(counts), -1)).min(1).indices  # [B, G]
        return best.gather(1, targets.gt_index) == level
