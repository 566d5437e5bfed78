"""Faster R-CNN and Mask R-CNN: propose regions, then look at each."""
from typing import Any, Dict, List, Optional, Tuple, Union

from torch import Tensor

from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.models.dense_heads.rpn_head import RPNHead
from mmdet_ft.models.detectors.results import to_results
from mmdet_ft.models.detectors.test_time import merge_views
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet_ft.models.settings import (ProposalSettings, TwoStageTestSettings, TwoStageTrainSettings,
                                      read_settings)
from mmdet_ft.ops.images import normalised_images
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


class TwoStageDetector(BaseModule):
    """A detector is called with a batch: in training it returns Losses, in evaluation Detections.

        images -> backbone -> neck -> rpn_head -> proposals -> roi_head -> losses or detections

    V2's arguments and state_dict. `prediction_layers` names what follows the number of classes and
    anchors: a checkpoint may differ from the model there, and nowhere else.
    """
    CLASSES: Optional[Tuple[str, ...]] = None
    PALETTE: Any = None
    settings_of_training = ('rpn', 'rcnn')  # of train_cfg: without them there are no losses

    def __init__(self,
                 backbone: Any,
                 rpn_head: Any,
                 roi_head: Any,
                 train_cfg: Union[Dict, TwoStageTrainSettings, None] = None,
                 test_cfg: Union[Dict, TwoStageTestSettings, None] = None,
                 neck: Any = None,
                 pretrained: Optional[str] = None,
                 init_cfg: Any = None):
        super().__init__(init_cfg)
        if pretrained is not None:  # V2's older place for it
            backbone = {**backbone, 'init_cfg': dict(type='Pretrained', checkpoint=pretrained)}
            if isinstance(roi_head, dict) and roi_head.get('shared_head') is not None:
                roi_head = {**roi_head, 'pretrained': pretrained}
        train = read_settings(TwoStageTrainSettings, train_cfg or {}, 'train_cfg')
        test = read_settings(TwoStageTestSettings, test_cfg or {}, 'test_cfg')
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.rpn_head: RPNHead = MODELS.build(rpn_head, train_cfg=train.rpn, test_cfg=test.rpn)
        self.roi_head: StandardRoIHead = MODELS.build(
            roi_head, train_cfg=train.rcnn, test_cfg=test.rcnn)
        self.train_proposals = self.rpn_head.test_settings
        if train.rpn_proposal is not None:
            self.train_proposals = read_settings(ProposalSettings, train.rpn_proposal,
                                                 'train_cfg.rpn_proposal')

    def forward(self, batch: Union[Batch, Tuple[Batch, ...]]) -> Union[Losses, Detections]:
        """Losses of a batch in training; in evaluation Detections of a batch, or of a tuple of
        views of the same images.
        """
        if self.training:
            return self.loss(batch)
        views = (batch, ) if isinstance(batch, Batch) else batch
        return self.predict(views[0]) if len(views) == 1 else merge_views(self, views)

    def extract_features(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Normalised images [B, 3, H, W] -> feature maps of all levels: [B, C, H_l, W_l] each."""
        features = self.backbone(images)
        return features if self.neck is None else self.neck(features)

    def loss(self, batch: Batch, num_mask_slots: Optional[int] = None) -> Losses:
        """Losses in training and, for validation, in evaluation mode: V2's keys.

        With `num_mask_slots` (see StandardRoIHead.loss) the shapes of all tensors follow from those
        of the batch, and nothing waits for the device.
        """
        features = self.extract_features(normalised_images(batch))
        outputs = self.rpn_head(features)
        rpn_losses = self.rpn_head.loss(features, outputs, batch)
        proposals = self.rpn_head.proposals(outputs, batch, self.train_proposals)
        losses = self.roi_head.loss(features, proposals, batch, num_mask_slots)
        return Losses({**rpn_losses, **losses.terms}, losses.metrics)

    def predict(self, batch: Batch) -> Detections:
        """Detections in pixels of the original images."""
        features = self.extract_features(normalised_images(batch))
        proposals = self.rpn_head.proposals(self.rpn_head(features), batch)
        return self.roi_head.predict(features, proposals, batch)

    def results(self, detections: Detections, metas: List[Dict[str, Any]]) -> List[Any]:
        """V2's result of each image, on the host; see results.to_results."""
        num_classes = self.roi_head.bbox_head.num_classes
        return to_results(detections, metas, num_classes,
                          self.roi_head.test_settings.mask_thr_binary)

    @property
    def gives_masks(self) -> bool:
        """Return whether results have masks beside boxes."""
        return self.roi_head.mask_head is not None

    def prediction_layers(self) -> Tuple[str, ...]:
        """Prefixes of state_dict names whose shape follows the classes or the anchors."""
        layers = ('rpn_head.rpn_cls.', 'rpn_head.rpn_reg.', 'roi_head.bbox_head.fc_cls.',
                  'roi_head.bbox_head.fc_reg.')
        return layers + (
            ('roi_head.mask_head.conv_logits.', ) if self.roi_head.mask_head is not None else ())


@MODELS.register_module()
class FasterRCNN(TwoStageDetector):
    """Faster R-CNN (Ren et al. 2015), with a feature pyramid where there is a neck."""


@MODELS.register_module()
class MaskRCNN(TwoStageDetector):
    """Mask R-CNN (He et al. 2017)."""
