"""Further levels after the backbone of SSD (Single Shot MultiBox Detector, fig. 2)."""
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class SSDNeck(BaseModule):
    """Keep the maps of the backbone, and add smaller ones: a 1x1 and a 3x3 convolution for each.

    V2's arguments and state_dict.

    Args:
        in_channels: of the backbone's maps.
        out_channels: of all levels; begins with `in_channels`.
        level_strides, level_paddings: of the 3x3 convolution of each added level.
        l2_norm_scale: first scale of the L2 norm of the first map; None for no norm.
        last_kernel_size: kernel of the last convolution, instead of 3.
        use_depthwise: 3x3 convolutions are depthwise separable (SSDLite).
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.

    Raises ValueError for lists that do not fit each other.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 out_channels: Sequence[int],
                 level_strides: Sequence[int],
                 level_paddings: Sequence[int],
                 l2_norm_scale: Optional[float] = 20.,
                 last_kernel_size: int = 3,
                 use_depthwise: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 act_cfg: Dict = dict(type='ReLU'),
                 init_cfg: InitCfg = [
                     dict(type='Xavier', distribution='uniform', layer='Conv2d'),
                     dict(type='Constant', val=1, layer='BatchNorm2d'),
                 ]):
        rules = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
        if l2_norm_scale:
            rules.append(dict(type='Constant', val=l2_norm_scale, override=dict(name='l2_norm')))
        super().__init__(rules)
        _check_lengths(in_channels, out_channels, level_strides, level_paddings)
        self.in_channels = list(in_channels)
        if l2_norm_scale:
            self.l2_norm = L2Norm(in_channels[0], l2_norm_scale)
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        second = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        added = list(zip(out_channels[len(in_channels):], level_strides, level_paddings))
        channels = [out_channels[len(in_channels) - 1], *(width for width, _, _ in added)]
        kernels = [3] * (len(added) - 1) + [last_kernel_size]
        self.extra_layers = nn.ModuleList(
            nn.Sequential(
                ConvModule(before, width // 2, 1, **layers),
                second(width // 2, width, kernel, stride=stride, padding=padding, **layers))
            for before, (width, stride, padding), kernel in zip(channels, added, kernels))

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return the maps of all levels, [B, out_channels[i], h, w], from those of the backbone."""
        outputs = list(inputs)
        if hasattr(self, 'l2_norm'):
            outputs[0] = self.l2_norm(outputs[0])
        last = inputs[-1]
        for layer in self.extra_layers:
            last = layer(last)
            outputs.append(last)
        return tuple(outputs)


class L2Norm(nn.Module):
    """Divide a map [B, C, h, w] by its norm over the channels, and multiply by a weight of each (ParseNet, sec. 3.3).

    Args:
        n_dims: number of channels.
        scale: first value of the weights.
        eps: added to the norm.
    """

    def __init__(self, n_dims: int, scale: float = 20., eps: float = 1e-10):
        super().__init__()
        self.n_dims, self.scale, self.eps = n_dims, scale, eps
        self.weight = nn.Parameter(torch.full((n_dims, ), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape and dtype; squares are summed in float32, as they overflow float16."""
        full = x.float()
        norm = full.pow(2).sum(1, keepdim=True).sqrt() + self.eps
        return (self.weight.float()[:, None, None] * full / norm).to(x.dtype)


def _check_lengths(in_channels: Sequence[int], out_channels: Sequence[int],
                   level_strides: Sequence[int], level_paddings: Sequence[int]) -> None:
    num_inputs, num_added = len(in_channels), len(out_channels) - len(in_channels)
    if num_added < 1 or list(in_channels) != list(out_channels[:num_inputs]):
        raise ValueError(
            f'SSDNeck: out_channels={tuple(out_channels)} is to begin with in_channels='
            f'{tuple(in_channels)}, followed by one number for each added level')
    for name, values in (('level_strides', level_strides), ('level_paddings', level_paddings)):
        if len(values) != num_added:
            raise ValueError(f'SSDNeck: {len(values)} {name} for {num_added} added levels '
                             f'(out_channels beyond in_channels); give one each')
