"""Pictures of a dataset's annotations."""
from typing import Any, Dict, List, Optional

import numpy as np

from mmdet_ft.datasets.annotations.masks import polygon_runs
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.visualization import DrawingStyle, draw_ground_truth, palette_of


def has_truth(dataset: Dataset) -> bool:
    """Check whether a detection dataset has an object in any of its images."""
    if not hasattr(dataset, 'get_ann_info'):
        return False
    return any(len(dataset.get_ann_info(index)['bboxes']) for index in range(len(dataset)))


def draw_truth(dataset: Dataset, index: int, image: np.ndarray,
               look: DrawingStyle = DrawingStyle()) -> np.ndarray:
    """Draw the objects of sample `index` of a detection dataset into its image, uint8 [H, W, 3] in BGR.

    Raises ValueError and DataError where they do not fit the image.
    """
    truth = dataset.get_ann_info(index)
    return draw_ground_truth(image, pixel_boxes(dataset, index,
                                                truth), truth['labels'], dataset.CLASSES,
                             truth_masks(truth, *image.shape[:2]), truth.get('bboxes_ignore'),
                             palette_of(type(dataset), dataset.CLASSES), look)


def pixel_boxes(dataset: Any, index: int, truth: Dict[str, Any]) -> np.ndarray:
    """Return the boxes [n, 4] of `get_ann_info` in pixels, also where they are shares of the image.

    Raises DataError for an image whose size is not known.
    """
    in_pixels = getattr(dataset, 'boxes_in_pixels', None)
    return np.asarray(in_pixels(index) if in_pixels else truth['bboxes']).reshape(-1, 4)


def truth_masks(truth: Dict[str, Any], height: int, width: int) -> Optional[List[Any]]:
    """Return the masks of `get_ann_info` as run lengths, None for an object without; None where no object has one."""
    masks = [
        polygon_runs(mask, height, width) if isinstance(mask, (list, tuple)) and len(mask) else
        mask if isinstance(mask, dict) else None for mask in truth.get('masks') or ()
    ]
    return masks if any(mask is not None for mask in masks) else None
