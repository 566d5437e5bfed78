"""Transforms of a detector's image by a level of 0..10, including boxes, masks and maps.

They are the operations of AutoAugment for detection (arXiv:1906.11172). They share their type names
with the classifier's transforms (augment.py): the argument `level` selects those here. The
arithmetic is that of MMDetection 2.28.
"""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.pipelines.detection.crop import keep_boxes
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING
from mmdet_ft.datasets.pipelines.shared.resize_flip import check_sides
from mmdet_ft.registry import PIPELINES

MAX_LEVEL = 10
Fill = Union[float, Sequence[float]]


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f'{name} is a number in {low:g}..{high:g}, found {value!r}')


class _ByLevel:
    """Base: change a sample with probability `prob`, and in the opposite sense with `random_negative_prob`."""
    type_name: str
    moves: Tuple[str, ...] = ()

    def __init__(self, level: float, prob: float):
        _check_number(f'{self.type_name}: level', level, 0, MAX_LEVEL)
        _check_number(f'{self.type_name}: prob', prob, 0, 1)
        self.level = level
        self.prob = prob

    def __repr__(self) -> str:
        return f'{self.type_name}({", ".join(f"{key}={value!r}" for key, value in vars(self).items())})'


class _Moving(_ByLevel):
    """Base of the three that move pixels; subclasses change an image, boxes and masks by an amount."""
    moves = EVERYTHING

    def __init__(self, level: float, prob: float, img_fill_val: Fill, seg_ignore_label: int,
                 random_negative_prob: float):
        super().__init__(level, prob)
        is_number = isinstance(img_fill_val, (int, float))
        fill = [img_fill_val] * 3 if is_number else img_fill_val
        if not isinstance(fill, (list, tuple)) or len(fill) != 3:
            raise ValueError(
                f'{self.type_name}: img_fill_val is a number or three of them, found {img_fill_val!r}'
            )
        for value in fill:
            _check_number(f'{self.type_name}: img_fill_val', value, 0, 255)
        _check_number(f'{self.type_name}: random_negative_prob', random_negative_prob, 0, 1)
        self.img_fill_val = tuple(map(float, fill))
        self.seg_ignore_label = seg_ignore_label
        self.random_negative_prob = random_negative_prob

    def _check_direction(self, direction: str) -> None:
        if direction not in ('horizontal', 'vertical'):
            raise ValueError(
                f"{self.type_name}: direction is 'horizontal' or 'vertical', found {direction!r}")

    def amount(self) -> float:
        """Return the size of the change at this level."""
        raise NotImplementedError

    def moved_image(self, img: np.ndarray, amount: float,
                    fill: Union[float, Sequence[float]]) -> np.ndarray:
        raise NotImplementedError

    def moved_boxes(self, boxes: np.ndarray, amount: float, height: int, width: int) -> np.ndarray:
        """Return boxes [n, 4] around the moved objects, clipped to the image."""
        raise NotImplementedError

    def moved_masks(self, masks: Union[BitmapMasks, PolygonMasks], amount: float, height: int,
                    width: int) -> Any:
        raise NotImplementedError

    def smallest(self) -> float:
        """Return the width or height in pixels up to which boxes are dropped."""
        return 0

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.rand() > self.prob:
            return results
        amount = self.amount()
        if np.random.rand() < self.random_negative_prob:
            amount = -amount
        height, width = results['img'].shape[:2]
        for key in results.get('img_fields', ['img']):
            img = results[key]
            check_sides(img, self)
            channels = 1 if img.ndim == 2 else img.shape[2]
            same = len(set(self.img_fill_val)) == 1  # for any number of channels
            fill = self.img_fill_val[:1] * channels if same else self.img_fill_val
            moved = self.moved_image(img, amount, fill).astype(img.dtype, copy=False)
            results[key] = moved.reshape(img.shape)  # OpenCV drops the axis of a single channel
            results['img_shape'] = results[key].shape
        for key in results.get('mask_fields', []):
            results[key] = self.moved_masks(results[key], amount, height, width)
        for key in results.get('seg_fields', []):
            labels = results[key]
            results[key] = self.moved_image(labels, amount, self.seg_ignore_label).astype(
                labels.dtype, copy=False)
        for key in results.get('bbox_fields', []):
            boxes = self.moved_boxes(results[key], amount, height, width).astype(results[key].dtype)
            keep = (boxes[:, 2:] - boxes[:, :2] > self.smallest()).all(axis=1)
            keep_boxes(results, key, boxes, keep)
        return results


def _around(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes [n, 4] around points [n, 4, 2] (x, y), clipped to the image."""
    size = np.array([width, height])
    low, high = corners.min(axis=1), corners.max(axis=1)
    low = np.clip(low, 0, size)
    return np.concatenate([low, np.minimum(np.maximum(high, low), size)], axis=1)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of boxes [n, 4] as points [n, 4, 2]."""
    return boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]


@PIPELINES.register_module('Shear', when='level')
class ShearObjects(_Moving):
    """Shear image, boxes, masks and maps by `level` / 10 * `max_shear_magnitude` pixels per pixel, about (0, 0).

    Boxes become the tight boxes around their sheared corners; those outside are dropped with labels
    and masks. Maps are interpolated like the image, as in V2: write interpolation='nearest' where
    labels must stay labels.

    Args:
        level: 0..10.
        img_fill_val: fill value of the image, 0..255, or one value for each of three channels.
        seg_ignore_label: fill value of maps.
        prob: probability 0..1.
        direction: 'horizontal' or 'vertical'.
        max_shear_magnitude: pixels per pixel at level 10, 0..1.
        random_negative_prob: probability of the opposite sign.
        interpolation: a name of mmcv.
    """
    type_name = 'Shear'

    def __init__(self,
                 level: float,
                 img_fill_val: Fill = 128,
                 seg_ignore_label: int = 255,
                 prob: float = 0.5,
                 direction: str = 'horizontal',
                 max_shear_magnitude: float = 0.3,
                 random_negative_prob: float = 0.5,
                 interpolation: str = 'bilinear'):
        super().__init__(level, prob, img_fill_val, seg_ignore_label, random_negative_prob)
        self._check_direction(direction)
        _check_number('Shear: max_shear_magnitude', max_shear_magnitude, 0, 1)
        self.direction = direction
        self.max_shear_magnitude = max_shear_magnitude
        self.interpolation = interpolation

    def amount(self) -> float:
        return self.level / MAX_LEVEL * self.max_shear_magnitude

    def moved_image(self, img: np.ndarray, amount: float,
                    fill: Union[float, Sequence[float]]) -> np.ndarray:
        return mmcv.imshear(img, amount, self.direction, fill, self.interpolation)

    def moved_boxes(self, boxes: np.ndarray, amount: float, height: int, width: int) -> np.ndarray:
        corners = _corners(boxes.astype(np.float32))
        along, across = (0, 1) if self.direction == 'horizontal' else (1, 0)
        corners[..., along] += np.float32(amount) * corners[..., across]
        return _around(corners, height, width)

    def moved_masks(self, masks: Union[BitmapMasks, PolygonMasks], amount: float, height: int,
                    width: int) -> Any:
        return masks.shear((height, width), amount, self.direction, 0, self.interpolation)


@PIPELINES.register_module('Rotate', when='level')
class RotateObjects(_Moving):
    """Rotate image, boxes, masks and maps by `level` / 10 * `max_rotate_angle` degrees, clockwise.

    Boxes become the tight boxes around their rotated corners; those outside are dropped with labels
    and masks. Maps are interpolated like the image, as in V2: between two labels others may appear.

    Args:
        level: 0..10.
        scale: factor of the size.
        center: center of the rotation (x, y), or one number for both; the image center by default.
        img_fill_val, seg_ignore_label, prob, random_negative_prob: as Shear.
        max_rotate_angle: degrees at level 10.
    """
    type_name = 'Rotate'

    def __init__(self,
                 level: float,
                 scale: float = 1,
                 center: Union[float, Tuple[float, float], None] = None,
                 img_fill_val: Fill = 128,
                 seg_ignore_label: int = 255,
                 prob: float = 0.5,
                 max_rotate_angle: float = 30,
                 random_negative_prob: float = 0.5):
        super().__init__(level, prob, img_fill_val, seg_ignore_label, random_negative_prob)
        if not isinstance(scale, (int, float)) or scale <= 0:
            raise ValueError(f'Rotate: scale is a number above 0, found {scale!r}')
        if isinstance(center, (int, float)):
            center = (center, center)
        if center is not None and (not isinstance(center, (tuple, list)) or len(center) != 2):
            raise ValueError(f'Rotate: center is (x, y) or a number, found {center!r}')
        if not isinstance(max_rotate_angle, (int, float)):
            raise ValueError(
                f'Rotate: max_rotate_angle is a number of degrees, found {max_rotate_angle!r}')
        self.scale = scale
        self.center: Optional[Tuple[float, float]] = None if center is None else tuple(center)
        self.max_rotate_angle = max_rotate_angle

    def amount(self) -> float:
        return self.level / MAX_LEVEL * self.max_rotate_angle

    def _center(self, height: int, width: int) -> Tuple[float, float]:
        return ((width - 1) * 0.5, (height - 1) * 0.5) if self.center is None else self.center

    def moved_image(self, img: np.ndarray, amount: float,
                    fill: Union[float, Sequence[float]]) -> np.ndarray:
        return mmcv.imrotate(
            img, amount, self._center(*img.shape[:2]), self.scale, border_value=fill)

    def moved_boxes(self, boxes: np.ndarray, amount: float, height: int, width: int) -> np.ndarray:
        matrix = cv2.getRotationMatrix2D(self._center(height, width), -amount,
                                         self.scale)  # float64 [2, 3]
        return _around(_corners(boxes) @ matrix[:, :2].T + matrix[:, 2], height, width)

    def moved_masks(self, masks: Union[BitmapMasks, PolygonMasks], amount: float, height: int,
                    width: int) -> Any:
        return masks.rotate((height, width), amount, self._center(height, width), self.scale, 0)


@PIPELINES.register_module('Translate', when='level')
class TranslateObjects(_Moving):
    """Shift image, boxes, masks and maps by `level` / 10 * `max_translate_offset` pixels, rounded down.

    Boxes are clipped to the image; those outside are dropped with labels and masks.

    Args:
        level: 0..10.
        prob, img_fill_val, seg_ignore_label, direction, random_negative_prob: as Shear.
        max_translate_offset: pixels at level 10.
        min_size: boxes of this width or height, in pixels, or less are dropped.
    """
    type_name = 'Translate'

    def __init__(self,
                 level: float,
                 prob: float = 0.5,
                 img_fill_val: Fill = 128,
                 seg_ignore_label: int = 255,
                 direction: str = 'horizontal',
                 max_translate_offset: float = 250.,
                 random_negative_prob: float = 0.5,
                 min_size: float = 0):
        super().__init__(level, prob, img_fill_val, seg_ignore_label, random_negative_prob)
        self._check_direction(direction)
        for name, value in (('max_translate_offset', max_translate_offset), ('min_size', min_size)):
            if not isinstance(value, (int, float)):
                raise ValueError(f'Translate: {name} is a number of pixels, found {value!r}')
        self.direction = direction
        self.max_translate_offset = max_translate_offset
        self.min_size = min_size

    def amount(self) -> int:
        return int(self.level / MAX_LEVEL * self.max_translate_offset)

    def moved_image(self, img: np.ndarray, amount: float,
                    fill: Union[float, Sequence[float]]) -> np.ndarray:
        return mmcv.imtranslate(img, amount, self.direction, fill)

    def moved_boxes(self, boxes: np.ndarray, amount: float, height: int, width: int) -> np.ndarray:
        axis = 0 if self.direction == 'horizontal' else 1
        boxes = boxes.copy()
        boxes[:, axis] = np.maximum(boxes[:, axis] + amount, 0)
        boxes[:, axis + 2] = np.minimum(boxes[:, axis + 2] + amount, (width, height)[axis])
        return boxes

    def moved_masks(self, masks: Union[BitmapMasks, PolygonMasks], amount: float, height: int,
                    width: int) -> Any:
        return masks.translate((height, width), amount, self.direction)

    def smallest(self) -> float:
        return self.min_size


class _Enhancement(_ByLevel):
    """Base of color changes by the factor 0.1 + 1.8 * level / 10: below 1 for less, above 1 for more.

    Args:
        level: 0..10.
        prob: probability 0..1.
    """

    def __init__(self, level: float, prob: float = 0.5):
        super().__init__(level, prob)
        self.factor = level / MAX_LEVEL * 1.8 + 0.1

    def changed(self, img: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.rand() > self.prob:
            return results
        for key in results.get('img_fields', ['img']):
            img = results[key]
            results[key] = self.changed(img).astype(img.dtype, copy=False)
        return results


@PIPELINES.register_module('ColorTransform', when='level')
class ColorByLevel(_Enhancement):
    """Make the image more or less colorful; arguments as BrightnessTransform."""
    type_name = 'ColorTransform'

    def changed(self, img: np.ndarray) -> np.ndarray:
        return mmcv.adjust_color(img, self.factor)


@PIPELINES.register_module()
class BrightnessTransform(_Enhancement):
    """Make the image brighter or darker, by the factor 0.1 + 1.8 * level / 10.

    Args:
        level: 0..10; 5 leaves the image unchanged.
        prob: probability 0..1.
    """
    type_name = 'BrightnessTransform'

    def changed(self, img: np.ndarray) -> np.ndarray:
        return mmcv.adjust_brightness(img, self.factor)


@PIPELINES.register_module()
class ContrastTransform(_Enhancement):
    """Give the image more or less contrast; arguments as BrightnessTransform."""
    type_name = 'ContrastTransform'

    def changed(self, img: np.ndarray) -> np.ndarray:
        return mmcv.adjust_contrast(img, self.factor)


@PIPELINES.register_module()
class EqualizeTransform:
    """Equalize the histogram of each channel.

    Args:
        prob: probability 0..1.
    """
    moves = ()

    def __init__(self, prob: float = 0.5):
        _check_number('EqualizeTransform: prob', prob, 0, 1)
        self.prob = prob

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.rand() > self.prob:
            return results
        for key in results.get('img_fields', ['img']):
            img = results[key]
            results[key] = mmcv.imequalize(img).astype(img.dtype, copy=False)
        return results

    def __repr__(self) -> str:
        return f'EqualizeTransform(prob={self.prob})'
