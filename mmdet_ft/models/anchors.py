"""Anchors: boxes of a few shapes at every place of every feature level."""
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.ops.patches import neighbour_table
from mmdet_ft.registry import MODELS

Size = Tuple[int, int]
MAX_CACHED_GRIDS = 16  # 10 MB each at 800x1333; more image sizes than that come and go under multi-scale training


class Grid(NamedTuple):
    """All anchors for one list of feature sizes."""
    anchors: Tensor  # [A, 4]
    corner: Tensor  # [A, 2], x and y of the cell's corner in pixels: cell index times stride
    counts: List[int]  # anchors of each level
    neighbours: Tensor  # int32 [cells, 9], see ops.patches


@MODELS.register_module()
class AnchorGenerator:
    """Anchors of given scales and ratios, centred on a grid of each level's stride.

    Args:
        strides: pixels a cell, one a level: a number, or (w, h).
        ratios: heights over widths.
        scales: factors of the base size.
        base_sizes: one a level; the stride (the shorter side of it) by default.
        scale_major: order in a cell: the scales of one ratio together, or else the ratios of one scale.
        octave_base_scale, scales_per_octave: in place of `scales`, base * 2 ** (i / per octave) (RetinaNet).
        centers: (x, y) of the first cell's centre, one a level, in pixels.
        center_offset: or the same as a share of the base size, 0 to 1.
    """

    def __init__(self,
                 strides: Sequence[Union[float, Tuple[float, float]]],
                 ratios: Sequence[float],
                 scales: Optional[Sequence[float]] = None,
                 base_sizes: Optional[Sequence[float]] = None,
                 scale_major: bool = True,
                 octave_base_scale: Optional[float] = None,
                 scales_per_octave: Optional[int] = None,
                 centers: Optional[Sequence[Tuple[float, float]]] = None,
                 center_offset: float = 0.):
        if center_offset != 0 and centers is not None:
            raise ValueError('AnchorGenerator: give centers or center_offset, not both')
        if not 0 <= center_offset <= 1:
            raise ValueError(
                f'AnchorGenerator: center_offset is {center_offset}; it is a share, from 0 to 1')
        by_octave = octave_base_scale is not None and scales_per_octave is not None
        if by_octave == (scales is not None):
            raise ValueError(
                'AnchorGenerator: give either scales, or octave_base_scale and scales_per_octave')
        self.strides = [
            tuple(stride) if isinstance(stride, (list, tuple)) else (stride, stride)
            for stride in strides
        ]
        self.base_sizes = [min(stride)
                           for stride in self.strides] if base_sizes is None else list(base_sizes)
        for name, values in (('base_sizes', self.base_sizes), ('centers', centers)):
            if values is not None and len(values) != len(self.strides):
                raise ValueError(
                    f'AnchorGenerator: {len(values)} {name} for {len(self.strides)} strides; give one a level'
                )
        if by_octave:
            scales = [
                octave_base_scale * 2**(i / scales_per_octave) for i in range(scales_per_octave)
            ]
        self.scales = torch.tensor(scales, dtype=torch.float32)
        self.ratios = torch.tensor(ratios, dtype=torch.float32)
        self.octave_base_scale = octave_base_scale
        self.scales_per_octave = scales_per_octave
        self.scale_major = scale_major
        self.centers = centers
        self.center_offset = center_offset
        self.base_anchors = self.gen_base_anchors()
        self._grids: 'OrderedDict[tuple, Grid]' = OrderedDict()
        self._moved: Dict[tuple, Tensor] = {}

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    @property
    def num_base_priors(self) -> List[int]:
        """Anchors a cell, one number a level."""
        return [len(anchors) for anchors in self.base_anchors]

    @property
    def num_base_anchors(self) -> List[int]:
        """Older name of `num_base_priors`."""
        return self.num_base_priors

    def gen_base_anchors(self) -> List[Tensor]:
        """The anchors of each level's first cell, float32 [anchors a cell, 4]."""
        centers = self.centers or [None] * self.num_levels
        return [
            self.gen_single_level_base_anchors(size, self.scales, self.ratios, center)
            for size, center in zip(self.base_sizes, centers)
        ]

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        """One level of `gen_base_anchors`."""
        center = torch.tensor(
            center if center is not None else (self.center_offset * base_size, ) * 2)
        heights = ratios.sqrt()
        sides = torch.stack([1 / heights, heights], -1)  # [ratios, 2] as w h, of area 1
        # The size goes into the first factor: V2's rounding.
        if self.scale_major:
            sizes = (base_size * sides)[:, None] * scales[None, :, None]
        else:
            sizes = (base_size * scales)[:, None, None] * sides[None]
        half = 0.5 * sizes.reshape(-1, 2)
        return torch.cat([center - half, center + half], -1)

    def grid(self,
             featmap_sizes: Sequence[Size],
             dtype: torch.dtype = torch.float32,
             device: Union[torch.device, str] = 'cpu') -> Grid:
        """All anchors of all levels, kept for the next image of these sizes.

        featmap_sizes: (h, w) of each level. Anchors lie level by level, row by row, cell by cell.
        """
        assert len(
            featmap_sizes
        ) == self.num_levels, f'{len(featmap_sizes)} levels for {self.num_levels} strides'
        device = torch.device(device)
        key = (tuple(map(tuple, featmap_sizes)), dtype, device)
        if key in self._grids:
            self._grids.move_to_end(key)
            return self._grids[key]
        levels = [
            self._single_level(size, level, stride, dtype, device)
            for level, (size, stride) in enumerate(zip(featmap_sizes, self.steps(featmap_sizes)))
        ]
        anchors, corners = zip(*levels)
        grid = Grid(
            torch.cat(anchors), torch.cat(corners), [len(level) for level in anchors],
            neighbour_table(featmap_sizes, device))
        if _is_plain(grid.anchors):
            self._grids[key] = grid
            if len(self._grids) > MAX_CACHED_GRIDS:
                self._grids.popitem(last=False)
        return grid

    def grid_priors(self,
                    featmap_sizes: Sequence[Size],
                    dtype: torch.dtype = torch.float32,
                    device: Union[torch.device, str] = 'cpu') -> List[Tensor]:
        """`grid` in levels, each [h * w * anchors a cell, 4]: views of one tensor, not to be written to."""
        grid = self.grid(featmap_sizes, dtype, device)
        return list(grid.anchors.split(grid.counts))

    def single_level_grid_priors(self,
                                 featmap_size: Size,
                                 level_idx: int,
                                 dtype: torch.dtype = torch.float32,
                                 device: Union[torch.device, str] = 'cpu') -> Tensor:
        """One level of `grid_priors`."""
        return self._single_level(featmap_size, level_idx, self.strides[level_idx], dtype,
                                  torch.device(device))[0]

    def steps(self, featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
        """Pixels from cell to cell, (w, h) of each level."""
        return self.strides

    def _single_level(self, size: Size, level: int, stride: Tuple[float, float], dtype: torch.dtype,
                      device: torch.device):
        base = self._base_anchors_on(level, dtype, device)
        x = torch.arange(size[1], device=device).to(dtype) * stride[0]
        y = torch.arange(size[0], device=device).to(dtype) * stride[1]
        y, x = torch.meshgrid(y, x, indexing='ij')  # [h, w]
        corner = torch.stack([x, y], -1).reshape(-1, 1, 2)  # [h*w, 1, 2]
        anchors = base + corner.repeat(1, 1, 2)  # [h*w, anchors a cell, 4]
        return anchors.reshape(-1, 4), corner.expand(-1, len(base), 2).reshape(-1, 2)

    def _base_anchors_on(self, level: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """One level's base anchors on a device; copied there once, since the copy waits."""
        key = (level, dtype, device)
        if key not in self._moved:
            moved = torch.tensor(self.base_anchors[level].tolist(), device=device).to(dtype)
            if not _is_plain(moved):
                return moved
            self._moved[key] = moved
        return self._moved[key]

    def sparse_priors(self,
                      prior_idxs: Tensor,
                      featmap_size: Size,
                      level_idx: int,
                      dtype: torch.dtype = torch.float32,
                      device: Union[torch.device, str] = 'cpu') -> Tensor:
        """The anchors at some places of one level: prior_idxs int64 [...] into the level -> [..., 4]."""
        base = self._base_anchors_on(level_idx, dtype, torch.device(device))
        cell = prior_idxs // len(base)
        x = cell % featmap_size[1] * self.strides[level_idx][0]
        y = cell // featmap_size[1] * self.strides[level_idx][1]
        return torch.stack([x, y, x, y], -1).to(dtype) + base[prior_idxs % len(base)]

    def valid_flags(self, featmap_sizes: Sequence[Size], pad_shapes: Tensor) -> Tensor:
        """Which anchors belong to cells that begin inside their image, all levels in one.

        featmap_sizes: (h, w) of each level; pad_shapes [B, 2]: height and width of each image with its own padding,
        without the batch's (V2's pad_shape), on the anchors' device. Returns bool [B, A].

        V2 counts ceil(side / stride) cells; a cell is among them exactly when its corner lies before the side's end.
        """
        corner = self.grid(featmap_sizes, device=pad_shapes.device).corner
        height, width = pad_shapes[:, :1], pad_shapes[:, 1:2]  # [B, 1]
        return (corner[:, 0] < width) & (corner[:, 1] < height)

    def __getstate__(self) -> Dict:
        """Without the caches, whose tensors may lie on a device that the reader of a pickle lacks."""
        return {**self.__dict__, '_grids': OrderedDict(), '_moved': {}}

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(strides={self.strides}, ratios={self.ratios.tolist()}, '
            f'scales={self.scales.tolist()}, base_sizes={self.base_sizes}, scale_major={self.scale_major}, '
            f'centers={self.centers}, center_offset={self.center_offset})')


@MODELS.register_module()
class LegacyAnchorGenerator(AnchorGenerator):
    """Anchors of MMDetection 1: a box of n pixels ends n - 1 behind its start, corners are whole pixels.

    V2's type for weights of that time; with center_offset=0.5.
    """

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        if center is None:
            center = (self.center_offset * (base_size - 1), ) * 2
        boxes = super().gen_single_level_base_anchors(base_size, scales, ratios, (0., 0.))
        less = torch.tensor([.5, .5, -.5, -.5])
        return (boxes + less + torch.tensor(center * 2)).round()


@MODELS.register_module()
class TorchvisionAnchorGenerator(AnchorGenerator):
    """Anchors as torchvision's detectors have them: corners are whole pixels, and from cell to cell it is what the
    padded image's size, a multiple of the strides but the last, holds of each level's cells.

    For images of 800 pixels, 61 at the level of 13 cells, where V2 steps by 64.
    """

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        return super().gen_single_level_base_anchors(base_size, scales, ratios, center).round()

    def steps(self, featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
        image_width = featmap_sizes[0][1] * self.strides[0][0]
        image_height = featmap_sizes[0][0] * self.strides[0][1]
        return [(image_width // width, image_height // height) for height, width in featmap_sizes]


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor may be kept: one made while tracing (a fake, or on device meta) means nothing later."""
    return type(
        tensor) is Tensor and tensor.device.type != 'meta' and not torch.compiler.is_compiling()
