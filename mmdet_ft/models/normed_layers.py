"""Predictors that compare directions: cosines of inputs and weights, times a temperature."""
from typing import Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as LAYERS
from torch import Tensor, nn

from mmdet_ft.ranges import Positive

Size = Union[int, Tuple[int, int]]


def scaled(x: Tensor, power: float, eps: float, dims: Union[int, Tuple[int, ...]] = 1) -> Tensor:
    """Divide x by the power of its norm over some dimensions, in float32 at least."""
    x = x.float() if x.dtype.itemsize < 4 else x
    return x / (torch.linalg.vector_norm(x, dim=dims, keepdim=True).pow(power) + eps)


@LAYERS.register_module()
class NormedLinear(nn.Linear):
    """Linear layer on normalized inputs and weights (Seesaw Loss, arXiv:2008.10032, sec. 3.3).

    V2's arguments, its spelling of `tempearture` included, and state_dict.

    Args:
        tempearture: factor of the normalized inputs, above 0.
        power: exponent of both norms; with 1, the outputs are cosines times `tempearture`.
        eps: added to the norms.
    """

    def __init__(self,
                 in_features: int,
                 out_features: int,
                 bias: bool = True,
                 tempearture: Positive = 20,
                 power: float = 1.0,
                 eps: Positive = 1e-6):
        super().__init__(in_features, out_features, bias)
        self.tempearture, self.power, self.eps = tempearture, power, eps
        nn.init.normal_(self.weight, std=0.01)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out_features] of x [N, in_features]."""
        return F.linear(
            scaled(x, self.power, self.eps) * self.tempearture,
            scaled(self.weight, self.power, self.eps), self.bias)


@LAYERS.register_module()
class NormedConv2d(nn.Conv2d):
    """Convolution on inputs and weights that are normalized over the channels; see NormedLinear.

    Args:
        norm_over_kernel: normalize each filter as a whole, over its channels and cells.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: Size,
                 stride: Size = 1,
                 padding: Size = 0,
                 dilation: Size = 1,
                 groups: int = 1,
                 bias: bool = True,
                 tempearture: Positive = 20,
                 power: float = 1.0,
                 eps: Positive = 1e-6,
                 norm_over_kernel: bool = False):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         bias)
        self.tempearture, self.power, self.eps = tempearture, power, eps
        self.norm_over_kernel = norm_over_kernel

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out_channels, h, w] of x [N, in_channels, h, w]."""
        dims = (1, 2, 3) if self.norm_over_kernel else 1
        weight = scaled(self.weight, self.power, self.eps, dims)
        return self._conv_forward(
            scaled(x, self.power, self.eps) * self.tempearture, weight, self.bias)
