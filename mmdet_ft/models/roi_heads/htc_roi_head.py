"""Hybrid task cascade: box, mask and semantic branches that learn from each other (HTC, Chen et al. 2019)."""
from typing import Dict, List, Literal, Optional, Sequence, Tuple, Union

import torch.nn.functional as F
from torch import Tensor

from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.roi_heads.base import RCNNTestSettings, RCNNTrainSettings
from mmdet_ft.models.roi_heads.cascade_roi_head import CascadeRoIHead, Stages
from mmdet_ft.models.roi_heads.mask_head import HTCMaskHead
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.semantic_head import FusedSemanticHead
from mmdet_ft.parts import Takes, takes_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth, Losses


@MODELS.register_module()
class HybridTaskCascadeRoIHead(CascadeRoIHead):
    """A cascade whose stages share mask features, with a semantic branch beside them.

        proposals -> boxes 0 -> refined -> boxes 1 -> refined -> boxes 2 -> refined
                                   |                     |                     |
                                masks 0 --features--> masks 1 --features--> masks 2

    `interleaved`: a stage trains its masks on the boxes that it has just refined, sampled again. `mask_info_flow`:
    a mask head gets the features of the one before. `semantic_head` adds its features to the pooled ones of the
    branches in `semantic_fusion`.

    V2's arguments and state_dict. Inside the head the semantic features follow those of the levels. Without a
    mask_head every stage refines the boxes of the one before; V2 trains all stages on the proposals of the RPN.

    Raises ValueError for a `semantic_head` without an extractor, and for mask heads that get no features.
    """

    def __init__(self,
                 num_stages: int,
                 stage_loss_weights: Sequence[float],
                 bbox_roi_extractor: Stages,
                 bbox_head: Stages,
                 semantic_roi_extractor: Optional[PartConfig] = None,
                 semantic_head: Optional[PartConfig] = None,
                 semantic_fusion: Sequence[str] = ('bbox', 'mask'),
                 interleaved: bool = True,
                 mask_info_flow: bool = True,
                 mask_roi_extractor: Optional[Stages] = None,
                 mask_head: Optional[Stages] = None,
                 shared_head: Literal[None] = None,
                 train_cfg: Optional[Sequence[Union[Dict, RCNNTrainSettings]]] = None,
                 test_cfg: Union[Dict, RCNNTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(num_stages, stage_loss_weights, bbox_roi_extractor, bbox_head,
                         mask_roi_extractor, mask_head, shared_head, train_cfg, test_cfg,
                         pretrained, init_cfg)
        self.semantic_head: Optional[FusedSemanticHead] = None
        self.semantic_roi_extractor: Optional[SingleRoIExtractor] = None
        if semantic_head is not None:
            self._build_semantic(semantic_roi_extractor, semantic_head)
        self.semantic_fusion = tuple(semantic_fusion)
        unknown = set(self.semantic_fusion) - {'bbox', 'mask'}
        if unknown:
            raise ValueError(f'HybridTaskCascadeRoIHead: semantic_fusion has {sorted(unknown)}; '
                             "write 'bbox' and 'mask' or one of them")
        self.interleaved, self.mask_info_flow = interleaved, mask_info_flow
        if mask_info_flow and self.mask_head is not None:
            self._check_mask_heads()

    def _build_semantic(self, extractor: Optional[PartConfig], head: PartConfig) -> None:
        if extractor is None:
            raise ValueError(
                'HybridTaskCascadeRoIHead: semantic_head has no semantic_roi_extractor, '
                'which pools its features; write one, or semantic_head=None')
        self.semantic_roi_extractor = MODELS.build(extractor)
        self.semantic_head = MODELS.build(head)

    def _check_mask_heads(self) -> None:
        for stage in range(self.num_stages):
            head = self._mask_head(stage)
            if not isinstance(head, HTCMaskHead):
                raise ValueError(
                    f'HybridTaskCascadeRoIHead: mask_info_flow passes features from stage to stage, and '
                    f'{type(head).__name__} takes none; write HTCMaskHead, or mask_info_flow=False')
            if stage and head.conv_res is None:
                raise ValueError(
                    f'HybridTaskCascadeRoIHead: mask_head.{stage} has with_conv_res=False, and it gets the features '
                    f'of the stage before; write with_conv_res=True, or mask_info_flow=False')

    def takes(self) -> List[Takes]:
        """Return the inputs of all stages and of the semantic branch."""
        found = super().takes()
        if self.semantic_head is not None:
            found += takes_of(self.semantic_head, 'semantic_head')
            level = getattr(self.semantic_head, 'fusion_level', 0)
            found += [
                item._replace(first=level)
                for item in takes_of(self.semantic_roi_extractor, 'semantic_roi_extractor')
            ]
        return found

    def _htc_mask_head(self, stage: int) -> HTCMaskHead:
        return self._mask_head(stage)  # type: ignore[return-value] # checked when built

    # Training

    def loss(self,
             features: Sequence[Tensor],
             proposals: Proposals,
             batch: Batch,
             num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses: 'loss_semantic_seg', and those of all stages as CascadeRoIHead."""
        if self.semantic_head is None:
            return super().loss(features, proposals, batch, num_mask_slots)
        assert isinstance(batch.gt, GroundTruth), 'no boxes'
        logits, semantic = self.semantic_head(features)
        loss_seg = self.semantic_head.loss(logits, batch.gt.semantic)
        losses = super().loss((*features, semantic), proposals, batch, num_mask_slots)
        return Losses(dict(loss_semantic_seg=loss_seg, **losses.terms), losses.metrics)

    def pool_boxes(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self._fused('bbox', super().pool_boxes(stage, features, rois), features, rois)

    def pool_masks(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        return self._fused('mask', super().pool_masks(stage, features, rois), features, rois)

    def _fused(self, branch: str, pooled: Tensor, features: Sequence[Tensor],
               rois: Tensor) -> Tensor:
        """Add the semantic features, the last ones of `features`, to the pooled ones of a branch."""
        if self.semantic_roi_extractor is None or branch not in self.semantic_fusion:
            return pooled
        semantic = self.semantic_roi_extractor(features[-1:], rois)
        if semantic.shape[-2:] != pooled.shape[-2:]:
            # int: an exporter, which records sizes, cannot pool to one that it does not know
            size = int(pooled.shape[2]), int(pooled.shape[3])
            semantic = F.adaptive_avg_pool2d(semantic, size)
        return pooled + semantic

    def mask_logits(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        if not self.mask_info_flow:
            return super().mask_logits(stage, features, rois)
        pooled, previous = self.pool_masks(stage, features, rois), None
        for earlier in range(stage):
            previous = self._htc_mask_head(earlier).convolve(pooled, previous)
        return self._htc_mask_head(stage)(pooled, previous)

    # Testing

    def prepare(self, features: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return the feature maps of all levels, followed by the semantic one if there is one."""
        if self.semantic_head is None:
            return tuple(features)
        return (*features, self.semantic_head(features)[1])

    def all_mask_logits(self, features: Sequence[Tensor], rois: Tensor) -> List[Tensor]:
        """Return the mask logits [R, K, 28, 28] of every stage; all use the extractor of the last one, as in V2."""
        pooled = self.pool_masks(self.num_stages - 1, features, rois)
        if not self.mask_info_flow:
            return [self._mask_head(stage)(pooled) for stage in range(self.num_stages)]
        found: List[Tensor] = []
        previous: Optional[Tensor] = None
        for stage in range(self.num_stages):
            head = self._htc_mask_head(stage)
            previous = head.convolve(pooled, previous)
            found.append(head.predict(previous))
        return found
