"""Copy-Paste: objects of another image (Simple Copy-Paste is a Strong Data Augmentation Method)."""
from typing import Any, Dict, List

import numpy as np

from mmdet_ft.datasets.annotations.masks import BitmapMasks
from mmdet_ft.datasets.pipelines.detection.mix import (Objects, box_fields_of, images_to_mix,
                                                       objects_of, put_objects)
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class CopyPaste:
    """Paste objects of another image of the same size, at their positions.

    Objects of the image lose the covered pixels and get the boxes of the rest. One that is mostly
    covered is left out. Without masks objects are their boxes.

    Args:
        max_num_pasted: a random number below it, and up to all objects, is pasted.
        bbox_occluded_thr: an object stays if each side of its box moves by at most that many pixels.
        mask_occluded_thr: an object stays if more than that many of its pixels are visible.
        selected: False pastes all objects.

    Raises ValueError without one image in `mix_results`, or one of another size.
    """
    moves = ('img', 'bbox', 'mask')
    instead = 'load without maps: LoadAnnotations(with_seg=False)'

    def __init__(self,
                 max_num_pasted: int = 100,
                 bbox_occluded_thr: float = 10,
                 mask_occluded_thr: float = 300,
                 selected: bool = True):
        self.max_num_pasted = max_num_pasted
        self.bbox_occluded_thr = bbox_occluded_thr
        self.mask_occluded_thr = mask_occluded_thr
        self.selected = selected

    def get_indexes(self, dataset: Dataset) -> List[int]:
        """Return the index of a random image."""
        return [int(np.random.randint(0, len(dataset)))]

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        other, = images_to_mix(results, 1, self)
        box_fields_of([results, other], self)
        if other['img'].shape != results['img'].shape:
            raise ValueError(
                f"CopyPaste: images of {results['img'].shape} and {other['img'].shape}; write "
                "dict(type='Pad', size=(1024, 1024)) at the end of the inner dataset's pipeline")
        pasted = _with_masks(other)
        if self.selected:
            pasted = self._select(pasted)
        if len(pasted.boxes):
            cover = np.zeros(results['img'].shape[:2], dtype=bool)
            for crop, (x, y) in zip(pasted.masks.crops, pasted.masks.corners):
                cover[y:y + crop.shape[0], x:x + crop.shape[1]] |= crop > 0
            results['img'] = np.where(cover[..., None], other['img'], results['img'])
            own = self._uncovered(_with_masks(results), cover)
            put_objects(results, 'gt_bboxes', [own, pasted])
        return results

    def _select(self, objects: Objects) -> Objects:
        number = np.random.randint(0, min(len(objects.boxes) + 1, self.max_num_pasted))
        return objects.kept(np.random.choice(len(objects.boxes), size=number, replace=False))

    def _uncovered(self, objects: Objects, cover: np.ndarray) -> Objects:
        """Return what remains of objects; cover: bool [h, w]."""
        height, width = cover.shape
        corners = [tuple(map(int, corner)) for corner in objects.masks.corners]
        crops = [
            np.where(cover[y:y + crop.shape[0], x:x + crop.shape[1]], np.uint8(0), crop)
            for crop, (x, y) in zip(objects.masks.crops, corners)
        ]
        masks = BitmapMasks.from_crops(crops, corners, height, width)
        boxes = masks.get_bboxes()
        stays = (np.abs(boxes - objects.boxes) <= self.bbox_occluded_thr).all(1)
        stays |= masks.areas > self.mask_occluded_thr
        return Objects(boxes, objects.labels, masks).kept(np.flatnonzero(stays))

    def __repr__(self) -> str:
        return (f'CopyPaste(max_num_pasted={self.max_num_pasted}, '
                f'bbox_occluded_thr={self.bbox_occluded_thr}, '
                f'mask_occluded_thr={self.mask_occluded_thr}, selected={self.selected})')


def _with_masks(sample: Dict[str, Any]) -> Objects:
    """Return the objects of a sample with bitmaps; boxes are filled where there are none."""
    objects = objects_of(sample, 'gt_bboxes')
    if objects.masks is not None:
        return objects._replace(masks=objects.masks.to_bitmap())
    height, width = sample['img'].shape[:2]
    limits = np.clip(objects.boxes.astype(int), 0, [width, height, width, height])
    crops = [np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in limits]
    corners = [(int(x1), int(y1)) for x1, y1, _, _ in limits]
    return objects._replace(masks=BitmapMasks.from_crops(crops, corners, height, width))
