"""Deformable convolution, number by number."""
from typing import Optional

import numpy as np


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """The value between four pixels; outside of the plane there is 0."""
    top, left = int(np.floor(y)), int(np.floor(x))
    value = 0.
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                value += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def deform_conv(image: np.ndarray, weight: np.ndarray, offset: np.ndarray, stride: int,
                padding: int, dilation: int, groups: int, deform_groups: int,
                mask: Optional[np.ndarray]) -> np.ndarray:
    """image [C, H, W], weight [O, C/groups, k, k], offset [2*k*k*deform_groups, H', W'] as y x of point
    after point, mask [k*k*deform_groups, H', W'] -> [O, H', W'].
    """
    num_out, per_group, k, _ = weight.shape
    out = np.zeros((num_out, *offset.shape[1:]))
    for o, i, j in np.ndindex(*out.shape):
        first = o // (num_out // groups) * per_group
        for c in range(per_group):
            part = (first + c) // (len(image) // deform_groups)
            for row, column in np.ndindex(k, k):
                point = part * k * k + row * k + column
                y = i * stride - padding + row * dilation + offset[2 * point, i, j]
                x = j * stride - padding + column * dilation + offset[2 * point + 1, i, j]
                share = 1. if mask is None else mask[point, i, j]
                out[o, i, j] += weight[o, c, row, column] * share * bilinear(image[first + c], y, x)
    return out
