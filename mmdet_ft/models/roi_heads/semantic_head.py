"""Semantic segmentation beside the RoI heads (HTC, sec. 3.3)."""
from typing import Dict, List, Optional, Sequence, Tuple

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.errors import DataError
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import SemanticMaps


@MODELS.register_module()
class FusedSemanticHead(BaseModule):
    """Segment the image by the sum of all levels, and give features to the box and mask branches.

        each level -> resize to that of fusion_level -> 1x1 conv -> sum -> convs -> conv_logits: classes
                                                                             \\-> conv_embedding: features

    V2's arguments and state_dict. `num_classes` are the classes of the semantic maps, such as 183 of COCO-Stuff.
    `ignore_label` and `loss_weight` are V2's older arguments for those of `loss_seg`.

    Raises ValueError if `fusion_level` is not one of the `num_ins` levels.
    """
    prediction_rows = dict(conv_logits=Rows('semantic class'))
    learns_from = ('gt_semantic_seg', )
    counts_classes = False

    def __init__(self,
                 num_ins: int,
                 fusion_level: int,
                 num_convs: int = 4,
                 in_channels: int = 256,
                 conv_out_channels: int = 256,
                 num_classes: int = 183,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 ignore_label: Optional[int] = None,
                 loss_weight: Optional[float] = None,
                 loss_seg: Dict = dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2),
                 init_cfg: InitCfg = dict(type='Kaiming', override=dict(name='conv_logits'))):
        super().__init__(init_cfg)
        if not 0 <= fusion_level < num_ins:
            raise ValueError(
                f'FusedSemanticHead: fusion_level is {fusion_level}, but num_ins is {num_ins}; '
                f'write a level from 0 to {num_ins - 1}')
        self.num_ins, self.fusion_level = num_ins, fusion_level
        self.in_channels, self.num_classes = in_channels, num_classes
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels, in_channels, 1, inplace=False, **layers)
            for _ in range(num_ins))
        self.convs = nn.ModuleList(
            ConvModule(
                conv_out_channels if i else in_channels, conv_out_channels, 3, padding=1, **layers)
            for i in range(num_convs))
        self.conv_embedding = ConvModule(conv_out_channels, conv_out_channels, 1, **layers)
        self.conv_logits = nn.Conv2d(conv_out_channels, num_classes, 1)
        older = dict(ignore_index=ignore_label, loss_weight=loss_weight)
        self.criterion = MODELS.build({
            **loss_seg,
            **{
                name: value
                for name, value in older.items() if value
            }
        })

    def takes(self) -> List[Takes]:
        return [
            Takes('in_channels', self.in_channels),
            Takes('num_ins', num_levels=self.num_ins),
        ]

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Return logits [B, num_classes, h, w] and features [B, C, h, w] in the size of the fusion level.

        features: maps [B, C, H_l, W_l] of all levels.
        """
        x = self.lateral_convs[self.fusion_level](features[self.fusion_level])
        size = x.shape[-2:]
        for level, feature in enumerate(features):
            if level != self.fusion_level:
                feature = F.interpolate(feature, size=size, mode='bilinear', align_corners=True)
                x = x + self.lateral_convs[level](feature)
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(x).float(), self.conv_embedding(x)

    def loss(self, logits: Tensor, maps: Optional[SemanticMaps]) -> Tensor:
        """Return the loss of logits [B, num_classes, h, w].

        Raises DataError for maps of another size, and for a label that is neither a class nor ignored.
        """
        if maps is None:
            raise DataError(
                "FusedSemanticHead learns from semantic maps; add 'gt_semantic_seg' to the keys of Collect"
            )
        self._check(logits, maps)
        return self.criterion(logits, maps.labels)

    def _check(self, logits: Tensor, maps: SemanticMaps) -> None:
        found, expected = tuple(maps.labels.shape[1:]), tuple(logits.shape[2:])
        if found != expected:
            raise DataError(
                f'the semantic maps of the batch are {found[0]} x {found[1]} (height x width), and FusedSemanticHead '
                f'predicts {expected[0]} x {expected[1]}, the size of level {self.fusion_level}. To fix: write '
                f"dict(type='SegRescale', scale_factor=1 / {4 * 2**self.fusion_level}) after Pad")
        ignored = getattr(self.criterion, 'ignore_index', None)
        wrong = [
            label for label in maps.present
            if label != ignored and not 0 <= label < self.num_classes
        ]
        if wrong:
            raise DataError(
                f'the semantic maps have the label {wrong[0]}, and FusedSemanticHead has {self.num_classes} classes '
                f'(0 to {self.num_classes - 1}) and ignores {ignored}. To fix: write num_classes={max(wrong) + 1} in '
                f'semantic_head, or ignore_index={wrong[-1]} in its loss_seg')
