"""Transforms that crop the image, and the filters for the remaining objects."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING
from mmdet_ft.registry import PIPELINES

CROP_TYPES = ('absolute', 'absolute_range', 'relative', 'relative_range')
LABELS_OF = {'gt_bboxes': 'gt_labels', 'gt_bboxes_ignore': 'gt_labels_ignore'}
MASKS_OF = {'gt_bboxes': 'gt_masks', 'gt_bboxes_ignore': 'gt_masks_ignore'}


def keep_boxes(results: Dict[str, Any], key: str, boxes: np.ndarray, keep: np.ndarray) -> None:
    """Put `boxes[keep]` into the field `key`, and keep their labels and masks.

    boxes [n, 4]; keep bool [n].
    """
    results[key] = boxes[keep]
    for name in (LABELS_OF.get(key), MASKS_OF.get(key)):
        if results.get(name) is not None:
            results[name] = results[name][keep]


def masks_alone(results: Dict[str, Any]) -> List[str]:
    """Return the mask fields whose boxes are not loaded; no box keeps them aligned."""
    of_boxes = [MASKS_OF.get(key) for key in results.get('bbox_fields', [])]
    return [key for key in results.get('mask_fields', []) if key not in of_boxes]


def centers_inside(boxes: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Check whether the center of each box [n, 4] is inside a patch (x1, y1, x2, y2), not on its border: bool [n]."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centers > patch[:2]) & (centers < patch[2:])).all(axis=1)


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes [n, 4] to the borders of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))


def check_single_image(results: Dict[str, Any], transform: object) -> None:
    """Raise ValueError when there are images besides `img`, which the transform would leave unchanged."""
    fields = results.get('img_fields', ['img'])
    if list(fields) != ['img']:
        raise ValueError(f"{type(transform).__name__} takes samples of one image, 'img'; "
                         f'found img_fields={fields}')


@PIPELINES.register_module()
class FilterAnnotations:
    """Drop objects that are too small, as after downscaling and cropping.

    Args:
        min_gt_bbox_wh: (width, height) in pixels that a box must exceed, with `by_box`.
        min_gt_mask_area: pixels that a mask must have, with `by_mask`.
        by_box, by_mask: what is checked; with both, an object must pass both.
        keep_empty: V2's name for its opposite: True rejects a sample that keeps no object (None:
            the dataset samples another). A sample without objects before is always kept.
    """
    moves = ()

    def __init__(self,
                 min_gt_bbox_wh: Tuple[float, float] = (1., 1.),
                 min_gt_mask_area: float = 1,
                 by_box: bool = True,
                 by_mask: bool = False,
                 keep_empty: bool = True):
        if not (by_box or by_mask):
            raise ValueError(
                'FilterAnnotations: by_box and by_mask are both False; set one, or take it out')
        self.min_gt_bbox_wh = min_gt_bbox_wh
        self.min_gt_mask_area = min_gt_mask_area
        self.by_box = by_box
        self.by_mask = by_mask
        self.keep_empty = keep_empty

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        for key, is_asked in (('gt_bboxes', True), ('gt_masks', self.by_mask)):
            if is_asked and key not in results:
                raise ValueError(
                    f'FilterAnnotations: no {key} in the sample; write it after LoadAnnotations'
                    f'{"(with_mask=True)" if key == "gt_masks" else ""}')
        boxes = results['gt_bboxes']
        keep = np.ones(len(boxes), dtype=bool)
        if self.by_box:
            keep &= (boxes[:, 2:] - boxes[:, :2] > np.array(self.min_gt_bbox_wh,
                                                            boxes.dtype)).all(axis=1)
        if self.by_mask:
            keep &= results['gt_masks'].areas >= self.min_gt_mask_area
        if len(boxes) and not keep.any() and self.keep_empty:
            return None
        keep_boxes(results, 'gt_bboxes', boxes, keep)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(min_gt_bbox_wh={self.min_gt_bbox_wh}, '
                f'min_gt_mask_area={self.min_gt_mask_area}, by_box={self.by_box}, '
                f'by_mask={self.by_mask}, keep_empty={self.keep_empty})')


@PIPELINES.register_module()
class RandomCrop:
    """Crop a random part of image, boxes, masks and segmentation maps.

    A sample without an object in the crop is rejected (None: the dataset samples another), unless
    `allow_negative_crop`.

    Args:
        crop_size: (height, width), in the unit of `crop_type`.
        crop_type: 'absolute': pixels, at most the image size; 'absolute_range': each side sampled
            between crop_size[0] and crop_size[1] pixels; 'relative': fractions 0..1 of height and
            width; 'relative_range': each fraction sampled between its value and 1.
        allow_negative_crop: also take crops without objects.
        recompute_bbox: recompute boxes around the cropped masks.
        bbox_clip_border: clip boxes to the crop and drop those outside; otherwise all boxes stay,
            including those outside.

    Sets img_shape.
    """
    moves = EVERYTHING

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
        """Return (height, width) of the crop in pixels."""
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
        return max(int(height * first + 0.5), 1), max(int(width * second + 0.5), 1)

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
        for key in masks_alone(results):
            cropped[key] = results[key].crop(
                np.array([left, top, left + crop_width, top + crop_height]))
        for key in results.get('seg_fields', []):
            cropped[key] = results[key][rows, columns]
        return cropped

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(crop_size={self.crop_size}, crop_type='{self.crop_type}', "
                f'allow_negative_crop={self.allow_negative_crop}, '
                f'recompute_bbox={self.recompute_bbox}, bbox_clip_border={self.bbox_clip_border})')


@PIPELINES.register_module()
class MinIoURandomCrop:
    """SSD's crop (arXiv:1512.02325, sec. 2.2): a random patch whose overlap with every object
    reaches a sampled minimum.

    The overlap is the IoU of crop and box. Objects whose center is outside the crop are dropped. Of
    len(min_ious) + 2 equally likely modes, one leaves the image unchanged and one requires no
    overlap.

    Args:
        min_ious: overlaps to sample from, 0..1.
        min_crop_size: smallest height and width of the crop, as fractions 0..1 of the image's;
            their ratio is in 0.5..2.
        bbox_clip_border: clip boxes to the crop.

    Sets img_shape.
    """
    moves = EVERYTHING

    def __init__(self,
                 min_ious: Tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
                 min_crop_size: float = 0.3,
                 bbox_clip_border: bool = True):
        self.min_ious = min_ious
        self.sample_mode = (1, *min_ious, 0)  # 1: the whole image, 0: any overlap
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    def _draw_patch(self, height: int, width: int) -> Optional[np.ndarray]:
        """Sample (x1, y1, x2, y2) in whole pixels; return None if the sampled patch is too narrow."""
        crop_width = np.random.uniform(self.min_crop_size * width, width)
        crop_height = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= crop_height / crop_width <= 2:
            return None
        # With one argument numpy samples between it and 1: up to a pixel more than fits, which
        # rounding removes.
        left = np.random.uniform(width - crop_width)
        top = np.random.uniform(height - crop_height)
        patch = np.array([int(left), int(top), int(left + crop_width), int(top + crop_height)])
        return patch if patch[2] > patch[0] and patch[3] > patch[1] else None

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        check_single_image(results, self)
        if not results.get('bbox_fields'):
            raise CheckError(
                'MinIoURandomCrop looks at boxes; put LoadAnnotations(with_bbox=True) before it')
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
    """Return the IoU of a patch [4] with boxes [n, 4], float32 [n]."""
    patch, boxes = patch.astype(np.float32), boxes.astype(np.float32)
    sides = np.minimum(patch[2:], boxes[:, 2:]) - np.maximum(patch[:2], boxes[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / np.maximum((patch[2:] - patch[:2]).prod() + areas - common, np.float32(1e-6))


@PIPELINES.register_module()
class RandomCenterCropPad:
    """CornerNet's crop (arXiv:1808.01244): a patch of random size around a random center, padded with the mean.

    In training the center is resampled until the patch shows an object, and objects whose center is
    outside are dropped. A sample is rejected where that takes too long. At test time the whole
    image is placed in the middle of a larger one. Images are float32; masks and maps are refused.

    Args:
        crop_size: (height, width) before the sampled ratio; None at test time, like ratios and
            border.
        ratios: ratios to sample from.
        border: minimum distance of the center from the image border, pixels; halved for small
            images.
        mean, std, to_rgb: those of Normalize; the image is padded with the mean.
        test_mode: as at test time.
        test_pad_mode: ('logical_or', value): sides become side | value; ('size_divisor', value):
            multiples of value. None in training.
        test_pad_add_pix: pixels added to that in the first mode.
        bbox_clip_border: clip boxes to the image.

    Sets img_shape, pad_shape, and at test time border (float32: top, bottom, left, right of the
    image in the larger one).
    """
    moves = ('img', 'bbox')
    is_undone = True  # by `border`
    instead = 'load without masks and maps: LoadAnnotations(with_mask=False, with_seg=False)'

    def __init__(self,
                 crop_size: Optional[Tuple[int, int]] = None,
                 ratios: Optional[Sequence[float]] = (0.9, 1.0, 1.1),
                 border: Optional[int] = 128,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None,
                 to_rgb: Optional[bool] = None,
                 test_mode: bool = False,
                 test_pad_mode: Optional[Tuple[str, int]] = ('logical_or', 127),
                 test_pad_add_pix: int = 0,
                 bbox_clip_border: bool = True):
        if mean is None or std is None or to_rgb is None:
            raise ValueError('RandomCenterCropPad needs mean, std and to_rgb, those of Normalize')
        if test_mode:
            if not (crop_size is None and ratios is None and border is None):
                raise ValueError('RandomCenterCropPad(test_mode=True) takes the whole image; write '
                                 'crop_size=None, ratios=None, border=None')
            if not test_pad_mode or test_pad_mode[0] not in ('logical_or', 'size_divisor'):
                raise ValueError("RandomCenterCropPad: test_pad_mode is ('logical_or', value) or "
                                 f"('size_divisor', value), found {test_pad_mode!r}")
        else:
            if not isinstance(crop_size, (list, tuple)) or not min(crop_size) > 0:
                raise ValueError('RandomCenterCropPad: crop_size is (height, width) in training, '
                                 f'found {crop_size!r}')
            if not isinstance(ratios, (list, tuple)):
                raise ValueError(
                    f'RandomCenterCropPad: ratios is a list in training, found {ratios!r}')
            if test_pad_mode is not None:
                raise ValueError('RandomCenterCropPad: write test_pad_mode=None in training')
        self.crop_size = crop_size
        self.ratios = ratios
        self.border = border
        self.to_rgb = to_rgb
        self.input_mean, self.input_std = mean, std
        self.mean = mean[::-1] if to_rgb else mean
        self.test_mode = test_mode
        self.test_pad_mode = test_pad_mode
        self.test_pad_add_pix = test_pad_add_pix
        self.bbox_clip_border = bbox_clip_border

    def _margin(self, size: int) -> int:
        """Return the border, halved until it leaves a range for the center in `size` pixels."""
        share = 2 * self.border / size
        return int(self.border // 2**(np.ceil(np.log2(np.ceil(share))) + (share == int(share))))

    def _paste(self, img: np.ndarray, center: Tuple[int, int],
               size: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an image of `size` whose center is `center` (y, x) of img.

        Also returns where img is in it (top bottom left right) and its patch of img (x1 y1 x2 y2).
        """
        middle = size[0] // 2, size[1] // 2
        canvas = np.zeros((*size, img.shape[2]), dtype=img.dtype) + np.array(
            self.mean, dtype=img.dtype)
        begin = [max(0, center[axis] - middle[axis]) for axis in (0, 1)]
        end = [min(center[axis] + middle[axis], img.shape[axis]) for axis in (0, 1)]
        shift = [middle[axis] - center[axis] for axis in (0, 1)]
        top, left, bottom, right = (at + shift[index % 2] for index, at in enumerate(begin + end))
        canvas[top:bottom, left:right] = img[begin[0]:end[0], begin[1]:end[1]]
        where = np.array([top, bottom, left, right], dtype=np.float32)
        return canvas, where, np.array([begin[1], begin[0], end[1], end[0]])

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        img = results['img']
        if img.dtype != np.float32:
            raise ValueError('RandomCenterCropPad needs a float32 image; write '
                             "dict(type='LoadImageFromFile', to_float32=True)")
        return self._at_test_time(results) if self.test_mode else self._in_training(results)

    def _in_training(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        if results.get('mask_fields') or results.get('seg_fields'):
            raise NotImplementedError('RandomCenterCropPad moves boxes only; load without masks '
                                      '(with_mask=False, with_seg=False)')
        height, width = results['img'].shape[:2]
        margin_y, margin_x = self._margin(height), self._margin(width)
        for _ in range(100):
            ratio = np.random.choice(self.ratios)
            size = int(self.crop_size[0] * ratio), int(self.crop_size[1] * ratio)
            for _ in range(50):
                center_x = int(np.random.randint(margin_x, width - margin_x))
                center_y = int(np.random.randint(margin_y, height - margin_y))
                patch = np.array([
                    max(0, center_x - size[1] // 2),
                    max(0, center_y - size[0] // 2),
                    min(center_x + size[1] // 2, width),
                    min(center_y + size[0] // 2, height)
                ])
                boxes = results['gt_bboxes']
                if len(boxes) and not centers_inside(boxes, patch).any():
                    continue
                results['img'], _, _ = self._paste(results['img'], (center_y, center_x), size)
                results['img_shape'] = results['pad_shape'] = results['img'].shape
                shift = np.array([size[1] // 2 - center_x, size[0] // 2 - center_y] * 2)
                for key in results.get('bbox_fields', []):
                    inside = centers_inside(results[key], patch)
                    boxes = results[key] + shift.astype(results[key].dtype)
                    if self.bbox_clip_border:
                        boxes = clip_boxes(boxes, *size)
                    sides = boxes[:, 2:] - boxes[:, :2]
                    keep_boxes(results, key, boxes, inside & (sides > 0).all(axis=1))
                return results
        return None  # no center shows an object; V2 would loop forever

    def _at_test_time(self, results: Dict[str, Any]) -> Dict[str, Any]:
        img = results['img']
        height, width = img.shape[:2]
        mode, value = self.test_pad_mode
        if mode == 'logical_or':
            size = (height | value) + self.test_pad_add_pix, (width | value) + self.test_pad_add_pix
        else:
            size = -(-height // value) * value, -(-width // value) * value
        results['img_shape'] = img.shape
        results['img'], results['border'], _ = self._paste(img, (height // 2, width // 2), size)
        results['pad_shape'] = results['img'].shape
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(crop_size={self.crop_size}, ratios={self.ratios}, '
                f'border={self.border}, mean={self.input_mean}, std={self.input_std}, '
                f'to_rgb={self.to_rgb}, test_mode={self.test_mode}, '
                f'test_pad_mode={self.test_pad_mode}, bbox_clip_border={self.bbox_clip_border})')
