"""RoI feature extraction."""
from typing import Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.ops.roi_align import multi_level_roi_align
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class RoIAlign(nn.Module):
    """Settings of mmcv's `roi_layer=dict(type='RoIAlign', ...)`; ops.roi_align computes it.

    With `sampling_ratio` 0 a bin takes as many samples as it is feature pixels wide.
    `use_torchvision` has no effect.
    """

    def __init__(self,
                 output_size: int,
                 spatial_scale: float = 1.0,
                 sampling_ratio: int = 0,
                 pool_mode: str = 'avg',
                 aligned: bool = True,
                 use_torchvision: bool = False):
        super().__init__()
        if pool_mode != 'avg':
            raise ValueError(
                f"RoIAlign pool_mode {pool_mode!r} is not available; write pool_mode='avg'")
        self.output_size = output_size if isinstance(output_size, int) else output_size[0]
        self.spatial_scale, self.sampling_ratio, self.aligned = spatial_scale, sampling_ratio, aligned


@MODELS.register_module()
class SingleRoIExtractor(BaseModule):
    """Extract each region from one level, floor(log2(s / finest_scale)) with s = sqrt(w * h) (FPN,
    eq. 1, in V2's form).

    V2's arguments. `featmap_strides`: input pixels per feature pixel, by level.
    """

    def __init__(self,
                 roi_layer: Union[Dict, RoIAlign],
                 out_channels: int,
                 featmap_strides: Sequence[int],
                 finest_scale: int = 56,
                 init_cfg: Optional[Dict] = None):
        super().__init__(init_cfg)
        self.roi_layer: RoIAlign = MODELS.build(roi_layer)
        self.out_channels, self.featmap_strides, self.finest_scale = out_channels, list(
            featmap_strides), finest_scale

    @property
    def num_inputs(self) -> int:
        return len(self.featmap_strides)

    def takes(self) -> List[Takes]:
        return [Takes('featmap_strides', strides=self.featmap_strides, may_be_fewer=True)]

    def map_roi_levels(self, rois: Tensor) -> Tensor:
        """Return the level, int64 [R], of rois [R, 5]."""
        scale = torch.sqrt((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]))
        return torch.floor(torch.log2(scale / self.finest_scale + 1e-6)).clamp(
            0, self.num_inputs - 1).long()

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return the features [R, C, size, size] of rois [R, 5] as (image, x0, y0, x1, y1).

        features: maps [B, C, H_l, W_l].
        """
        layer = self.roi_layer
        return multi_level_roi_align(features[:self.num_inputs], rois, self.map_roi_levels(rois),
                                     [1 / stride for stride in self.featmap_strides],
                                     layer.output_size, layer.sampling_ratio, layer.aligned)
