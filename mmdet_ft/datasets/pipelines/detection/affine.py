"""Transforms that put the image on a larger canvas, shift it, or apply an affine map."""
import math
from typing import Any, Dict, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.detection.crop import check_single_image, clip_boxes, keep_boxes
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING
from mmdet_ft.datasets.pipelines.shared.resize_flip import check_sides
from mmdet_ft.registry import PIPELINES


def boxes_inside(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Check whether a part of each box [n, 4] is inside the image: bool [n]."""
    return ((boxes[:, 0] < width) & (boxes[:, 2] > 0) & (boxes[:, 1] < height) & (boxes[:, 3] > 0))


def boxes_worth_keeping(before: np.ndarray, after: np.ndarray, min_bbox_size: float,
                        min_area_ratio: float, max_aspect_ratio: float) -> np.ndarray:
    """Check whether a transform has left enough of each box: bool [n].

    before, after: boxes [n, 4] at one scale. Width and height have to exceed `min_bbox_size`
    pixels, and the area `min_area_ratio` of its former value. The longer side has to be less than
    `max_aspect_ratio` times the shorter one.
    """
    old = before[:, 2:] - before[:, :2]
    new = after[:, 2:] - after[:, :2]
    aspect = np.maximum(new[:, 0] / (new[:, 1] + 1e-16), new[:, 1] / (new[:, 0] + 1e-16))
    left = new.prod(axis=1) / (old.prod(axis=1) + 1e-16)
    return ((new > min_bbox_size).all(axis=1) & (left > min_area_ratio) &
            (aspect < max_aspect_ratio))


@PIPELINES.register_module()
class Expand:
    """Put the image at a random location of a canvas up to `ratio_range[1]` times as large (SSD's zooming out).

    Args:
        mean: color of the canvas, in RGB order if `to_rgb` (images are BGR here).
        to_rgb: see `mean`.
        ratio_range: (smallest, largest) factor of both sides.
        seg_ignore_label: label of the canvas in segmentation maps.
        prob: probability 0..1.

    Sets img_shape.
    """
    moves = EVERYTHING

    def __init__(self,
                 mean: Sequence[float] = (0, 0, 0),
                 to_rgb: bool = True,
                 ratio_range: Tuple[float, float] = (1, 4),
                 seg_ignore_label: Optional[int] = None,
                 prob: float = 0.5):
        if not 1 <= ratio_range[0] <= ratio_range[1]:
            raise ValueError(
                f'Expand: ratio_range is (smallest, largest) from 1 up, found {ratio_range}')
        self.to_rgb = to_rgb
        self.ratio_range = ratio_range
        self.mean = mean[::-1] if to_rgb else mean
        self.min_ratio, self.max_ratio = ratio_range
        self.seg_ignore_label = seg_ignore_label
        self.prob = prob

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.uniform(0, 1) > self.prob:
            return results
        check_single_image(results, self)
        img = results['img']
        height, width, channels = img.shape
        ratio = np.random.uniform(self.min_ratio, self.max_ratio)
        size = int(height * ratio), int(width * ratio)
        left = int(np.random.uniform(0, width * ratio - width))
        top = int(np.random.uniform(0, height * ratio - height))
        inside = np.s_[top:top + height, left:left + width]

        canvas = np.full((*size, channels), self.mean, dtype=img.dtype)
        canvas[inside] = img
        results['img'] = canvas
        results[
            'img_shape'] = canvas.shape  # V2 leaves the old one, which a flip right after would use
        for key in results.get('bbox_fields', []):
            results[key] = results[key] + np.tile((left, top), 2).astype(results[key].dtype)
        for key in results.get('mask_fields', []):
            results[key] = results[key].expand(*size, top, left)
        for key in results.get('seg_fields', []):
            if self.seg_ignore_label is None:
                raise ValueError('Expand: what is the label of the canvas in the segmentation map? '
                                 'Write seg_ignore_label=255')
            labels = np.full(size, self.seg_ignore_label, dtype=results[key].dtype)
            labels[inside] = results[key]
            results[key] = labels
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(mean={self.mean}, to_rgb={self.to_rgb}, '
                f'ratio_range={self.ratio_range}, seg_ignore_label={self.seg_ignore_label}, '
                f'prob={self.prob})')


@PIPELINES.register_module()
class RandomShift:
    """Shift the image by some pixels; uncovered pixels are black (255 in segmentation maps).

    Boxes and masks move too. A shift that would move every object out is skipped. An image without
    objects is not shifted.

    Args:
        shift_ratio: probability 0..1.
        max_shift_px: largest shift in x and y, pixels; the largest to the right and bottom is one less.
        filter_thr_px: boxes of this width or height, or less, are dropped after the shift.
    """
    moves = EVERYTHING

    def __init__(self, shift_ratio: float = 0.5, max_shift_px: int = 32, filter_thr_px: int = 1):
        if not 0 <= shift_ratio <= 1:
            raise ValueError(f'RandomShift: shift_ratio is a probability 0..1, found {shift_ratio}')
        if max_shift_px < 0:
            raise ValueError(f'RandomShift: max_shift_px is not negative, found {max_shift_px}')
        self.shift_ratio = shift_ratio
        self.max_shift_px = max_shift_px
        self.filter_thr_px = int(filter_thr_px)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.random() >= self.shift_ratio:
            return results
        right = int(np.random.randint(-self.max_shift_px,
                                      self.max_shift_px)) if self.max_shift_px else 0
        down = int(np.random.randint(-self.max_shift_px,
                                     self.max_shift_px)) if self.max_shift_px else 0
        height, width = results['img'].shape[:2]
        # `size` pixels from `source` stay in the image and move to `target`
        size = max(height - abs(down), 0), max(width - abs(right), 0)
        source, target = (max(-down, 0), max(-right, 0)), (max(down, 0), max(right, 0))

        moved = {}
        for key in results.get('bbox_fields', []):
            shift = np.array([right, down, right, down], dtype=results[key].dtype)
            boxes = clip_boxes(results[key] + shift, height, width)
            keep = (boxes[:, 2:] - boxes[:, :2] > self.filter_thr_px).all(axis=1)
            if key == 'gt_bboxes' and not keep.any():
                return results
            moved[key] = boxes, keep
        for key, (boxes, keep) in moved.items():
            keep_boxes(results, key, boxes, keep)
        stay = np.array([source[1], source[0], source[1] + size[1], source[0] + size[0]])
        for key in results.get('mask_fields', []):
            results[key] = results[key].crop(stay).expand(height, width, *target)
        for key in (*results.get('img_fields', ['img']), *results.get('seg_fields', [])):
            shifted = np.full_like(results[key], 255 if key in results.get('seg_fields', []) else 0)
            shifted[target[0]:target[0] + size[0], target[1]:target[1] + size[1]] = \
                results[key][source[0]:source[0] + size[0], source[1]:source[1] + size[1]]
            results[key] = shifted
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(shift_ratio={self.shift_ratio}, '
                f'max_shift_px={self.max_shift_px}, filter_thr_px={self.filter_thr_px})')


@PIPELINES.register_module()
class RandomAffine:
    """Scale, rotate, shear and shift the image, in this order, each by a random amount.

    Boxes become those around their mapped corners; those outside are dropped. As in V2, masks are
    refused.

    Args:
        max_rotate_degree: largest rotation either way, degrees.
        max_translate_ratio: largest shift either way, as a fraction 0..1 of the new size.
        scaling_ratio_range: (smallest, largest) factor.
        max_shear_degree: largest shear in x and y, degrees.
        border: pixels added at each side in (height, width); negative to crop, as after a Mosaic.
        border_val: color of the pixels outside.
        min_bbox_size, min_area_ratio, max_aspect_ratio: thresholds of boxes_worth_keeping.
        skip_filter: do not apply these thresholds.
        bbox_clip_border: clip boxes to the image.

    Sets img_shape.
    """
    moves = ('img', 'bbox')
    instead = 'load without masks and maps: LoadAnnotations(with_mask=False, with_seg=False)'

    def __init__(self,
                 max_rotate_degree: float = 10.0,
                 max_translate_ratio: float = 0.1,
                 scaling_ratio_range: Tuple[float, float] = (0.5, 1.5),
                 max_shear_degree: float = 2.0,
                 border: Tuple[int, int] = (0, 0),
                 border_val: Tuple[float, float, float] = (114, 114, 114),
                 min_bbox_size: float = 2,
                 min_area_ratio: float = 0.2,
                 max_aspect_ratio: float = 20,
                 bbox_clip_border: bool = True,
                 skip_filter: bool = True):
        if not 0 <= max_translate_ratio <= 1:
            raise ValueError(
                f'RandomAffine: max_translate_ratio is in 0..1, found {max_translate_ratio}')
        if not 0 < scaling_ratio_range[0] <= scaling_ratio_range[1]:
            raise ValueError(
                f'RandomAffine: scaling_ratio_range is (smallest, largest), both positive; '
                f'found {scaling_ratio_range}')
        self.max_rotate_degree = max_rotate_degree
        self.max_translate_ratio = max_translate_ratio
        self.scaling_ratio_range = scaling_ratio_range
        self.max_shear_degree = max_shear_degree
        self.border = border
        self.border_val = border_val
        self.min_bbox_size = min_bbox_size
        self.min_area_ratio = min_area_ratio
        self.max_aspect_ratio = max_aspect_ratio
        self.bbox_clip_border = bbox_clip_border
        self.skip_filter = skip_filter

    def _draw_matrix(self, height: int, width: int) -> Tuple[np.ndarray, float]:
        """Sample (matrix float32 [3, 3], its scaling)."""

        def either_way(largest: float) -> float:
            return np.random.uniform(-largest, largest)

        angle = math.radians(either_way(self.max_rotate_degree))
        scale = np.random.uniform(*self.scaling_ratio_range)
        shear_x = math.radians(either_way(self.max_shear_degree))
        shear_y = math.radians(either_way(self.max_shear_degree))
        shift_x = either_way(self.max_translate_ratio) * width
        shift_y = either_way(self.max_translate_ratio) * height
        cos, sin = np.cos(angle), np.sin(angle)
        steps = [[[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]],
                 [[1, np.tan(shear_x), 0], [np.tan(shear_y), 1, 0], [0, 0, 1]],
                 [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
                 [[scale, 0, 0], [0, scale, 0], [0, 0, 1]]]
        shift, shear, rotation, scaling = (np.array(step, dtype=np.float32) for step in steps)
        return shift @ shear @ rotation @ scaling, scale

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        check_single_image(results, self)
        if results.get('mask_fields') or results.get('seg_fields'):
            raise NotImplementedError(
                'RandomAffine turns boxes only; load without masks (with_mask=False, with_seg=False)'
            )
        height = results['img'].shape[0] + 2 * self.border[0]
        width = results['img'].shape[1] + 2 * self.border[1]
        if min(height, width) < 1:
            raise DataError(
                f'RandomAffine(border={self.border}) leaves nothing of an image of {results["img"].shape[0]} x '
                f'{results["img"].shape[1]} pixels (height x width), {results.get("filename")}; a negative border '
                f'belongs after a Mosaic')
        check_sides(results['img'], self, (height, width))
        matrix, scale = self._draw_matrix(height, width)
        results['img'] = cv2.warpPerspective(
            results['img'], matrix, dsize=(width, height), borderValue=self.border_val)
        results['img_shape'] = results['img'].shape
        for key in results.get('bbox_fields', []):
            boxes = results[key]
            turned = _boxes_around(matrix, boxes)
            if self.bbox_clip_border:
                turned = clip_boxes(turned, height, width)
            keep = boxes_inside(turned, height, width)
            if not self.skip_filter:
                keep &= boxes_worth_keeping(boxes * scale, turned, self.min_bbox_size,
                                            self.min_area_ratio, self.max_aspect_ratio)
            keep_boxes(results, key, turned, keep)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(max_rotate_degree={self.max_rotate_degree}, '
                f'max_translate_ratio={self.max_translate_ratio}, '
                f'scaling_ratio_range={self.scaling_ratio_range}, '
                f'max_shear_degree={self.max_shear_degree}, border={self.border}, '
                f'border_val={self.border_val}, min_bbox_size={self.min_bbox_size}, '
                f'min_area_ratio={self.min_area_ratio}, max_aspect_ratio={self.max_aspect_ratio}, '
                f'skip_filter={self.skip_filter})')


def _boxes_around(matrix: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the boxes around the corners of boxes [n, 4] under a map [3, 3], float32 [n, 4]."""
    x, y = boxes[:, [0, 0, 2, 2]], boxes[:, [1, 3, 3, 1]]
    corners = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)  # [3, n * 4]
    corners = matrix @ corners
    x, y = (corners[:2] / corners[2]).reshape(2, -1, 4)
    return np.stack([
        x.min(1, initial=np.inf),
        y.min(1, initial=np.inf),
        x.max(1, initial=-np.inf),
        y.max(1, initial=-np.inf)
    ],
                    axis=1).astype(np.float32)
