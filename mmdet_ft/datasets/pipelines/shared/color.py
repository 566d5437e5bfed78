"""Transforms of pixel values."""
from typing import Any, Dict, List, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np

from mmdet_ft.datasets.pipelines.detection.crop import check_single_image
from mmdet_ft.datasets.pipelines.shared.resize_flip import flip_image
from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class Normalize:
    """Normalize the image: (image - mean) / std, channel by channel, in float32.

    Args:
        mean, std: one value per channel, in 0..255, in the order after `to_rgb`.
        to_rgb: swap BGR to RGB first.
    """
    moves = ()

    def __init__(self, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True):
        self.mean = np.array(mean, dtype=np.float32)
        self.std = np.array(std, dtype=np.float32)
        self.to_rgb = to_rgb

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('img_fields', ['img']):
            results[key] = mmcv.imnormalize(results[key], self.mean, self.std, self.to_rgb)
        results['img_norm_cfg'] = dict(mean=self.mean, std=self.std, to_rgb=self.to_rgb)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mean={self.mean}, std={self.std}, to_rgb={self.to_rgb})'


class DeferredNormalize(Normalize):
    """Normalize, deferred to the device: the image stays uint8 and carries its mean and std.

    Compose replaces a Normalize with it (see defer_normalize). The conversion to a tensor swaps the
    channels if `to_rgb` is set; Collect adds `img_mean` and `img_std`. An image that is not uint8
    with one or three channels is normalized here, as written. So is an image that is already
    padded, because its padding is not 0 after normalizing.
    """

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        img = results['img']
        channels = img.shape[2] if img.ndim == 3 else 1
        fits = channels == len(self.mean) == len(self.std) and channels in (1, 3)
        is_padded = img.shape[:2] != tuple(results.get('img_shape', img.shape)[:2])
        alone = results.get('img_fields', ['img']) == ['img']
        if not (alone and fits and img.dtype == np.uint8) or is_padded:
            if 'deferred_flip' in results:
                results['img'] = flip_image(img, results.pop('deferred_flip'))
            return super().__call__(results)
        results['img_norm_cfg'] = dict(mean=self.mean, std=self.std, to_rgb=self.to_rgb)
        results['deferred_normalize'] = results['img_norm_cfg']
        return results


@PIPELINES.register_module()
class PhotoMetricDistortion:
    """SSD's color distortion, every part of it with probability 0.5.

    In order: brightness; contrast; saturation and hue in HSV; contrast here if not before; a
    permutation of the channels. The image becomes float32, and its values may leave 0..255. BGR is
    assumed.

    Args:
        brightness_delta: largest number added, either way.
        contrast_range: (smallest, largest) factor of all values.
        saturation_range: (smallest, largest) factor of the saturation.
        hue_delta: largest shift of the hue either way, in degrees of 360.
    """
    moves = ()

    def __init__(self,
                 brightness_delta: float = 32,
                 contrast_range: Tuple[float, float] = (0.5, 1.5),
                 saturation_range: Tuple[float, float] = (0.5, 1.5),
                 hue_delta: float = 18):
        self.brightness_delta = brightness_delta
        self.contrast_lower, self.contrast_upper = contrast_range
        self.saturation_lower, self.saturation_upper = saturation_range
        self.hue_delta = hue_delta

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        check_single_image(results, self)

        def chosen() -> bool:
            return bool(np.random.randint(2))

        def contrast() -> None:
            if chosen():
                np.multiply(
                    img, np.random.uniform(self.contrast_lower, self.contrast_upper), out=img)

        img = results['img'].astype(np.float32)
        if chosen():
            img += np.random.uniform(-self.brightness_delta, self.brightness_delta)
        contrast_first = chosen()
        if contrast_first:
            contrast()
        img = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)  # of float32: hue 0..360, saturation 0..1
        if chosen():
            img[..., 1] *= np.random.uniform(self.saturation_lower, self.saturation_upper)
        if chosen():
            hue = img[..., 0]
            hue += np.random.uniform(-self.hue_delta, self.hue_delta)
            hue[hue > 360] -= 360
            hue[hue < 0] += 360
        img = cv2.cvtColor(img, cv2.COLOR_HSV2BGR)
        if not contrast_first:
            contrast()
        if chosen():
            img = np.ascontiguousarray(img[..., np.random.permutation(3)])
        results['img'] = img
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(brightness_delta={self.brightness_delta}, '
                f'contrast_range={(self.contrast_lower, self.contrast_upper)}, '
                f'saturation_range={(self.saturation_lower, self.saturation_upper)}, '
                f'hue_delta={self.hue_delta})')


@PIPELINES.register_module()
class YOLOXHSVRandomAug:
    """YOLOX's color distortion: random numbers added to hue, saturation and value of a uint8 BGR image.

    Each of the three is unchanged with probability 0.5.

    Args:
        hue_delta: largest shift either way, in OpenCV's 180 steps of the circle.
        saturation_delta, value_delta: largest number added to them either way, of 255.
    """
    moves = ()

    def __init__(self, hue_delta: float = 5, saturation_delta: float = 30, value_delta: float = 30):
        self.hue_delta = hue_delta
        self.saturation_delta = saturation_delta
        self.value_delta = value_delta

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        gains = np.random.uniform(-1, 1,
                                  3) * [self.hue_delta, self.saturation_delta, self.value_delta]
        gains = (gains * np.random.randint(0, 2, 3)).astype(np.int16)
        img = results['img']
        hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV).astype(np.int16) + gains
        hsv[..., 0] %= 180
        hsv[..., 1:] = hsv[..., 1:].clip(0, 255)
        results['img'] = cv2.cvtColor(hsv.astype(img.dtype), cv2.COLOR_HSV2BGR)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(hue_delta={self.hue_delta}, '
                f'saturation_delta={self.saturation_delta}, value_delta={self.value_delta})')


@PIPELINES.register_module()
class CutOut:
    """Fill random rectangles of the image (arXiv:1708.04552); boxes and masks are unchanged.

    Args:
        n_holes: how many, or (fewest, most).
        cutout_shape: (width, height) in pixels, or a list of such to sample from.
        cutout_ratio: instead, (width, height) as fractions 0..1 of the image, or a list of such.
        fill_in: value of the pixels.
    """
    moves = ()

    def __init__(self,
                 n_holes: Union[int, Tuple[int, int]],
                 cutout_shape: Union[Tuple[int, int], List[Tuple[int, int]], None] = None,
                 cutout_ratio: Union[Tuple[float, float], List[Tuple[float, float]], None] = None,
                 fill_in: Sequence[float] = (0, 0, 0)):
        if (cutout_shape is None) == (cutout_ratio is None):
            raise ValueError(f'CutOut takes one of cutout_shape={cutout_shape} and '
                             f'cutout_ratio={cutout_ratio}')
        if isinstance(n_holes, (tuple, list)):
            if len(n_holes) != 2 or not 0 <= n_holes[0] < n_holes[1]:
                raise ValueError(f'CutOut: n_holes is a number or (fewest, most), found {n_holes}')
            self.n_holes = tuple(n_holes)
        else:
            self.n_holes = (n_holes, n_holes)
        self.with_ratio = cutout_ratio is not None
        candidates = cutout_ratio if self.with_ratio else cutout_shape
        one = all(isinstance(side, (int, float)) for side in candidates)
        self.candidates = [tuple(candidates)] if one else [tuple(pair) for pair in candidates]
        self.fill_in = fill_in

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        img = results['img'].copy()
        height, width = img.shape[:2]
        for _ in range(np.random.randint(self.n_holes[0], self.n_holes[1] + 1)):
            left, top = np.random.randint(0, width), np.random.randint(0, height)
            hole_width, hole_height = self.candidates[np.random.randint(0, len(self.candidates))]
            if self.with_ratio:
                hole_width, hole_height = int(hole_width * width), int(hole_height * height)
            img[top:top + hole_height, left:left + hole_width] = self.fill_in
        results['img'] = img
        return results

    def __repr__(self) -> str:
        name = 'cutout_ratio' if self.with_ratio else 'cutout_shape'
        return (f'{type(self).__name__}(n_holes={self.n_holes}, {name}={self.candidates}, '
                f'fill_in={self.fill_in})')


@PIPELINES.register_module()
class Corrupt:
    """Corrupt the image as the benchmark of arXiv:1907.07484 does; needs the package `imagecorruptions`.

    Args:
        corruption: its name in the package: 'gaussian_noise', 'motion_blur', 'fog', ...
        severity: 1..5.
    """
    moves = ()

    def __init__(self, corruption: str, severity: int = 1):
        self.corruption = corruption
        self.severity = severity
        _import_corrupt()  # if missing, fail when the pipeline is built, not in a loader process

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        check_single_image(results, self)
        results['img'] = _import_corrupt()(
            results['img'].astype(np.uint8),
            corruption_name=self.corruption,
            severity=self.severity)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(corruption='{self.corruption}', severity={self.severity})"


def _import_corrupt() -> Any:
    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise ImportError(f'Corrupt needs the package imagecorruptions ({error}): '
                          f'pip install imagecorruptions') from None
    return corrupt
