"""Residual networks for images of 32x32 pixels."""
from typing import Dict, Optional, Sequence

import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from mmdet_ft.models.backbones.resnet import BasicBlock, ResNet
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
