"""Color transforms of a classifier's image."""
import random
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import mmcv
import numpy as np

from mmdet_ft.datasets.pipelines.classification.augment import Brightness, ColorTransform, Contrast
from mmdet_ft.registry import PIPELINES

Numbers = Union[float, Sequence[float]]


@PIPELINES.register_module()
class RandomGrayscale:
    """Convert an image to gray, in as many channels as it has.

    Args:
        gray_prob: probability 0..1.
    """
    moves = ()

    def __init__(self, gray_prob: float = 0.1):
        self.gray_prob = gray_prob

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('img_fields', ['img']):
            img = results[key]
            if random.random() < self.gray_prob and img.ndim == 3 and img.shape[2] > 1:
                # As in V2 the weights are those of R G B, though most images are B G R here.
                gray = mmcv.rgb2gray(img)
                results[key] = np.repeat(gray[:, :, None], img.shape[2], axis=2)
        return results

    def __repr__(self) -> str:
        return f'RandomGrayscale(gray_prob={self.gray_prob})'


@PIPELINES.register_module()
class ColorJitter:
    """Change brightness, contrast and saturation, in random order, each by a random factor.

    Args:
        brightness, contrast, saturation: largest change m of each; the factor is sampled from 1 - m
            .. 1 + m.
    """
    moves = ()

    def __init__(self, brightness: float, contrast: float, saturation: float):
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        changes = [
            kind(random.uniform(0, largest), prob=1.)
            for kind, largest in ((Brightness, self.brightness), (Contrast, self.contrast),
                                  (ColorTransform, self.saturation))
        ]
        random.shuffle(changes)
        for change in changes:
            results = change(results)
        return results

    def __repr__(self) -> str:
        return (f'ColorJitter(brightness={self.brightness}, contrast={self.contrast}, '
                f'saturation={self.saturation})')


@PIPELINES.register_module()
class Lighting:
    """Add random color noise along the principal axes (Krizhevsky et al. 2012, sec. 4.1); the image becomes float.

    Args:
        eigval: variances of the axes.
        eigvec: the axes, [3, n].
        alphastd: standard deviation of the sampled factors.
        to_rgb: swap BGR to RGB first, the order of `eigvec`.
    """
    moves = ()

    def __init__(self,
                 eigval: Sequence[float],
                 eigvec: Sequence[Sequence[float]],
                 alphastd: float = 0.1,
                 to_rgb: bool = True):
        self.eigval = np.array(eigval)
        self.eigvec = np.array(eigvec)
        if self.eigval.ndim != 1 or self.eigvec.shape != (3, len(self.eigval)):
            raise ValueError(f'Lighting: eigval has n numbers and eigvec three rows of n; found '
                             f'{self.eigval.shape} and {self.eigvec.shape}')
        self.alphastd = float(alphastd)
        self.to_rgb = to_rgb

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('img_fields', ['img']):
            results[key] = mmcv.adjust_lighting(
                results[key], self.eigval, self.eigvec, alphastd=self.alphastd, to_rgb=self.to_rgb)
        return results

    def __repr__(self) -> str:
        return (
            f'Lighting(eigval={self.eigval.tolist()}, eigvec={self.eigvec.tolist()}, alphastd={self.alphastd}, '
            f'to_rgb={self.to_rgb})')


@PIPELINES.register_module()
class RandomErasing:
    """Fill a random rectangle (arXiv:1708.04896).

    Args:
        erase_prob: probability 0..1.
        min_area_ratio, max_area_ratio: range of its fraction of the image area, 0..1.
        aspect_range: (smallest, largest) height / width; a single number gives itself and its
            inverse.
        mode: 'const', one color, or 'rand', a random color for each pixel.
        fill_color: the color, or the mean of the sampled ones; one value or one per channel.
        fill_std: standard deviation of the sampled colors; without it they are uniform in 0..255.
    """
    moves = ()

    def __init__(self,
                 erase_prob: float = 0.5,
                 min_area_ratio: float = 0.02,
                 max_area_ratio: float = 0.4,
                 aspect_range: Union[float, Tuple[float, float]] = (3 / 10, 10 / 3),
                 mode: str = 'const',
                 fill_color: Numbers = (128, 128, 128),
                 fill_std: Optional[Numbers] = None):
        if isinstance(aspect_range, (int, float)):
            aspect_range = min(aspect_range, 1 / aspect_range), max(aspect_range, 1 / aspect_range)
        if not 0 <= min_area_ratio <= max_area_ratio <= 1 or not 0 < aspect_range[
                0] <= aspect_range[1]:
            raise ValueError(
                f'RandomErasing: shares of the area are 0 <= min_area_ratio={min_area_ratio} <= '
                f'max_area_ratio={max_area_ratio} <= 1, and aspect_range={aspect_range} is (smallest, largest)'
            )
        if mode not in ('const', 'rand'):
            raise ValueError(f"RandomErasing: mode is 'const' or 'rand', not {mode!r}")
        self.erase_prob = erase_prob
        self.min_area_ratio = min_area_ratio
        self.max_area_ratio = max_area_ratio
        self.aspect_range = aspect_range
        self.mode = mode
        self.fill_color = fill_color
        self.fill_std = fill_std

    def _patch(self, shape: Tuple[int, ...]) -> np.ndarray:
        """Return the fill values for a rectangle of a shape."""
        channels = shape[2] if len(shape) == 3 else 1
        color = np.resize(np.array(self.fill_color, dtype=np.float64), channels)
        size = *shape[:2], channels
        if self.mode == 'const':
            patch = np.broadcast_to(color, size)
        elif self.fill_std is None:
            patch = np.random.uniform(0, 256, size)
        else:
            deviation = np.resize(np.array(self.fill_std, dtype=np.float64), channels)
            patch = np.clip(np.random.normal(color, deviation, size).astype(np.int32), 0, 255)
        return patch.astype(np.uint8).reshape(shape)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('img_fields', ['img']):
            if np.random.rand() > self.erase_prob:
                continue
            img = results[key].copy()
            height, width = img.shape[:2]
            ratio = np.exp(
                np.random.uniform(*np.log(np.array(self.aspect_range, dtype=np.float32))))
            area = height * width * np.random.uniform(self.min_area_ratio, self.max_area_ratio)
            rows = min(int(round(np.sqrt(area * ratio))), height)
            columns = min(int(round(np.sqrt(area / ratio))), width)
            top = np.random.randint(0, height - rows) if height > rows else 0
            left = np.random.randint(0, width - columns) if width > columns else 0
            region = slice(top, top + rows), slice(left, left + columns)
            img[region] = self._patch(img[region].shape)
            results[key] = img
        return results

    def __repr__(self) -> str:
        return (
            f"RandomErasing(erase_prob={self.erase_prob}, min_area_ratio={self.min_area_ratio}, "
            f'max_area_ratio={self.max_area_ratio}, aspect_range={self.aspect_range}, mode={self.mode!r}, '
            f'fill_color={self.fill_color}, fill_std={self.fill_std})')
