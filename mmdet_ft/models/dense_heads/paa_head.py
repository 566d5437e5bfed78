"""Head of PAA: Probabilistic Anchor Assignment with IoU Prediction for Object Detection."""
from typing import Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.models.anchors import AnchorGenerator, Grid
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.dense_heads.atss_head import ATSSHead
from mmdet_ft.models.dense_heads.dense_head import (NO_LIMIT, AnchorHead, Candidates, DenseOutputs,
                                                    DenseTargets, DenseTestSettings,
                                                    DenseTrainSettings)
from mmdet_ft.models.losses.iou import aligned_iou
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.boxes import pairwise_overlap, take
from mmdet_ft.ops.matching import Match
from mmdet_ft.ops.mixture import choose_by_costs
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, GroundTruth

COVARIANCES = ('full', 'tied', 'diag', 'spherical')


@MODELS.register_module()
class PAAHead(ATSSHead):
    """ATSSHead that chooses positives by their own losses, and predicts the IoU instead of centerness.

        anchors -> assigner -> losses of all positives -> two Gaussians per object -> positives of low loss

    V2's arguments and state_dict.

    Args:
        topk: positives of a level that an object's Gaussians are fitted to.
        score_voting: detections become the mean of the boxes around them, weighted by score and IoU.
        covariance_type: 'tied' for one variance; 'full', 'diag' and 'spherical' are the same for a single number.
        loss_centerness: of the IoU.
        Others: see ATSSHead, AnchorHead and DenseHead.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 pred_kernel_size: int = 3,
                 stacked_convs: int = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 reg_decoded_bbox: bool = True,
                 loss_centerness: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='atss_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: int = 256,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='AnchorGenerator',
                     scales=[8, 16, 32],
                     ratios=[0.5, 1.0, 2.0],
                     strides=[4, 8, 16, 32, 64]),
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = dict(
                     type='DeltaXYWHBBoxCoder',
                     clip_border=True,
                     target_means=(.0, .0, .0, .0),
                     target_stds=(1.0, 1.0, 1.0, 1.0)),
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 topk: int = 9,
                 score_voting: bool = True,
                 covariance_type: str = 'diag',
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(num_classes, in_channels, pred_kernel_size, stacked_convs, conv_cfg,
                         norm_cfg, reg_decoded_bbox, loss_centerness, init_cfg, feat_channels,
                         anchor_generator, bbox_coder, loss_cls, loss_bbox, train_cfg, test_cfg)
        if covariance_type not in COVARIANCES:
            raise ValueError(f'PAAHead: covariance_type is {covariance_type!r}; write one of '
                             f'{", ".join(map(repr, COVARIANCES))}')
        self.topk, self.score_voting = topk, score_voting
        self.is_tied = covariance_type == 'tied'

    def match(self, grid: Grid, gt: GroundTruth, usable: Tensor) -> Match:
        return AnchorHead.match(self, grid, gt, usable)

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox`, weighted by the IoU, and `loss_iou`."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth) and outputs.quality is not None, 'no boxes'
        grid, match = self.matches(outputs, batch)
        boxes = self.decode(grid.anchors, torch.cat(outputs.boxes, 1))
        targets = self.targets_of(match, grid, gt)
        positive = choose_by_costs(
            self._costs(outputs, boxes, targets), match.gt_index, targets.positive, grid.counts,
            gt.valid.shape[1], self.topk, self.is_tied)
        count = positive.sum().float()
        labels = targets.labels.masked_fill(~positive, self.num_classes)
        targets = targets._replace(num_positive=count.clamp(min=len(labels)))
        iou = aligned_iou(boxes.detach(), targets.boxes).masked_fill(~positive, 0.)
        loss_bbox = self.loss_bbox(
            boxes.flatten(0, 1),
            targets.boxes.flatten(0, 1),
            iou.clamp(min=1e-12).masked_fill(~positive, 0.).flatten(),
            avg_factor=iou.sum())
        loss_iou = self.loss_centerness(
            torch.cat(outputs.quality, 1).flatten(),
            iou.flatten(),
            positive.flatten().float(),
            avg_factor=count)
        loss_cls = self.classification_loss(outputs, targets, labels)
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox, loss_iou=loss_iou)

    @torch.no_grad()
    def _costs(self, outputs: DenseOutputs, boxes: Tensor, targets: DenseTargets) -> Tensor:
        """Return the losses of class and box of each anchor, [B, A]; meaningful for positives."""
        counts = [logits.shape[1] for logits in outputs.logits]
        levels = zip(outputs.logits, targets.labels.split(counts, 1),
                     targets.weight.split(counts, 1))
        of_classes: List[Tensor] = []
        for logits, labels, weight in levels:
            loss = self.loss_cls(
                logits.flatten(0, 1), labels.flatten(), weight.flatten(), reduction_override='none')
            of_classes.append(loss.view(*labels.shape, -1).sum(-1))
        of_boxes = self.loss_bbox(
            boxes.flatten(0, 1),
            targets.boxes.flatten(0, 1),
            targets.positive.flatten().float(),
            reduction_override='none')
        return torch.cat(of_classes, 1) + of_boxes.view_as(targets.labels)

    def candidates_in(self, outputs: DenseOutputs, sizes: Tensor) -> Candidates:
        """Return all classes of the best `nms_pre` anchors of each level, in input pixels; anchor by anchor."""
        assert outputs.quality is not None
        levels = zip(outputs.logits, outputs.boxes, outputs.quality,
                     self.priors(outputs.sizes, outputs.boxes[0].device))
        boxes, scores = (
            torch.cat(part, 1)
            for part in zip(*(self._best_anchors(*level, sizes) for level in levels)))
        return self._candidates_of(boxes, scores)

    def _best_anchors(self, logits: Tensor, raw: Tensor, quality: Tensor, anchors: Tensor,
                      sizes: Tensor) -> Tuple[Tensor, Tensor]:
        """Return boxes [B, P, 4] and scores [B, P, K], geometric means of class and IoU, of a level."""
        settings = self.test_settings
        assert settings is not None, 'no test_cfg'
        scores = (self.scores(logits.float()) * quality.float().sigmoid()[..., None]).sqrt()
        index, _ = self.best(
            scores.amax(2), None, settings.nms_pre if settings.nms_pre > 0 else NO_LIMIT)
        return self.decode(anchors[index], take(raw, index).float(), sizes), take(scores, index)

    def _candidates_of(self, boxes: Tensor, scores: Tensor) -> Candidates:
        assert self.test_settings is not None, 'no test_cfg'
        labels = torch.arange(scores.shape[2], device=scores.device).expand_as(scores)
        boxes = boxes[:, :, None].expand(-1, -1, scores.shape[2], -1)
        valid = scores > self.test_settings.score_thr
        return Candidates(*(x.flatten(1, 2) for x in (boxes, scores, labels, valid)))

    @torch.no_grad()
    def select(self, found: Candidates) -> Detections:
        """Return the best `max_per_img` boxes of an image that survive suppression by class, after the vote."""
        settings, width = self.test_settings, self.num_classes
        assert settings is not None, 'no test_cfg'
        boxes, scores, valid = (
            x.unflatten(1, (-1, width)) for x in (found.boxes, found.scores, found.valid))
        limit = settings.nms.limit(settings.max_per_img, found.scores.shape[1])
        order = rank_boxes(found.scores, found.valid).view_as(scores)
        groups = [x.transpose(1, 2) for x in (boxes, scores, order, valid)]  # [B, K, P]
        kept, order = suppress(groups[0], groups[1], groups[2], groups[3], settings.nms, limit)
        kept, order = (x.transpose(1, 2).flatten(1) for x in (kept, order))
        index = order.topk(limit, 1).indices
        best = take(kept, index)
        chosen = Detections(take(found.boxes, index), best, index % width, best >= 0)
        if not self.score_voting:
            return chosen
        return chosen._replace(boxes=self.voted(chosen, found))

    def voted(self, chosen: Detections, found: Candidates) -> Tensor:
        """Return the boxes [B, D, 4] of chosen detections after the vote of all candidates."""
        boxes, scores, valid = (
            x.unflatten(1, (-1, self.num_classes))
            for x in (found.boxes, found.scores, found.valid))
        return vote(chosen, boxes[:, :, 0], scores.masked_fill(~valid, 0.))


def vote(detections: Detections, boxes: Tensor, scores: Tensor) -> Tensor:
    """Return each detection's mean of the boxes that it overlaps, weighted by score and IoU (PAA, eq. 14).

    boxes [B, P, 4]; scores [B, P, K] of its class count, 0 for none. Returns [B, D, 4].
    """
    labels = detections.labels[:, None].expand(-1, scores.shape[1], -1)
    own = scores.gather(2, labels).transpose(1, 2)  # [B, D, P]
    overlap = pairwise_overlap(detections.boxes, boxes)
    weight = ((1 - overlap).square() / -.025).exp() * own
    weight = weight.masked_fill(overlap <= .01, 0.)
    total = weight.sum(2, keepdim=True)
    return torch.where(total > 0, weight @ boxes / total, detections.boxes)
