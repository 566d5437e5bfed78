"""Residual networks for images of 32x32 pixels."""
from typing import Any, Dict, Optional, Sequence

import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from mmdet_ft.models.backbones.residual import BasicBlock
from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.base_module import InitCfg
from mmdet_ft.registry import MODELS, fixed_arguments


@MODELS.register_module()
@fixed_arguments(deep_stem=False)
class ResNet_CIFAR(ResNet):
    """ResNet whose stem keeps the resolution: a 3x3 convolution of stride 1, and no pooling."""

    def _make_stem(self, in_channels: int, channels: int, conv_cfg: Optional[Dict],
                   norm_cfg: Dict) -> None:
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, channels, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()


class PaddedShortcut(nn.Module):
    """Option A of Deep Residual Learning, sec. 3.3: every second pixel, and zero channels on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::self.stride, ::self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


@MODELS.register_module()
class ThinResNet_CIFAR(ResNet_CIFAR):
    """ResNet-20 to ResNet-110 (Deep Residual Learning, sec. 4.2).

    They have three stages of 16, 32 and 64 channels, and shortcuts without weights.

    Args:
        depth: 20, 32, 44, 56 or 110.

    Other arguments as ResNet.
    """

    arch_settings = {
        depth: (BasicBlock, ((depth - 2) // 6, ) * 3)
        for depth in (20, 32, 44, 56, 110)
    }

    def __init__(self,
                 depth: int,
                 in_channels: int = 3,
                 base_channels: int = 16,
                 out_indices: Sequence[int] = (2, ),
                 frozen_stages: int = -1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN', requires_grad=True),
                 norm_eval: bool = False,
                 with_cp: bool = False,
                 zero_init_residual: bool = False,
                 init_cfg: InitCfg = None,
                 drop_path_rate: float = 0.):
        super().__init__(
            depth,
            in_channels=in_channels,
            base_channels=base_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            norm_eval=norm_eval,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            init_cfg=init_cfg,
            drop_path_rate=drop_path_rate)

    @staticmethod
    def projection(in_channels: int, out_channels: int, stride: int, **kinds: Any) -> nn.Module:
        return PaddedShortcut(in_channels, out_channels, stride)
