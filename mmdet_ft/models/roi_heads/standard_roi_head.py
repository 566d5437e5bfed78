"""The second stage: sampling and pooling of regions; class, box and mask of each."""
import dataclasses
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.models.assigners import MaxIoUAssigner, OHEMSampler, RandomSampler
from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.layers import apply_to_valid, learns_statistics
from mmdet_ft.models.roi_heads.bbox_heads import ConvFCBBoxHead, SampledRoIs
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.shared_head import ResLayer
from mmdet_ft.models.settings import NMSSettings, ReadsNMS, read_settings
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.boxes import take, unit_box
from mmdet_ft.ops.masks import mask_targets
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.parts import Takes, takes_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, GroundTruth, HostCopy, Losses


@dataclasses.dataclass(frozen=True)
class RCNNTrainSettings:
    """`train_cfg.rcnn`."""
    assigner: Any
    sampler: Any
    mask_size: int = 28
    pos_weight: float = -1
    debug: bool = False  # V2 reads it nowhere either


@dataclasses.dataclass(frozen=True)
class RCNNTestSettings(ReadsNMS):
    """`test_cfg.rcnn`."""
    nms: NMSSettings  # or its dict
    score_thr: float = .05
    max_per_img: int = 100
    mask_thr_binary: float = .5


@MODELS.register_module()
class StandardRoIHead(BaseModule):
    """Box and mask branch over sampled regions (Fast R-CNN; Mask R-CNN, sec. 3).

        proposals + ground truths -> match -> sample [B, S]
            all       -> RoIAlign 7x7   -> bbox_head -> loss_cls, loss_bbox
            positives -> RoIAlign 14x14 -> mask_head -> loss_mask

    V2's arguments. Without a `mask_roi_extractor` the mask branch uses the features of the box
    branch. A `shared_head` is applied between RoIAlign and both heads.
    """
    learns_from = ('gt_bboxes', 'gt_labels')

    def __init__(self,
                 bbox_roi_extractor: Optional[PartConfig] = None,
                 bbox_head: Optional[PartConfig] = None,
                 mask_roi_extractor: Optional[PartConfig] = None,
                 mask_head: Optional[PartConfig] = None,
                 shared_head: Optional[PartConfig] = None,
                 train_cfg: Union[Dict, RCNNTrainSettings, None] = None,
                 test_cfg: Union[Dict, RCNNTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        if shared_head is not None and pretrained is not None:  # V2's older argument for it
            assert isinstance(shared_head, dict), 'pretrained is for the config of a part'
            shared_head = {**shared_head, 'pretrained': pretrained}
        self.shared_head: Optional[ResLayer] = MODELS.build(shared_head)
        self.bbox_roi_extractor: SingleRoIExtractor = MODELS.build(bbox_roi_extractor)
        self.bbox_head: ConvFCBBoxHead = MODELS.build(bbox_head)
        self.mask_head: Optional[FCNMaskHead] = MODELS.build(mask_head)
        self.mask_roi_extractor: Optional[SingleRoIExtractor] = MODELS.build(mask_roi_extractor)
        self.train_settings: Optional[RCNNTrainSettings] = None
        if train_cfg is not None:
            self.train_settings = read_settings(RCNNTrainSettings, train_cfg, 'train_cfg.rcnn')
            self.assigner: MaxIoUAssigner = MODELS.build(self.train_settings.assigner)
            self.sampler: RandomSampler = MODELS.build(self.train_settings.sampler)
        self.test_settings: Optional[RCNNTestSettings] = None
        if test_cfg is not None:
            self.test_settings = read_settings(RCNNTestSettings, test_cfg, 'test_cfg.rcnn')

    def takes(self) -> List[Takes]:
        """Return the inputs of the extractors, and of the heads if there is no shared head."""
        names = ['bbox_roi_extractor', 'mask_roi_extractor']
        names += ['bbox_head', 'mask_head'] if self.shared_head is None else []
        return [item for name in names for item in takes_of(getattr(self, name), name)]

    # Training

    def loss(self,
             features: Sequence[Tensor],
             proposals: Proposals,
             batch: Batch,
             num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses of the box and mask branch.

        The mask branch uses `num_mask_slots` regions, positives first. If None, it is the number of
        positives, rounded up: the only number that a step reads from the device.
        """
        gt, settings = batch.gt, self.train_settings
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        rois = self.sample(features, proposals, gt)
        count = None
        if num_mask_slots is None and self.mask_head is not None:
            count = HostCopy(rois.positive.sum(), rois.boxes.device)
        pooled = self.pool(self.bbox_roi_extractor, features, to_rois(rois.boxes))
        logits, deltas = apply_to_valid(self.bbox_head, pooled, rois.valid.flatten())
        losses = self.bbox_head.loss(logits, deltas, rois, gt, settings.pos_weight)
        if self.mask_head is None:
            return losses
        if count is not None:
            # Batch norm would include slots without a region.
            step = 1 if learns_statistics(self.mask_head) else 8
            num_mask_slots = round_up_slots(int(count.read()), rois.positive.numel(), step)
        assert num_mask_slots is not None
        return Losses({
            **losses.terms,
            **self.mask_loss(features, pooled, rois, gt, num_mask_slots)
        }, losses.metrics)

    @torch.no_grad()
    def sample(self, features: Sequence[Tensor], proposals: Proposals,
               gt: GroundTruth) -> SampledRoIs:
        """Sample the regions to train on.

        Ground truths join the proposals: early proposals are too poor to be positive.
        """
        match = self.assigner(proposals.boxes, gt, proposals.valid)
        boxes, gt_index, label = proposals.boxes, match.gt_index, match.label
        if self.sampler.add_gt_as_proposals:
            boxes = torch.cat([gt.boxes, boxes], 1)
            own = torch.arange(gt.valid.shape[1], device=label.device).expand_as(gt.valid)
            gt_index = torch.cat([own, gt_index], 1)
            label = torch.cat([gt.valid.long() * 2 - 1, label], 1)  # 1 or, in an empty slot, -1
        if isinstance(self.sampler, OHEMSampler):
            classes = take(gt.labels, gt_index).masked_fill(label != 1, self.bbox_head.num_classes)
            keys = self.classification_losses(features, boxes, classes, label >= 0)
            drawn = self.sampler(label, keys)
        else:
            drawn = self.sampler(label)
        index = drawn.index
        boxes = torch.where(drawn.valid[..., None], take(boxes, index), unit_box(boxes))
        return SampledRoIs(boxes, drawn.valid, drawn.positive,
                           take(gt_index, index[:, :drawn.positive.shape[1]]))

    def classification_losses(self, features: Sequence[Tensor], boxes: Tensor, classes: Tensor,
                              valid: Tensor) -> Tensor:
        """Return the loss [B, N] of boxes [B, N, 4] with target classes (or background) [B, N].

        The loss of boxes that are not valid, bool [B, N], is undefined.
        """
        boxes = torch.where(valid[..., None], boxes, unit_box(boxes))
        pooled = self.pool(self.bbox_roi_extractor, features, to_rois(boxes))
        logits, _ = apply_to_valid(self.bbox_head, pooled, valid.flatten())
        losses = self.bbox_head.loss_cls(logits, classes.flatten(), reduction_override='none')
        return losses.view(*classes.shape, -1).sum(-1)

    def mask_loss(self, features: Sequence[Tensor], pooled: Tensor, rois: SampledRoIs,
                  gt: GroundTruth, num_slots: int) -> Dict[str, Tensor]:
        """Return the mask loss on the positives of all images, packed into `num_slots` slots.

        pooled [B*S, C, size, size]: features of the box branch, which the mask branch uses if it
        has no extractor of its own.
        """
        assert self.mask_head is not None and self.train_settings is not None and gt.masks is not None
        num_images, num_positive_slots = rois.positive.shape
        order = find_true(rois.positive, num_slots)
        image_index = order // num_positive_slots
        slot = order % num_positive_slots
        valid = rois.positive[image_index, slot]
        gt_index = rois.gt_index[image_index, slot].masked_fill(~valid, 0)
        boxes = rois.boxes[image_index, slot]
        labels = gt.labels[image_index, gt_index].masked_fill(~valid, 0)
        if self.mask_roi_extractor is None:
            pooled = pooled.index_select(0, image_index * rois.valid.shape[1] + slot)
        else:
            pooled = self.pool(self.mask_roi_extractor, features,
                               prepend_image_index(image_index, boxes))
        logits = self.mask_head(pooled)
        targets = mask_targets(gt.masks, image_index, gt_index, boxes,
                               self.train_settings.mask_size)
        return self.mask_head.loss(logits, targets, labels, valid)

    def pool(self, extractor: SingleRoIExtractor, features: Sequence[Tensor],
             rois: Tensor) -> Tensor:
        """Return the input features of the heads for rois [R, 5]: [R, C, size, size]."""
        pooled = extractor(features, rois)
        return pooled if self.shared_head is None else self.shared_head(pooled)

    # Testing

    def predict(self, features: Sequence[Tensor], proposals: Proposals, batch: Batch) -> Detections:
        """Return detections in original pixels, masks as 28x28 probabilities inside their boxes."""
        boxes, scores = self.box_predictions(features, proposals.boxes, batch)
        detections = self.select(boxes / batch.scale_factors[:, None, None], scores,
                                 proposals.valid)
        if self.mask_head is None:
            return detections
        return detections._replace(masks=self.mask_predictions(features, detections, batch))

    def box_predictions(self, features: Sequence[Tensor], boxes: Tensor,
                        batch: Batch) -> Tuple[Tensor, Tensor]:
        """Return refined boxes [B, P, K, 4] (K is 1 if class-agnostic) and scores [B, P, K].

        boxes [B, P, 4].
        """
        num_images, num_proposals = boxes.shape[:2]
        pooled = self.pool(self.bbox_roi_extractor, features, to_rois(boxes))
        logits, deltas = self.bbox_head(pooled)
        scores = logits.softmax(-1)[:, :-1].view(num_images, num_proposals, -1)
        deltas = deltas.view(num_images, num_proposals, -1)
        moved = self.bbox_head.bbox_coder.decode(boxes, deltas, max_shape=batch.sizes)
        return moved.unflatten(-1, (-1, 4)), scores

    def select(self, boxes: Tensor, scores: Tensor, valid: Tensor) -> Detections:
        """Select detections: every class of every proposal is a candidate, suppression is per
        class, and the best `max_per_img` of an image are kept.

        boxes [B, P, K or 1, 4], scores [B, P, K], valid [B, P].
        """
        settings, num_classes = self.test_settings, scores.shape[2]
        assert settings is not None, 'no test_cfg'
        boxes = boxes.expand(-1, -1, num_classes, -1)
        candidate = valid[..., None] & (scores > settings.score_thr)
        limit = settings.nms.limit(settings.max_per_img, scores[0].numel())
        order = rank_boxes(scores.flatten(1), candidate.flatten(1)).view_as(scores)
        boxes_of, scores, order, candidate = (x.transpose(1, 2)
                                              for x in (boxes, scores, order, candidate)
                                              )  # [B, K, P, ...]
        scores, order = (
            x.transpose(1, 2).flatten(1)
            for x in suppress(boxes_of, scores, order, candidate, settings.nms, limit))
        index = order.topk(limit, 1).indices
        scores = take(scores, index)
        return Detections(
            take(boxes.flatten(1, 2), index), scores, index % num_classes, scores >= 0)

    def mask_predictions(self, features: Sequence[Tensor], detections: Detections,
                         batch: Batch) -> Tensor:
        """Return mask probabilities [B, D, M, M] inside the boxes of detections, which are in
        original pixels; zero for empty slots.
        """
        assert self.mask_head is not None, 'a detector of boxes'
        num_images, num_detections = detections.valid.shape
        count = HostCopy(detections.valid.sum(), detections.boxes.device)
        num_slots = round_up_slots(int(count.read()), detections.valid.numel())
        order = find_true(detections.valid, num_slots)
        image_index = order // num_detections
        boxes = (detections.boxes * batch.scale_factors[:, None]).flatten(0, 1)[order]
        boxes = torch.where(detections.valid.flatten()[order, None], boxes, unit_box(boxes))
        pooled = self.pool(self.mask_roi_extractor or self.bbox_roi_extractor, features,
                           prepend_image_index(image_index, boxes))
        logits = self.mask_head(pooled)
        masks = self.mask_head.select_class(logits, detections.labels.flatten()[order]).sigmoid()
        out = masks.new_zeros(num_images * num_detections, *masks.shape[1:])
        return out.index_copy(0, order, masks).view(num_images, num_detections, *masks.shape[1:])


def to_rois(boxes: Tensor) -> Tensor:
    """Prepend the image index to boxes [B, N, 4]: [B*N, 5]."""
    num_images, num_boxes = boxes.shape[:2]
    image = torch.arange(num_images, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat([image.expand(-1, num_boxes, 1), boxes], 2).flatten(0, 1)


def prepend_image_index(image_index: Tensor, boxes: Tensor) -> Tensor:
    """Prepend the image index, image_index [R], to boxes [R, 4]: [R, 5]."""
    return torch.cat([image_index[:, None].to(boxes.dtype), boxes], 1)


def round_up_slots(count: int, limit: int, step: int = 8) -> int:
    """Round `count` up to a multiple of `step`, and at least that.

    So few sizes occur, and every rank uses the weights of the mask head.
    """
    return min(-(-max(count, 1) // step) * step, limit)


def find_true(x: Tensor, num_slots: int) -> Tensor:
    """Return int64 [num_slots] indices into the flattened bool `x`, true elements first, in order."""
    return x.flatten().byte().sort(descending=True, stable=True).indices[:num_slots]
