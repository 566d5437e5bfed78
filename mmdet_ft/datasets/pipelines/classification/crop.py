"""Crops of a classifier's image: the whole image has one label, so no annotation has to follow."""
import math
import random
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.shared.moves import refuse_objects
from mmdet_ft.datasets.pipelines.shared.resize_flip import PADDING_MODES, as_size, put_image
from mmdet_ft.registry import PIPELINES

Patch = Tuple[int, int, int, int]  # top, left, height, width


def cut(img: np.ndarray, patch: Patch) -> np.ndarray:
    """Return a part of an image, clipped to the image."""
    top, left, height, width = patch
    return img[top:top + height, left:left + width]


def _crop_of(size: object) -> str:
    """Return the replacement for a detector, of the same size, as a sentence."""
    pair = (size, size) if isinstance(size, int) else size
    good = isinstance(pair, (tuple, list)) and len(pair) == 2
    return (
        f"a detector writes dict(type='RandomCrop', crop_size={tuple(pair) if good else '(HEIGHT, WIDTH)'}), after "
        "dict(type='Resize', img_scale=(WIDTH, HEIGHT), ratio_range=(0.5, 2.0)) to vary the size")


@PIPELINES.register_module('RandomCrop', when='size')
class RandomCropOfSize:
    """Crop a random part of `size`; MMClassification's RandomCrop.

    Args:
        size: (height, width), or one number for both.
        padding: pixels added first: on all sides, (left and right, top and bottom), or (left, top, right, bottom).
        pad_if_needed: pad a side that is too short by the missing pixels, on both ends.
        pad_val: value of the padding, one or one per channel.
        padding_mode: 'constant', or 'edge', 'reflect', 'symmetric', which continue the image's
            pixels.

    Sets img_shape. Raises DataError for an image smaller than `size`.
    """
    type_name = 'RandomCrop'
    moves = ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        return _crop_of(arguments.get('size'))

    def __init__(self,
                 size: Union[int, Tuple[int, int]],
                 padding: Union[int, Sequence[int], None] = None,
                 pad_if_needed: bool = False,
                 pad_val: Union[float, Sequence[float]] = 0,
                 padding_mode: str = 'constant'):
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f'RandomCrop: padding_mode is one of {", ".join(PADDING_MODES)}, found {padding_mode!r}'
            )
        self.size = as_size(size, 'RandomCrop: size')
        self.padding = tuple(padding) if isinstance(padding, list) else padding
        self.pad_if_needed = pad_if_needed
        self.pad_val = pad_val
        self.padding_mode = padding_mode

    def _pad(self, img: np.ndarray, padding: Union[int, Tuple[int, ...]]) -> np.ndarray:
        return mmcv.impad(
            img, padding=padding, pad_val=self.pad_val, padding_mode=self.padding_mode)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        refuse_objects(self, results)
        height, width = self.size
        for key in results.get('img_fields', ['img']):
            img = results[key]
            if self.padding is not None:
                img = self._pad(img, self.padding)
            if self.pad_if_needed and img.shape[0] < height:
                img = self._pad(img, (0, height - img.shape[0]))
            if self.pad_if_needed and img.shape[1] < width:
                img = self._pad(img, (width - img.shape[1], 0))
            spare = img.shape[0] - height, img.shape[1] - width
            if min(spare) < 0:
                raise DataError(
                    f'RandomCrop(size={self.size}): the image {results.get("filename")} has {img.shape[0]} x '
                    f'{img.shape[1]} pixels; resize it first, or write pad_if_needed=True')
            top = left = 0
            if max(spare):
                top, left = random.randint(0, spare[0]), random.randint(0, spare[1])
            put_image(results, key, cut(img, (top, left, height, width)))
        return results

    def __repr__(self) -> str:
        return f'RandomCrop(size={self.size}, padding={self.padding})'


class _Resizing:
    """Base of the crops that resize."""
    interpolation: str
    backend: str

    def _check(self) -> None:
        if self.backend not in ('cv2', 'pillow'):
            raise ValueError(
                f"{type(self).__name__}: backend is 'cv2' or 'pillow', found {self.backend!r}")
        known = ('nearest', 'bilinear', 'bicubic', 'area',
                 'lanczos') if self.backend == 'cv2' else ('nearest', 'bilinear', 'bicubic', 'box',
                                                           'lanczos', 'hamming')
        if self.interpolation not in known:
            raise ValueError(
                f'{type(self).__name__}: interpolation of {self.backend} is one of {", ".join(known)}, '
                f'found {self.interpolation!r}')

    def _resize(self, img: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
        """Resize to (height, width)."""
        return mmcv.imresize(
            img, size[::-1], interpolation=self.interpolation, backend=self.backend)


@PIPELINES.register_module()
class RandomResizedCrop(_Resizing):
    """Resize a random part of the image to `size` (Szegedy et al., arXiv:1409.4842, sec. 6).

    Area and aspect ratio are resampled until the part fits in the image; after `max_attempts` the
    center is taken. EfficientNet's style samples the ratio uniformly instead of log-uniformly, and
    requires `min_covered`.

    Args:
        size: (height, width), or one number for both.
        scale: (smallest, largest) fraction of the image's area.
        ratio: (smallest, largest) width / height.
        max_attempts: samples before the center is taken.
        efficientnet_style: crop as EfficientNet does.
        min_covered: smallest fraction of the area, in EfficientNet's style.
        crop_padding: EfficientNet's center keeps size / (size + crop_padding) of the short side.
        interpolation: of the resizing.
        backend: 'cv2' or 'pillow'.

    Sets img_shape.
    """
    moves = ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        return _crop_of(arguments.get('size'))

    def __init__(self,
                 size: Union[int, Tuple[int, int]],
                 scale: Tuple[float, float] = (0.08, 1.0),
                 ratio: Tuple[float, float] = (3. / 4., 4. / 3.),
                 max_attempts: int = 10,
                 efficientnet_style: bool = False,
                 min_covered: float = 0.1,
                 crop_padding: int = 32,
                 interpolation: str = 'bilinear',
                 backend: str = 'cv2'):
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            raise ValueError(
                f'RandomResizedCrop: scale and ratio are (smallest, largest), found {scale} and {ratio}'
            )
        self.size = as_size(size, 'RandomResizedCrop: size')
        self.scale = scale
        self.ratio = ratio
        self.max_attempts = max_attempts
        self.efficientnet_style = efficientnet_style
        self.min_covered = min_covered
        self.crop_padding = crop_padding
        self.interpolation = interpolation
        self.backend = backend
        self._check()

    def _try(self, height: int, width: int) -> Optional[Tuple[int, int]]:
        """Sample (height, width); return it if it fits."""
        area = random.uniform(*self.scale) * (height * width)
        ratio = math.exp(random.uniform(*map(math.log, self.ratio)))
        size = int(round(math.sqrt(area / ratio))), int(round(math.sqrt(area * ratio)))
        return size if 0 < size[0] <= height and 0 < size[1] <= width else None

    def _middle(self, height: int, width: int) -> Tuple[int, int]:
        if width / height < min(self.ratio):
            return max(int(round(width / min(self.ratio))), 1), width
        if width / height > max(self.ratio):
            return height, max(int(round(height * max(self.ratio))), 1)
        return height, width

    def _try_efficientnet(self, height: int, width: int) -> Optional[Tuple[int, int]]:
        smallest, largest = (share * (height * width) for share in self.scale)
        ratio = random.uniform(*self.ratio)
        low, high = (int(round(math.sqrt(area / ratio))) for area in (smallest, largest))
        if high * ratio > width:
            high = int((width + 0.5 - 1e-7) / ratio)
            high -= high * ratio > width
        high = min(high, height)
        rows = int(round(random.uniform(min(low, high), high)))
        columns = int(round(rows * ratio))
        fits = 0 < rows <= height and 0 < columns <= width
        covered = max(smallest, self.min_covered * (height * width)) <= rows * columns <= largest
        return (rows, columns) if fits and covered else None

    def draw(self, height: int, width: int) -> Patch:
        """Sample the part to crop from an image of this size."""
        attempt = self._try_efficientnet if self.efficientnet_style else self._try
        for _ in range(self.max_attempts):
            size = attempt(height, width)
            if size is not None:
                top = random.randint(0, height - size[0])
                return top, random.randint(0, width - size[1]), *size
        if self.efficientnet_style:
            return middle_of_efficientnet(height, width, self.size, self.crop_padding)
        size = self._middle(height, width)
        return (height - size[0]) // 2, (width - size[1]) // 2, *size

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        refuse_objects(self, results)
        for key in results.get('img_fields', ['img']):
            img = results[key]
            part = cut(img, self.draw(*img.shape[:2]))
            put_image(results, key, self._resize(part, self.size))
        return results

    def __repr__(self) -> str:
        return (f'RandomResizedCrop(size={self.size}, scale={self.scale}, ratio={self.ratio}, '
                f'max_attempts={self.max_attempts}, efficientnet_style={self.efficientnet_style}, '
                f'min_covered={self.min_covered}, crop_padding={self.crop_padding}, '
                f"interpolation='{self.interpolation}', backend='{self.backend}')")


def middle_of_efficientnet(height: int, width: int, size: Tuple[int, int],
                           crop_padding: int) -> Patch:
    """Return the center part that EfficientNet resizes to `size`."""
    sides = [side / (side + crop_padding) * min(height, width) for side in size]
    return _centered(height, width, *sides)


def _centered(height: int, width: int, rows: float, columns: float) -> Patch:
    """Return a centered part of this size, clipped to the image; its last pixel is rounded down."""
    top = max(0, int(round((height - rows) / 2.)))
    left = max(0, int(round((width - columns) / 2.)))
    bottom, right = int(min(height, top + rows) - 1), int(min(width, left + columns) - 1)
    # rounding may leave nothing of a strip
    return top, left, max(bottom + 1 - top, 1), max(right + 1 - left, 1)


@PIPELINES.register_module()
class CenterCrop(_Resizing):
    """Crop the center. A smaller image is left unchanged.

    Args:
        crop_size: (height, width), or one number for both.
        efficientnet_style: keep crop_size / (crop_size + crop_padding) of the short side, and
            resize it to crop_size.
        crop_padding, interpolation, backend: options of EfficientNet's style.

    Sets img_shape.
    """
    moves = ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        return _crop_of(arguments.get('crop_size'))

    def __init__(self,
                 crop_size: Union[int, Tuple[int, int]],
                 efficientnet_style: bool = False,
                 crop_padding: int = 32,
                 interpolation: str = 'bilinear',
                 backend: str = 'cv2'):
        self.crop_size = as_size(crop_size, 'CenterCrop: crop_size')
        self.efficientnet_style = efficientnet_style
        self.crop_padding = crop_padding
        self.interpolation = interpolation
        self.backend = backend
        self._check()

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        refuse_objects(self, results)
        for key in results.get('img_fields', ['img']):
            img = results[key]
            if self.efficientnet_style:
                part = middle_of_efficientnet(*img.shape[:2], self.crop_size, self.crop_padding)
                img = self._resize(cut(img, part), self.crop_size)
            else:
                img = cut(img, _centered(*img.shape[:2], *self.crop_size))
            put_image(results, key, img)
        return results

    def __repr__(self) -> str:
        return (
            f'CenterCrop(crop_size={self.crop_size}, efficientnet_style={self.efficientnet_style}, '
            f"crop_padding={self.crop_padding}, interpolation='{self.interpolation}', backend='{self.backend}')"
        )
