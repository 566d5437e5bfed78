"""A region proposal network by itself: boxes without classes, for Fast R-CNN or a recall."""
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor

from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.rpn_head import Proposals, RPNHead
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.two_stage import TwoStageTestSettings, TwoStageTrainSettings
from mmdet_ft.models.detectors.views import join_proposals
from mmdet_ft.models.settings import read_settings
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


@MODELS.register_module()
class RPN(Detector):
    """Propose regions (Faster R-CNN, sec. 3.1).

        images -> backbone -> neck -> rpn_head -> losses or proposals

    A result is one array [n, 5] per image. V2's arguments and state_dict.
    """
    settings_of_training = ('rpn', )  # of train_cfg: required for losses
    settings_of = {'train_cfg.rpn': 'rpn_head.train_cfg', 'test_cfg.rpn': 'rpn_head.test_cfg'}

    def __init__(self,
                 backbone: PartConfig,
                 rpn_head: PartConfig,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 train_cfg: Union[Dict, TwoStageTrainSettings, None] = None,
                 test_cfg: Union[Dict, TwoStageTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(backbone, neck, pretrained, init_cfg)
        train = read_settings(TwoStageTrainSettings, train_cfg or {}, 'train_cfg')
        test = read_settings(TwoStageTestSettings, test_cfg or {}, 'test_cfg')
        self.rpn_head: RPNHead = MODELS.build(rpn_head, train_cfg=train.rpn, test_cfg=test.rpn)

    def loss(self, batch: Batch) -> Losses:
        """Return V2's losses; nothing waits for the device."""
        features = self.features_of(batch)
        return Losses(self.rpn_head.loss(features, self.rpn_head(features), batch))

    def predict(self, batch: Batch) -> Detections:
        """Return proposals in pixels of the original images, with label 0."""
        found = self.rpn_head.proposals(self.rpn_head(self.features_of(batch)), batch)
        return _detections(found._replace(boxes=found.boxes / batch.scale_factors[:, None]))

    def predict_views(self, views: Sequence[Batch]) -> Detections:
        """Return proposals of scales and flips of the same images, suppressed together."""
        found = [
            self.rpn_head.proposals(self.rpn_head(self.features_of(view)), view) for view in views
        ]
        return _detections(join_proposals(self.rpn_head, found, views))

    def results(self, detections: Detections, metas: List[Dict[str, Any]]) -> List[Any]:
        """Return an array [n, 5] per image: x0, y0, x1, y1, score, best first, in original pixels."""
        return [boxes for boxes, in super().results(detections, metas)]

    def count_classes(self) -> int:
        """Return 1: objects of any class."""
        return 1


def _detections(found: Proposals) -> Detections:
    labels: Tensor = torch.zeros_like(found.valid, dtype=torch.long)
    return Detections(found.boxes, found.scores, labels, found.valid)
