"""Deformable convolutions, under mmcv's names for `conv_cfg` and `dcn`."""
import math
from typing import Optional, Tuple, Union

import torch
from mmengine.registry import MODELS as LAYERS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

from mmdet_ft.models.base_module import constant_init

Size = Union[int, Tuple[int, int]]


class DeformConv2d(nn.Module):
    """A 3x3 convolution that samples at the given offsets, with mmcv's weight and no bias."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity='relu')

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Return [B, out_channels, H, W], float32 under autocast.

        x [B, C, H, W]; offset [B, 18, H, W]: y and x of each point, row by row, relative to the grid's.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        return deform_conv2d(x.to(dtype), offset.to(dtype), self.weight.to(dtype), padding=1)


class _DeformConv2d(nn.Module):
    """A convolution that samples at offsets predicted by the ordinary convolution `conv_offset`.

    It gives y and x relative to the grid for each point and each of `deform_groups` channel groups.
    """
    _version = 2  # as mmcv's: `conv2.conv_offset` was `conv2_offset` in files of MMDetection 1
    numbers_a_point: int  # outputs of conv_offset per point
    bias: Optional[nn.Parameter]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size,
                 padding: Size, dilation: Size, groups: int, deform_groups: int, bias: bool,
                 deformable_groups: Optional[int]):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups = groups
        self.deform_groups = deform_groups if deformable_groups is None else deformable_groups
        self.transposed, self.output_padding = False, (0, 0)  # read by mmcv's ConvModule
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter('bias', nn.Parameter(torch.empty(out_channels)) if bias else None)
        num_points = self.deform_groups * math.prod(self.kernel_size)
        self.conv_offset = nn.Conv2d(in_channels, num_points * self.numbers_a_point,
                                     self.kernel_size, self.stride, self.padding, self.dilation)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize as the plain convolution: no offsets."""
        raise NotImplementedError

    def sample(self, x: Tensor, offset: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Sample x in float32 under autocast: some devices lack half-precision kernels."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        bias, mask = (None if value is None else value.to(dtype) for value in (self.bias, mask))
        return deform_conv2d(
            x.to(dtype), offset.to(dtype), self.weight.to(dtype), bias, self.stride, self.padding,
            self.dilation, mask)


@LAYERS.register_module('DCN', force=True)  # replaces mmcv's compiled one, if that is installed
class DeformConv2dPack(_DeformConv2d):
    """Deformable convolution (Deformable Convolutional Networks, sec. 2.1).

    mmcv's arguments and state_dict; `im2col_step` has no effect, `deformable_groups` is the older
    name of `deform_groups`.
    """
    numbers_a_point = 2

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: Size,
                 stride: Size = 1,
                 padding: Size = 0,
                 dilation: Size = 1,
                 groups: int = 1,
                 deform_groups: int = 1,
                 bias: bool = False,
                 im2col_step: int = 32,
                 deformable_groups: Optional[int] = None):
        if bias:
            raise ValueError("DCN has no bias; write dict(type='DCNv2'), or bias=False")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         deform_groups, bias, deformable_groups)

    def init_weights(self) -> None:
        nn.init.kaiming_uniform_(self.weight, nonlinearity='relu')
        constant_init(self.conv_offset, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return x [B, C, H, W] -> [B, out_channels, H', W'], as a convolution of the same arguments."""
        return self.sample(x, self.conv_offset(x))


@LAYERS.register_module('DCNv2', force=True)
class ModulatedDeformConv2dPack(_DeformConv2d):
    """Deformable convolution with point weights in 0..1 (Deformable ConvNets v2, sec. 3.2).

    The weights are initially one half. mmcv's arguments and state_dict; `deformable_groups` is the
    older name of `deform_groups`.
    """
    numbers_a_point = 3

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: Size,
                 stride: Size = 1,
                 padding: Size = 0,
                 dilation: Size = 1,
                 groups: int = 1,
                 deform_groups: int = 1,
                 bias: bool = True,
                 deformable_groups: Optional[int] = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         deform_groups, bias, deformable_groups)

    def init_weights(self) -> None:
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        constant_init(self.conv_offset, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return x [B, C, H, W] -> [B, out_channels, H', W'], as a convolution of the same arguments."""
        text = self.conv_offset(x)
        split = 2 * text.shape[1] // 3  # all offsets, then all weights
        return self.sample(x, text[:, :split], text[:, split:].sigmoid())
