"""Run-length encoding of detected masks without a full-size canvas, on the host in numpy."""
from typing import Any, Dict, Tuple

import numpy as np
import pycocotools.mask as coco_mask


def paste_to_rle(mask: np.ndarray, box: np.ndarray, size: Tuple[int, int],
                 threshold: float) -> Dict[str, Any]:
    """Resize a predicted mask to its box, threshold it, and return the image's COCO run lengths.

    Interpolation between the bitmap's pixels is bilinear and outside it zero, with pixel centers at
    half-integers: V2's pasting (grid_sample, align_corners=False). Like V2 it covers one pixel
    around the box and no more.

    mask float [M, M] in 0..1; box x0 y0 x1 y1 in image pixels; size (h, w). Returns dict(size=[h,
    w], counts=bytes).
    """
    height, width = size
    x0, y0 = max(int(np.floor(box[0])) - 1, 0), max(int(np.floor(box[1])) - 1, 0)
    x1, y1 = min(int(np.ceil(box[2])) + 1, width), min(int(np.ceil(box[3])) + 1, height)
    if x1 <= x0 or y1 <= y0:
        return coco_mask.frPyObjects(
            dict(size=[height, width], counts=[height * width]), height, width)
    rows = _bilinear_weights(y0, y1, box[1], box[3], mask.shape[0])
    columns = _bilinear_weights(x0, x1, box[0], box[2], mask.shape[1])
    return rle_of_crop((rows @ mask.astype(np.float32) @ columns.T) >= threshold, x0, y0, size)


def _bilinear_weights(start: int, stop: int, low: float, high: float, count: int) -> np.ndarray:
    """Return bilinear weights of `count` cells spread over low..high at the pixels start..stop.

    float32 [stop - start, count]. If low equals high, mostly at the image border, every pixel
    gets the middle, as in V2.
    """
    pixel = np.arange(start, stop, dtype=np.float32) + np.float32(.5)
    if high > low:
        index = (pixel - np.float32(low)) / np.float32(high - low) * count - np.float32(.5)
    else:
        index = np.full_like(pixel, (count - 1) / 2)
    return np.maximum(0, 1 - np.abs(index[:, None] - np.arange(count, dtype=np.float32)))


def rle_of_crop(crop: np.ndarray, x0: int, y0: int, size: Tuple[int, int]) -> Dict[str, Any]:
    """Return COCO run lengths of an image, zero but for a bool crop [h, w] at column x0, row y0."""
    height, width = size
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), bool)  # run lengths are column-major
    columns[:, 1:-1] = crop.T
    flat = columns.ravel()
    # Where runs start and where they have ended, alternating.
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), columns.shape[1])
    edges = (column + x0) * height + (row + y0)
    # Runs over whole columns continue in the next one.
    parted = np.ones(len(edges), bool)
    parted[1:-1:2] = parted[2::2] = edges[1:-1:2] != edges[2::2]
    edges = np.concatenate([[0], edges[parted], [height * width]])
    counts = np.diff(edges).tolist()
    if len(counts) > 1 and counts[-1] == 0:  # the last run reaches the image's end
        counts.pop()
    return coco_mask.frPyObjects(dict(size=[height, width], counts=counts), height, width)
