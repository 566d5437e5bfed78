import dataclasses
import functools
from typing import Dict, List, Optional, Sequence, Tuple, Type, Union

from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from mmdet_ft.models.backbones.residual import (BasicBlock, Block, Bottleneck, ResidualBlock,
                                                make_projection, make_stage)
from mmdet_ft.models.backbones.resnet import CONVOLUTION_INIT
from mmdet_ft.models.base_module import BaseModule, InitCfg, ModuleList, Sequential
from mmdet_ft.models.layers import NOT_FOLDED, Folded, conv_norm, fold_norms, keep_statistics
from mmdet_ft.models.settings import read_settings
from mmdet_ft.registry import MODELS

BLOCKS: Dict[str, Type[Block]] = dict(BASIC=BasicBlock, BOTTLENECK=Bottleneck)


@dataclasses.dataclass(frozen=True)
class HRStage:
    """A stage of `extra`: a sequence of modules with several branches each."""
    num_modules: int
    num_branches: int
    block: str  # 'BASIC' or 'BOTTLENECK'
    num_blocks: Sequence[int]  # of each branch
    num_channels: Sequence[int]  # of each branch's blocks, before expansion

    def __post_init__(self):
        if self.block not in BLOCKS:
            raise ValueError(
                f"HRNet: block is {self.block!r}; write {' or '.join(map(repr, BLOCKS))}")
        for name in ('num_blocks', 'num_channels'):
            if len(getattr(self, name)) != self.num_branches:
                raise ValueError(f'HRNet: {name}={getattr(self, name)} for num_branches='
                                 f'{self.num_branches}; give one number a branch')

    @property
    def out_channels(self) -> List[int]:
        return [width * BLOCKS[self.block].expansion for width in self.num_channels]


@dataclasses.dataclass(frozen=True)
class HRStages:
    """`extra` of an HRNet, built from records or from their dicts."""
    stage1: HRStage
    stage2: HRStage
    stage3: HRStage
    stage4: HRStage


class Layers:
    """Convolutions with their norm layers, of one conv_cfg and norm_cfg."""

    def __init__(self, conv_cfg: Optional[Dict], norm_cfg: Dict, with_cp: bool):
        self.conv_cfg, self.norm_cfg, self.with_cp = conv_cfg, norm_cfg, with_cp

    def conv(self,
             in_channels: int,
             out_channels: int,
             kernel_size: int = 3,
             stride: int = 1) -> List[nn.Module]:
        conv = build_conv_layer(
            self.conv_cfg,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=False)
        return [conv, build_norm_layer(self.norm_cfg, out_channels)[1]]

    def down(self, in_channels: int, out_channels: int, steps: int, last_relu: bool) -> nn.Module:
        """Build `steps` layers that halve the resolution; the last one changes the channels."""
        halves = []
        for step in range(1, steps + 1):
            width = out_channels if step == steps else in_channels
            relu = [nn.ReLU()] if last_relu or step < steps else []
            halves.append(nn.Sequential(*self.conv(in_channels, width, stride=2), *relu))
        return nn.Sequential(*halves)

    def blocks(self, kind: str, in_channels: int, channels: int, number: int) -> nn.Module:
        return make_stage(
            BLOCKS[kind],
            in_channels,
            channels,
            number,
            with_cp=self.with_cp,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            project=functools.partial(
                make_projection, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg))


class HRModule(BaseModule):
    """Blocks on maps of several resolutions, each half the previous one, then their fusion.

    The output is the sum of all maps at each resolution, or only at the first with `num_outs` 1.
    """

    fuse_layers: nn.ModuleList

    def __init__(self, layers: Layers, stage: HRStage, num_outs: int):
        super().__init__()
        widths = stage.out_channels
        self.branches = ModuleList([
            layers.blocks(stage.block, *sizes)
            for sizes in zip(widths, stage.num_channels, stage.num_blocks)
        ])

        def make_fusion(source: int, goal: int) -> nn.Module:
            if source == goal:
                return nn.Identity()
            if source < goal:
                return layers.down(widths[source], widths[goal], goal - source, last_relu=False)
            return nn.Sequential(*layers.conv(widths[source], widths[goal], kernel_size=1),
                                 nn.Upsample(scale_factor=2**(source - goal), mode='nearest'))

        if stage.num_branches > 1:
            self.fuse_layers = nn.ModuleList([
                nn.ModuleList([make_fusion(source, goal) for source in range(stage.num_branches)])
                for goal in range(num_outs)
            ])

    def forward(self, maps: Sequence[Tensor], folded: Folded = NOT_FOLDED) -> List[Tensor]:
        maps = [branch(x, folded) for branch, x in zip(self.branches, maps)]
        if len(maps) == 1:
            return maps
        return [
            functools.reduce(Tensor.add, (make_fusion(x)
                                          for make_fusion, x in zip(goal.children(), maps))).relu()
            for goal in self.fuse_layers.children()
        ]


@MODELS.register_module()
class HRNet(BaseModule):
    """HRNet, which keeps a stride-4 map next to coarser ones and exchanges features between them
    (High-Resolution Representations for Labeling Pixels and Regions).

    V2's arguments and state_dict.

    Args:
        extra: the four stages, as `dict(stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK',
            num_blocks=(4, ), num_channels=(64, )), stage2=..., ...)`; each has one branch more than the
            previous one.
        multiscale_output: return all branches, not only the finest.
        zero_init_residual: V2's; it has no effect there either.

    Other arguments as ResNet.

    Raises ValueError and TypeError for invalid stages.
    """

    def __init__(self,
                 extra: Union[Dict, HRStages],
                 in_channels: int = 3,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 norm_eval: bool = True,
                 with_cp: bool = False,
                 zero_init_residual: bool = False,
                 multiscale_output: bool = True,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        extra = read_settings(HRStages, extra, 'HRNet: extra')
        stages = [
            read_settings(HRStage, getattr(extra, f'stage{number}'), f'HRNet: extra.stage{number}')
            for number in (1, 2, 3, 4)
        ]
        if pretrained is not None:
            if init_cfg:
                raise ValueError(
                    'HRNet: pretrained and init_cfg both say how the weights begin; remove pretrained'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg or CONVOLUTION_INIT)
        self.norm_eval = norm_eval
        layers = Layers(conv_cfg, norm_cfg, with_cp)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, 64, postfix=1)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, 64, postfix=2)
        self.conv1 = layers.conv(in_channels, 64, stride=2)[0]
        self.add_module(self.norm1_name, norm1)
        self.conv2 = layers.conv(64, 64, stride=2)[0]
        self.add_module(self.norm2_name, norm2)
        self.relu = nn.ReLU(inplace=True)
        first = stages[0]
        self.layer1 = layers.blocks(first.block, 64, first.num_channels[0], first.num_blocks[0])
        for number, (before, stage) in enumerate(zip(stages, stages[1:]), 1):
            changes = _changes(layers, before.out_channels, stage.out_channels)
            self.add_module(f'transition{number}', nn.ModuleList(changes))
            num_outs = [stage.num_branches] * stage.num_modules
            if number == 3 and not multiscale_output:
                num_outs[-1] = 1
            self.add_module(f'stage{number + 1}',
                            Sequential(*(HRModule(layers, stage, num) for num in num_outs)))

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    @property
    def norm2(self) -> nn.Module:
        return getattr(self, self.norm2_name)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the feature maps: x [B, C, H, W] -> [B, c, H/4, W/4], each next map half the size."""
        folded = fold_norms(self._pairs())
        x = self.relu(conv_norm(self.conv1, self.norm1, x, folded))
        x = self.relu(conv_norm(self.conv2, self.norm2, x, folded))
        maps = [self.layer1(x, folded)]
        for number in (1, 2, 3):
            changes = getattr(self, f'transition{number}')
            maps = [change(maps[min(index, len(maps) - 1)]) for index, change in enumerate(changes)]
            for module in getattr(self, f'stage{number + 1}'):
                maps = module(maps, folded)
        return tuple(maps)

    def _pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        """Return the convolutions of the stem and all blocks with the norm layers that follow them."""
        blocks = (module for module in self.modules() if isinstance(module, ResidualBlock))
        return [(self.conv1, self.norm1),
                (self.conv2, self.norm2)] + [pair for block in blocks for pair in block.pairs()]

    def train(self, mode: bool = True) -> 'HRNet':
        """Set training mode, except for batch norm statistics with `norm_eval`."""
        super().train(mode)
        if mode and self.norm_eval:
            keep_statistics(self)
        return self


def _changes(layers: Layers, before: Sequence[int], after: Sequence[int]) -> List[nn.Module]:
    """Build the transitions between two stages: changed channels, and new maps from the coarsest one."""
    changes: List[nn.Module] = []
    for index, width in enumerate(after):
        if index >= len(before):
            changes.append(layers.down(before[-1], width, index + 1 - len(before), last_relu=True))
        elif width != before[index]:
            changes.append(nn.Sequential(*layers.conv(before[index], width), nn.ReLU()))
        else:
            changes.append(nn.Identity())
    return changes
