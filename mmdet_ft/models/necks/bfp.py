from typing import Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg, constant_init, normal_init
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


class EmbeddedGaussian(nn.Module):
    """A residual of features from all over the map, weighted by similarity (Non-local Neural Networks, eq. 4).

    V2's state_dict (`g`, `conv_out`, `theta`, `phi`, each a ConvModule). It begins as the identity.
    """

    def __init__(self, channels: int, conv_cfg: Optional[Dict], norm_cfg: Optional[Dict]):
        super().__init__()

        def projection(norm_cfg: Optional[Dict] = None) -> ConvModule:
            return ConvModule(
                channels, channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None)

        self.g = projection()
        self.conv_out = projection(norm_cfg)
        self.theta = projection()
        self.phi = projection()

    def init_weights(self) -> None:
        for projection in (self.g, self.theta, self.phi):
            normal_init(projection.conv, std=0.01)
        out = self.conv_out
        constant_init(out.norm if out.with_norm else out.conv, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of x's shape, [B, C, H, W]."""
        theta, phi, g = (
            layer(x).flatten(2).transpose(1, 2)[:, None].contiguous()
            for layer in (self.theta, self.phi, self.g))
        y = F.scaled_dot_product_attention(theta, phi, g, scale=1.)  # [B, 1, H*W, C]
        return x + self.conv_out(y[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


@MODELS.register_module()
class BFP(BaseModule):
    """Balanced feature pyramid: every level gets the refined mean of all (Libra R-CNN, sec. 3.2).

        level 2 -- max pool --\\                      /-- nearest ---- + -- out 2
        level 3 -- max pool ---- mean -- refine ----- --- nearest ---- + -- out 3
        level 4 -------------- /                     \\-------------- + -- out 4
        ...

    V2's arguments and state_dict.

    Args:
        in_channels: of every level.
        num_levels: of the input, and of the output.
        refine_level: the level whose size the mean has.
        refine_type: None, 'conv' (3x3), or 'non_local'.
        conv_cfg, norm_cfg: of the refinement, in mmcv's form.

    Raises ValueError for an unknown refine_type or a level that is not there.
    """

    def __init__(self,
                 in_channels: int,
                 num_levels: int,
                 refine_level: int = 2,
                 refine_type: Optional[str] = None,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 init_cfg: InitCfg = dict(type='Xavier', layer='Conv2d', distribution='uniform')):
        super().__init__(init_cfg)
        if not 0 <= refine_level < num_levels:
            raise ValueError(
                f'BFP: refine_level is {refine_level}; write one of 0 to {num_levels - 1}')
        self.in_channels, self.num_levels = in_channels, num_levels
        self.refine_level = refine_level
        if refine_type == 'conv':
            self.refine: nn.Module = ConvModule(
                in_channels, in_channels, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        elif refine_type == 'non_local':
            self.refine = EmbeddedGaussian(in_channels, conv_cfg, norm_cfg)
        elif refine_type is None:
            self.refine = nn.Identity()
        else:
            raise ValueError(
                f"BFP: refine_type is {refine_type!r}; write 'conv', 'non_local' or None")

    def takes(self) -> List[Takes]:
        return [
            Takes('in_channels', self.in_channels),
            Takes('num_levels', num_levels=self.num_levels)
        ]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return maps of the inputs' shapes, [B, C, H_l, W_l], each half the previous size."""
        assert len(inputs) == self.num_levels, (len(inputs), self.num_levels)
        size = inputs[self.refine_level].shape[2:]
        mean = torch.stack([
            F.adaptive_max_pool2d(x, size) if level < self.refine_level else F.interpolate(x, size)
            for level, x in enumerate(inputs)
        ]).mean(0)
        refined = self.refine(mean)
        return tuple(x + (F.interpolate(refined, x.shape[2:]) if level <
                          self.refine_level else F.adaptive_max_pool2d(refined, x.shape[2:]))
                     for level, x in enumerate(inputs))
