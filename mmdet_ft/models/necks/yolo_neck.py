"""Neck of YOLOv3 (An Incremental Improvement, sec. 2.3)."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS

NORM = dict(type='BN', requires_grad=True)
ACTIVATION = dict(type='LeakyReLU', negative_slope=0.1)


class DetectionBlock(BaseModule):
    """Five convolutions: 1x1 to `out_channels`, 3x3 to twice as many, and so on."""

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        channels, wide = in_channels, 2 * out_channels
        for number in (1, 3, 5):
            self.add_module(f'conv{number}', ConvModule(channels, out_channels, 1, **layers))
            if number < 5:
                self.add_module(f'conv{number + 1}',
                                ConvModule(out_channels, wide, 3, padding=1, **layers))
            channels = wide

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


@MODELS.register_module()
class YOLOV3Neck(BaseModule):
    """Top-down concatenation of coarse levels with finer ones; the coarsest level comes first.

        in 5 ---------------- detect1 -- out 1
                                 | conv1, x2
        in 4 --------- concat -- detect2 -- out 2
                                 | conv2, x2
        in 3 --------- concat -- detect3 -- out 3

    V2's arguments and state_dict.

    Args:
        num_scales: number of levels.
        in_channels, out_channels: of each level, the coarsest first: the backbone's in reverse order.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.

    Raises ValueError for other than num_scales numbers.
    """

    def __init__(self,
                 num_scales: int,
                 in_channels: Sequence[int],
                 out_channels: Sequence[int],
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        if not num_scales == len(in_channels) == len(out_channels):
            raise ValueError(
                f'YOLOV3Neck: num_scales={num_scales} with {len(in_channels)} in_channels and '
                f'{len(out_channels)} out_channels; give one of each a level')
        self.num_scales, self.in_channels = num_scales, list(in_channels)
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.detect1 = DetectionBlock(in_channels[0], out_channels[0], **layers)
        for i in range(1, num_scales):
            width = out_channels[i]
            self.add_module(f'conv{i}', ConvModule(out_channels[i - 1], width, 1, **layers))
            self.add_module(f'detect{i + 1}', DetectionBlock(in_channels[i] + width, width,
                                                             **layers))

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels, coarsest_first=True)]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return maps [B, out_channels[i], h, w], the coarsest first, of inputs, the finest first."""
        assert len(inputs) == self.num_scales, f'{len(inputs)} inputs for {self.num_scales} scales'
        outputs = [self.detect1(inputs[-1])]
        for i, finer in enumerate(reversed(inputs[:-1]), 1):
            x = getattr(self, f'conv{i}')(outputs[-1])
            x = F.interpolate(x, size=finer.shape[2:])
            outputs.append(getattr(self, f'detect{i + 1}')(torch.cat([x, finer], 1)))
        return tuple(outputs)
