"""Transforms that cut a part out of the image."""
from typing import Any, Dict, Optional, Tuple

import numpy as np

from mmdet_ft.registry import PIPELINES

CROP_TYPES = ('absolute', 'absolute_range', 'relative', 'relative_range')
LABELS_OF = {'gt_bboxes': 'gt_labels', 'gt_bboxes_ignore': 'gt_labels_ignore'}
MASKS_OF = {'gt_bboxes': 'gt_masks', 'gt_bboxes_ignore': 'gt_masks_ignore'}


def keep_boxes(results: Dict[str, Any], key: str, boxes: np.ndarray, keep: np.ndarray) -> None:
    """Put `boxes[keep]` into the field `key`, and keep of its labels and masks what belongs to them.

    boxes [n, 4]; keep bool [n].
    """
    results[key] = boxes[keep]
    for name in (LABELS_OF.get(key), MASKS_OF.get(key)):
        if results.get(name) is not None:
            results[name] = results[name][keep]


def centers_inside(boxes: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Whether the middle of each box [n, 4] lies inside a patch (x1, y1, x2, y2), not on its border: bool [n]."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centers > patch[:2]) & (centers < patch[2:])).all(axis=1)


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes [n, 4] cut at the borders of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))


def check_single_image(results: Dict[str, Any], transform: Any) -> None:
    """Raise ValueError when there are other images beside `img`, which the transform would leave behind."""
    fields = results.get('img_fields', ['img'])
    if list(fields) != ['img']:
        raise ValueError(f"{type(transform).__name__} takes samples of one image, 'img'; "
                         f'found img_fields={fields}')


@PIPELINES.register_module()
class RandomCrop:
    """Cut a random part out of image, boxes, masks and segmentation maps.

    A sample that shows no object in the crop is given up (None: the dataset draws another), unless
    `allow_negative_crop`.

    Args:
        crop_size: (height, width), or what `crop_type` makes of it:
        crop_type: 'absolute': pixels, as far as the image goes; 'absolute_range': each side drawn between
            crop_size[0] and crop_size[1] pixels; 'relative': shares 0..1 of height and width;
            'relative_range': each share drawn between its value and 1.
        allow_negative_crop: also take crops without objects.
        recompute_bbox: new boxes around what the crop leaves of the masks.
        bbox_clip_border: cut boxes at the border of the crop, and drop those of which nothing is left; otherwise all
            boxes stay, outside ones too.

    Sets img_shape.
    """

    def __init__(self,
                 crop_size: Tuple[float, float],
                 crop_type: str = 'absolute',
                 allow_negative_crop: bool = False,
                 recompute_bbox: bool = False,
                 bbox_clip_border: bool = True):
        if crop_type not in CROP_TYPES:
            raise ValueError(
                f'RandomCrop: crop_type is one of {", ".join(CROP_TYPES)}, found {crop_type!r}')
        if not isinstance(crop_size, (tuple, list)) or len(crop_size) != 2:
            raise ValueError(f'RandomCrop: crop_size is a pair, found {crop_size!r}')
        if crop_type.startswith('absolute'):
            if not all(isinstance(side, int) and side > 0 for side in crop_size):
                raise ValueError(
                    f'RandomCrop: crop_size of crop_type {crop_type!r} is two positive '
                    f'integers (pixels), found {crop_size!r}')
        elif not all(0 < side <= 1 for side in crop_size):
            raise ValueError(
                f'RandomCrop: crop_size of crop_type {crop_type!r} is two shares in (0, 1], '
                f'found {crop_size!r}')
        if crop_type == 'absolute_range' and crop_size[0] > crop_size[1]:
            raise ValueError(
                f"RandomCrop: crop_size of crop_type 'absolute_range' is (smallest, largest) "
                f'side, found {crop_size!r}')
        self.crop_size = crop_size
        self.crop_type = crop_type
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox
        self.bbox_clip_border = bbox_clip_border

    def _draw_size(self, height: int, width: int) -> Tuple[int, int]:
        """(height, width) of the crop in pixels."""
        first, second = self.crop_size
        if self.crop_type == 'absolute':
            return min(first, height), min(second, width)
        if self.crop_type == 'absolute_range':
            crop_height, crop_width = (
                np.random.randint(min(side, first),
                                  min(side, second) + 1) for side in (height, width))
            return int(crop_height), int(crop_width)
        if self.crop_type == 'relative_range':  # in float32, whose rounding decides the pixel
            smallest = np.asarray(self.crop_size, dtype=np.float32)
            first, second = smallest + np.random.rand(2) * (1 - smallest)
        return int(height * first + 0.5), int(width * second + 0.5)

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        height, width = results['img'].shape[:2]
        crop_height, crop_width = self._draw_size(height, width)
        top = int(np.random.randint(0, max(height - crop_height, 0) + 1))
        left = int(np.random.randint(0, max(width - crop_width, 0) + 1))
        rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)

        cropped = dict(results)
        for key in results.get('img_fields', ['img']):
            cropped[key] = results[key][rows, columns]
            cropped['img_shape'] = cropped[key].shape
        height, width = cropped['img_shape'][:2]
        for key in results.get('bbox_fields', []):
            boxes = results[key] - np.array([left, top, left, top], dtype=np.float32)
            if self.bbox_clip_border:
                boxes = clip_boxes(boxes, height, width)
            keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            if key == 'gt_bboxes' and not keep.any() and not self.allow_negative_crop:
                return None
            keep_boxes(cropped, key, boxes, keep)
            masks = cropped.get(MASKS_OF.get(key))
            if masks is not None:
                masks = masks.crop(np.array([left, top, left + crop_width, top + crop_height]))
                cropped[MASKS_OF[key]] = masks
                if self.recompute_bbox:
                    cropped[key] = masks.get_bboxes()
        for key in results.get('seg_fields', []):
            cropped[key] = results[key][rows, columns]
        return cropped

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(crop_size={self.crop_size}, crop_type='{self.crop_type}', "
                f'allow_negative_crop={self.allow_negative_crop}, '
                f'recompute_bbox={self.recompute_bbox}, bbox_clip_border={self.bbox_clip_border})')


@PIPELINES.register_module()
class MinIoURandomCrop:
    """SSD's crop (arXiv:1512.02325, sec. 2.2): a random part whose overlap with every object is at least a drawn one.

    The overlap is the IoU of crop and box. Objects whose middle falls outside the crop are dropped. One drawing in
    len(min_ious) + 2 leaves the image as it is, one asks for no overlap.

    Args:
        min_ious: overlaps to draw from, 0..1.
        min_crop_size: least height and width of the crop, as shares 0..1 of the image's; their ratio is in 0.5..2.
        bbox_clip_border: cut boxes at the border of the crop.

    Sets img_shape.
    """

    def __init__(self,
                 min_ious: Tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
                 min_crop_size: float = 0.3,
                 bbox_clip_border: bool = True):
        self.min_ious = min_ious
        self.sample_mode = (1, *min_ious, 0)  # 1: the whole image, 0: any overlap
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    def _draw_patch(self, height: int, width: int) -> Optional[np.ndarray]:
        """(x1, y1, x2, y2) in whole pixels, or None if the drawn one is too narrow."""
        crop_width = np.random.uniform(self.min_crop_size * width, width)
        crop_height = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= crop_height / crop_width <= 2:
            return None
        # With one argument numpy draws between it and 1: up to a pixel more than fits, which rounding takes away.
        left = np.random.uniform(width - crop_width)
        top = np.random.uniform(height - crop_height)
        patch = np.array([int(left), int(top), int(left + crop_width), int(top + crop_height)])
        return patch if patch[2] > patch[0] and patch[3] > patch[1] else None

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        check_single_image(results, self)
        if 'bbox_fields' not in results:
            raise KeyError('MinIoURandomCrop looks at boxes; put LoadAnnotations before it')
        boxes = np.concatenate([results[key] for key in results['bbox_fields']]).reshape(-1, 4)
        height, width = results['img'].shape[:2]
        while True:
            min_iou = np.random.choice(self.sample_mode)
            if min_iou == 1:
                return results
            for _ in range(50):
                patch = self._draw_patch(height, width)
                if patch is None:
                    continue
                if len(boxes) and (_overlaps(patch, boxes).min() < min_iou
                                   or not centers_inside(boxes, patch).any()):
                    continue
                return self._cut(results, patch)

    def _cut(self, results: Dict[str, Any], patch: np.ndarray) -> Dict[str, Any]:
        left, top, right, bottom = patch.tolist()
        for key in results['bbox_fields']:
            boxes = results[key]
            keep = centers_inside(boxes, patch)
            if self.bbox_clip_border:
                boxes = np.hstack([
                    np.maximum(boxes[:, :2], patch[:2].astype(boxes.dtype)),
                    np.minimum(boxes[:, 2:], patch[2:].astype(boxes.dtype))
                ])
            keep_boxes(results, key, boxes - np.tile(patch[:2], 2).astype(boxes.dtype), keep)
            if results.get(MASKS_OF.get(key)) is not None:
                results[MASKS_OF[key]] = results[MASKS_OF[key]].crop(patch)
        results['img'] = results['img'][top:bottom, left:right]
        results['img_shape'] = results['img'].shape
        for key in results.get('seg_fields', []):
            results[key] = results[key][top:bottom, left:right]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_ious={self.min_ious}, min_crop_size={self.min_crop_size}, '
            f'bbox_clip_border={self.bbox_clip_border})')


def _overlaps(patch: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of a patch [4] with boxes [n, 4], float32 [n]."""
    patch, boxes = patch.astype(np.float32), boxes.astype(np.float32)
    sides = np.minimum(patch[2:], boxes[:, 2:]) - np.maximum(patch[:2], boxes[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / np.maximum((patch[2:] - patch[:2]).prod() + areas - common, np.float32(1e-6))
