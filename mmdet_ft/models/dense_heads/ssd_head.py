"""Head of SSD: Single Shot MultiBox Detector."""
import dataclasses
from typing import Dict, List, Optional, Sequence, Union

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, flatten_to_priors, map_size
from mmdet_ft.models.assigners import PseudoSampler
from mmdet_ft.models.base_module import InitCfg
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTargets,
                                                    DenseTestSettings, DenseTrainSettings)
from mmdet_ft.models.settings import read_settings
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS


@dataclasses.dataclass(frozen=True)
class SSDTrainSettings(DenseTrainSettings):
    """`train_cfg` of SSD: also `smoothl1_beta` of the box loss, and backgrounds for each positive.

    A sampler has no effect, as in V2: the backgrounds of highest loss are taken.
    """
    smoothl1_beta: float = 1.
    neg_pos_ratio: float = 3


@MODELS.register_module()
class SSDHead(AnchorHead):
    """One convolution on each level for the classes of its anchors, and one for their boxes.

        map of level i -> cls_convs[i]: K + 1 logits (softmax), for each anchor of the cell
                       -> reg_convs[i]: four deltas, for each anchor of the cell

    V2's arguments and state_dict.

    Args:
        in_channels: of the map of each level.
        stacked_convs, feat_channels: convolutions before the last, and their channels.
        use_depthwise: a 3x3 depthwise and a 1x1 convolution instead of a 3x3 (SSDLite).
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form, of all but the last.
        Others: see AnchorHead and DenseHead.
    """
    has_background_class = True  # the last of K + 1 logits

    def __init__(self,
                 num_classes: int = 80,
                 in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
                 stacked_convs: int = 0,
                 feat_channels: int = 256,
                 use_depthwise: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 act_cfg: Optional[Dict] = None,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='SSDAnchorGenerator',
                     scale_major=False,
                     input_size=300,
                     strides=[8, 16, 32, 64, 100, 300],
                     ratios=([2], [2, 3], [2, 3], [2, 3], [2], [2]),
                     basesize_ratio_range=(0.1, 0.9)),
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = dict(
                     type='DeltaXYWHBBoxCoder',
                     clip_border=True,
                     target_means=[.0, .0, .0, .0],
                     target_stds=[1.0, 1.0, 1.0, 1.0],
                 ),
                 reg_decoded_bbox: bool = False,
                 train_cfg: Union[Dict, SSDTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 init_cfg: InitCfg = dict(
                     type='Xavier', layer='Conv2d', distribution='uniform', bias=0)):
        settings = read_settings(SSDTrainSettings, train_cfg or {}, 'train_cfg')
        super().__init__(num_classes, in_channels, anchor_generator, bbox_coder, reg_decoded_bbox,
                         dict(type='CrossEntropyLoss'),
                         dict(type='SmoothL1Loss', beta=settings.smoothl1_beta),
                         None if train_cfg is None else settings, test_cfg, init_cfg)
        self.sampler = PseudoSampler()
        self.neg_pos_ratio = settings.neg_pos_ratio
        num_anchors = self.anchor_generator.num_base_priors
        if len(in_channels) != len(num_anchors):
            raise ValueError(
                f'SSDHead: {len(in_channels)} in_channels for {len(num_anchors)} levels '
                'of the anchor_generator; give one a level')

        def layers(channels: int, num_outputs: int) -> nn.Sequential:
            own: List[nn.Module] = []
            kinds = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
            stacked = DepthwiseSeparableConvModule if use_depthwise else ConvModule
            for _ in range(stacked_convs):
                own.append(stacked(channels, feat_channels, 3, padding=1, **kinds))
                channels = feat_channels
            if use_depthwise:
                own.append(ConvModule(channels, channels, 3, padding=1, groups=channels, **kinds))
            size, padding = (1, 0) if use_depthwise else (3, 1)
            return nn.Sequential(*own, nn.Conv2d(channels, num_outputs, size, padding=padding))

        def convolutions(each: int) -> nn.ModuleList:
            return nn.ModuleList(
                layers(channels, count * each) for channels, count in zip(in_channels, num_anchors))

        self.cls_convs, self.reg_convs = convolutions(self.num_logits), convolutions(4)
        last = stacked_convs + use_depthwise
        self.prediction_rows: Dict[str, Rows] = {}
        for level in range(len(num_anchors)):
            self.prediction_rows[f'cls_convs.{level}.{last}'] = Rows(
                'anchor and class', background=1)
            self.prediction_rows[f'reg_convs.{level}.{last}'] = Rows('anchor', 4)

    def takes(self) -> List[Takes]:
        # Not the strides: they are those of an input of 300 pixels, whose levels are cut or rounded.
        return [Takes('in_channels', self.in_channels)]

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        logits = [
            flatten_to_priors(layer(x), self.num_logits)
            for layer, x in zip(self.cls_convs, features)
        ]
        deltas = [flatten_to_priors(layer(x), 4) for layer, x in zip(self.reg_convs, features)]
        return DenseOutputs(logits, deltas, [map_size(feature) for feature in features])

    def classification_loss(self, outputs: DenseOutputs, targets: DenseTargets,
                            goal: Tensor) -> Tensor:
        """Return the loss of the positives and of `neg_pos_ratio` times as many backgrounds of each image.

        Those of highest loss are taken (hard negative mining, sec. 2.2).
        """
        logits = torch.cat(outputs.logits, 1)
        losses = self.loss_cls(
            logits.flatten(0, 1),
            goal.flatten(),
            targets.weight.flatten(),
            reduction_override='none').view_as(goal)
        hardest = losses.masked_fill(targets.positive, 0).sort(1, descending=True).values
        wanted = targets.positive.sum(1, keepdim=True) * self.neg_pos_ratio
        number = torch.arange(goal.shape[1], device=goal.device)
        mined = hardest.masked_fill(number >= wanted, 0).sum()
        of_objects = losses.masked_fill(~targets.positive, 0).sum()
        return (of_objects + mined) / targets.num_positive
