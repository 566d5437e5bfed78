from typing import Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class HRFPN(BaseModule):
    """HRFPN: all inputs at the finest resolution, reduced to `out_channels`, and pooled (High-Resolution
    Representations for Labeling Pixels and Regions, fig. 4).

    V2's arguments and state_dict.

    Args:
        in_channels: of each input, each half the size of the previous one.
        out_channels: of all outputs.
        num_outs: outputs, each half the size of the previous one.
        pooling_type: 'AVG' or 'MAX'.
        conv_cfg: layers in mmcv's form; `norm_cfg` has no effect, as in V2.
        with_cp: recompute convolutions in the backward pass.
        stride: of the outputs' 3x3 convolutions.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 out_channels: int,
                 num_outs: int = 5,
                 pooling_type: str = 'AVG',
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 with_cp: bool = False,
                 stride: int = 1,
                 init_cfg: InitCfg = dict(type='Caffe2Xavier', layer='Conv2d')):
        super().__init__(init_cfg)
        self.in_channels, self.num_outs, self.with_cp = list(in_channels), num_outs, with_cp
        self.reduction_conv = ConvModule(
            sum(in_channels), out_channels, 1, conv_cfg=conv_cfg, act_cfg=None)
        self.fpn_convs = nn.ModuleList(
            ConvModule(
                out_channels,
                out_channels,
                3,
                stride=stride,
                padding=1,
                conv_cfg=conv_cfg,
                act_cfg=None) for _ in range(num_outs))
        self.pool = F.max_pool2d if pooling_type == 'MAX' else F.avg_pool2d

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return num_outs maps [B, C, H/2^l, W/2^l] from L maps [B, c_l, H/2^l, W/2^l]."""
        assert len(inputs) == len(self.in_channels), (len(inputs), self.in_channels)
        finest = [
            x if level == 0 else F.interpolate(
                x, scale_factor=2**level, mode='bilinear', align_corners=False)
            for level, x in enumerate(inputs)
        ]
        x = self._run(self.reduction_conv, torch.cat(finest, 1))
        levels = [x] + [self.pool(x, 2**level, 2**level) for level in range(1, self.num_outs)]
        return tuple(self._run(conv, level) for conv, level in zip(self.fpn_convs, levels))

    def _run(self, conv: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(conv, x, use_reentrant=False, preserve_rng_state=False)
        return conv(x)
