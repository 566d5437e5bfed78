from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class FPN(BaseModule):
    """Feature pyramid with top-down addition of coarse levels to finer ones (Feature Pyramid Networks, fig. 3).

        in 3 -- 1x1 -- lateral 3 ------------- 3x3 -- out 3 -- (stride 2) -- out 4 ...
                          | x2
        in 2 -- 1x1 -- lateral 2 = sum ------- 3x3 -- out 2
                          | x2
        ...

    Args:
        in_channels: of each input.
        out_channels: of all outputs.
        num_outs: outputs; those beyond the inputs are every second pixel of the coarsest (Mask R-CNN), or extra
            convolutions of stride 2.
        start_level, end_level: first and last input used; -1 is the last of all.
        add_extra_convs: False, or the input of the extra convolutions: 'on_input' (True), 'on_lateral' or
            'on_output', each of the coarsest level.
        relu_before_extra_convs: a ReLU before each extra convolution except the first.
        no_norm_on_lateral: `norm_cfg` is for the 3x3 convolutions only.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        upsample_cfg: arguments of `F.interpolate`; the size is the finer level's unless a scale_factor is
            given.

    Raises ValueError for incompatible numbers of levels.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 out_channels: int,
                 num_outs: int,
                 start_level: int = 0,
                 end_level: int = -1,
                 add_extra_convs: Union[bool, str] = False,
                 relu_before_extra_convs: bool = False,
                 no_norm_on_lateral: bool = False,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 act_cfg: Optional[Dict] = None,
                 upsample_cfg: Dict = dict(mode='nearest'),
                 init_cfg: InitCfg = dict(type='Xavier', layer='Conv2d', distribution='uniform')):
        super().__init__(init_cfg)
        if not isinstance(in_channels, (list, tuple)):
            raise TypeError(
                f'FPN: in_channels is {in_channels!r}; give a list, one number a level of the backbone'
            )
        if add_extra_convs not in (False, True, 'on_input', 'on_lateral', 'on_output'):
            raise ValueError(
                f"FPN: add_extra_convs is {add_extra_convs!r}; write False, 'on_input', 'on_lateral' or "
                "'on_output'")
        num_inputs = len(in_channels)
        last_level = num_inputs - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last_level < num_inputs:
            raise ValueError(f'FPN: levels {start_level} to {end_level} of {num_inputs} inputs')
        num_levels = last_level - start_level + 1
        if num_outs < num_levels or (last_level < num_inputs - 1 and num_outs != num_levels):
            raise ValueError(
                f'FPN: num_outs is {num_outs} for the {num_levels} levels {start_level} to {last_level} of '
                f'{num_inputs} inputs; there are as many outputs, or more if the last input is used'
            )
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.start_level = start_level
        self.last_level = last_level
        self.add_extra_convs = 'on_input' if add_extra_convs is True else add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs
        self.upsample_cfg = dict(upsample_cfg)

        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, inplace=False)
        lateral_layers = dict(layers, norm_cfg=None) if no_norm_on_lateral else layers
        self.lateral_convs = nn.ModuleList()
        self.fpn_convs = nn.ModuleList()
        for level in range(start_level, last_level + 1):
            self.lateral_convs.append(
                ConvModule(in_channels[level], out_channels, 1, **lateral_layers))
            self.fpn_convs.append(ConvModule(out_channels, out_channels, 3, padding=1, **layers))
        if self.add_extra_convs:
            for extra in range(num_outs - num_levels):
                from_input = extra == 0 and self.add_extra_convs == 'on_input'
                channels = in_channels[last_level] if from_input else out_channels
                self.fpn_convs.append(
                    ConvModule(channels, out_channels, 3, stride=2, padding=1, **layers))

    def takes(self) -> List[Takes]:
        return [
            Takes('in_channels', self.in_channels, first=self.start_level, last=self.last_level)
        ]

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Return num_outs maps [B, C, h, w] from inputs [B, in_channels[i], h, w], each half the previous size."""
        assert len(inputs) == len(
            self.in_channels), f'{len(inputs)} inputs for in_channels={self.in_channels}'
        laterals = self._top_down(inputs)
        outputs = self._levels(laterals)
        self._append_extra_levels(outputs, inputs, laterals)
        return tuple(outputs)

    def _top_down(self, inputs: Sequence[Tensor]) -> List[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs[self.start_level:])]
        for i in range(len(laterals) - 1, 0, -1):
            # interpolate accepts a fixed factor or a size, not both.
            size = None if 'scale_factor' in self.upsample_cfg else laterals[i - 1].shape[2:]
            laterals[i - 1] = laterals[i - 1] + F.interpolate(
                laterals[i], size=size, **self.upsample_cfg)
        return laterals

    def _levels(self, laterals: Sequence[Tensor]) -> List[Tensor]:
        """Return the output of each lateral."""
        return [conv(x) for conv, x in zip(self.fpn_convs, laterals)]

    def _append_extra_levels(self, outputs: List[Tensor], inputs: Sequence[Tensor],
                             laterals: List[Tensor]) -> None:
        for i in range(len(outputs), self.num_outs):
            if not self.add_extra_convs:
                outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
            elif i == len(laterals):
                source = dict(
                    on_input=inputs[self.last_level],
                    on_lateral=laterals[-1],
                    on_output=outputs[-1])
                outputs.append(self.fpn_convs[i](source[self.add_extra_convs]))
            else:
                x = F.relu(outputs[-1]) if self.relu_before_extra_convs else outputs[-1]
                outputs.append(self.fpn_convs[i](x))
