"""Anchors of SSD (Single Shot MultiBox Detector, sec. 2.2)."""
import math
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from mmdet_ft.models.anchors import AnchorGenerator
from mmdet_ft.ranges import Count, Filled, Positive, Strides
from mmdet_ft.registry import MODELS

# Percentages of the input's side on the first level, by input_size and the first of basesize_ratio_range:
# smallest and largest size.
FIRST_LEVEL = {
    (300, .15): (7, 15),  # COCO
    (300, .2): (10, 20),  # PASCAL VOC
    (512, .1): (4, 10),
    (512, .15): (7, 15),
}


@MODELS.register_module()
class SSDAnchorGenerator(AnchorGenerator):
    """Anchors with sizes and ratios of each level's own, around the centers of its cells.

    A cell has a square of the level's smallest size, one of the geometric mean of its smallest and
    largest, and for each ratio a flat and a high anchor of the smallest size's area.

    Args:
        strides: pixels per cell, one per level: a number, or (w, h).
        ratios: of each level, the longer over the shorter side.
        min_sizes, max_sizes: of each level, in pixels. By default from the next two.
        basesize_ratio_range: smallest and largest size of all but the first level, relative to the input.
        input_size: side of the input in pixels, 300 or 512.
        scale_major: see AnchorGenerator; False in SSD.

    Raises ValueError for lists of unequal lengths, and for sizes that V2 does not know.
    """

    def __init__(self,
                 strides: Strides,
                 ratios: Filled[Sequence[Sequence[Positive]]],
                 min_sizes: Optional[Sequence[Positive]] = None,
                 max_sizes: Optional[Sequence[Positive]] = None,
                 basesize_ratio_range: Tuple[float, float] = (0.15, 0.9),
                 input_size: Count = 300,
                 scale_major: bool = True):
        if (min_sizes is None) != (max_sizes is None):
            raise ValueError(
                'SSDAnchorGenerator: give both min_sizes and max_sizes, or none of them')
        if min_sizes is None or max_sizes is None:
            min_sizes, max_sizes = sizes_of_levels(input_size, basesize_ratio_range, len(strides))
        for name, values in (('ratios', ratios), ('min_sizes', min_sizes), ('max_sizes',
                                                                            max_sizes)):
            if len(values) != len(strides):
                raise ValueError(f'SSDAnchorGenerator: {len(values)} {name} for {len(strides)} '
                                 'strides; give one a level')
        self.scales_of_levels = [[1., math.sqrt(large / small)]
                                 for small, large in zip(min_sizes, max_sizes)]
        self.ratios_of_levels = [[1., *(side for ratio in level for side in (1 / ratio, ratio))]
                                 for level in ratios]
        pairs = [
            stride if isinstance(stride, (list, tuple)) else (stride, stride) for stride in strides
        ]
        super().__init__(
            strides,
            ratios=[1.],
            scales=[1.],
            base_sizes=min_sizes,
            scale_major=scale_major,
            centers=[(width / 2, height / 2) for width, height in pairs])

    def gen_base_anchors(self) -> List[Tensor]:
        assert self.centers is not None, 'set by the constructor'
        levels = zip(self.base_sizes, self.scales_of_levels, self.ratios_of_levels, self.centers)
        anchors = [
            self.gen_single_level_base_anchors(size, torch.tensor(scales), torch.tensor(ratios),
                                               center) for size, scales, ratios, center in levels
        ]
        # the larger square second, and no other anchors of its size
        order = [[0, len(ratios), *range(1, len(ratios))] for ratios in self.ratios_of_levels]
        return [level[index] for level, index in zip(anchors, order)]


def sizes_of_levels(input_size: Count, ratio_range: Tuple[float, float],
                    num_levels: int) -> Tuple[List[int], List[int]]:
    """Return the smallest and the largest size of each level in whole pixels, as V2 computes them.

    Raises ValueError for an input_size or a first ratio without a known first level.
    """
    first = FIRST_LEVEL.get((input_size, ratio_range[0]))
    if first is None:
        known = ', '.join(f'input_size={size} with {ratio}' for size, ratio in FIRST_LEVEL)
        raise ValueError(
            f'SSDAnchorGenerator: no sizes for input_size={input_size} with basesize_ratio_range='
            f'{tuple(ratio_range)}; write min_sizes and max_sizes, or one of {known}')
    start, end = (int(ratio * 100) for ratio in ratio_range)
    step = int((end - start) / (num_levels - 2))
    percents = [first, *((ratio, ratio + step) for ratio in range(start, end + 1, step))]
    small, large = ([int(input_size * percent / 100) for percent in part]
                    for part in zip(*percents))
    return small, large


@MODELS.register_module()
class TorchvisionSSDAnchorGenerator(SSDAnchorGenerator):
    """Anchors of torchvision's SSD300, which are no longer than the input. Arguments of SSDAnchorGenerator."""

    def __init__(self,
                 strides: Strides,
                 ratios: Filled[Sequence[Sequence[Positive]]],
                 min_sizes: Optional[Sequence[Positive]] = None,
                 max_sizes: Optional[Sequence[Positive]] = None,
                 basesize_ratio_range: Tuple[float, float] = (0.15, 0.9),
                 input_size: Count = 300,
                 scale_major: bool = True):
        self.longest = input_size
        super().__init__(strides, ratios, min_sizes, max_sizes, basesize_ratio_range, input_size,
                         scale_major)

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        anchors = super().gen_single_level_base_anchors(base_size, scales, ratios, center)
        middle = (anchors[:, :2] + anchors[:, 2:]) / 2
        half = (anchors[:, 2:] - anchors[:, :2]).clamp(max=self.longest) / 2
        return torch.cat([middle - half, middle + half], -1)
