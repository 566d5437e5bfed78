"""The second stage: sampling and pooling of regions; class, box and mask of each."""
from typing import Dict, List, Optional, Sequence, Tuple, Type, Union

import torch
from torch import Tensor

from mmdet_ft.models.assigners import MaxIoUAssigner, RandomSampler
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.layers import apply_to_valid
from mmdet_ft.models.roi_heads.base import RCNNTestSettings, RCNNTrainSettings, RoIHead
from mmdet_ft.models.roi_heads.bbox_heads import ConvFCBBoxHead, SampledRoIs
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead
from mmdet_ft.models.roi_heads.regions import (Positives, pack_positives, prepend_image_index,
                                               sample_regions, slots_of_masks, to_rois)
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.shared_head import ResLayer
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.boxes import unit_box
from mmdet_ft.ops.masks import mask_targets
from mmdet_ft.parts import Takes, takes_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth, HostCopy, Losses


@MODELS.register_module()
class StandardRoIHead(RoIHead):
    """Box and mask branch over sampled regions (Fast R-CNN; Mask R-CNN, sec. 3).

        proposals + ground truths -> match -> sample [B, S]
            all       -> RoIAlign 7x7   -> bbox_head -> loss_cls, loss_bbox
            positives -> RoIAlign 14x14 -> mask_head -> loss_mask

    V2's arguments. Without a `mask_roi_extractor` the mask branch uses the features of the box
    branch. A `shared_head` is applied between RoIAlign and both heads.
    """
    train_record: Type[RCNNTrainSettings] = RCNNTrainSettings

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
            self.train_settings = read_settings(self.train_record, train_cfg, 'train_cfg.rcnn')
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

    def count_classes(self) -> int:
        return self.bbox_head.num_classes

    # Training

    def loss(self,
             features: Sequence[Tensor],
             proposals: Proposals,
             batch: Batch,
             num_mask_slots: Optional[int] = None) -> Losses:
        gt, settings = batch.gt, self.train_settings
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        rois = self.sample(features, proposals, gt)
        count = None
        if num_mask_slots is None and self.mask_head is not None:
            count = HostCopy(rois.positive.sum(), rois.boxes.device)
        inputs = self.box_inputs(features, to_rois(rois.boxes))
        logits, deltas = apply_to_valid(self.bbox_head, inputs, rois.valid.flatten())
        losses = self.bbox_head.loss(logits, deltas, rois, gt, settings.pos_weight)
        if self.mask_head is None:
            return losses
        if count is not None:
            num_mask_slots = slots_of_masks(int(count.read()), rois, self.mask_head)
        assert num_mask_slots is not None
        return Losses(
            {
                **losses.terms,
                **self.mask_loss(features, inputs[0], rois, gt, num_mask_slots)
            }, losses.metrics)

    def sample(self, features: Sequence[Tensor], proposals: Proposals,
               gt: GroundTruth) -> SampledRoIs:
        """Sample the regions to train on; see regions.sample_regions."""
        return sample_regions(self.assigner, self.sampler, proposals, gt, self.count_classes(),
                              lambda *boxes: self.classification_losses(features, *boxes))

    def classification_losses(self, features: Sequence[Tensor], boxes: Tensor, classes: Tensor,
                              valid: Tensor) -> Tensor:
        """Return the loss [B, N] of boxes [B, N, 4] with target classes (or background) [B, N].

        The loss of boxes that are not valid, bool [B, N], is undefined.
        """
        boxes = torch.where(valid[..., None], boxes, unit_box(boxes))
        inputs = self.box_inputs(features, to_rois(boxes))
        return self.bbox_head.classification_losses(inputs, classes, valid)

    def mask_loss(self, features: Sequence[Tensor], pooled: Tensor, rois: SampledRoIs,
                  gt: GroundTruth, num_slots: int) -> Dict[str, Tensor]:
        """Return the mask loss on the positives of all images, packed into `num_slots` slots.

        pooled [B*S, C, size, size]: features of the box branch, which the mask branch uses if it
        has no extractor of its own.
        """
        assert self.mask_head is not None and self.train_settings is not None and gt.masks is not None
        found = pack_positives(rois, gt, num_slots)
        if self.mask_roi_extractor is None:
            pooled = pooled.index_select(0, found.image_index * rois.valid.shape[1] + found.slot)
        else:
            pooled = self.pool(self.mask_roi_extractor, features,
                               prepend_image_index(found.image_index, found.boxes))
        logits = self.mask_head(pooled)
        targets = mask_targets(gt.masks, found.image_index, found.gt_index, found.boxes,
                               self.train_settings.mask_size)
        return {
            **self.mask_head.loss(logits, targets, found.labels, found.valid),
            **self.mask_iou_loss(pooled, logits, targets, found, gt)
        }

    def mask_iou_loss(self, pooled: Tensor, logits: Tensor, targets: Tensor, found: Positives,
                      gt: GroundTruth) -> Dict[str, Tensor]:
        """Return the loss of the quality of masks, which only Mask Scoring R-CNN predicts.

        pooled [T, C, 14, 14], logits [T, K, 28, 28] and targets [T, 28, 28] of the mask head.
        """
        return {}

    def box_inputs(self, features: Sequence[Tensor], rois: Tensor) -> Tuple[Tensor, ...]:
        """Return the inputs of the box head for rois [R, 5]; the first may be the mask head's too."""
        return (self.pool(self.bbox_roi_extractor, features, rois), )

    def pool(self, extractor: SingleRoIExtractor, features: Sequence[Tensor],
             rois: Tensor) -> Tensor:
        """Return the input features of the heads for rois [R, 5]: [R, C, size, size]."""
        pooled = extractor(features, rois)
        return pooled if self.shared_head is None else self.shared_head(pooled)

    @property
    def mask_extractor(self) -> SingleRoIExtractor:
        """Return the extractor of the mask branch, which may be that of the box branch."""
        return self.mask_roi_extractor or self.bbox_roi_extractor

    # Testing

    def box_predictions(self, features: Sequence[Tensor], boxes: Tensor,
                        sizes: Tensor) -> Tuple[Tensor, Tensor]:
        num_images, num_proposals = boxes.shape[:2]
        logits, deltas = self.bbox_head(*self.box_inputs(features, to_rois(boxes)))
        scores = self.bbox_head.probabilities(logits)[:, :-1].view(num_images, num_proposals, -1)
        deltas = deltas.view(num_images, num_proposals, -1)
        moved = self.bbox_head.bbox_coder.decode(boxes, deltas, max_shape=sizes)
        return moved.unflatten(-1, (-1, 4)), scores

    def mask_probabilities(self, features: Sequence[Tensor], rois: Tensor,
                           labels: Tensor) -> Tensor:
        head = self.mask_head
        assert head is not None, 'a detector of boxes'
        logits = head(self.pool(self.mask_extractor, features, rois))
        return head.select_class(logits, labels).sigmoid()
