"""Pasting of a predicted mask into its image, in numpy alone."""
from typing import NamedTuple, Optional, Tuple

import numpy as np


class Crop(NamedTuple):
    """A part of an image."""
    pixels: np.ndarray  # bool [h, w]
    x0: int
    y0: int


def crop_of_mask(mask: np.ndarray, box: np.ndarray, size: Tuple[int, int],
                 threshold: float) -> Optional[Crop]:
    """Resize a predicted mask to its box and threshold it; None if that is outside the image.

    Interpolation between the bitmap's pixels is bilinear and outside it zero, with pixel centers at
    half-integers: V2's pasting (grid_sample, align_corners=False). Like V2 it covers one pixel
    around the box and no more.

    mask float [M, M] in 0..1; box x0 y0 x1 y1 in image pixels; size (h, w).
    """
    height, width = size
    x0, y0 = max(int(np.floor(box[0])) - 1, 0), max(int(np.floor(box[1])) - 1, 0)
    x1, y1 = min(int(np.ceil(box[2])) + 1, width), min(int(np.ceil(box[3])) + 1, height)
    if x1 <= x0 or y1 <= y0:
        return None
    rows = _bilinear_weights(y0, y1, box[1], box[3], mask.shape[0])
    columns = _bilinear_weights(x0, x1, box[0], box[2], mask.shape[1])
    return Crop((rows @ mask.astype(np.float32) @ columns.T) >= threshold, x0, y0)


def _bilinear_weights(start: int, stop: int, low: float, high: float, count: int) -> np.ndarray:
    """Return bilinear weights of `count` cells spread over low..high at the pixels start..stop.

    float32 [stop - start, count]. If low equals high, mostly at the image border, every pixel
    gets the middle, as in V2.
    """
    pixel = np.arange(start, stop, dtype=np.float32) + np.float32(.5)
    if high > low:
        place = (pixel - np.float32(low)) / np.float32(high - low) * count - np.float32(.5)
    else:
        place = np.full_like(pixel, (count - 1) / 2)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count, dtype=np.float32)))
