from typing import Dict, List, Optional, Sequence, Union

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import InitCfg
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class PAFPN(FPN):
    """FPN, and a second pass from fine to coarse levels (Path Aggregation Network, fig. 1 b).

        FPN's out 2 ------------------------------------ out 2
            | 3x3, stride 2
        FPN's out 3 + -- sum ------------------ 3x3 ---- out 3
                          | 3x3, stride 2
        FPN's out 4 + -- sum ------------------ 3x3 ---- out 4
        ...

    V2's arguments and state_dict. Arguments as FPN.
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
                 init_cfg: InitCfg = dict(type='Xavier', layer='Conv2d', distribution='uniform')):
        super().__init__(
            in_channels,
            out_channels,
            num_outs,
            start_level,
            end_level,
            add_extra_convs,
            relu_before_extra_convs,
            no_norm_on_lateral,
            conv_cfg,
            norm_cfg,
            act_cfg,
            init_cfg=init_cfg)

        def convolutions(stride: int) -> nn.ModuleList:
            """Return one for each level but the finest."""
            return nn.ModuleList(
                ConvModule(
                    out_channels,
                    out_channels,
                    3,
                    stride=stride,
                    padding=1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                    inplace=False) for _ in range(self.start_level, self.last_level))

        self.downsample_convs = convolutions(stride=2)
        self.pafpn_convs = convolutions(stride=1)

    def _levels(self, laterals: Sequence[Tensor]) -> List[Tensor]:
        sums = super()._levels(laterals)
        for level, conv in enumerate(self.downsample_convs):
            sums[level + 1] = sums[level + 1] + conv(sums[level])
        return [sums[0], *(conv(x) for conv, x in zip(self.pafpn_convs, sums[1:]))]
