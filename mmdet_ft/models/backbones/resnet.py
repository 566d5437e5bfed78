import functools
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Type

from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_ft.models.base_module import BaseModule, InitCfg, Sequential
from mmdet_ft.models.layers import (NOT_FOLDED, Folded, check_layout, conv_norm, fold_norms, freeze,
                                    keep_statistics)
from mmdet_ft.registry import MODELS, fixed_arguments

# In every constructor here the order of the assignments is the order of the state_dict, and of V2's optimizer states.


class ResidualBlock(BaseModule):
    """A block's frame: its convolutions are added to the input, or to the input's projection, before the last ReLU.

    With a `drop_path_rate` training leaves the convolutions of so many samples out (Deep Networks with Stochastic
    Depth).
    """
    expansion: int  # output channels over `channels`
    with_cp: bool
    downsample: Optional[nn.Module]
    relu: nn.Module
    drop_path: Optional[DropPath]
    norm1_name: str
    norm2_name: str

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    @property
    def norm2(self) -> nn.Module:
        return getattr(self, self.norm2_name)

    def pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        """Each convolution with the norm layer that follows it."""
        pairs = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        return pairs + ([tuple(self.downsample[-2:])] if self._projects() else [])

    def _projects(self) -> bool:
        return isinstance(self.downsample, nn.Sequential)

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        raise NotImplementedError

    def shortcut(self, x: Tensor, folded: Folded) -> Tensor:
        if not self._projects():
            return x if self.downsample is None else self.downsample(x)
        *before, conv, norm = self.downsample
        for layer in before:
            x = layer(x)
        return conv_norm(conv, norm, x, folded)

    def residual(self, x: Tensor, folded: Folded) -> Tensor:
        out = self.convolutions(x, folded)
        if self.drop_path is not None:
            out = self.drop_path(out)
        out += self.shortcut(x, folded)
        return out

    def forward(self, x: Tensor, folded: Folded = NOT_FOLDED) -> Tensor:
        """x [B, C, H, W]; `folded` as layers.fold_norms gives it for the pairs of this block."""
        if self.with_cp and x.requires_grad:
            # Where nothing in a block is random, no random state has to be kept.
            out = checkpoint(
                self.residual,
                x,
                folded,
                use_reentrant=False,
                preserve_rng_state=self.drop_path is not None)
        else:
            out = self.residual(x, folded)
        return self.relu(out)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (Deep Residual Learning, fig. 5 left); `style` and groups make no difference to it."""
    expansion = 1

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int = 1,
                 dilation: int = 1,
                 downsample: Optional[nn.Module] = None,
                 style: str = 'pytorch',
                 with_cp: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 init_cfg: InitCfg = None,
                 drop_path_rate: float = 0.):
        super().__init__(init_cfg)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, channels, postfix=1)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, channels, postfix=2)
        self.conv1 = build_conv_layer(
            conv_cfg,
            in_channels,
            channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            bias=False)
        self.add_module(self.norm1_name, norm1)
        self.conv2 = build_conv_layer(conv_cfg, channels, channels, 3, padding=1, bias=False)
        self.add_module(self.norm2_name, norm2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.with_cp = with_cp
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else None

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        x = self.relu(conv_norm(self.conv1, self.norm1, x, folded))
        return conv_norm(self.conv2, self.norm2, x, folded)


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 (Deep Residual Learning, fig. 5 right); with groups, ResNeXt's (fig. 3c).

    A stride belongs to the 3x3 convolution in style 'pytorch', to the first 1x1 in style 'caffe', as in the original.
    The inner width is `channels`, or with groups, `channels * base_width / base_channels` rounded down in each group.
    """
    expansion = 4

    def __init__(self,
                 in_channels: int,
                 channels: int,
                 stride: int = 1,
                 dilation: int = 1,
                 downsample: Optional[nn.Module] = None,
                 style: str = 'pytorch',
                 with_cp: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 init_cfg: InitCfg = None,
                 drop_path_rate: float = 0.,
                 expansion: int = 4,
                 groups: int = 1,
                 base_width: int = 4,
                 base_channels: int = 64):
        super().__init__(init_cfg)
        width = channels if groups == 1 else int(channels * (base_width / base_channels)) * groups
        out_channels = channels * expansion
        stride1, stride2 = (1, stride) if style == 'pytorch' else (stride, 1)
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, width, postfix=1)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, width, postfix=2)
        self.norm3_name, norm3 = build_norm_layer(norm_cfg, out_channels, postfix=3)
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, width, kernel_size=1, stride=stride1, bias=False)
        self.add_module(self.norm1_name, norm1)
        self.conv2 = build_conv_layer(
            conv_cfg,
            width,
            width,
            kernel_size=3,
            stride=stride2,
            padding=dilation,
            dilation=dilation,
            groups=groups,
            bias=False)
        self.add_module(self.norm2_name, norm2)
        self.conv3 = build_conv_layer(conv_cfg, width, out_channels, kernel_size=1, bias=False)
        self.add_module(self.norm3_name, norm3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.with_cp = with_cp
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else None

    @property
    def norm3(self) -> nn.Module:
        return getattr(self, self.norm3_name)

    def pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        return super().pairs() + [(self.conv3, self.norm3)]

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        x = self.relu(conv_norm(self.conv1, self.norm1, x, folded))
        x = self.relu(conv_norm(self.conv2, self.norm2, x, folded))
        return conv_norm(self.conv3, self.norm3, x, folded)


class Stage(Sequential):
    """Blocks one after the other; `folded` goes to each."""

    def forward(self, x: Tensor, folded: Folded = NOT_FOLDED) -> Tensor:
        for block in self:
            x = block(x, folded)
        return x


def make_projection(in_channels: int,
                    out_channels: int,
                    stride: int,
                    avg_down: bool = False,
                    conv_cfg: Optional[Dict] = None,
                    norm_cfg: Dict = dict(type='BN'),
                    layout: str = 'mmdet') -> nn.Module:
    """A 1x1 convolution that gives a block's input the shape of its output.

    With `avg_down` it averages before a convolution of stride 1 (ResNet-D).
    """
    # MMDetection has an average over one pixel too, and its weights the number that comes of it.
    average = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
               ] if avg_down and (stride != 1 or layout == 'mmdet') else []
    return nn.Sequential(
        *average,
        build_conv_layer(
            conv_cfg,
            in_channels,
            out_channels,
            kernel_size=1,
            stride=1 if avg_down else stride,
            bias=False),
        build_norm_layer(norm_cfg, out_channels)[1])


def make_stage(block: Type[ResidualBlock],
               in_channels: int,
               channels: int,
               num_blocks: int,
               stride: int = 1,
               dilation: int = 1,
               style: str = 'pytorch',
               with_cp: bool = False,
               conv_cfg: Optional[Dict] = None,
               norm_cfg: Dict = dict(type='BN'),
               init_cfg: InitCfg = None,
               drop_path_rate: float = 0.,
               expansion: Optional[int] = None,
               block_arguments: Optional[Dict] = None,
               project: Callable[[int, int, int], nn.Module] = make_projection) -> Stage:
    """Blocks of one resolution; the first has the stride, and projects its input where the shape changes.

    Args:
        block: the kind of block; `block_arguments` are those of one kind only.
        channels: of the block's inside; `expansion` times as many come out.
        project: (in channels, out channels, stride) -> the projection.
    """
    out_channels = channels * (block.expansion if expansion is None else expansion)
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = project(in_channels, out_channels, stride)
    arguments = dict(block_arguments or {})
    if expansion is not None:
        arguments['expansion'] = expansion
    return Stage(*(block(
        in_channels if first else out_channels,
        channels,
        stride=stride if first else 1,
        dilation=dilation,
        downsample=downsample if first else None,
        style=style,
        with_cp=with_cp,
        conv_cfg=conv_cfg,
        norm_cfg=norm_cfg,
        init_cfg=init_cfg,
        drop_path_rate=drop_path_rate,
        **arguments) for first in [True] + [False] * (num_blocks - 1)))


CONVOLUTION_INIT = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
]


@MODELS.register_module()
class ResNet(BaseModule):
    """Residual network: a stem of stride 4 and up to four stages (Deep Residual Learning for Image Recognition).

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: channels of the image.
        stem_channels: channels of the stem; `base_channels` by default.
        base_channels: channels of the first stage before expansion; each stage doubles them.
        num_stages: 1 to 4.
        strides, dilations: of the stages' first blocks and of all their blocks, one number a stage.
        out_indices: stages whose output is returned, from 0.
        style: 'pytorch' or 'caffe': where a bottleneck's stride is. Weights of one style do not fit the other.
        deep_stem: three 3x3 convolutions in place of the 7x7 (ResNet-C, -D).
        avg_down: average before projections (ResNet-D).
        frozen_stages: so many stages, and from 0 on the stem, keep their weights and statistics; -1 for none.
        conv_cfg, norm_cfg: layers in mmcv's words: `dict(type='ConvWS')`, `dict(type='GN', num_groups=32)`.
        norm_eval: batch norm keeps its statistics in training.
        dcn, stage_with_dcn, plugins: V2's; deformable convolutions and plugins are not available here.
        with_cp: recompute blocks in the backward pass: less memory, a third more time.
        zero_init_residual: random weights begin with blocks that pass their input on.
        pretrained: older form of `init_cfg=dict(type='Pretrained', checkpoint=...)`.
        expansion: output channels of a bottleneck over its inner ones; 4 by default.
        drop_path_rate: share of samples for which training skips a block.
        layout: 'mmdet' or 'mmcls': the names of weights in deep stems and averaging projections, which differ
            between MMDetection and MMClassification.

    The defaults are MMDetection's; a classifier states MMClassification's, see classification_defaults.py.

    Raises ValueError for a depth, style or number of stages that there is not, and for lists of another length.
    """

    arch_settings: Dict[int, Tuple[Type[ResidualBlock], Tuple[int, ...]]] = {
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
        self._check(depth, num_stages, strides, dilations, out_indices, style, frozen_stages, dcn,
                    plugins, expansion)
        if pretrained is not None:
            if init_cfg:
                raise ValueError(
                    'ResNet: pretrained and init_cfg both say how the weights begin; remove pretrained'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        block, num_blocks = self.arch_settings[depth]
        block_init_cfg = None
        # With rules of the config's own MMDetection leaves the blocks to them, MMClassification does not.
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
        self.res_layers = []
        for i in range(num_stages):
            stage = make_stage(
                block,
                channels,
                base_channels * 2**i,
                num_blocks[i],
                stride=strides[i],
                dilation=dilations[i],
                style=style,
                with_cp=with_cp,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                init_cfg=block_init_cfg,
                drop_path_rate=drop_path_rate,
                expansion=expansion,
                block_arguments=self.block_arguments(),
                project=project)
            channels = base_channels * 2**i * (block.expansion if expansion is None else expansion)
            self.res_layers.append(f'layer{i + 1}')
            self.add_module(self.res_layers[-1], stage)
        self.feat_dim = channels
        self._freeze_stages()

    def _check(self, depth, num_stages, strides, dilations, out_indices, style, frozen_stages, dcn,
               plugins, expansion) -> None:
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
                    f'{kind}: {name}={values} for num_stages={num_stages}; give one number a stage')
        if not 0 <= min(out_indices) <= max(out_indices) < num_stages:
            raise ValueError(
                f'{kind}: out_indices={out_indices}, but the stages are 0 to {num_stages - 1}')
        if style not in ('pytorch', 'caffe'):
            raise ValueError(f"{kind}: style is {style!r}; write 'pytorch' or 'caffe'")
        if frozen_stages > num_stages:
            raise ValueError(f'{kind}: frozen_stages is {frozen_stages} of {num_stages} stages')
        if dcn is not None:
            raise ValueError(
                f'{kind}: deformable convolutions (dcn={dict(dcn)!r}) are not available; remove dcn'
            )
        if plugins is not None:
            raise ValueError(f'{kind}: plugins are not available; remove plugins={plugins!r}')
        if expansion is not None and self.arch_settings[depth][0] is BasicBlock:
            raise ValueError(
                f'{kind}: a network of depth {depth} has no bottlenecks to expand; remove expansion'
            )

    projection = staticmethod(make_projection)

    def block_arguments(self) -> Dict:
        """Arguments of this network's blocks beyond the common ones."""
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
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """x [B, C, H, W] -> the stages `out_indices`: the first [B, c, H/4, W/4], each next half the size."""
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
        """Every convolution with the norm layer that follows it, but for a deep stem's."""
        stem = [] if self.deep_stem else [(self.conv1, self.norm1)]
        blocks = (block for name in self.res_layers for block in getattr(self, name))
        return stem + [pair for block in blocks for pair in block.pairs()]

    def train(self, mode: bool = True) -> 'ResNet':
        """Training mode, without what is frozen and, by `norm_eval`, without batch norm's statistics."""
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
