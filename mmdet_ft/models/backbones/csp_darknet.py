"""Backbone of YOLOX."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.csp_layer import ACTIVATION, NORM, UNIFORM, CSPLayer, convolution
from mmdet_ft.models.layers import freeze, keep_statistics
from mmdet_ft.registry import MODELS


class Focus(nn.Module):
    """Every second pixel of each kind as channels of its own, and a convolution: half the size.

    Args:
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int = 1,
                 stride: int = 1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION):
        super().__init__()
        self.conv = ConvModule(
            4 * in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=(kernel_size - 1) // 2,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, out_channels, H/2, W/2] of x [B, in_channels, H, W]."""
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(parts, 1))


class SPPBottleneck(BaseModule):
    """Maxima of several window sizes next to the input, between two 1x1 convolutions (SPP-Net).

    Args:
        kernel_sizes: sides of the windows, odd.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_sizes: Sequence[int] = (5, 9, 13),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        half = in_channels // 2
        self.conv1 = ConvModule(in_channels, half, 1, **layers)
        self.poolings = nn.ModuleList(
            nn.MaxPool2d(size, stride=1, padding=size // 2) for size in kernel_sizes)
        self.conv2 = ConvModule(half * (len(kernel_sizes) + 1), out_channels, 1, **layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pooling(x) for pooling in self.poolings)], 1))


@MODELS.register_module()
class CSPDarknet(BaseModule):
    """CSPDarknet of YOLOv5 and YOLOX: a Focus and four or five stages, each of half the size.

    V2's arguments and state_dict, with its spelling.

    Args:
        arch: 'P5', or 'P6' with a fifth stage.
        deepen_factor, widen_factor: of the numbers of blocks and of channels.
        out_indices: outputs that are returned: 0 is the stem, 1 the first stage.
        frozen_stages: last output with frozen weights and statistics; -1 for none.
        use_depthwise: 3x3 convolutions are depthwise separable.
        arch_ovewrite: stages instead of those of `arch`: [channels before, after, blocks, add_identity, use_spp].
        spp_kernal_sizes: windows of the last stage's SPPBottleneck.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        norm_eval: batch norm keeps its statistics in training.

    Raises ValueError for an arch or stages that do not exist.
    """

    arch_settings: Dict[str, List[List]] = {
        'P5': [[64, 128, 3, True, False], [128, 256, 9, True, False], [256, 512, 9, True, False],
               [512, 1024, 3, False, True]],
        'P6': [[64, 128, 3, True, False], [128, 256, 9, True, False], [256, 512, 9, True, False],
               [512, 768, 3, True, False], [768, 1024, 3, False, True]]
    }

    def __init__(self,
                 arch: str = 'P5',
                 deepen_factor: float = 1.0,
                 widen_factor: float = 1.0,
                 out_indices: Sequence[int] = (2, 3, 4),
                 frozen_stages: int = -1,
                 use_depthwise: bool = False,
                 arch_ovewrite: Optional[List[List]] = None,
                 spp_kernal_sizes: Sequence[int] = (5, 9, 13),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 norm_eval: bool = False,
                 init_cfg: InitCfg = UNIFORM):
        super().__init__(init_cfg)
        if arch not in self.arch_settings:
            raise ValueError(f"CSPDarknet: arch is {arch!r}; write 'P5' or 'P6'")
        stages = arch_ovewrite or self.arch_settings[arch]
        last = len(stages)
        if not set(out_indices) <= set(range(last + 1)):
            raise ValueError(
                f'CSPDarknet: out_indices={out_indices}, but the outputs are 0 to {last}')
        if frozen_stages not in range(-1, last + 1):
            raise ValueError(f'CSPDarknet: frozen_stages is {frozen_stages!r}; write -1 to {last}')
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        self.norm_eval = norm_eval
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.stem = Focus(3, int(stages[0][0] * widen_factor), 3, **layers)
        self.layers = ['stem']
        for i, (before, after, num_blocks, add_identity, use_spp) in enumerate(stages):
            channels = int(after * widen_factor)
            parts: List[nn.Module] = [
                convolution(use_depthwise)(
                    int(before * widen_factor), channels, 3, stride=2, padding=1, **layers)
            ]
            if use_spp:
                parts.append(SPPBottleneck(channels, channels, spp_kernal_sizes, **layers))
            parts.append(
                CSPLayer(
                    channels,
                    channels,
                    num_blocks=max(round(num_blocks * deepen_factor), 1),
                    add_identity=add_identity,
                    use_depthwise=use_depthwise,
                    **layers))
            self.layers.append(f'stage{i + 1}')
            self.add_module(self.layers[-1], nn.Sequential(*parts))
        # DistributedDataParallel waits for a gradient of every trainable parameter.
        for name in self.layers[max(self.out_indices) + 1:]:
            getattr(self, name).requires_grad_(False)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the outputs `out_indices`: x [B, 3, H, W] -> by default [B, c, H/s, W/s] for s = 8, 16, 32."""
        outputs = []
        for i, name in enumerate(self.layers[:max(self.out_indices) + 1]):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'CSPDarknet':
        """Set training mode, except for frozen parts and batch norm statistics with `norm_eval`."""
        super().train(mode)
        for name in self.layers[:self.frozen_stages + 1]:
            freeze(getattr(self, name))
        if mode and self.norm_eval:
            keep_statistics(self)
        return self
