"""One-stage detectors: classes and boxes at every location."""
from typing import Dict, Optional, Sequence, Union

from torch import Tensor

from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.dense_head import DenseHead, DenseTestSettings, DenseTrainSettings
from mmdet_ft.models.dense_heads.tood_head import TOODHead
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.views import merge_candidates
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


@MODELS.register_module()
class SingleStageDetector(Detector):
    """Predict classes and boxes at every location of the feature maps.

        images -> backbone -> neck -> bbox_head -> losses or detections

    V2's arguments and state_dict. The head reads `train_cfg` and `test_cfg`.
    """
    settings_of = {'train_cfg': 'bbox_head.train_cfg', 'test_cfg': 'bbox_head.test_cfg'}

    def __init__(self,
                 backbone: PartConfig,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 bbox_head: Optional[PartConfig] = None,
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(backbone, neck, pretrained, init_cfg)
        self.bbox_head: DenseHead = MODELS.build(bbox_head, train_cfg=train_cfg, test_cfg=test_cfg)

    def loss(self, batch: Batch) -> Losses:
        """Return V2's losses; nothing waits for the device."""
        return split_losses(self.bbox_head.loss(self.bbox_head(self.features_of(batch)), batch))

    def predict(self, batch: Batch) -> Detections:
        """Return detections in pixels of the original images."""
        return self.bbox_head.predict(self.bbox_head(self.features_of(batch)), batch)

    def predict_views(self, views: Sequence[Batch]) -> Detections:
        """Return one detection from scales and flips of the same images.

        Candidates of all views are suppressed together.
        """
        found = [
            self.bbox_head.candidates(self.bbox_head(self.features_of(view)), view)
            for view in views
        ]
        return self.bbox_head.select(merge_candidates(found, views))

    def count_classes(self) -> int:
        """Return the number of classes of the head."""
        return self.bbox_head.num_classes


def split_losses(values: Dict[str, Tensor]) -> Losses:
    """Return what a head gives as V2 reads it: keys with 'loss' are summed, others are only logged."""
    terms = {key: value for key, value in values.items() if 'loss' in key}
    return Losses(terms, {key: value for key, value in values.items() if key not in terms})


@MODELS.register_module()
class RetinaNet(SingleStageDetector):
    """RetinaNet (Lin et al. 2017)."""
    settings_of_training = ('assigner', )  # of train_cfg: required for losses


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """FCOS (Tian et al. 2019)."""


@MODELS.register_module()
class ATSS(SingleStageDetector):
    """ATSS (Zhang et al. 2019)."""
    settings_of_training = ('assigner', )


@MODELS.register_module()
class GFL(SingleStageDetector):
    """Generalized Focal Loss (Li et al. 2020)."""
    settings_of_training = ('assigner', )


@MODELS.register_module()
class VFNet(SingleStageDetector):
    """VarifocalNet (Zhang et al. 2020)."""
    settings_of_training = ('assigner', )


@MODELS.register_module()
class FSAF(SingleStageDetector):
    """Feature Selective Anchor-Free module (Zhu et al. 2019)."""
    settings_of_training = ('assigner', )


@MODELS.register_module()
class FOVEA(SingleStageDetector):
    """FoveaBox (Kong et al. 2019)."""


@MODELS.register_module()
class TOOD(SingleStageDetector):
    """Task-aligned One-stage Object Detection (Feng et al. 2021). SetEpochInfoHook sets its epoch."""
    settings_of_training = ('assigner', 'initial_assigner')
    bbox_head: TOODHead

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the head, from 0."""
        self.bbox_head.set_epoch(epoch)


@MODELS.register_module()
class PAA(SingleStageDetector):
    """Probabilistic Anchor Assignment (Kim and Lee 2020)."""
    settings_of_training = ('assigner', )
