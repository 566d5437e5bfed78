"""Faster R-CNN and Mask R-CNN: region proposals, then classification of each."""
import dataclasses
from typing import Any, Dict, Optional, Sequence, Union

from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import ProposalSettings, RPNHead
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.views import merge_views
from mmdet_ft.models.roi_heads.base import RoIHead
from mmdet_ft.models.settings import read_settings
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


@dataclasses.dataclass(frozen=True)
class TwoStageTrainSettings:
    """`model.train_cfg` of a two-stage detector; the heads read its entries."""
    rpn: Any = None
    rcnn: Any = None
    rpn_proposal: Any = None


@dataclasses.dataclass(frozen=True)
class TwoStageTestSettings:
    """`model.test_cfg` of a two-stage detector; the heads read its entries."""
    rpn: Any = None
    rcnn: Any = None


class TwoStageDetector(Detector):
    """Propose regions, then classify, refine and segment each.

        images -> backbone -> neck -> rpn_head -> proposals -> roi_head -> losses or detections

    V2's arguments and state_dict.
    """
    settings_of_training = ('rpn', 'rcnn')  # of train_cfg: required for losses
    settings_of = {
        'train_cfg.rpn': 'rpn_head.train_cfg',
        'train_cfg.rpn_proposal': 'rpn_head.test_cfg',
        'train_cfg.rcnn': 'roi_head.train_cfg',
        'test_cfg.rpn': 'rpn_head.test_cfg',
        'test_cfg.rcnn': 'roi_head.test_cfg'
    }
    pretrained_parts = ('backbone', 'roi_head.shared_head')

    def __init__(self,
                 backbone: PartConfig,
                 rpn_head: PartConfig,
                 roi_head: PartConfig,
                 train_cfg: Union[Dict, TwoStageTrainSettings, None] = None,
                 test_cfg: Union[Dict, TwoStageTestSettings, None] = None,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(backbone, neck, pretrained, init_cfg)
        if pretrained is not None and isinstance(roi_head,
                                                 dict) and roi_head.get('shared_head') is not None:
            roi_head = {**roi_head, 'pretrained': pretrained}
        train = read_settings(TwoStageTrainSettings, train_cfg or {}, 'train_cfg')
        test = read_settings(TwoStageTestSettings, test_cfg or {}, 'test_cfg')
        self.rpn_head: RPNHead = MODELS.build(rpn_head, train_cfg=train.rpn, test_cfg=test.rpn)
        self.roi_head: RoIHead = MODELS.build(roi_head, train_cfg=train.rcnn, test_cfg=test.rcnn)
        self.train_proposals = self.rpn_head.test_settings
        if train.rpn_proposal is not None:
            self.train_proposals = read_settings(ProposalSettings, train.rpn_proposal,
                                                 'train_cfg.rpn_proposal')

    def loss(self, batch: Batch, num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses, in training and, for validation, in evaluation mode.

        With `num_mask_slots` (see RoIHead.loss) the shapes of all tensors depend only on
        those of the batch, and nothing waits for the device.
        """
        features = self.features_of(batch)
        outputs = self.rpn_head(features)
        rpn_losses = self.rpn_head.loss(features, outputs, batch)
        proposals = self.rpn_head.proposals(outputs, batch, self.train_proposals)
        losses = self.roi_head.loss(features, proposals, batch, num_mask_slots)
        return Losses({**rpn_losses, **losses.terms}, losses.metrics)

    def predict(self, batch: Batch) -> Detections:
        """Return detections in pixels of the original images."""
        features = self.features_of(batch)
        proposals = self.rpn_head.proposals(self.rpn_head(features), batch)
        return self.roi_head.predict(features, proposals, batch)

    def predict_views(self, views: Sequence[Batch]) -> Detections:
        """Return one detection from scales and flips of the same images; see views.merge_views."""
        return merge_views(self, views)

    def count_classes(self) -> int:
        """Return the number of classes of the box head."""
        return self.roi_head.count_classes()

    @property
    def gives_masks(self) -> bool:
        return self.roi_head.mask_head is not None

    @property
    def mask_threshold(self) -> float:
        settings = self.roi_head.test_settings
        assert settings is not None, 'no test_cfg'
        return settings.mask_thr_binary


@MODELS.register_module()
class FasterRCNN(TwoStageDetector):
    """Faster R-CNN (Ren et al. 2015), with a feature pyramid if there is a neck."""


@MODELS.register_module()
class MaskRCNN(TwoStageDetector):
    """Mask R-CNN (He et al. 2017)."""


@MODELS.register_module()
class CascadeRCNN(TwoStageDetector):
    """Cascade R-CNN (Cai and Vasconcelos 2018), with masks if its roi_head has a mask_head."""


@MODELS.register_module()
class HybridTaskCascade(CascadeRCNN):
    """Hybrid Task Cascade (Chen et al. 2019)."""


@MODELS.register_module()
class MaskScoringRCNN(MaskRCNN):
    """Mask Scoring R-CNN (Huang et al. 2019)."""
