from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_ft.models.backbones.residual import Stage
from mmdet_ft.models.backbones.resnet import CONVOLUTION_INIT
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.layers import (NOT_FOLDED, Folded, check_layout, conv_norm, fold_norms, freeze,
                                    is_watched, keep_statistics, make_divisible)
from mmdet_ft.registry import MODELS


class InvertedResidual(BaseModule):
    """Inverted residual: 1x1 expansion, 3x3 depthwise, linear 1x1 projection (MobileNetV2, fig. 3b).

    The input is added if it has the same shape. `layout` 'mmcls' numbers the three layers, 'mmdet' names them.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 stride: int,
                 expand_ratio: int,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 act_cfg: Dict = dict(type='ReLU6'),
                 with_cp: bool = False,
                 layout: str = 'mmdet'):
        super().__init__()
        self.with_cp = with_cp
        self.is_residual = stride == 1 and in_channels == out_channels
        hidden = in_channels * expand_ratio
        kinds = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        layers = dict(
            expand_conv=ConvModule(in_channels, hidden, 1, act_cfg=act_cfg, **kinds),
            depthwise_conv=ConvModule(
                hidden,
                hidden,
                3,
                stride=stride,
                padding=1,
                groups=hidden,
                act_cfg=act_cfg,
                **kinds),
            linear_conv=ConvModule(hidden, out_channels, 1, act_cfg=None, **kinds))
        if expand_ratio == 1:
            del layers['expand_conv']
        if layout == 'mmcls':
            layers = dict(conv=nn.Sequential(*layers.values()))
        for name, layer in layers.items():
            self.add_module(name, layer)

    def residual(self, x: Tensor, folded: Folded) -> Tensor:
        out = x
        for layer in getattr(self, 'conv', None) or self.children():
            out = conv_module(layer, out, folded)
        return x + out if self.is_residual else out

    def forward(self, x: Tensor, folded: Folded = NOT_FOLDED) -> Tensor:
        if self.with_cp and x.requires_grad:  # nothing random inside: no random state to preserve
            return checkpoint(
                self.residual, x, folded, use_reentrant=False, preserve_rng_state=False)
        return self.residual(x, folded)


def conv_module(module: ConvModule, x: Tensor, folded: Folded) -> Tensor:
    """Run `module(x)`, with its norm layer folded into the convolution if in `folded`."""
    if module.conv not in folded:
        return module(x)
    x = conv_norm(module.conv, module.norm, x, folded)
    return module.activate(x) if module.with_activation else x


@MODELS.register_module()
class MobileNetV2(BaseModule):
    """MobileNetV2: Inverted Residuals and Linear Bottlenecks (table 2): stages 0 to 6, last convolution 7.

    Args:
        widen_factor: of all numbers of channels.
        out_indices: stages whose output is returned.
        frozen_stages: number of stages with frozen weights and statistics. From 0 on the stem's weights are
            frozen but its statistics are updated, as in V2. -1 for none.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        norm_eval: batch norm keeps its statistics in training.
        with_cp: recompute blocks in the backward pass: less memory, a third more time.
        pretrained: older form of `init_cfg=dict(type='Pretrained', checkpoint=...)`.
        layout: 'mmdet' or 'mmcls': the package whose weight names are used.

    The defaults are MMDetection's; a classifier sets MMClassification's, see classification_defaults.py.

    Raises ValueError for stages that do not exist.
    """

    # expansion, channels, blocks, stride
    arch_settings = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                     (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self,
                 widen_factor: float = 1.,
                 out_indices: Sequence[int] = (1, 2, 4, 7),
                 frozen_stages: int = -1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 act_cfg: Dict = dict(type='ReLU6'),
                 norm_eval: bool = False,
                 with_cp: bool = False,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None,
                 layout: str = 'mmdet'):
        check_layout(layout)
        if not set(out_indices) <= set(range(8)):
            raise ValueError(f'MobileNetV2: out_indices={out_indices}, but the stages are 0 to 7')
        if frozen_stages not in range(-1, 8):
            raise ValueError(f'MobileNetV2: frozen_stages is {frozen_stages!r}; write -1 to 7')
        if pretrained is not None:
            if init_cfg:
                raise ValueError(
                    'MobileNetV2: pretrained and init_cfg both say how the weights begin; '
                    'remove pretrained')
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(CONVOLUTION_INIT if init_cfg is None else init_cfg)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        channels = make_divisible(32 * widen_factor, 8)
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **layers)
        self.layers = []
        for i, (expansion, width, num_blocks, stride) in enumerate(self.arch_settings):
            blocks = []
            for j in range(num_blocks):
                out_channels = make_divisible(width * widen_factor, 8)
                blocks.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        stride if j == 0 else 1,
                        expansion,
                        with_cp=with_cp,
                        layout=layout,
                        **layers))
                channels = out_channels
            self.layers.append(f'layer{i + 1}')
            self.add_module(self.layers[-1], Stage(*blocks))
        self.conv2 = ConvModule(channels, int(1280 * max(widen_factor, 1)), 1, **layers)
        self.layers.append('conv2')
        # DistributedDataParallel waits for a gradient of every trainable parameter.
        for name in self.layers[max(self.out_indices) + 1:]:
            getattr(self, name).requires_grad_(False)

    def rename_weights(self, state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Rename weights from a classifier's names to those of this layout; keep others.

        Classifier names are MMClassification's, to which torchvision's are mapped too.
        """
        own: Dict[str, str] = {}
        for name, block in self.named_modules():
            if isinstance(block, InvertedResidual) and not hasattr(block, 'conv'):
                for number, (layer, _) in enumerate(block.named_children()):
                    own[f'{name}.conv.{number}'] = f'{name}.{layer}'
        renamed = {}
        for name, value in state_dict.items():
            start = '.'.join(name.split('.')[:4])  # layer2.0.conv.1
            renamed[own.get(start, start) + name[len(start):]] = value
        return renamed

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the stages `out_indices`: x [B, 3, H, W] -> by default [B, c, H/s, W/s] for s = 4, 8, 16, 32."""
        folded = fold_norms(self._pairs())
        x = conv_module(self.conv1, x, folded)
        outputs = []
        for i, name in enumerate(self.layers[:max(self.out_indices) + 1]):
            if name == 'conv2':
                x = conv_module(self.conv2, x, folded)
            else:
                x = getattr(self, name)(x, folded)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _pairs(self) -> List[Tuple[nn.Module, nn.Module]]:
        """Return every convolution with the norm layer that follows it."""
        return [(module.conv, module.norm) for module in self.modules()
                if isinstance(module, ConvModule) and module.with_norm and not is_watched(module)]

    def train(self, mode: bool = True) -> 'MobileNetV2':
        """Set training mode, except for frozen parts and batch norm statistics with `norm_eval`."""
        super().train(mode)
        if self.frozen_stages >= 0:
            self.conv1.requires_grad_(False)
            for name in self.layers[:self.frozen_stages]:
                freeze(getattr(self, name))
        if mode and self.norm_eval:
            keep_statistics(self)
        return self
