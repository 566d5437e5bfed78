"""Base class of detectors: images in, losses or detections out."""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from torch import Tensor

from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.detectors.results import to_results
from mmdet_ft.models.necks.chain import build_necks
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.parts import stated_layers
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, Losses


class Detector(BaseModule):
    """A detector, called with a batch: returns Losses in training, Detections in evaluation.

        images -> backbone -> neck -> heads -> losses or detections

    A new detector adds its heads in `__init__`, `loss` and `predict`, and for test-time views `predict_views`.
    Everything else follows from its parts. Each declares its prediction layers (`prediction_rows`), the sample
    keys of its loss (`learns_from`) and its input feature maps (`takes`, see parts).
    `settings_of` maps the dicts of `train_cfg` and `test_cfg` to their settings.

    V2's arguments and state_dict.

    Args:
        backbone, neck: parts, or their configs; of a list of necks each takes the maps of the one before it.
        pretrained: V2's older argument for the checkpoint of the backbone.
    """
    CLASSES: Optional[Tuple[str, ...]] = None
    PALETTE: Any = None
    # {'train_cfg.rpn': 'rpn_head.train_cfg'}: a dict of the detector's settings, and the argument of the part that
    # reads it.
    settings_of: Mapping[str, str] = {}
    # Parts that `pretrained` applies to.
    pretrained_parts: Tuple[str, ...] = ('backbone', )

    def __init__(self,
                 backbone: PartConfig,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        if pretrained is not None:
            assert isinstance(backbone, dict), 'pretrained is for the config of a part'
            backbone = {**backbone, 'init_cfg': dict(type='Pretrained', checkpoint=pretrained)}
        self.backbone = MODELS.build(backbone)
        self.neck = build_necks(neck)

    def forward(self, batch: Union[Batch, Tuple[Batch, ...]]) -> Union[Losses, Detections]:
        """Return losses of a batch in training, Detections in evaluation.

        The input in evaluation is a batch, or a tuple of views of the same images.
        """
        if self.training:
            assert isinstance(batch, Batch), 'views are for evaluation'
            return self.loss(batch)
        views = (batch, ) if isinstance(batch, Batch) else batch
        return self.predict(views[0]) if len(views) == 1 else self.predict_views(views)

    def extract_features(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Return the feature maps of all levels, [B, C, H_l, W_l] each, of normalized images [B, 3, H, W]."""
        features = self.backbone(images)
        return features if self.neck is None else self.neck(features)

    def features_of(self, batch: Batch) -> Tuple[Tensor, ...]:
        """Return the feature maps of a batch; uint8 images are normalized first."""
        return self.extract_features(normalize_images(batch))

    def loss(self, batch: Batch) -> Losses:
        """Return V2's losses, in training and, for validation, in evaluation mode."""
        raise NotImplementedError(f'{type(self).__name__} has no loss(batch)')

    def predict(self, batch: Batch) -> Detections:
        """Return detections in pixels of the original images."""
        raise NotImplementedError(f'{type(self).__name__} has no predict(batch)')

    def predict_views(self, views: Sequence[Batch]) -> Detections:
        """Return one detection from several scales and flips of the same images (V2's aug_test)."""
        raise NotImplementedError(
            f'{type(self).__name__} has no test-time views: write MultiScaleFlipAug with one img_scale and flip=False'
        )

    def results(self, detections: Detections, metas: List[Dict[str, Any]]) -> List[Any]:
        """Return V2's result of each image, on the host; see results.to_results."""
        return to_results(detections, metas, self.count_classes(), self.mask_threshold)

    def count_classes(self) -> int:
        """Return the number of classes of the detections."""
        raise NotImplementedError(f'{type(self).__name__} has no count_classes()')

    @property
    def gives_masks(self) -> bool:
        """Return whether results have masks besides boxes."""
        return False

    @property
    def mask_threshold(self) -> float:
        """Return the threshold of the probability of mask pixels."""
        return .5

    def prediction_layers(self) -> Tuple[str, ...]:
        """Return prefixes of state_dict names whose shape depends on the classes or the anchors.

        A checkpoint may differ from the model only there.
        """
        return tuple(stated_layers(self))
