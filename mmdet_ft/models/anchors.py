"""Anchor generators: boxes of several shapes at every cell of every feature level."""
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.ops.patches import neighbour_table
from mmdet_ft.ranges import Count, Filled, Positive, Strides
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

Size = Tuple[int, int]
MAX_CACHED_GRIDS = 16  # 10 MB each at 800x1333; multi-scale training uses more image sizes than that


class Grid(NamedTuple):
    """All anchors for one list of feature map sizes."""
    anchors: Tensor  # [A, 4]
    corner: Tensor  # [A, 2], x and y of the cell's corner in pixels: cell index times stride
    counts: List[int]  # anchors of each level
    neighbours: Tensor  # int32 [cells, 9], see ops.patches


@MODELS.register_module()
class AnchorGenerator:
    """Anchors of given scales and ratios, centered on a grid of each level's stride.

    Args:
        strides: pixels per cell, one per level: a number, or (w, h).
        ratios: heights over widths.
        scales: factors of the base size.
        base_sizes: one per level; the stride (the shorter side of it) by default.
        scale_major: order in a cell: all scales of one ratio together, or else all ratios of one scale.
        octave_base_scale, scales_per_octave: instead of `scales`: base * 2 ** (i / per octave) (RetinaNet).
        centers: (x, y) of the first cell's center, one per level, in pixels.
        center_offset: or the same as a fraction of the base size, 0 to 1.
    """

    def __init__(self,
                 strides: Strides,
                 ratios: Filled[Sequence[Positive]],
                 scales: Optional[Filled[Sequence[Positive]]] = None,
                 base_sizes: Optional[Sequence[Positive]] = None,
                 scale_major: bool = True,
                 octave_base_scale: Optional[Positive] = None,
                 scales_per_octave: Optional[Count] = None,
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
        self.strides: List[Tuple[float, float]] = [
            (stride[0], stride[1]) if isinstance(stride, (list, tuple)) else (stride, stride)
            for stride in strides
        ]
        self.base_sizes = [min(stride)
                           for stride in self.strides] if base_sizes is None else list(base_sizes)
        for name, values in (('base_sizes', self.base_sizes), ('centers', centers)):
            if values is not None and len(values) != len(self.strides):
                raise ValueError(
                    f'AnchorGenerator: {len(values)} {name} for {len(self.strides)} strides; give one a level'
                )
        if octave_base_scale is not None and scales_per_octave is not None:
            scales = [
                octave_base_scale * 2**(i / scales_per_octave) for i in range(scales_per_octave)
            ]
        self.octave_base_scale = octave_base_scale
        self.scales_per_octave = scales_per_octave
        self.scale_major = scale_major
        self.centers = centers
        self.center_offset = center_offset
        with torch.device(
                'cpu'):  # numbers of the config, read also where a model is built without values
            self.scales = torch.tensor(scales, dtype=torch.float32)
            self.ratios = torch.tensor(ratios, dtype=torch.float32)
            self.base_anchors = self.gen_base_anchors()
        self._grids: 'OrderedDict[tuple, Grid]' = OrderedDict()
        self._moved: Dict[tuple, Tensor] = {}

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    @property
    def num_base_priors(self) -> List[int]:
        """Return the number of anchors per cell of each level."""
        return [len(anchors) for anchors in self.base_anchors]

    @property
    def num_base_anchors(self) -> List[int]:
        """Return `num_base_priors`; older name."""
        return self.num_base_priors

    def gen_base_anchors(self) -> List[Tensor]:
        """Return the anchors of each level's first cell, float32 [anchors per cell, 4]."""
        centers: Sequence[Optional[Tuple[float, float]]] = self.centers or [None] * self.num_levels
        return [
            self.gen_single_level_base_anchors(size, self.scales, self.ratios, center)
            for size, center in zip(self.base_sizes, centers)
        ]

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        """Return one level of `gen_base_anchors`."""
        middle = torch.tensor(
            center if center is not None else (self.center_offset * base_size, ) * 2)
        heights = ratios.sqrt()
        sides = torch.stack([1 / heights, heights], -1)  # [ratios, 2] as w h, of area 1
        # The size multiplies the first factor: V2's rounding.
        if self.scale_major:
            sizes = (base_size * sides)[:, None] * scales[None, :, None]
        else:
            sizes = (base_size * scales)[:, None, None] * sides[None]
        half = 0.5 * sizes.reshape(-1, 2)
        return torch.cat([middle - half, middle + half], -1)

    def grid(self,
             featmap_sizes: Sequence[Size],
             dtype: torch.dtype = torch.float32,
             device: Union[torch.device, str] = 'cpu') -> Grid:
        """Return all anchors of all levels, cached for later images of these sizes.

        featmap_sizes: (h, w) of each level. Anchors are ordered by level, then row, then cell.
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
        """Return `grid` by level, each [h * w * anchors per cell, 4]: read-only views of one tensor."""
        grid = self.grid(featmap_sizes, dtype, device)
        return list(grid.anchors.split(grid.counts))

    def single_level_grid_priors(self,
                                 featmap_size: Size,
                                 level_idx: int,
                                 dtype: torch.dtype = torch.float32,
                                 device: Union[torch.device, str] = 'cpu') -> Tensor:
        """Return one level of `grid_priors`."""
        return self._single_level(featmap_size, level_idx, self.strides[level_idx], dtype,
                                  torch.device(device))[0]

    def steps(self, featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
        """Return the pixels from cell to cell, (w, h) of each level."""
        return self.strides

    def _single_level(self, size: Size, level: int, stride: Tuple[float, float], dtype: torch.dtype,
                      device: torch.device):
        base = self._base_anchors_on(level, dtype, device)
        x = torch.arange(size[1], device=device).to(dtype) * stride[0]
        y = torch.arange(size[0], device=device).to(dtype) * stride[1]
        y, x = torch.meshgrid(y, x, indexing='ij')  # [h, w]
        corner = torch.stack([x, y], -1).reshape(-1, 1, 2)  # [h*w, 1, 2]
        anchors = base + corner.repeat(1, 1, 2)  # [h*w, anchors per cell, 4]
        return anchors.reshape(-1, 4), corner.expand(-1, len(base), 2).reshape(-1, 2)

    def _base_anchors_on(self, level: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return one level's base anchors on a device; copied there once, since copying synchronizes."""
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
        """Return some anchors of one level: prior_idxs int64 [...] into the level -> [..., 4]."""
        base = self._base_anchors_on(level_idx, dtype, torch.device(device))
        cell = prior_idxs // len(base)
        x = cell % featmap_size[1] * self.strides[level_idx][0]
        y = cell // featmap_size[1] * self.strides[level_idx][1]
        return torch.stack([x, y, x, y], -1).to(dtype) + base[prior_idxs % len(base)]

    def valid_flags(self, featmap_sizes: Sequence[Size], pad_shapes: Tensor) -> Tensor:
        """Check which anchors belong to cells that begin inside their image, all levels concatenated.

        featmap_sizes: (h, w) of each level; pad_shapes [B, 2]: height and width of each image with its own
        padding, without the batch's (V2's pad_shape), on the anchors' device. Returns bool [B, A].

        V2 counts ceil(side / stride) cells; a cell is one of them exactly if its corner is before the side's end.
        """
        corner = self.grid(featmap_sizes, device=pad_shapes.device).corner
        height, width = pad_shapes[:, :1], pad_shapes[:, 1:2]  # [B, 1]
        return (corner[:, 0] < width) & (corner[:, 1] < height)

    def __getstate__(self) -> Dict:
        """Drop the caches, whose tensors may be on a device that the process loading a pickle lacks."""
        return {**self.__dict__, '_grids': OrderedDict(), '_moved': {}}

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(strides={self.strides}, ratios={self.ratios.tolist()}, '
            f'scales={self.scales.tolist()}, base_sizes={self.base_sizes}, scale_major={self.scale_major}, '
            f'centers={self.centers}, center_offset={self.center_offset})')


@MODELS.register_module()
class LegacyAnchorGenerator(AnchorGenerator):
    """Anchors of MMDetection 1: a box of n pixels ends n - 1 pixels after its start, corners are whole pixels.

    V2's type for weights of that version; with center_offset=0.5.
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
    """Anchors of torchvision's detectors, with whole-pixel sizes and corners.

    The step between cells is the padded image's size, a multiple of every stride but the last, divided by each
    level's number of cells. For images of 800 pixels it is 61 at the level of 13 cells, and 64 in V2.
    """

    def gen_single_level_base_anchors(self,
                                      base_size: float,
                                      scales: Tensor,
                                      ratios: Tensor,
                                      center: Optional[Tuple[float, float]] = None) -> Tensor:
        sizes = (base_size * scales).floor()
        middle = center if center is not None else (self.center_offset * base_size, ) * 2
        return super().gen_single_level_base_anchors(1., sizes, ratios, middle).round()

    def steps(self, featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
        return _steps_of_image(self.strides[0], featmap_sizes)


@MODELS.register_module()
class YOLOAnchorGenerator(AnchorGenerator):
    """Anchors of given sizes in the middle of each cell.

    Args:
        strides: pixels per cell, one per level: a number, or (w, h).
        base_sizes: (width, height) of the anchors of each level, in pixels.

    Raises ValueError for other numbers of anchors in a level.
    """

    def __init__(self, strides: Sequence[Union[float, Tuple[float, float]]],
                 base_sizes: Sequence[Sequence[Tuple[float, float]]]):
        if len(base_sizes) != len(strides):
            raise ValueError(
                f'YOLOAnchorGenerator: {len(base_sizes)} base_sizes for {len(strides)} strides; give one '
                'list a level')
        if len({len(sizes) for sizes in base_sizes}) > 1:
            raise ValueError(
                'YOLOAnchorGenerator: base_sizes has levels of '
                f'{[len(sizes) for sizes in base_sizes]} anchors; give all the same number')
        self.sizes = base_sizes
        super().__init__(strides, ratios=[1.], scales=[1.])

    def gen_base_anchors(self) -> List[Tensor]:
        return [
            torch.tensor([[(stride[0] - w) / 2, (stride[1] - h) / 2, (stride[0] + w) / 2,
                           (stride[1] + h) / 2] for w, h in sizes])
            for stride, sizes in zip(self.strides, self.sizes)
        ]

    def responsible_flags(self, featmap_sizes: Sequence[Size], gt: GroundTruth) -> Tensor:
        """Check which anchors have the center of a ground truth in their cell: bool [B, A]."""
        center = (gt.boxes[..., :2] + gt.boxes[..., 2:]) * .5  # [B, G, 2]
        levels = zip(featmap_sizes, self.strides, self.num_base_priors)
        return torch.cat([
            _cells_of(center, gt.valid, size, stride)[..., None].expand(-1, -1, count).flatten(1)
            for size, stride, count in levels
        ], 1)


@MODELS.register_module()
class MlvlPointGenerator(AnchorGenerator):
    """Points of a grid, one per cell: anchors without size, x y x y.

    Args:
        strides: pixels per cell, one per level: a number, or (w, h).
        offset: position in the cell, 0 to 1.
    """

    def __init__(self, strides: Strides, offset: float = .5):
        self.offset = offset
        super().__init__(strides, ratios=[1.], scales=[1.])

    def gen_base_anchors(self) -> List[Tensor]:
        return [self.offset * torch.tensor([stride * 2]).float() for stride in self.strides]


@MODELS.register_module()
class TorchvisionPointGenerator(MlvlPointGenerator):
    """Points of torchvision's FCOS: the corners of cells, whose steps are those of TorchvisionAnchorGenerator."""

    def __init__(self, strides: Sequence[Union[float, Tuple[float, float]]], offset: float = 0.):
        super().__init__(strides, offset)

    def steps(self, featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
        return _steps_of_image(self.strides[0], featmap_sizes)


def _steps_of_image(stride: Tuple[float, float],
                    featmap_sizes: Sequence[Size]) -> List[Tuple[float, float]]:
    """Return the padded image's size divided by each level's number of cells, in whole pixels."""
    width, height = featmap_sizes[0][1] * stride[0], featmap_sizes[0][0] * stride[1]
    return [(width // columns, height // rows) for rows, columns in featmap_sizes]


def _cells_of(points: Tensor, valid: Tensor, size: Size, stride: Tuple[float, float]) -> Tensor:
    """Check which cells of a level have a point inside: points [B, G, 2] -> bool [B, h * w]."""
    height, width = size
    x, y = (points[..., 0] / stride[0]).floor(), (points[..., 1] / stride[1]).floor()
    inside = valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    cell = (y * width + x).masked_fill(~inside, height * width).long()  # one more, for the others
    cells = torch.zeros(len(points), height * width + 1, dtype=torch.bool, device=points.device)
    return cells.scatter(1, cell, True)[:, :-1]


def map_size(feature: Tensor) -> Size:
    """Return the size (h, w) of a feature map [B, C, h, w]."""
    height, width = feature.shape[2:]
    return height, width


def flatten_to_priors(maps: Tensor, width: int) -> Tensor:
    """Reshape maps [B, anchors per cell * width, H, W] to [B, H * W * anchors per cell, width]."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def centers_of(boxes: Tensor) -> Tensor:
    """Return the centers of boxes: [..., 4] -> [..., 2]."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def usable_anchors(generator: AnchorGenerator, sizes: Sequence[Size], batch: Batch,
                   border: float) -> Tensor:
    """Check which anchors have a cell in the padded image and cross the image's border by less than `border`.

    A negative `border` allows all to cross it. Returns bool [B, A].
    """
    valid = generator.valid_flags(sizes, batch.pad_sizes)
    if border < 0:
        return valid
    height, width = batch.sizes[:, :1], batch.sizes[:, 1:]
    x0, y0, x1, y1 = generator.grid(sizes, device=batch.sizes.device).anchors.unbind(-1)
    return valid & (x0 >= -border) & (y0 >= -border) & (x1 < width + border) & (
        y1 < height + border)


def _is_plain(tensor: Tensor) -> bool:
    """Check whether a tensor may be cached: one created while tracing (fake, or on meta) is useless later."""
    return type(
        tensor) is Tensor and tensor.device.type != 'meta' and not torch.compiler.is_compiling()
