"""Run-length encoding of detected masks without a full-size canvas, on the host in numpy."""
from typing import Any, Dict, Tuple

import numpy as np
import pycocotools.mask as coco_mask

from mmdet_ft.ops.paste_crop import crop_of_mask


def paste_to_rle(mask: np.ndarray, box: np.ndarray, size: Tuple[int, int],
                 threshold: float) -> Dict[str, Any]:
    """Resize a predicted mask to its box, threshold it, and return the image's COCO run lengths;
    see paste_crop.

    mask float [M, M] in 0..1; box x0 y0 x1 y1 in image pixels; size (h, w). Returns dict(size=[h,
    w], counts=bytes).
    """
    height, width = size
    crop = crop_of_mask(mask, box, size, threshold)
    if crop is None:
        return coco_mask.frPyObjects(
            dict(size=[height, width], counts=[height * width]), height, width)
    return rle_of_crop(crop.pixels, crop.x0, crop.y0, size)


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
