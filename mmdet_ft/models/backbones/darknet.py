"""Backbone of YOLOv3 (An Incremental Improvement, table 1)."""
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.backbones.mobilenet_v2 import conv_module
from mmdet_ft.models.backbones.resnet import CONVOLUTION_INIT
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.layers import (NOT_FOLDED, Folded, fold_norms, freeze, is_watched,
                                    keep_statistics)
from mmdet_ft.registry import MODELS

NORM = dict(type='BN', requires_grad=True)
ACTIVATION = dict(type='LeakyReLU', negative_slope=0.1)


class ResBlock(BaseModule):
    """A 1x1 convolution to half the channels, a 3x3 one back, and the input is added.

    Args:
        in_channels: an even number.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: int,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(in_channels, in_channels // 2, 1, **layers)
        self.conv2 = ConvModule(in_channels // 2, in_channels, 3, padding=1, **layers)

    def forward(self, x: Tensor, folded: Folded = NOT_FOLDED) -> Tensor:
        return x + conv_module(self.conv2, conv_module(self.conv1, x, folded), folded)


class DarknetStage(nn.Sequential):
    """A convolution of stride 2 and blocks; `folded` is passed to each."""

    def forward(self, x: Tensor, folded: Folded = NOT_FOLDED) -> Tensor:
        for layer in self:
            x = conv_module(layer, x, folded) if isinstance(layer, ConvModule) else layer(x, folded)
        return x


@MODELS.register_module()
class Darknet(BaseModule):
    """Darknet-53: a convolution and five stages, each of half the size and twice the channels.

    V2's arguments and state_dict.

    Args:
        depth: 53.
        out_indices: outputs that are returned: 0 is the first convolution, 1 to 5 the stages.
        frozen_stages: number of outputs with frozen weights and statistics, the first convolution
            included; -1 for none.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        norm_eval: batch norm keeps its statistics in training.
        pretrained: older form of `init_cfg=dict(type='Pretrained', checkpoint=...)`.

    Raises ValueError for a depth or stages that do not exist.
    """

    # blocks of each stage, and channels before and after it
    arch_settings = {
        53: ((1, 2, 8, 8, 4), ((32, 64), (64, 128), (128, 256), (256, 512), (512, 1024)))
    }

    def __init__(self,
                 depth: int = 53,
                 out_indices: Sequence[int] = (3, 4, 5),
                 frozen_stages: int = -1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 norm_eval: bool = True,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        if depth not in self.arch_settings:
            raise ValueError(f'Darknet: depth is {depth!r}; write depth=53')
        if not set(out_indices) <= set(range(6)):
            raise ValueError(f'Darknet: out_indices={out_indices}, but the outputs are 0 to 5')
        if frozen_stages not in range(-1, 7):
            raise ValueError(f'Darknet: frozen_stages is {frozen_stages!r}; write -1 to 6')
        if pretrained is not None:
            if init_cfg:
                raise ValueError('Darknet: pretrained and init_cfg both say how the weights begin; '
                                 'remove pretrained')
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(CONVOLUTION_INIT if init_cfg is None else init_cfg)
        self.out_indices, self.frozen_stages = tuple(out_indices), frozen_stages
        self.norm_eval = norm_eval
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(3, 32, 3, padding=1, **layers)
        self.cr_blocks = ['conv1']
        for i, (num_blocks, channels) in enumerate(zip(*self.arch_settings[depth])):
            self.cr_blocks.append(f'conv_res_block{i + 1}')
            self.add_module(self.cr_blocks[-1], make_stage(*channels, num_blocks, **layers))
        # DistributedDataParallel waits for a gradient of every trainable parameter.
        for name in self.cr_blocks[max(self.out_indices) + 1:]:
            getattr(self, name).requires_grad_(False)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the outputs `out_indices`: x [B, 3, H, W] -> by default [B, c, H/s, W/s] for s = 8, 16, 32."""
        folded = fold_norms(list(self._pairs()))
        outputs: List[Tensor] = []
        for i, name in enumerate(self.cr_blocks[:max(self.out_indices) + 1]):
            layer = getattr(self, name)
            x = conv_module(layer, x, folded) if i == 0 else layer(x, folded)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _pairs(self) -> Iterator[Tuple[nn.Module, nn.Module]]:
        """Yield every convolution with the norm layer that follows it."""
        for module in self.modules():
            if isinstance(module, ConvModule) and module.with_norm and not is_watched(module):
                yield module.conv, module.norm

    def train(self, mode: bool = True) -> 'Darknet':
        """Set training mode, except for frozen parts and batch norm statistics with `norm_eval`."""
        super().train(mode)
        for name in self.cr_blocks[:max(self.frozen_stages, 0)]:
            freeze(getattr(self, name))
        if mode and self.norm_eval:
            keep_statistics(self)
        return self


def make_stage(in_channels: int, out_channels: int, num_blocks: int, **layers: Any) -> DarknetStage:
    """Return the stage with V2's names of layers: conv, res0, res1, ..."""
    stage = DarknetStage()
    stage.add_module('conv',
                     ConvModule(in_channels, out_channels, 3, stride=2, padding=1, **layers))
    for i in range(num_blocks):
        stage.add_module(f'res{i}', ResBlock(out_channels, **layers))
    return stage
