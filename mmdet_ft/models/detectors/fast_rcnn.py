"""Fast R-CNN: classification of regions that the dataset brings along."""
from typing import Dict, Optional, Sequence, Union

import torch

from mmdet_ft.errors import DataError
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.two_stage import TwoStageTestSettings, TwoStageTrainSettings
from mmdet_ft.models.detectors.views import merge_regions, to_original
from mmdet_ft.models.roi_heads.base import RoIHead
from mmdet_ft.models.settings import read_settings
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


@MODELS.register_module()
class FastRCNN(Detector):
    """Classify and refine given regions (Girshick 2015).

        images -> backbone -> neck ------> roi_head -> losses or detections
        proposals of the batch ---------/

    `LoadProposals` takes the proposals from the dataset's `proposal_file`, and Collect keeps them.
    V2's arguments and state_dict.
    """
    learns_from = ('proposals', )
    settings_of_training = ('rcnn', )  # of train_cfg: required for losses
    settings_of = {'train_cfg.rcnn': 'roi_head.train_cfg', 'test_cfg.rcnn': 'roi_head.test_cfg'}
    pretrained_parts = ('backbone', 'roi_head.shared_head')

    def __init__(self,
                 backbone: PartConfig,
                 roi_head: PartConfig,
                 train_cfg: Union[Dict, TwoStageTrainSettings, None] = None,
                 test_cfg: Union[Dict, TwoStageTestSettings, None] = None,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(backbone, neck, pretrained, init_cfg)
        train = read_settings(TwoStageTrainSettings, train_cfg or {}, 'train_cfg')
        test = read_settings(TwoStageTestSettings, test_cfg or {}, 'test_cfg')
        if pretrained is not None and isinstance(roi_head,
                                                 dict) and roi_head.get('shared_head') is not None:
            roi_head = {**roi_head, 'pretrained': pretrained}
        self.roi_head: RoIHead = MODELS.build(roi_head, train_cfg=train.rcnn, test_cfg=test.rcnn)

    def loss(self, batch: Batch, num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses, in training and, for validation, in evaluation mode."""
        return self.roi_head.loss(
            self.features_of(batch), proposals_of(batch), batch, num_mask_slots)

    def predict(self, batch: Batch) -> Detections:
        """Return detections in pixels of the original images."""
        return self.roi_head.predict(self.features_of(batch), proposals_of(batch), batch)

    def predict_views(self, views: Sequence[Batch]) -> Detections:
        """Return one detection from scales and flips of the same images; see views.merge_regions."""
        proposals = proposals_of(views[0])
        proposals = proposals._replace(boxes=to_original(proposals.boxes, views[0]))
        return merge_regions(self.roi_head, [self.features_of(view) for view in views], proposals,
                             views)

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


def proposals_of(batch: Batch) -> Proposals:
    """Return the proposals that the dataset gives with a batch; scores are 0."""
    if batch.proposals is None:
        raise DataError(
            "FastRCNN: the batch has no proposals; write proposal_file=... for the dataset, "
            "dict(type='LoadProposals') after LoadImageFromFile, and 'proposals' in keys of Collect"
        )
    boxes, valid = batch.proposals
    return Proposals(boxes, torch.zeros_like(boxes[..., 0]), valid)
