"""Neck of YOLOX: a path aggregation network of cross-stage partial layers."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.csp_layer import ACTIVATION, NORM, UNIFORM, CSPLayer, convolution
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class YOLOXPAFPN(BaseModule):
    """Concatenation of levels from coarse to fine, and back.

        in 4 -- reduce -------------- inner 4 -- concat -- CSP -- out 4
                   | x2                             | stride 2
        in 3 -- concat, CSP, reduce - inner 3 -- concat -- CSP -- out 3
                   | x2                             | stride 2
        in 2 -- concat, CSP ----------------------------------- out 2

    Each output passes a 1x1 convolution of `out_channels`. V2's arguments and state_dict.

    Args:
        in_channels: of each input, the finest first.
        out_channels: of all outputs.
        num_csp_blocks: bottlenecks of a CSPLayer.
        use_depthwise: 3x3 convolutions are depthwise separable.
        upsample_cfg: arguments of nn.Upsample.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 out_channels: int,
                 num_csp_blocks: int = 3,
                 use_depthwise: bool = False,
                 upsample_cfg: Dict = dict(scale_factor=2, mode='nearest'),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = NORM,
                 act_cfg: Dict = ACTIVATION,
                 init_cfg: InitCfg = UNIFORM):
        super().__init__(init_cfg)
        self.in_channels = list(in_channels)
        layers: Dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

        def csp(before: int, after: int) -> CSPLayer:
            return CSPLayer(
                before,
                after,
                num_blocks=num_csp_blocks,
                add_identity=False,
                use_depthwise=use_depthwise,
                **layers)

        pairs = list(zip(in_channels,
                         in_channels[1:]))  # channels of a level and of the coarser one
        self.upsample = nn.Upsample(**upsample_cfg)
        self.reduce_layers = nn.ModuleList(
            ConvModule(coarse, fine, 1, **layers) for fine, coarse in reversed(pairs))
        self.top_down_blocks = nn.ModuleList(csp(2 * fine, fine) for fine, _ in reversed(pairs))
        self.downsamples = nn.ModuleList(
            convolution(use_depthwise)(fine, fine, 3, stride=2, padding=1, **layers)
            for fine, _ in pairs)
        self.bottom_up_blocks = nn.ModuleList(csp(2 * fine, coarse) for fine, coarse in pairs)
        self.out_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, **layers) for channels in in_channels)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return maps [B, out_channels, h, w] of inputs [B, in_channels[i], h, w]."""
        assert len(inputs) == len(
            self.in_channels), f'{len(inputs)} inputs for in_channels={self.in_channels}'
        x, inner = inputs[-1], []
        for finer, reduce, block in zip(
                reversed(inputs[:-1]), self.reduce_layers, self.top_down_blocks):
            inner.append(reduce(x))
            x = block(torch.cat([self.upsample(inner[-1]), finer], 1))
        outputs = [x]
        for coarser, down, block in zip(reversed(inner), self.downsamples, self.bottom_up_blocks):
            outputs.append(block(torch.cat([down(outputs[-1]), coarser], 1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, outputs))
