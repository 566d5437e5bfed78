"""Transforms of a classifier's image with a probability: the operations of AutoAugment and RandAugment (policies.py).

Those that move pixels have counterparts for detectors, which also move boxes and masks:
by_level.py. The arithmetic is mmcv's, as in MMClassification. torchvision's ops of these names
differ: they rotate and shear around other points, and fill with black.
"""
from math import ceil
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np

from mmdet_ft.datasets.pipelines.shared.moves import refuse_objects
from mmdet_ft.registry import PIPELINES

PadValue = Union[int, Sequence[int]]


class Augment:
    """Base: replace the image by `change(image, sign)` with probability `prob`.

    For the operations that have a sign, it is negative with probability `random_negative_prob`.
    """
    moves: Tuple[str, ...] = ()

    def __init__(self, prob: float, random_negative_prob: Optional[float] = None):
        for name, value in (('prob', prob), ('random_negative_prob', random_negative_prob)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(
                    f'{type(self).__name__}: {name} is a probability, 0..1, not {value!r}')
        self.prob = prob
        self.random_negative_prob = random_negative_prob

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if self.moves:
            refuse_objects(self, results)
        if np.random.rand() > self.prob:
            return results
        sign = 1
        if self.random_negative_prob is not None and np.random.rand() < self.random_negative_prob:
            sign = -1
        for key in results.get('img_fields', ['img']):
            img = results[key]
            results[key] = self.change(img, sign).astype(img.dtype, copy=False)
        return results

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(f"{key}={value!r}" for key, value in vars(self).items())})'


def _check_color(pad_val: PadValue, img: np.ndarray) -> Any:
    """Return the fill value for an image of one or three channels."""
    if isinstance(pad_val, int):
        return pad_val if img.ndim == 2 else (pad_val, ) * img.shape[2]
    return tuple(pad_val)


def _by_level(name: str, largest: str, value: object) -> str:
    """Return the replacement for a detector, of the same strength, as a sentence."""
    number = abs(float(value)) if isinstance(value, (int, float)) else '...'
    return f"a detector writes dict(type='{name}', level=10, {largest}={number}), which moves them along"


def _check_direction(name: str, direction: str) -> None:
    if direction not in ('horizontal', 'vertical'):
        raise ValueError(f"{name}: direction is 'horizontal' or 'vertical', not {direction!r}")


@PIPELINES.register_module()
class Shear(Augment):
    """Shear the image by `magnitude` pixels per pixel.

    Args:
        magnitude: slope of the shear.
        pad_val: fill value, one or one per channel.
        prob: probability 0..1.
        direction: 'horizontal' or 'vertical'.
        random_negative_prob: probability of the opposite direction.
        interpolation: a name of mmcv.
    """
    moves = ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        return _by_level('Shear', 'max_shear_magnitude', arguments.get('magnitude'))

    def __init__(self,
                 magnitude: float,
                 pad_val: PadValue = 128,
                 prob: float = 0.5,
                 direction: str = 'horizontal',
                 random_negative_prob: float = 0.5,
                 interpolation: str = 'bicubic'):
        _check_direction('Shear', direction)
        super().__init__(prob, random_negative_prob)
        self.magnitude = magnitude
        self.pad_val = pad_val
        self.direction = direction
        self.interpolation = interpolation

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.imshear(img, sign * self.magnitude, self.direction,
                            _check_color(self.pad_val, img), self.interpolation)


@PIPELINES.register_module()
class Translate(Augment):
    """Translate the image by `magnitude` times its width or height.

    Args: as Shear.
    """
    moves = ('img', )
    instead = (
        "a detector writes dict(type='Translate', level=10, max_translate_offset=PIXELS), which moves "
        'them along')

    def __init__(self,
                 magnitude: float,
                 pad_val: PadValue = 128,
                 prob: float = 0.5,
                 direction: str = 'horizontal',
                 random_negative_prob: float = 0.5,
                 interpolation: str = 'nearest'):
        _check_direction('Translate', direction)
        super().__init__(prob, random_negative_prob)
        self.magnitude = magnitude
        self.pad_val = pad_val
        self.direction = direction
        self.interpolation = interpolation

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        side = img.shape[1 if self.direction == 'horizontal' else 0]
        return mmcv.imtranslate(img, sign * self.magnitude * side, self.direction,
                                _check_color(self.pad_val, img), self.interpolation)


@PIPELINES.register_module()
class Rotate(Augment):
    """Rotate the image by `angle` degrees, clockwise.

    Args:
        angle: degrees.
        center: center of the rotation (x, y); the image center by default.
        scale: factor of the image's size.
        pad_val, prob, random_negative_prob, interpolation: as Shear.
    """
    moves = ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        return _by_level('Rotate', 'max_rotate_angle', arguments.get('angle'))

    def __init__(self,
                 angle: float,
                 center: Optional[Tuple[float, float]] = None,
                 scale: float = 1.0,
                 pad_val: PadValue = 128,
                 prob: float = 0.5,
                 random_negative_prob: float = 0.5,
                 interpolation: str = 'nearest'):
        super().__init__(prob, random_negative_prob)
        self.angle = angle
        self.center = center
        self.scale = scale
        self.pad_val = pad_val
        self.interpolation = interpolation

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.imrotate(
            img,
            sign * self.angle,
            center=self.center,
            scale=self.scale,
            border_value=_check_color(self.pad_val, img),
            interpolation=self.interpolation)


@PIPELINES.register_module()
class AutoContrast(Augment):
    """Stretch each channel to 0..255, with probability `prob`."""

    def __init__(self, prob: float = 0.5):
        super().__init__(prob)

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.auto_contrast(img)


@PIPELINES.register_module()
class Invert(Augment):
    """Invert the image (255 - image), with probability `prob`."""

    def __init__(self, prob: float = 0.5):
        super().__init__(prob)

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.iminvert(img)


@PIPELINES.register_module()
class Equalize(Augment):
    """Equalize each channel's histogram, with probability `prob`."""

    def __init__(self, prob: float = 0.5):
        super().__init__(prob)

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.imequalize(img)


@PIPELINES.register_module()
class Solarize(Augment):
    """Invert values of at least `thr`, with probability `prob`."""

    def __init__(self, thr: float, prob: float = 0.5):
        super().__init__(prob)
        self.thr = thr

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.solarize(img, thr=self.thr)


@PIPELINES.register_module()
class SolarizeAdd(Augment):
    """Add `magnitude` to values below `thr`, up to 255, with probability `prob`."""

    def __init__(self, magnitude: float, thr: float = 128, prob: float = 0.5):
        super().__init__(prob)
        self.magnitude = magnitude
        self.thr = thr

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        # in float64: the type of uint8 plus a number depends on the version of numpy
        return np.where(img < self.thr, np.minimum(img.astype(np.float64) + self.magnitude, 255),
                        img)


@PIPELINES.register_module()
class Posterize(Augment):
    """Keep the first `bits` of 8 (rounded up) of each value, with probability `prob`."""

    def __init__(self, bits: float, prob: float = 0.5):
        if bits > 8:
            raise ValueError(f'Posterize: a value has 8 bits, not {bits}')
        super().__init__(prob)
        self.bits = ceil(bits)

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.posterize(img, bits=self.bits)


class _Enhance(Augment):
    """Base of changes by the factor 1 + magnitude; 0 leaves the image unchanged.

    Args:
        magnitude: above 0 for more, below for less.
        prob: probability 0..1.
        random_negative_prob: probability of the opposite sign.
    """

    def __init__(self, magnitude: float, prob: float = 0.5, random_negative_prob: float = 0.5):
        super().__init__(prob, random_negative_prob)
        self.magnitude = magnitude


@PIPELINES.register_module()
class Contrast(_Enhance):
    """Multiply the contrast by 1 + magnitude.

    Args: as ColorTransform.
    """

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.adjust_contrast(img, factor=1 + sign * self.magnitude)


@PIPELINES.register_module()
class ColorTransform(_Enhance):
    """Multiply the color saturation by 1 + magnitude.

    Args:
        magnitude: above 0 for more, below 0 for grayer.
        prob: probability 0..1.
        random_negative_prob: probability of the opposite sign.
    """

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.adjust_color(img, alpha=1 + sign * self.magnitude)


@PIPELINES.register_module()
class Brightness(_Enhance):
    """Multiply the brightness by 1 + magnitude.

    Args: as ColorTransform.
    """

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.adjust_brightness(img, factor=1 + sign * self.magnitude)


@PIPELINES.register_module()
class Sharpness(_Enhance):
    """Multiply the sharpness by 1 + magnitude.

    Args: as ColorTransform.
    """

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.adjust_sharpness(img, factor=1 + sign * self.magnitude)


@PIPELINES.register_module()
class Cutout(Augment):
    """Fill a random rectangle.

    Args:
        shape: (height, width), or one number for both.
        pad_val: fill value.
        prob: probability 0..1.
    """

    def __init__(self,
                 shape: Union[float, Tuple[float, float]],
                 pad_val: PadValue = 128,
                 prob: float = 0.5):
        super().__init__(prob)
        self.shape = tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else int(shape)
        self.pad_val = pad_val

    def change(self, img: np.ndarray, sign: int) -> np.ndarray:
        return mmcv.cutout(img, self.shape, pad_val=_check_color(self.pad_val, img))
