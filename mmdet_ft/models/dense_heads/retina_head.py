"""Heads of RetinaNet (Focal Loss for Dense Object Detection, sec. 4)."""
from typing import Dict, List, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, flatten_to_priors, map_size
from mmdet_ft.models.base_module import (InitCfg, Loader, PartConfig, bias_init_with_prob,
                                         normal_init)
from mmdet_ft.models.coders import AnchorCoder
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTestSettings,
                                                    DenseTrainSettings, through, tower)
from mmdet_ft.parts import Rows
from mmdet_ft.ranges import Count, Whole
from mmdet_ft.registry import MODELS

ANCHORS = dict(
    type='AnchorGenerator',
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128])
CODER = dict(
    type='DeltaXYWHBBoxCoder',
    clip_border=True,
    target_means=(.0, .0, .0, .0),
    target_stds=(1.0, 1.0, 1.0, 1.0))


@MODELS.register_module()
class RetinaHead(AnchorHead):
    """Two towers of convolutions, shared by all levels.

        feature map -> cls_convs -> retina_cls: K logits, for each anchor of the cell
                    -> reg_convs -> retina_reg: four deltas, for each anchor of the cell

    V2's arguments and state_dict.
    """
    prediction_rows = dict(retina_cls=Rows('anchor and class'), retina_reg=Rows('anchor', 4))
    takes = AnchorHead.takes  # by this forward

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 stacked_convs: Whole = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 anchor_generator: Union[Dict, AnchorGenerator] = ANCHORS,
                 feat_channels: Count = 256,
                 bbox_coder: Union[Dict, AnchorCoder] = CODER,
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01))):
        super().__init__(num_classes, in_channels, anchor_generator, bbox_coder, reg_decoded_bbox,
                         loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg)
        self.cls_convs = tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg)
        self.reg_convs = tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg)
        width = feat_channels if stacked_convs else in_channels
        self.retina_cls = nn.Conv2d(width, self.num_anchors * self.num_logits, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, self.num_anchors * 4, 3, padding=1)

    def towers(self, level: int) -> Tuple[nn.ModuleList, nn.ModuleList]:
        """Return the convolutions of classification and of regression on a level."""
        return self.cls_convs, self.reg_convs

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        logits: List[Tensor] = []
        deltas: List[Tensor] = []
        for level, feature in enumerate(features):
            cls_convs, reg_convs = self.towers(level)
            scores = self.retina_cls(through(cls_convs, feature))
            logits.append(flatten_to_priors(scores, self.num_logits))
            deltas.append(flatten_to_priors(self.retina_reg(through(reg_convs, feature)), 4))
        return DenseOutputs(logits, deltas, [map_size(feature) for feature in features])


@MODELS.register_module()
class RetinaSepBNHead(RetinaHead):
    """RetinaHead whose levels share convolutions, but each has its own norm layers (NAS-FPN).

    V2's arguments and state_dict: `cls_convs.LEVEL.LAYER`.

    Args:
        num_ins: number of levels.
    """

    def __init__(self,
                 num_classes: int,
                 num_ins: Count,
                 in_channels: int,
                 stacked_convs: Whole = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 feat_channels: Count = 256,
                 anchor_generator: Union[Dict, AnchorGenerator] = ANCHORS,
                 bbox_coder: Union[Dict, AnchorCoder] = CODER,
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(
            num_classes,
            in_channels,
            stacked_convs,
            conv_cfg,
            norm_cfg,
            anchor_generator,
            feat_channels,
            bbox_coder,
            reg_decoded_bbox,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg=None)
        for name in ('cls_convs', 'reg_convs'):
            levels = [
                tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg)
                for _ in range(num_ins)
            ]
            for layers in zip(*levels):
                for layer in layers[1:]:
                    layer.conv = layers[0].conv
            setattr(self, name, nn.ModuleList(levels))

    def towers(self, level: int) -> Tuple[nn.ModuleList, nn.ModuleList]:
        return _of_level(self.cls_convs, level), _of_level(self.reg_convs, level)

    def init_weights(self, load: Optional[Loader] = None) -> None:
        """Initialize convolutions with std 0.01, and the scores at 0.01."""
        super().init_weights(load)
        for layers in self.towers(0):
            for layer in layers:
                normal_init(layer.get_submodule('conv'), std=0.01)
        normal_init(self.retina_cls, std=0.01, bias=bias_init_with_prob(0.01))
        normal_init(self.retina_reg, std=0.01)


def _of_level(levels: nn.ModuleList, level: int) -> nn.ModuleList:
    layers = levels[level]
    assert isinstance(layers, nn.ModuleList)
    return layers
