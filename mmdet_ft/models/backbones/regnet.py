import dataclasses
import itertools
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import nn

from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.base_module import InitCfg
from mmdet_ft.models.settings import read_settings
from mmdet_ft.registry import MODELS


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Parameters of a RegNet `arch`."""
    w0: int  # width of the first block
    wa: float  # increase in width per block
    wm: float  # ratio of the widths of neighboring stages
    depth: int  # blocks
    group_w: int  # channels per group
    bot_mul: float = 1.0  # inner channels of a block over its outer ones


# Named by the floating point operations per image, as published by the paper's authors.
ARCHITECTURES = {
    'regnetx_400mf': Architecture(24, 24.48, 2.54, 22, 16),
    'regnetx_800mf': Architecture(56, 35.73, 2.28, 16, 16),
    'regnetx_1.6gf': Architecture(80, 34.01, 2.25, 18, 24),
    'regnetx_3.2gf': Architecture(88, 26.31, 2.25, 25, 48),
    'regnetx_4.0gf': Architecture(96, 38.65, 2.43, 23, 40),
    'regnetx_6.4gf': Architecture(184, 60.83, 2.07, 17, 56),
    'regnetx_8.0gf': Architecture(80, 49.56, 2.88, 23, 120),
    'regnetx_12gf': Architecture(168, 73.36, 2.37, 19, 112),
}


def stages_of(arch: Architecture) -> List[Tuple[int, int, int, int]]:
    """Return (width, blocks, groups, channels per group) by stage (Designing Network Design Spaces, sec. 3.3).

    Block j has the nominal width w0 + wa * j. It takes the nearest of w0, w0 * wm, w0 * wm^2 ..., in multiples
    of 8, and blocks of one width form a stage. The width is rounded to a multiple of the group's.
    """
    linear = arch.w0 + arch.wa * np.arange(arch.depth)
    steps = np.round(np.log(linear / arch.w0) / np.log(arch.wm))
    widths = (np.round(arch.w0 * arch.wm**steps / 8) * 8).astype(int).tolist()
    stages = []
    for width, blocks in itertools.groupby(widths):
        inner = int(width * arch.bot_mul)
        group = min(arch.group_w, inner)
        width = int(int(round(inner / group) * group) / arch.bot_mul)
        stages.append((width, len(list(blocks)), int(round(width * arch.bot_mul)) // group, group))
    return stages


@MODELS.register_module()
class RegNet(ResNet):
    """Residual network of grouped bottlenecks without expansion, whose widths grow linearly with depth.

    Args:
        arch: 'regnetx_400mf', _800mf, _1.6gf, _3.2gf, _4.0gf, _6.4gf, _8.0gf or _12gf; or its parameters,
            `dict(w0=88, wa=26.31, wm=2.25, group_w=48, depth=25, bot_mul=1.0)`.
        base_channels, deep_stem: V2's; the first has no effect, the second is not supported.

    Other arguments as ResNet, with V2's defaults.

    Raises ValueError for an unknown `arch`, TypeError for invalid parameters.
    """

    def __init__(self,
                 arch: Union[str, Dict, Architecture],
                 in_channels: int = 3,
                 stem_channels: int = 32,
                 base_channels: int = 32,
                 strides: Sequence[int] = (2, 2, 2, 2),
                 dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 style: str = 'pytorch',
                 deep_stem: bool = False,
                 avg_down: bool = False,
                 frozen_stages: int = -1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN', requires_grad=True),
                 norm_eval: bool = True,
                 dcn: Optional[Dict] = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 plugins: Optional[List[Dict]] = None,
                 with_cp: bool = False,
                 zero_init_residual: bool = True,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None,
                 layout: str = 'mmdet'):
        if isinstance(arch, str) and arch not in ARCHITECTURES:
            raise ValueError(f'RegNet: arch is {arch!r}; write one of {", ".join(ARCHITECTURES)}')
        if deep_stem:
            raise ValueError('RegNet has no deep stem; remove deep_stem')
        self.stages = stages_of(ARCHITECTURES[arch] if isinstance(arch, str) else read_settings(
            Architecture, arch, 'RegNet: arch'))
        if init_cfg is None and pretrained is None and layout == 'mmcls':
            init_cfg = []  # in MMClassification a RegNet starts with PyTorch's default weights
        super().__init__(
            50,  # the depth whose blocks these are
            in_channels=in_channels,
            stem_channels=stem_channels,
            base_channels=base_channels,
            num_stages=len(self.stages),
            strides=strides,
            dilations=dilations,
            out_indices=out_indices,
            style=style,
            avg_down=avg_down,
            frozen_stages=frozen_stages,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            norm_eval=norm_eval,
            dcn=dcn,
            stage_with_dcn=stage_with_dcn,
            plugins=plugins,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            pretrained=pretrained,
            init_cfg=init_cfg,
            expansion=1,
            layout=layout)
        self.depth = sum(blocks for _, blocks, _, _ in self.stages)

    def plan(self, depth: int, num_stages: int, base_channels: int) -> List[Tuple[int, int, Dict]]:
        return [(width, blocks, dict(groups=groups, base_width=group, base_channels=width))
                for width, blocks, groups, group in self.stages]

    def _make_stem(self, in_channels: int, channels: int, conv_cfg: Optional[Dict],
                   norm_cfg: Dict) -> None:
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, channels, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, channels, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
