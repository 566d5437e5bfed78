"""Residual networks with channel attention (Squeeze-and-Excitation Networks)."""
from typing import Any, Dict

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.backbones.residual import Bottleneck
from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.backbones.resnext import arguments_of_blocks
from mmdet_ft.models.layers import Folded, make_divisible
from mmdet_ft.registry import MODELS


class SELayer(nn.Module):
    """Channel attention: factors in 0..1 from two 1x1 convolutions of all channel means.

    Args:
        ratio: channels over those between the two convolutions.
    """

    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        squeezed = make_divisible(channels // ratio, 8)
        self.conv1 = ConvModule(channels, squeezed, 1)
        self.conv2 = ConvModule(squeezed, channels, 1, act_cfg=dict(type='Sigmoid'))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))


class SEBottleneck(Bottleneck):
    """Bottleneck with an SELayer as its last layer."""

    def __init__(self, in_channels: int, channels: int, se_ratio: int = 16, **arguments: Any):
        super().__init__(in_channels, channels, **arguments)
        self.se_layer = SELayer(channels * arguments.get('expansion', self.expansion), se_ratio)

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        return self.se_layer(super().convolutions(x, folded))


@MODELS.register_module()
@arguments_of_blocks(se_ratio=16)
class SEResNet(ResNet):
    """ResNet of SE bottlenecks.

    Args:
        depth: 50, 101 or 152.
        se_ratio: channels over those inside an SE layer.

    Other arguments as ResNet.
    """

    options: Dict[str, Any]  # see arguments_of_blocks
    arch_settings = {
        50: (SEBottleneck, (3, 4, 6, 3)),
        101: (SEBottleneck, (3, 4, 23, 3)),
        152: (SEBottleneck, (3, 8, 36, 3)),
    }

    def block_arguments(self) -> Dict:
        return self.options


@MODELS.register_module()
@arguments_of_blocks(groups=32, width_per_group=4)
class SEResNeXt(SEResNet):
    """SEResNet of grouped bottlenecks.

    Args:
        groups: of the 3x3 convolutions.
        width_per_group: channels per group in the first stage.

    Other arguments as SEResNet.
    """

    def block_arguments(self) -> Dict:
        options = dict(self.options)
        return dict(
            options, base_width=options.pop('width_per_group'), base_channels=self.base_channels)
