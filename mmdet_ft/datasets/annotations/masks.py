"""Instance masks of one image in the pipeline: bitmaps and polygons, with V2's methods.

Bitmaps are kept as one crop per instance: its pixels inside its box, and the position of the box.
The usual path therefore never makes an array of instances x height x width. Every method gives the
same pixels as the same step on full bitmaps.
"""
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np
import pycocotools.mask as mask_api
import torch
from torch import Tensor

DIRECTIONS = ('horizontal', 'vertical', 'diagonal')
MOST_CHANNELS = 512  # of an image in OpenCV


class BitmapMasks:
    """Masks of N instances as bitmaps (V2's class of this name).

    Args:
        masks: full bitmaps, an array [N, H, W] or a list of N arrays [H, W]; 0 is outside.
        height, width: size of the bitmaps in pixels.

    `crops` and `corners` are the internal form: crop i covers `crops[i].shape` pixels from
    `corners[i]` = (x0, y0), everything else is 0. The attribute `masks` and iteration build full
    bitmaps; do not use them in a loop.
    """

    def __init__(self, masks: Union[np.ndarray, Sequence[np.ndarray]], height: int, width: int):
        self.height, self.width = int(height), int(width)
        self.crops: List[np.ndarray] = []
        self.corners: List[Tuple[int, int]] = []
        for mask in masks:
            if mask.shape != (self.height, self.width):
                raise ValueError(f'a mask of shape {mask.shape} does not fit the image size '
                                 f'({self.height}, {self.width}) (height, width)')
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            x0, y0, x1, y1 = (columns[0], rows[0], columns[-1] + 1,
                              rows[-1] + 1) if len(rows) else (0, 0, 0, 0)
            self.crops.append(mask[y0:y1, x0:x1])
            self.corners.append((int(x0), int(y0)))

    @classmethod
    def from_crops(cls, crops: List[np.ndarray], corners: List[Tuple[int, int]], height: int,
                   width: int) -> 'BitmapMasks':
        """Build masks from crops that are inside the image; the arrays are not copied."""
        self = cls.__new__(cls)
        self.crops, self.corners = crops, corners
        self.height, self.width = int(height), int(width)
        return self

    @property
    def masks(self) -> np.ndarray:
        """Return full bitmaps [N, H, W]; each access builds new ones."""
        dtype = self.crops[0].dtype if self.crops else np.uint8
        full = np.zeros((len(self), self.height, self.width), dtype=dtype)
        for bitmap, crop, (x0, y0) in zip(full, self.crops, self.corners):
            bitmap[y0:y0 + crop.shape[0], x0:x0 + crop.shape[1]] = crop
        return full

    def __len__(self) -> int:
        return len(self.crops)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index].masks[0] for index in range(len(self)))

    def __getitem__(self, index) -> 'BitmapMasks':
        """Select masks by an integer, a slice, or an array of integers or booleans; always return a BitmapMasks."""
        indices = np.atleast_1d(np.arange(len(self))[index]).tolist()
        return BitmapMasks.from_crops([self.crops[i] for i in indices],
                                      [self.corners[i] for i in indices], self.height, self.width)

    def __repr__(self) -> str:
        return f'BitmapMasks(num_masks={len(self)}, height={self.height}, width={self.width})'

    def rescale(self,
                scale: Union[float, int, Tuple[int, int]],
                interpolation: str = 'nearest') -> 'BitmapMasks':
        """Resize by a factor, or as large as fits into `scale`, keeping the aspect ratio."""
        width, height = rescaled_size(self.width, self.height, scale)
        return self.resize((height, width), interpolation)

    def resize(self, out_shape: Tuple[int, int], interpolation: str = 'nearest') -> 'BitmapMasks':
        """Resize to `out_shape` = (height, width), with the pixels of cv2.resize on the full bitmap."""
        height, width = (int(size) for size in out_shape)
        if interpolation != 'nearest':
            resized = [
                mmcv.imresize(mask, (width, height), interpolation=interpolation) for mask in self
            ]
            return BitmapMasks(resized, height, width)
        source_x, source_y = nearest_source(self.width, width), nearest_source(self.height, height)
        # sources never decrease, so the pixels taken from a crop are one range
        ranges_x, ranges_y = (source.searchsorted([
            (corner[axis], corner[axis] + crop.shape[1 - axis])
            for crop, corner in zip(self.crops, self.corners)
        ]) for axis, source in enumerate((source_x, source_y)))
        crops, corners = [], []
        for crop, (x0, y0), (left, right), (top, bottom) in zip(self.crops, self.corners,
                                                                ranges_x.tolist(),
                                                                ranges_y.tolist()):
            # single pixels first, while there are few rows, then whole rows
            columns = crop.take(source_x[left:right] - x0, axis=1)
            crops.append(columns.take(source_y[top:bottom] - y0, axis=0))
            corners.append((left, top))
        return BitmapMasks.from_crops(crops, corners, height, width)

    def flip(self, flip_direction: str = 'horizontal') -> 'BitmapMasks':
        """Mirror left-right (horizontal), top-bottom (vertical) or both (diagonal)."""
        assert flip_direction in DIRECTIONS
        crops, corners = [], []
        for crop, (x0, y0) in zip(self.crops, self.corners):
            if flip_direction != 'vertical':
                x0 = self.width - x0 - crop.shape[1]
            if flip_direction != 'horizontal':
                y0 = self.height - y0 - crop.shape[0]
            crops.append(_flipped(crop, flip_direction))
            corners.append((x0, y0))
        return BitmapMasks.from_crops(crops, corners, self.height, self.width)

    def pad(self, out_shape: Tuple[int, int], pad_val: int = 0) -> 'BitmapMasks':
        """Extend to the right and bottom, up to `out_shape` = (height, width); a smaller shape changes nothing."""
        height, width = max(int(out_shape[0]), self.height), max(int(out_shape[1]), self.width)
        if pad_val != 0:
            padded = np.full((len(self), height, width), pad_val, dtype=np.uint8)
            padded[:, :self.height, :self.width] = self.masks
            return BitmapMasks(padded, height, width)
        return BitmapMasks.from_crops(list(self.crops), list(self.corners), height, width)

    def crop(self, bbox: np.ndarray) -> 'BitmapMasks':
        """Crop to one box (x1, y1, x2, y2), integers, clipped to the image; at least one pixel."""
        left, top, right, bottom = clipped_box(bbox, self.height, self.width)
        crops, corners = [], []
        for crop, (x0, y0) in zip(self.crops, self.corners):
            x1, y1 = max(x0, left), max(y0, top)
            inside = crop[y1 - y0:max(bottom - y0, 0), x1 - x0:max(right - x0, 0)]
            crops.append(inside)
            corners.append((x1 - left, y1 - top) if inside.size else (0, 0))
        return BitmapMasks.from_crops(crops, corners, bottom - top, right - left)

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> 'BitmapMasks':
        """Put the bitmaps at (left, top) into larger empty ones."""
        corners = [(x0 + int(left), y0 + int(top)) for x0, y0 in self.corners]
        return BitmapMasks.from_crops(list(self.crops), corners, expanded_h, expanded_w)

    def _warped(self, out_shape: Tuple[int, int], warp: Callable[[np.ndarray],
                                                                 np.ndarray]) -> 'BitmapMasks':
        """Apply an image warp to the full bitmaps, as many at once as OpenCV allows channels."""
        warped: List[np.ndarray] = []
        for first in range(0, len(self), MOST_CHANNELS):
            part = self[first:first + MOST_CHANNELS].masks
            layers = warp(np.ascontiguousarray(part.transpose(1, 2, 0)))  # [H, W, N]
            layers = layers if layers.ndim == 3 else layers[:, :, None]
            warped += list(np.ascontiguousarray(layers.transpose(2, 0, 1)).astype(part.dtype))
        return BitmapMasks(warped, *out_shape)

    def translate(self,
                  out_shape: Tuple[int, int],
                  offset: float,
                  direction: str = 'horizontal',
                  fill_val: int = 0,
                  interpolation: str = 'bilinear') -> 'BitmapMasks':
        """Shift by `offset` pixels in an image of `out_shape` = (height, width); arguments as mmcv.imtranslate."""
        return self._warped(
            out_shape,
            lambda layers: mmcv.imtranslate(layers, offset, direction, fill_val, interpolation))

    def shear(self,
              out_shape: Tuple[int, int],
              magnitude: float,
              direction: str = 'horizontal',
              border_value: int = 0,
              interpolation: str = 'bilinear') -> 'BitmapMasks':
        """Shear by `magnitude` pixels per pixel in an image of `out_shape`; arguments as mmcv.imshear."""
        return self._warped(
            out_shape,
            lambda layers: mmcv.imshear(layers, magnitude, direction, border_value, interpolation))

    def rotate(self,
               out_shape: Tuple[int, int],
               angle: float,
               center: Optional[Tuple[float, float]] = None,
               scale: float = 1.0,
               fill_val: int = 0) -> 'BitmapMasks':
        """Rotate by `angle` degrees, clockwise, in an image of `out_shape`; arguments as mmcv.imrotate."""
        return self._warped(
            out_shape,
            lambda layers: mmcv.imrotate(layers, angle, center, scale, border_value=fill_val))

    @property
    def areas(self) -> np.ndarray:
        """Return the pixels of each mask, [N]."""
        return np.array([int(crop.sum()) for crop in self.crops], dtype=np.int64)

    def to_ndarray(self) -> np.ndarray:
        """Return full bitmaps [N, H, W]."""
        return self.masks

    def to_tensor(self, dtype: torch.dtype, device) -> Tensor:
        """Return full bitmaps as a tensor [N, H, W]."""
        return torch.tensor(self.masks, dtype=dtype, device=device)

    def get_bboxes(self) -> np.ndarray:
        """Return tight boxes float32 [N, 4], x2 and y2 one past the last pixel; zeros for an empty mask."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for box, crop, (x0, y0) in zip(boxes, self.crops, self.corners):
            columns, rows = np.flatnonzero(crop.any(axis=0)), np.flatnonzero(crop.any(axis=1))
            if len(columns):
                box[:] = x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1
        return boxes

    def to_bitmap(self) -> 'BitmapMasks':
        return self


class PolygonMasks:
    """Masks of N instances as polygons (V2's class of this name).

    Args:
        masks: per instance a list of its parts, each an array (x0, y0, x1, y1, ...) in pixels.
        height, width: size of the image in pixels.
    """

    def __init__(self, masks: List[List[np.ndarray]], height: int, width: int):
        assert isinstance(masks, list)
        self.masks = masks
        self.height, self.width = int(height), int(width)

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[List[np.ndarray]]:
        return iter(self.masks)

    def __getitem__(self, index) -> 'PolygonMasks':
        """Select masks by an integer, a slice, or an array of integers or booleans; always return a PolygonMasks."""
        indices = np.atleast_1d(np.arange(len(self))[index]).tolist()
        return PolygonMasks([self.masks[i] for i in indices], self.height, self.width)

    def __repr__(self) -> str:
        return f'PolygonMasks(num_masks={len(self)}, height={self.height}, width={self.width})'

    def _moved(self, scale: Sequence[float], shift: Sequence[float], height: int,
               width: int) -> 'PolygonMasks':
        """Return every point times `scale` plus `shift` (x, y), in an image of the given size."""
        moved = []
        for parts in self.masks:
            moved.append([])
            for part in parts:
                part = part.copy()
                part[0::2] = part[0::2] * scale[0] + shift[0]
                part[1::2] = part[1::2] * scale[1] + shift[1]
                moved[-1].append(part)
        return PolygonMasks(moved, height, width)

    def rescale(self,
                scale: Union[float, int, Tuple[int, int]],
                interpolation: Optional[str] = None) -> 'PolygonMasks':
        """Resize by a factor, or as large as fits into `scale`, keeping the aspect ratio."""
        width, height = rescaled_size(self.width, self.height, scale)
        return self.resize((height, width))

    def resize(self,
               out_shape: Tuple[int, int],
               interpolation: Optional[str] = None) -> 'PolygonMasks':
        """Resize to `out_shape` = (height, width)."""
        height, width = out_shape
        return self._moved((width / self.width, height / self.height), (0, 0), height, width)

    def flip(self, flip_direction: str = 'horizontal') -> 'PolygonMasks':
        """Mirror left-right (horizontal), top-bottom (vertical) or both (diagonal)."""
        assert flip_direction in DIRECTIONS
        x, y = flip_direction != 'vertical', flip_direction != 'horizontal'
        return self._moved((-1 if x else 1, -1 if y else 1),
                           (self.width if x else 0, self.height if y else 0), self.height,
                           self.width)

    def pad(self, out_shape: Tuple[int, int], pad_val: int = 0) -> 'PolygonMasks':
        """Change the image size; polygons stay."""
        return PolygonMasks(self.masks, *out_shape[:2])

    def crop(self, bbox: np.ndarray) -> 'PolygonMasks':
        """Move the origin to one box (x1, y1, x2, y2) clipped to the image; rasterizing clips points outside."""
        left, top, right, bottom = clipped_box(bbox, self.height, self.width)
        return self._moved((1, 1), (-left, -top), bottom - top, right - left)

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> 'PolygonMasks':
        """Put the image at (left, top) into a larger one."""
        return self._moved((1, 1), (left, top), expanded_h, expanded_w)

    def _mapped(self, matrix: np.ndarray, out_shape: Tuple[int, int]) -> 'PolygonMasks':
        """Apply a map [2, 3] to every point, clipped to the border of an image of (height, width)."""
        height, width = out_shape
        mapped = []
        for parts in self.masks:
            mapped.append([])
            for part in parts:
                points = np.reshape(part, (-1, 2)) @ matrix[:, :2].T + matrix[:, 2]
                mapped[-1].append(np.clip(points, 0, [width, height]).reshape(-1))
        return PolygonMasks(mapped, height, width)

    def translate(self,
                  out_shape: Tuple[int, int],
                  offset: float,
                  direction: str = 'horizontal',
                  fill_val: Optional[int] = None,
                  interpolation: Optional[str] = None) -> 'PolygonMasks':
        """Shift by `offset` pixels in an image of `out_shape` = (height, width)."""
        axis = 0 if direction == 'horizontal' else 1
        shifted = []
        for parts in self.masks:
            shifted.append([])
            for part in parts:
                part = part.copy()
                part[axis::2] = np.clip(part[axis::2] + offset, 0, out_shape[1 - axis])
                shifted[-1].append(part)
        return PolygonMasks(shifted, *out_shape)

    def shear(self,
              out_shape: Tuple[int, int],
              magnitude: float,
              direction: str = 'horizontal',
              border_value: int = 0,
              interpolation: Optional[str] = None) -> 'PolygonMasks':
        """Shear by `magnitude` pixels per pixel in an image of `out_shape`."""
        matrix = np.eye(2, 3, dtype=np.float64)
        matrix[(0, 1) if direction == 'horizontal' else (1, 0)] = np.float32(magnitude)  # V2's
        return self._mapped(matrix, out_shape)

    def rotate(self,
               out_shape: Tuple[int, int],
               angle: float,
               center: Optional[Tuple[float, float]] = None,
               scale: float = 1.0,
               fill_val: int = 0) -> 'PolygonMasks':
        """Rotate by `angle` degrees, clockwise, about `center` (x, y), in an image of `out_shape`."""
        if center is None:
            center = ((self.width - 1) * 0.5, (self.height - 1) * 0.5)
        return self._mapped(cv2.getRotationMatrix2D(center, -angle, scale), out_shape)

    def to_bitmap(self) -> BitmapMasks:
        """Rasterize the polygons to bitmaps."""
        runs = [polygon_runs(parts, self.height, self.width) for parts in self.masks]
        return bitmaps_of_runs(runs, self.height, self.width)

    @property
    def areas(self) -> np.ndarray:
        """Return the areas of the parts in square pixels, summed for each mask (shoelace formula), [N]."""
        areas = [sum(_shoelace(part[0::2], part[1::2]) for part in parts) for parts in self.masks]
        return np.asarray(areas, dtype=np.float64)

    def to_ndarray(self) -> np.ndarray:
        """Return full bitmaps [N, H, W]."""
        return self.to_bitmap().masks

    def to_tensor(self, dtype: torch.dtype, device) -> Tensor:
        """Return full bitmaps as a tensor [N, H, W]."""
        return torch.tensor(self.to_ndarray(), dtype=dtype, device=device)

    def get_bboxes(self) -> np.ndarray:
        """Return boxes of the points, float32 [N, 4]; zeros for an instance without parts."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for box, parts in zip(boxes, self.masks):
            if parts:
                points = np.concatenate(parts).reshape(-1, 2)
                box[:2], box[2:] = points.min(axis=0), points.max(axis=0)
        return boxes


def join_masks(
        parts: Sequence[Union[BitmapMasks, PolygonMasks]]) -> Union[BitmapMasks, PolygonMasks]:
    """Join the masks of several images of one size, in order; bitmaps if any of them are."""
    height, width = parts[0].height, parts[0].width
    assert all((part.height, part.width) == (height, width) for part in parts)
    if all(isinstance(part, PolygonMasks) for part in parts):
        return PolygonMasks([mask for part in parts for mask in part.masks], height, width)
    bitmaps = [part.to_bitmap() for part in parts]
    return BitmapMasks.from_crops([crop for part in bitmaps for crop in part.crops],
                                  [corner for part in bitmaps for corner in part.corners], height,
                                  width)


def rescaled_size(width: int, height: int, scale: Union[float, Sequence[int]]) -> Tuple[int, int]:
    """Return (width, height) times a factor, or as large as fits into (long side, short side); one pixel at least.

    mmcv's rounding gives a strip a side of 0, to which nothing can be resized.
    """
    scale = scale if isinstance(scale, (int, float)) else tuple(scale)
    width, height = mmcv.rescale_size((width, height), scale)
    return max(width, 1), max(height, 1)


def _shoelace(x: np.ndarray, y: np.ndarray) -> float:
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def _flipped(crop: np.ndarray, direction: str) -> np.ndarray:
    if crop.dtype != np.uint8 or not crop.size:
        return np.flip(crop, {'horizontal': 1, 'vertical': 0, 'diagonal': (0, 1)}[direction])
    # a new array in plain order, which is faster to make and to copy than a reversed view
    return cv2.flip(crop, {'horizontal': 1, 'vertical': 0, 'diagonal': -1}[direction])


def clipped_box(bbox: np.ndarray, height: int, width: int) -> Tuple[int, int, int, int]:
    """Clip a box x1 y1 x2 y2 to the image like V2's crop: at least one pixel wide and high."""
    x = np.clip(bbox[0::2], 0, width)
    y = np.clip(bbox[1::2], 0, height)
    left, top = int(x[0]), int(y[0])
    return left, top, left + int(max(x[1] - x[0], 1)), top + int(max(y[1] - y[0], 1))


def nearest_source(source_size: int, size: int) -> np.ndarray:
    """Return the source index of each of `size` pixels, int64, as OpenCV's INTER_NEAREST.

    The index is floor(i * 1 / (size / source_size)). Both divisions are kept: their rounding
    decides ties, and masks have to match to the pixel.
    """
    step = 1 / (size / source_size)
    return np.minimum(np.floor(np.arange(size) * step).astype(np.int64), source_size - 1)


def polygon_runs(parts: Sequence[np.ndarray], height: int, width: int) -> Dict:
    """Return COCO run lengths of one instance as pycocotools draws it, without parts of under 3 points."""
    parts = [part for part in parts if len(part) >= 6 and len(part) % 2 == 0]
    if not parts:
        return mask_api.frPyObjects({
            'size': [height, width],
            'counts': [height * width]
        }, height, width)
    runs = mask_api.frPyObjects(parts, height, width)
    return runs[0] if len(runs) == 1 else mask_api.merge(runs)


def _check_sizes(runs: Sequence[Dict], height: int, width: int) -> None:
    for run in runs:
        if tuple(run['size']) != (height, width):
            raise ValueError(
                f'run lengths of size {list(run["size"])} in an image of [height, width] '
                f'[{height}, {width}]')


def bitmaps_of_runs(runs: Sequence[Dict], height: int, width: int) -> BitmapMasks:
    """Decode compressed run lengths to BitmapMasks, each inside its own box.

    Raises ValueError when the runs were written for another image size.
    """
    _check_sizes(runs, height, width)
    crops = [np.zeros((0, 0), dtype=np.uint8)] * len(runs)
    corners = [(0, 0)] * len(runs)
    ends = [counts.cumsum() for counts in _run_lengths([run['counts'] for run in runs])]
    # All objects at once: they have few pixels, and one numpy call per object would cost more than
    # its pixels.
    number = np.array([len(item) // 2 for item in ends], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    first = np.concatenate([nothing, *(item[0:-1:2] for item in ends)])  # pixel of each run of ones
    last = np.concatenate([nothing, *(item[1::2] for item in ends)])  # one past its last pixel
    real = last > first
    if not real.all():
        number = np.bincount(np.arange(len(number)).repeat(number)[real], minlength=len(number))
        first, last = first[real], last[real]
    drawn = np.flatnonzero(number)
    if not len(drawn):
        return BitmapMasks.from_crops(crops, corners, height, width)
    number = number[drawn]
    begins = number.cumsum() - number
    (x_first, y_first), (x_last, y_last) = np.divmod(first, height), np.divmod(last - 1, height)
    x0, x1 = x_first[begins], x_last[begins + number - 1]
    y0, y1 = np.minimum.reduceat(y_first, begins), np.maximum.reduceat(y_last, begins)
    # a run that continues in the next column touches bottom and top
    tall = np.logical_or.reduceat(x_first != x_last, begins)
    y0[tall], y1[tall] = 0, height - 1
    heights, widths = y1 - y0 + 1, x1 - x0 + 1
    # the crops are concatenated, each column by column like run lengths
    ends = (heights * widths).cumsum()
    shift = (ends - heights * (widths + x0) - y0).repeat(number)
    column = heights.repeat(number)
    bounds = np.empty(2 * len(first) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, ends[-1]
    bounds[1:-1:2] = x_first * column + y_first + shift
    bounds[2:-1:2] = x_last * column + y_last + shift + 1
    values = np.zeros(len(bounds) - 1, dtype=np.uint8)
    values[1::2] = 1
    pixels = values.repeat(np.diff(bounds))
    for index, end, h, w, *corner in zip(*(item.tolist()
                                           for item in (drawn, ends, heights, widths, x0, y0))):
        crops[index] = cv2.transpose(pixels[end - h * w:end].reshape(w, h))
        corners[index] = tuple(corner)
    return BitmapMasks.from_crops(crops, corners, height, width)


def _run_lengths(strings: Sequence[Union[bytes, str]]) -> Iterator[np.ndarray]:
    """Yield the counts (zeros, ones, zeros, ...) of COCO's compressed strings, int64.

    A count is written in groups of 5 bits, the lowest first. Bit 6 says that more groups follow,
    and bit 5 of the last one is the sign. From the fourth count on it is the difference to the
    count two before.
    """
    strings = [text.encode() if isinstance(text, str) else text for text in strings]
    data = np.frombuffer(b''.join(strings), dtype=np.uint8).astype(np.int64) - 48
    if not len(data):
        return
    ends = np.flatnonzero((data & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    index = np.arange(len(data)) - starts.repeat(lengths)
    values = np.add.reduceat((data & 31) << 5 * index, starts)
    values -= ((data[ends] & 16) != 0).astype(np.int64) << 5 * lengths
    splits = np.searchsorted(ends, np.cumsum([len(text) for text in strings]) - 1) + 1
    begin = 0
    for end in splits.tolist():
        counts = values[begin:end]
        begin = end
        counts[1::2] = counts[1::2].cumsum()
        counts[2::2] = counts[2::2].cumsum()
        yield counts
