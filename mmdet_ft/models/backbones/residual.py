"""Building blocks of residual networks: blocks, input projections, stages."""
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type, Union

from mmcv.cnn import build_conv_layer, build_norm_layer, build_plugin_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_ft.models.base_module import BaseModule, InitCfg, Sequential
from mmdet_ft.models.layers import NOT_FOLDED, Folded, conv_norm

# In all constructors here the assignment order is that of the state_dict and of V2's optimizer states.


class ResidualBlock(BaseModule):
    """Base of residual blocks: adds the input, or its projection, before the last ReLU.

    With `drop_path_rate` training skips the convolutions for that share of samples (Deep Networks with
    Stochastic Depth).
    """
    expansion: int  # output channels over `channels`
    with_cp: bool
    conv1: nn.Module
    conv2: nn.Module
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
        """Return each convolution with the norm layer that follows it."""
        pairs = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        if isinstance(self.downsample, nn.Sequential):
            pairs.append((self.downsample[-2], self.downsample[-1]))
        return pairs

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        raise NotImplementedError

    def shortcut(self, x: Tensor, folded: Folded) -> Tensor:
        if not isinstance(self.downsample, nn.Sequential):
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
        """Run the block on x [B, C, H, W]; `folded` is the result of layers.fold_norms for its pairs."""
        if self.with_cp and x.requires_grad:
            # Without anything random in a block, no random state must be preserved.
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
    """Two 3x3 convolutions (Deep Residual Learning, fig. 5 left); `style` and groups have no effect."""
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


POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 (Deep Residual Learning, fig. 5 right); with groups, ResNeXt's (fig. 3c).

    The stride is in the 3x3 convolution in style 'pytorch', in the first 1x1 in style 'caffe', as in the
    original. The inner width is `channels`, or with groups `channels * base_width / base_channels`, rounded
    down per group.

    Args:
        dcn: makes the 3x3 convolution deformable: `dict(type='DCN', deform_groups=1)`, or of type 'DCNv2'.
        plugins: layers after a convolution's norm layer (and ReLU): `[dict(cfg=dict(type='ContextBlock',
            ratio=1 / 16), position='after_conv3')]`; V2's names.
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
                 dcn: Optional[Dict] = None,
                 plugins: Sequence[Dict] = (),
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
        # V2 removes the key from the dict that all blocks of a network share. So its first deformable block
        # alone falls back to a plain convolution; and with groups, none does.
        falls_back = dcn is not None and dcn.pop('fallback_on_stride', False) and groups == 1
        self.conv2 = build_conv_layer(
            conv_cfg if dcn is None or falls_back else dcn,
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
        self.plugins: Dict[str, List[str]] = {}  # layer names by position
        for position, channels in zip(POSITIONS, (width, width, out_channels)):
            cfgs = [plugin['cfg'] for plugin in plugins if plugin['position'] == position]
            self.plugins[position] = [self._add_plugin(dict(cfg), channels) for cfg in cfgs]

    def _add_plugin(self, cfg: Dict, channels: int) -> str:
        name, layer = build_plugin_layer(cfg, postfix=cfg.pop('postfix', ''), in_channels=channels)
        if hasattr(self, name):
            raise ValueError(
                f"plugins: there are two of the name {name!r}; give one cfg a postfix='1'")
        self.add_module(name, layer)
        return name

    def _plug(self, position: str, x: Tensor) -> Tensor:
        for name in self.plugins[position]:
            x = getattr(self, name)(x)
        return x

    @property
    def norm3(self) -> nn.Module:
        return getattr(self, self.norm3_name)

    def pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        return super().pairs() + [(self.conv3, self.norm3)]

    def convolutions(self, x: Tensor, folded: Folded) -> Tensor:
        x = self._plug('after_conv1', self.relu(conv_norm(self.conv1, self.norm1, x, folded)))
        x = self._plug('after_conv2', self.relu(conv_norm(self.conv2, self.norm2, x, folded)))
        return self._plug('after_conv3', conv_norm(self.conv3, self.norm3, x, folded))


Block = Union[BasicBlock, Bottleneck]


class Stage(Sequential):
    """A sequence of blocks; `folded` is passed to each."""

    def pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        """Return each convolution of the blocks with the norm layer that follows it."""
        return [pair for block in self
                for pair in block.pairs()]  # type: ignore[operator] # a Block

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
    """Build the 1x1 convolution that gives a block's input the shape of its output.

    With `avg_down` it averages before a convolution of stride 1 (ResNet-D).
    """
    # MMDetection also has an average over one pixel, which shifts the index in its weight names.
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


def make_stage(block: Type[Block],
               in_channels: int,
               channels: int,
               num_blocks: int,
               stride: int = 1,
               dilation: int = 1,
               style: str = 'pytorch',
               with_cp: bool = False,
               conv_cfg: Optional[Dict] = None,
               norm_cfg: Dict = dict(type='BN'),
               dcn: Optional[Dict] = None,
               plugins: Sequence[Dict] = (),
               init_cfg: InitCfg = None,
               drop_path_rate: float = 0.,
               expansion: Optional[int] = None,
               block_arguments: Optional[Dict] = None,
               project: Callable[[int, int, int], nn.Module] = make_projection) -> Stage:
    """Build blocks of one resolution; the first has the stride, and projects its input if the shape changes.

    Args:
        block: the block class; `block_arguments` apply to one class only.
        channels: inner channels of a block; the output has `expansion` times as many.
        dcn, plugins: see Bottleneck; other blocks have none.
        project: (in channels, out channels, stride) -> the projection.

    Raises ValueError for `dcn` or `plugins` in blocks that do not support them.
    """
    of_bottlenecks = {
        name: value
        for name, value in dict(dcn=dcn, plugins=plugins).items() if value
    }
    if of_bottlenecks and not issubclass(block, Bottleneck):
        words = ' and '.join(of_bottlenecks)
        raise ValueError(
            f'{words}: networks of depth 18 and 34 have none; remove {words}, or write depth=50')
    out_channels = channels * (block.expansion if expansion is None else expansion)
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = project(in_channels, out_channels, stride)
    arguments: Dict[str, Any] = {**(block_arguments or {}), **of_bottlenecks}
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
