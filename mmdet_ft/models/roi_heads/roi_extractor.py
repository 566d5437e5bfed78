"""RoI feature extraction."""
import functools
from typing import Dict, List, Optional, Sequence, Union

import torch
from mmcv.cnn import build_plugin_layer
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.ops.boxes import scale_around_centers
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

    def forward(self,
                features: Sequence[Tensor],
                rois: Tensor,
                roi_scale_factor: Optional[float] = None) -> Tensor:
        """Return the features [R, C, size, size] of rois [R, 5] as (image, x0, y0, x1, y1).

        features: maps [B, C, H_l, W_l]. roi_scale_factor: pool from boxes that much larger.
        """
        layer, level = self.roi_layer, self.map_roi_levels(rois)
        if roi_scale_factor is not None and self.num_inputs > 1:  # V2 has no larger box at one level
            rois = scale_rois(rois, roi_scale_factor)
        return multi_level_roi_align(features[:self.num_inputs], rois, level,
                                     [1 / stride for stride in self.featmap_strides],
                                     layer.output_size, layer.sampling_ratio, layer.aligned)


def scale_rois(rois: Tensor, factor: float) -> Tensor:
    """Multiply widths and heights of rois [R, 5]; their centers stay."""
    return torch.cat([rois[:, :1], scale_around_centers(rois[:, 1:], factor)], 1)


@MODELS.register_module()
class GenericRoIExtractor(BaseModule):
    """Extract each region from all levels, which are summed or concatenated (A Novel Region of Interest
    Extraction Layer, sec. 3).

        level 2 -- RoIAlign -- pre_module --\\
        level 3 -- RoIAlign -- pre_module --- sum -- post_module -- features of the region
        ...

    V2's arguments and state_dict. A single level has neither module.

    Args:
        roi_layer, out_channels, featmap_strides: as SingleRoIExtractor.
        aggregation: 'sum' or 'concat'; concatenated levels have `out_channels` together.
        pre_cfg, post_cfg: layers in mmcv's form, such as dict(type='ConvModule', in_channels=256, ...).
    """

    def __init__(self,
                 roi_layer: Union[Dict, RoIAlign],
                 out_channels: int,
                 featmap_strides: Sequence[int],
                 aggregation: str = 'sum',
                 pre_cfg: Optional[Dict] = None,
                 post_cfg: Optional[Dict] = None,
                 init_cfg: Optional[Dict] = None):
        super().__init__(init_cfg)
        if aggregation not in ('sum', 'concat'):
            raise ValueError(
                f"GenericRoIExtractor: aggregation is {aggregation!r}; write 'sum' or 'concat'")
        self.roi_layer: RoIAlign = MODELS.build(roi_layer)
        self.out_channels, self.featmap_strides = out_channels, list(featmap_strides)
        self.aggregation, self.pre_channels = aggregation, (pre_cfg or {}).get('in_channels')
        self.post_module = _plugin(post_cfg)
        self.pre_module = _plugin(pre_cfg)

    @property
    def num_inputs(self) -> int:
        return len(self.featmap_strides)

    def takes(self) -> List[Takes]:
        return [
            Takes('featmap_strides', strides=self.featmap_strides, may_be_fewer=True),
            Takes('pre_cfg.in_channels', self.pre_channels)
        ]

    def forward(self,
                features: Sequence[Tensor],
                rois: Tensor,
                roi_scale_factor: Optional[float] = None) -> Tensor:
        """Return the features [R, C, size, size] of rois [R, 5]; arguments as SingleRoIExtractor."""
        if self.num_inputs == 1:
            return self._pool(features[0], rois, self.featmap_strides[0])
        if roi_scale_factor is not None:
            rois = scale_rois(rois, roi_scale_factor)
        levels = [
            self.pre_module(self._pool(*level))
            for level in zip(features, [rois] * self.num_inputs, self.featmap_strides)
        ]
        if self.aggregation == 'concat':
            return self.post_module(torch.cat(levels, 1))
        return self.post_module(functools.reduce(torch.add, levels))

    def _pool(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        layer, level = self.roi_layer, torch.zeros_like(rois[:, 0], dtype=torch.long)
        return multi_level_roi_align([feature], rois, level, [1 / stride], layer.output_size,
                                     layer.sampling_ratio, layer.aligned)


def _plugin(settings: Optional[Dict]) -> nn.Module:
    return nn.Identity() if settings is None else build_plugin_layer(settings)[1]
