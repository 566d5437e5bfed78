"""A ResNet stage on the features of regions (C4: Deep Residual Learning, appendix A)."""
import functools
from typing import Dict, Optional

from torch import Tensor

from mmdet_ft.models.backbones.residual import Stage, make_projection, make_stage
from mmdet_ft.models.backbones.resnet import CONVOLUTION_INIT, ResNet
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.layers import fold_norms, keep_statistics
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class ResLayer(BaseModule):
    """The stage of a ResNet that box and mask branch share.

    V2's arguments and state_dict. `depth` is the network's, `stage` counts from 0: 3 is its last one,
    whose weights are `layer4`. Other arguments as ResNet.

    Raises ValueError for an unsupported depth or stage.
    """

    def __init__(self,
                 depth: int,
                 stage: int = 3,
                 stride: int = 2,
                 dilation: int = 1,
                 style: str = 'pytorch',
                 norm_cfg: Dict = dict(type='BN', requires_grad=True),
                 norm_eval: bool = True,
                 with_cp: bool = False,
                 dcn: Optional[Dict] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        if depth not in ResNet.arch_settings:
            known = ', '.join(map(str, ResNet.arch_settings))
            raise ValueError(f'ResLayer: depth is {depth!r}; write one of {known}')
        if stage not in (1, 2, 3):
            raise ValueError(f'ResLayer: stage is {stage!r}; write 1, 2 or 3')
        if pretrained is not None:
            if init_cfg:
                raise ValueError(
                    'ResLayer: pretrained and init_cfg both say how the weights begin; remove pretrained'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg or CONVOLUTION_INIT)
        self.norm_eval = norm_eval
        self.name = f'layer{stage + 1}'
        block, num_blocks = ResNet.arch_settings[depth]
        layer = make_stage(
            block,
            64 * 2**(stage - 1) * block.expansion,
            64 * 2**stage,
            num_blocks[stage],
            stride=stride,
            dilation=dilation,
            style=style,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            dcn=None if dcn is None else dict(dcn),  # blocks change it
            project=functools.partial(make_projection, norm_cfg=norm_cfg))
        self.add_module(self.name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return [R, 2*C, size/stride, size/stride] of region features [R, C, size, size]."""
        layer: Stage = getattr(self, self.name)
        return layer(x, fold_norms(layer.pairs()))

    def train(self, mode: bool = True) -> 'ResLayer':
        super().train(mode)
        if mode and self.norm_eval:
            keep_statistics(self)
        return self
