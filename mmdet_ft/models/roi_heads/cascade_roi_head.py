"""Cascade of box and mask branches, each on the boxes of the one before (Cascade R-CNN)."""
from typing import Dict, List, Literal, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.models.assigners import MaxIoUAssigner, RandomSampler
from mmdet_ft.models.base_module import InitCfg, ModuleList, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.layers import apply_to_valid
from mmdet_ft.models.roi_heads.base import RCNNTestSettings, RCNNTrainSettings, RoIHead
from mmdet_ft.models.roi_heads.bbox_heads import ConvFCBBoxHead, SampledRoIs
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead
from mmdet_ft.models.roi_heads.regions import (pack_positives, prepend_image_index, sample_regions,
                                               slots_of_masks, to_rois)
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.boxes import take, unit_box
from mmdet_ft.ops.masks import mask_targets
from mmdet_ft.parts import Takes, takes_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth, HostCopy, Losses

# A part of every stage: one config for all of them, or one config a stage.
Stages = Union[PartConfig, Sequence[PartConfig]]


@MODELS.register_module()
class CascadeRoIHead(RoIHead):
    """Stages that classify and refine boxes, each with a higher IoU threshold (Cai and Vasconcelos 2018).

        proposals -> stage 0 -> refined boxes -> stage 1 -> refined boxes -> stage 2
                      | s0.loss_*                 | s1.loss_*                 | s2.loss_*

    In evaluation the scores come from the mean of the stages' logits, the boxes from the last stage, and a
    mask is the mean of the stages' probabilities.

    V2's arguments and state_dict (`bbox_head.0.fc_cls`). A part is one config for all stages or a list of one
    a stage. Without a `mask_roi_extractor` the mask branch pools with that of the box branch.

    Raises ValueError for a list of another length, and for a `shared_head`, which V2 refuses too.
    """
    one_each = dict(
        num_stages=('bbox_roi_extractor', 'bbox_head', 'mask_roi_extractor', 'mask_head',
                    'stage_loss_weights', 'train_cfg'))
    interleaved = False  # whether a stage trains its masks on the boxes that it has just refined

    def __init__(self,
                 num_stages: int,
                 stage_loss_weights: Sequence[float],
                 bbox_roi_extractor: Stages,
                 bbox_head: Stages,
                 mask_roi_extractor: Optional[Stages] = None,
                 mask_head: Optional[Stages] = None,
                 shared_head: Literal[None] = None,
                 train_cfg: Optional[Sequence[Union[Dict, RCNNTrainSettings]]] = None,
                 test_cfg: Union[Dict, RCNNTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        if shared_head is not None:
            raise ValueError(
                'CascadeRoIHead: a shared head is not used in a cascade, as in MMDetection 2; '
                'write shared_head=None')
        self.num_stages, self.stage_loss_weights = num_stages, list(stage_loss_weights)
        self.is_list = {
            name: isinstance(value, (list, tuple, nn.ModuleList))
            for name, value in dict(
                bbox_roi_extractor=bbox_roi_extractor,
                bbox_head=bbox_head,
                mask_roi_extractor=mask_roi_extractor,
                mask_head=mask_head).items()
        }
        self._check_length('stage_loss_weights', self.stage_loss_weights)
        self.bbox_roi_extractor = self._build('bbox_roi_extractor', bbox_roi_extractor)
        self.bbox_head = self._build('bbox_head', bbox_head)
        self.mask_head: Optional[ModuleList] = None
        self.mask_roi_extractor: Optional[ModuleList] = None
        if mask_head is not None:
            self.mask_head = self._build('mask_head', mask_head)
        if mask_roi_extractor is not None:
            self.mask_roi_extractor = self._build('mask_roi_extractor', mask_roi_extractor)
        self.train_settings: Optional[List[RCNNTrainSettings]] = None
        if train_cfg is not None:
            self._read_training(train_cfg)
        self.test_settings: Optional[RCNNTestSettings] = None
        if test_cfg is not None:
            self.test_settings = read_settings(RCNNTestSettings, test_cfg, 'test_cfg.rcnn')

    def _check_length(self, name: str, values: Sequence) -> None:
        if len(values) != self.num_stages:
            raise ValueError(f'CascadeRoIHead: {name} has {len(values)} entries, but num_stages is '
                             f'{self.num_stages}; write one a stage')

    def _build(self, name: str, part: Stages) -> ModuleList:
        """Build a part for each stage from a list of configs, or from one config for all."""
        parts = list(part) if isinstance(part,
                                         (list, tuple, nn.ModuleList)) else [part] * self.num_stages
        self._check_length(name, parts)
        return ModuleList([MODELS.build(item) for item in parts])

    def _read_training(self, train_cfg: Sequence[Union[Dict, RCNNTrainSettings]]) -> None:
        if isinstance(train_cfg, dict):
            raise ValueError(
                'CascadeRoIHead: train_cfg.rcnn is a dict; write a list of one dict a stage')
        if len(train_cfg) < self.num_stages:
            self._check_length('train_cfg.rcnn', train_cfg)
        self.train_settings = [
            read_settings(RCNNTrainSettings, item, f'train_cfg.rcnn.{stage}')
            for stage, item in enumerate(train_cfg[:self.num_stages])
        ]
        self.assigners: List[MaxIoUAssigner] = [
            MODELS.build(item.assigner) for item in self.train_settings
        ]
        self.samplers: List[RandomSampler] = [
            MODELS.build(item.sampler) for item in self.train_settings
        ]

    def takes(self) -> List[Takes]:
        """Return the inputs of the extractors and heads of all stages; once for a config of all."""
        found: List[Takes] = []
        for name, is_list in self.is_list.items():
            stages = list(getattr(self, name) or ())
            for stage, part in enumerate(stages if is_list else stages[:1]):
                found += takes_of(part, f'{name}.{stage}' if is_list else name)
        return found

    def count_classes(self) -> int:
        return self._box_head(-1).num_classes

    def _box_head(self, stage: int) -> ConvFCBBoxHead:
        return self.bbox_head[stage]  # type: ignore[return-value] # a list of such heads

    def _mask_head(self, stage: int) -> FCNMaskHead:
        assert self.mask_head is not None, 'a detector of boxes'
        return self.mask_head[stage]  # type: ignore[return-value] # a list of such heads

    def _mask_extractor(self, stage: int) -> SingleRoIExtractor:
        extractors = self.mask_roi_extractor or self.bbox_roi_extractor
        return extractors[stage]  # type: ignore[return-value] # a list of extractors

    # Training

    def loss(self,
             features: Sequence[Tensor],
             proposals: Proposals,
             batch: Batch,
             num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses of all stages: 's0.loss_cls', ..., each times the weight of its stage.

        The numbers of positives of all stages are read together: one wait for the device in a step.
        """
        gt, settings = batch.gt, self.train_settings
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        regions, losses = [], []
        for stage in range(self.num_stages):
            rois = self.sample(stage, features, proposals, gt)
            head = self._box_head(stage)
            pooled = self.pool_boxes(stage, features, to_rois(rois.boxes))
            logits, deltas = apply_to_valid(head, pooled, rois.valid.flatten())
            losses.append(head.loss(logits, deltas, rois, gt, settings[stage].pos_weight))
            if self.interleaved or stage + 1 < self.num_stages:
                proposals = self.refined(stage, rois, logits, deltas, batch)
            if self.interleaved and self.mask_head is not None:
                rois = self.sample(stage, features, proposals, gt)
            regions.append(rois)
        if self.mask_head is not None:
            counts = self._mask_slots(regions, num_mask_slots)
            losses = [
                Losses({
                    **of_boxes.terms,
                    **self.mask_loss(stage, features, rois, gt, count)
                }, of_boxes.metrics)
                for stage, (of_boxes, rois, count) in enumerate(zip(losses, regions, counts))
            ]
        return join_stages(losses, self.stage_loss_weights)

    def pool_boxes(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return the input of a stage's box head for rois [R, 5]: [R, C, 7, 7]."""
        return self.bbox_roi_extractor[stage](features, rois)

    def pool_masks(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return the input of a stage's mask head for rois [R, 5]: [R, C, 14, 14]."""
        return self._mask_extractor(stage)(features, rois)

    def mask_logits(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return the mask logits [R, K, 28, 28] of a stage for rois [R, 5]."""
        return self._mask_head(stage)(self.pool_masks(stage, features, rois))

    def sample(self, stage: int, features: Sequence[Tensor], proposals: Proposals,
               gt: GroundTruth) -> SampledRoIs:
        """Sample the regions that a stage trains on; see regions.sample_regions."""

        def losses_of(boxes: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
            boxes = torch.where(valid[..., None], boxes, unit_box(boxes))
            pooled = self.pool_boxes(stage, features, to_rois(boxes))
            return self._box_head(stage).classification_losses(pooled, classes, valid)

        return sample_regions(self.assigners[stage], self.samplers[stage], proposals, gt,
                              self.count_classes(), losses_of)

    @torch.no_grad()
    def refined(self, stage: int, rois: SampledRoIs, logits: Tensor, deltas: Tensor,
                batch: Batch) -> Proposals:
        """Return the sampled regions, moved by a stage, as the proposals of the next one.

        A positive moves as its true class does, a negative as its likeliest class. Ground truths leave: each
        stage adds them itself.
        """
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        num_positive_slots = rois.positive.shape[1]
        likeliest = self._box_head(stage).likeliest(logits).view_as(rois.valid)
        labels = torch.where(rois.positive, take(gt.labels, rois.gt_index),
                             likeliest[:, :num_positive_slots])
        labels = torch.cat([labels, likeliest[:, num_positive_slots:]], 1)
        boxes = self._box_head(stage).refine(rois.boxes, labels, deltas, batch.sizes)
        valid = rois.valid & ~F.pad(rois.is_gt, [0, boxes.shape[1] - num_positive_slots])
        boxes = torch.where(valid[..., None], boxes, unit_box(boxes))
        return Proposals(boxes, valid.to(boxes), valid)

    def _mask_slots(self, regions: Sequence[SampledRoIs], given: Optional[int]) -> List[int]:
        """Return the number of slots of each stage's mask branch."""
        if given is not None:
            return [given] * self.num_stages
        sums = torch.stack([rois.positive.sum() for rois in regions])
        counts = HostCopy(sums, sums.device).read().tolist()
        return [
            slots_of_masks(int(count), rois, self._mask_head(stage))
            for stage, (count, rois) in enumerate(zip(counts, regions))
        ]

    def mask_loss(self, stage: int, features: Sequence[Tensor], rois: SampledRoIs, gt: GroundTruth,
                  num_slots: int) -> Dict[str, Tensor]:
        """Return the mask loss of a stage on the positives of all images, in `num_slots` slots."""
        assert self.train_settings is not None and gt.masks is not None
        found = pack_positives(rois, gt, num_slots)
        rows = prepend_image_index(found.image_index, found.boxes)
        logits = self.mask_logits(stage, features, rows)
        targets = mask_targets(gt.masks, found.image_index, found.gt_index, found.boxes,
                               self.train_settings[stage].mask_size)
        return self._mask_head(stage).loss(logits, targets, found.labels, found.valid)

    # Testing

    def box_predictions(self, features: Sequence[Tensor], boxes: Tensor,
                        sizes: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the boxes of the last stage [B, P, K, 4] (K is 1 if class-agnostic) and the scores of the
        mean of all stages' logits [B, P, K]; boxes [B, P, 4].
        """
        shape = boxes.shape[:2]
        all_logits = []
        for stage in range(self.num_stages):
            head = self._box_head(stage)
            logits, deltas = head(self.pool_boxes(stage, features, to_rois(boxes)))
            all_logits.append(logits)
            if stage + 1 < self.num_stages:
                likeliest = head.likeliest(logits).view(shape)
                boxes = head.refine(boxes, likeliest, deltas, sizes)
        moved = head.bbox_coder.decode(boxes, deltas.view(*shape, -1), max_shape=sizes)
        scores = head.probabilities(sum(all_logits) / self.num_stages)[:, :-1]
        return moved.unflatten(-1, (-1, 4)), scores.view(*shape, -1)

    def mask_probabilities(self, features: Sequence[Tensor], rois: Tensor,
                           labels: Tensor) -> Tensor:
        masks = [
            self._mask_head(stage).select_class(logits, labels).sigmoid()
            for stage, logits in enumerate(self.all_mask_logits(features, rois))
        ]
        return torch.stack(masks).mean(0)

    def all_mask_logits(self, features: Sequence[Tensor], rois: Tensor) -> List[Tensor]:
        """Return the mask logits [R, K, 28, 28] of every stage for the detections' rois [R, 5]."""
        return [self.mask_logits(stage, features, rois) for stage in range(self.num_stages)]


def join_stages(losses: Sequence[Losses], weights: Sequence[float]) -> Losses:
    """Return the losses of all stages under 's0.loss_cls', ..., each times the weight of its stage."""
    terms = {
        f's{stage}.{name}': value * weight
        for stage, (part, weight) in enumerate(zip(losses, weights))
        for name, value in part.terms.items()
    }
    metrics = {
        f's{stage}.{name}': value
        for stage, part in enumerate(losses)
        for name, value in part.metrics.items()
    }
    return Losses(terms, metrics)
