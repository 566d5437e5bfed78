"""Cross-stage partial layer, of CSPDarknet and of YOLOX's neck (CSPNet, fig. 2)."""
import math
from typing import Any, Dict, Optional, Type, Union

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg

NORM = dict(type='BN', momentum=0.03, eps=0.001)
ACTIVATION = dict(type='Swish')
# V2's beginning of all convolutions of YOLOX, which is PyTorch's own.
UNIFORM = dict(
    type='Kaiming',
    layer='Conv2d',
    a=math.sqrt(5),
    distribution='uniform',
    mode='fan_in',
    nonlinearity='leaky_relu')

Convolution = Union[Type[ConvModule], Type[DepthwiseSeparableConvModule]]


def convolution(use_depthwise: bool) -> Convolution:
    """Return the class of 3x3 convolutions with norm and activation."""
    return DepthwiseSeparableConvModule if use_depthwise else ConvModule


class DarknetBottleneck(BaseModule):
    """A 1x1 and a 3x3 convolution; the input is added if it has the same shape.

    Args:
        expansion: channels between them, as a share of out_channels.
        add_identity: whether the input is added.
        use_depthwise: the 3x3 one is depthwise separable.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 expansion: float = 0.5,
                 add_identity: bool = True,
                 use_depthwise: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        hidden = int(out_channels * expansion)
        self.conv1 = ConvModule(in_channels, hidden, 1, **layers)
        self.conv2 = convolution(use_depthwise)(hidden, out_channels, 3, padding=1, **layers)
        self.add_identity = add_identity and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class CSPLayer(BaseModule):
    """Bottlenecks on a half of the channels, and the other half past them.

        x -- main_conv -- blocks -- concat -- final_conv
          -- short_conv ---------/

    V2's arguments and state_dict.

    Args:
        expand_ratio: channels of each half, as a share of out_channels.
        num_blocks, add_identity, use_depthwise: of the bottlenecks.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 expand_ratio: float = 0.5,
                 num_blocks: int = 1,
                 add_identity: bool = True,
                 use_depthwise: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        half = int(out_channels * expand_ratio)
        self.main_conv = ConvModule(in_channels, half, 1, **layers)
        self.short_conv = ConvModule(in_channels, half, 1, **layers)
        self.final_conv = ConvModule(2 * half, out_channels, 1, **layers)
        self.blocks = nn.Sequential(
            *(DarknetBottleneck(half, half, 1., add_identity, use_depthwise, **layers)
              for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1))
