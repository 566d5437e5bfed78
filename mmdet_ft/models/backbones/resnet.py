import functools
import re
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Type

from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from mmdet_ft.models.backbones.residual import (POSITIONS, BasicBlock, Block, Bottleneck,
                                                make_projection, make_stage)
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.layers import check_layout, conv_norm, fold_norms, freeze, keep_statistics
from mmdet_ft.registry import MODELS, fixed_arguments

CONVOLUTION_INIT: List[Dict] = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
]


@MODELS.register_module()
class ResNet(BaseModule):
    """ResNet with a stem of stride 4 and up to four stages (Deep Residual Learning for Image Recognition).

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: channels of the image.
        stem_channels: channels of the stem; `base_channels` by default.
        base_channels: channels of the first stage before expansion; each stage doubles them.
        num_stages: 1 to 4.
        strides, dilations: of the stages' first blocks and of all their blocks, one number per stage.
        out_indices: stages whose output is returned, from 0.
        style: 'pytorch' or 'caffe': position of a bottleneck's stride. Weights of one style do not fit the
            other.
        deep_stem: three 3x3 convolutions instead of the 7x7 (ResNet-C, -D).
        avg_down: average before projections (ResNet-D).
        frozen_stages: number of stages with frozen weights and statistics, from 0 on also the stem's; -1 for
            none.
        conv_cfg, norm_cfg: layers in mmcv's form: `dict(type='ConvWS')`, `dict(type='GN', num_groups=32)`.
        norm_eval: batch norm keeps its statistics in training.
        dcn: deformable 3x3 convolutions in the bottlenecks of the stages in `stage_with_dcn`: `dict(type='DCN',
            deform_groups=1)`, or of type 'DCNv2'.
        plugins: layers in the bottlenecks, such as `dict(cfg=dict(type='ContextBlock', ratio=1 / 16),
            stages=(False, True, True, True), position='after_conv3')`; see Bottleneck.
        with_cp: recompute blocks in the backward pass: less memory, a third more time.
        zero_init_residual: initialize random weights so that blocks begin as identity.
        pretrained: older form of `init_cfg=dict(type='Pretrained', checkpoint=...)`.
        expansion: output channels of a bottleneck over its inner ones; 4 by default.
        drop_path_rate: share of samples for which training skips a block.
        layout: 'mmdet' or 'mmcls': weight names of deep stems and averaging projections, which differ between
            MMDetection and MMClassification.

    The defaults are MMDetection's; a classifier sets MMClassification's, see classification_defaults.py.

    Raises ValueError for an unsupported depth, style or number of stages, and for lists of the wrong length.
    """

    arch_settings: Dict[int, Tuple[Type[Block], Tuple[int, ...]]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(self,
                 depth: int,
                 in_channels: int = 3,
                 stem_channels: Optional[int] = None,
                 base_channels: int = 64,
                 num_stages: int = 4,
                 strides: Sequence[int] = (1, 2, 2, 2),
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
                 expansion: Optional[int] = None,
                 drop_path_rate: float = 0.,
                 layout: str = 'mmdet'):
        check_layout(layout)
        self._check(depth, num_stages, strides, dilations, out_indices, style, frozen_stages,
                    expansion)
        self._check_extras(num_stages, conv_cfg, dcn, stage_with_dcn, plugins)
        if pretrained is not None:
            if init_cfg:
                raise ValueError(
                    'ResNet: pretrained and init_cfg both say how the weights begin; remove pretrained'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        block = self.arch_settings[depth][0]
        block_init_cfg = None
        # With init_cfg rules in the config MMDetection skips this block rule, MMClassification applies it.
        if zero_init_residual and (
                init_cfg is None or layout == 'mmcls'
                and not (isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained')):
            last_norm = 'norm2' if block is BasicBlock else 'norm3'
            block_init_cfg = dict(type='Constant', val=0, override=dict(name=last_norm))
        super().__init__(CONVOLUTION_INIT if init_cfg is None else init_cfg)
        self.depth = depth
        self.base_channels = base_channels
        self.layout = layout
        self.out_indices = tuple(out_indices)
        self.deep_stem = deep_stem
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        channels = base_channels if stem_channels is None else stem_channels
        self._make_stem(in_channels, channels, conv_cfg, norm_cfg)
        project = functools.partial(
            self.projection, avg_down=avg_down, conv_cfg=conv_cfg, norm_cfg=norm_cfg, layout=layout)
        dcn = None if dcn is None else dict(dcn)  # blocks change it
        self.res_layers = []
        plan = self.plan(depth, num_stages, base_channels)
        for i, (width, num_blocks, block_arguments) in enumerate(plan):
            stage = make_stage(
                block,
                channels,
                width,
                num_blocks,
                stride=strides[i],
                dilation=dilations[i],
                style=style,
                with_cp=with_cp,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                dcn=dcn if dcn is not None and stage_with_dcn[i] else None,
                plugins=[
                    plugin for plugin in plugins or ()
                    if plugin.get('stages') is None or plugin['stages'][i]
                ],
                init_cfg=block_init_cfg,
                drop_path_rate=drop_path_rate,
                expansion=expansion,
                block_arguments=block_arguments,
                project=project)
            channels = width * (block.expansion if expansion is None else expansion)
            self.res_layers.append(f'layer{i + 1}')
            self.add_module(self.res_layers[-1], stage)
        self.feat_dim = channels
        self._freeze_stages()

    def _check(self, depth, num_stages, strides, dilations, out_indices, style, frozen_stages,
               expansion) -> None:
        kind = type(self).__name__
        if depth not in self.arch_settings:
            raise ValueError(
                f'{kind}: depth is {depth!r}; write one of {", ".join(map(str, self.arch_settings))}'
            )
        if not 1 <= num_stages <= 4:
            raise ValueError(f'{kind}: num_stages is {num_stages}; write 1 to 4')
        for name, values in (('strides', strides), ('dilations', dilations)):
            if len(values) != num_stages:
                raise ValueError(
                    f'{kind}: {name}={values} for num_stages={num_stages}; give one number per stage'
                )
        if not 0 <= min(out_indices) <= max(out_indices) < num_stages:
            raise ValueError(
                f'{kind}: out_indices={out_indices}, but the stages are 0 to {num_stages - 1}')
        if style not in ('pytorch', 'caffe'):
            raise ValueError(f"{kind}: style is {style!r}; write 'pytorch' or 'caffe'")
        if frozen_stages > num_stages:
            raise ValueError(f'{kind}: frozen_stages is {frozen_stages} of {num_stages} stages')
        if expansion is not None and self.arch_settings[depth][0] is BasicBlock:
            raise ValueError(
                f'{kind}: a network of depth {depth} has no bottlenecks to expand; remove expansion'
            )

    def _check_extras(self, num_stages, conv_cfg, dcn, stage_with_dcn, plugins) -> None:
        kind = type(self).__name__
        if dcn is not None and conv_cfg is not None:
            raise ValueError(
                f'{kind}: dcn and conv_cfg={conv_cfg!r} exclude each other; remove one')
        if dcn is not None and len(stage_with_dcn) != num_stages:
            raise ValueError(
                f'{kind}: stage_with_dcn={stage_with_dcn} for num_stages={num_stages}; '
                'give True or False for each stage')
        for plugin in plugins or ():
            if plugin.get('position') not in POSITIONS or 'cfg' not in plugin:
                raise ValueError(
                    f"{kind}: a plugin is dict(cfg=dict(type='ContextBlock', ratio=1 / 16), position=...), with "
                    f'one of {", ".join(map(repr, POSITIONS))}, not {dict(plugin)!r}')
            stages = plugin.get('stages')
            if stages is not None and len(stages) != num_stages:
                raise ValueError(
                    f'{kind}: a plugin has stages={stages} for num_stages={num_stages}; '
                    'give True or False for each stage')

    projection: Callable[..., nn.Module] = staticmethod(make_projection)

    def plan(self, depth: int, num_stages: int, base_channels: int) -> List[Tuple[int, int, Dict]]:
        """Return channels inside the blocks, number of blocks and their extra arguments for each stage."""
        num_blocks = self.arch_settings[depth][1]
        return [(base_channels * 2**i, num_blocks[i], self.block_arguments())
                for i in range(num_stages)]

    def block_arguments(self) -> Dict:
        """Return arguments of this network's blocks beyond the common ones."""
        return {}

    def _make_stem(self, in_channels: int, channels: int, conv_cfg: Optional[Dict],
                   norm_cfg: Dict) -> None:
        if self.deep_stem:
            widths = [in_channels, channels // 2, channels // 2, channels]
            layers = []
            for i in range(3):
                conv = ConvModule(
                    widths[i],
                    widths[i + 1],
                    kernel_size=3,
                    stride=2 if i == 0 else 1,
                    padding=1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg)
                layers += [conv
                           ] if self.layout == 'mmcls' else [conv.conv, conv.norm, conv.activate]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1 = build_conv_layer(
                conv_cfg, in_channels, channels, kernel_size=7, stride=2, padding=3, bias=False)
            self.norm1_name, norm1 = build_norm_layer(norm_cfg, channels, postfix=1)
            self.add_module(self.norm1_name, norm1)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def rename_weights(self, state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Rename weights of a deep stem and averaging projections from MMDetection's names to this layout's.

        Other names are kept.
        """
        if self.layout != 'mmcls' or not self.deep_stem or 'stem.7.weight' not in state_dict:
            return state_dict
        own = set(self.state_dict())
        renamed = {}
        for name, value in state_dict.items():
            match = re.fullmatch(r'stem\.(\d)\.(\w+)', name)
            if match:
                index = int(match.group(1))
                name = f'stem.{index // 3}.{"bn" if index % 3 else "conv"}.{match.group(2)}'
            else:
                block, _, rest = name.rpartition('downsample.')
                if block and f'{block}downsample.2.weight' not in own and f'{block}downsample.2.weight' in state_dict:
                    name = f'{block}downsample.{int(rest[0]) - 1}{rest[1:]}'  # no average over one pixel before it
            renamed[name] = value
        return renamed

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the stages `out_indices`: x [B, C, H, W] -> first [B, c, H/4, W/4], each next half the size."""
        folded = fold_norms(self._pairs())
        if self.deep_stem:
            x = self.stem(x)
        else:
            x = self.relu(conv_norm(self.conv1, self.norm1, x, folded))
        x = self.maxpool(x)
        outputs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x, folded)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        """Return every convolution with the norm layer that follows it, except for a deep stem's."""
        stem = [] if self.deep_stem else [(self.conv1, self.norm1)]
        blocks = (block for name in self.res_layers for block in getattr(self, name))
        return stem + [pair for block in blocks for pair in block.pairs()]

    def train(self, mode: bool = True) -> 'ResNet':
        """Set training mode, except for frozen parts and batch norm statistics with `norm_eval`."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            keep_statistics(self)
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        frozen += [getattr(self, name) for name in self.res_layers[:self.frozen_stages]]
        for module in frozen:
            freeze(module)


@MODELS.register_module()
@fixed_arguments(deep_stem=True, avg_down=False)
class ResNetV1c(ResNet):
    """ResNet with three 3x3 convolutions as its stem (Bag of Tricks, sec. 4)."""


@MODELS.register_module()
@fixed_arguments(deep_stem=True, avg_down=True)
class ResNetV1d(ResNet):
    """ResNet with three 3x3 convolutions as its stem and averaging projections (Bag of Tricks, sec. 4)."""
