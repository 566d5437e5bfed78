"""Transforms that combine several images; MultiImageMixDataset passes the others as `mix_results`.

Beyond V2's boxes and labels, ignored boxes and masks are combined too.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mmcv
import numpy as np

from mmdet_ft.datasets.annotations.masks import join_masks
from mmdet_ft.datasets.pipelines.detection.affine import boxes_inside, boxes_worth_keeping
from mmdet_ft.datasets.pipelines.detection.crop import LABELS_OF, MASKS_OF, clip_boxes
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.registry import PIPELINES

NO_BOXES = np.zeros((0, 4), dtype=np.float32)


class Objects(NamedTuple):
    """One box field of a sample with its labels and masks, where it has them."""
    boxes: np.ndarray  # [n, 4]
    labels: Optional[np.ndarray]
    masks: Optional[Any]

    def kept(self, keep: np.ndarray) -> 'Objects':
        return Objects(*(None if part is None else part[keep] for part in self))


def objects_of(sample: Dict[str, Any], key: str) -> Objects:
    labels, masks = LABELS_OF.get(key), MASKS_OF.get(key)
    return Objects(sample.get(key, NO_BOXES), sample.get(labels), sample.get(masks))


def put_objects(results: Dict[str, Any], key: str, parts: Sequence[Objects]) -> None:
    """Join the objects of several samples in the fields of one."""
    results[key] = np.concatenate([part.boxes for part in parts])
    if LABELS_OF.get(key) in results:
        results[LABELS_OF[key]] = np.concatenate([part.labels for part in parts])
    if MASKS_OF.get(key) in results:
        results[MASKS_OF[key]] = join_masks([part.masks for part in parts])


def box_fields_of(samples: Sequence[Dict[str, Any]], transform: object) -> List[str]:
    """Return the box fields that any of the samples has; those of the first sample come first."""
    for sample in samples:
        if sample.get('seg_fields'):
            raise NotImplementedError(f'{type(transform).__name__} does not mix segmentation maps; '
                                      f'load without them: LoadAnnotations(with_seg=False)')
    return list(dict.fromkeys(key for sample in samples for key in sample.get('bbox_fields', [])))


def images_to_mix(results: Dict[str, Any], number: int, transform: object) -> List[Dict[str, Any]]:
    others = results.get('mix_results')
    if others is None or len(others) != number:
        found = 'none' if others is None else len(others)
        raise ValueError(
            f'{type(transform).__name__} mixes in {number} other image(s), found {found}; put it into the '
            f"pipeline of dict(type='MultiImageMixDataset', dataset=..., pipeline=[...])")
    return others


def _check_scale(img_scale: object, transform: object) -> Tuple[int, int]:
    if not isinstance(img_scale, (tuple, list)) or len(img_scale) != 2:
        raise TypeError(
            f'{type(transform).__name__}: img_scale is (height, width), found {img_scale!r}')
    return tuple(img_scale)


@PIPELINES.register_module()
class Mosaic:
    """Mosaic of four images around one point of a canvas of twice their size (YOLOv4, arXiv:2004.10934).

        +---------------+-----------+   The sample itself is at the top left, three sampled ones at the top right,
        |  +------------|           |   bottom left and bottom right. Each is resized to fit `img_scale` and placed
        |  |     0      |-------+   |   with its inner corner at the center. Pixels outside the canvas are cropped,
        |  |            |   1   |   |   free pixels have the value `pad_val`.
        +--+------------+-------+---+
        |     |    2    |     3     |
        +-----+---------+-----------+

    Args:
        img_scale: (height, width) of one image; the canvas has twice that.
        center_ratio_range: range of the sampled center, as fractions of img_scale.
        min_bbox_size: smallest width and height of a box afterwards, pixels.
        bbox_clip_border: clip boxes to the canvas.
        skip_filter: keep boxes of any size.
        pad_val: value of free pixels.
        prob: probability 0..1.

    Sets img_shape. Raises ValueError without three `mix_results`.
    """
    moves = ('img', 'bbox', 'mask')
    instead = 'load without maps: LoadAnnotations(with_seg=False)'

    def __init__(self,
                 img_scale: Tuple[int, int] = (640, 640),
                 center_ratio_range: Tuple[float, float] = (0.5, 1.5),
                 min_bbox_size: float = 0,
                 bbox_clip_border: bool = True,
                 skip_filter: bool = True,
                 pad_val: float = 114,
                 prob: float = 1.0):
        if not 0 <= prob <= 1:
            raise ValueError(f'Mosaic: prob is a probability 0..1, found {prob}')
        self.img_scale = _check_scale(img_scale, self)
        self.center_ratio_range = center_ratio_range
        self.min_bbox_size = min_bbox_size
        self.bbox_clip_border = bbox_clip_border
        self.skip_filter = skip_filter
        self.pad_val = pad_val
        self.prob = prob

    def get_indexes(self, dataset: Dataset) -> List[int]:
        """Return the indices of three random images to mix in."""
        return [int(np.random.randint(0, len(dataset))) for _ in range(3)]

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if np.random.uniform(0, 1) > self.prob:
            return results
        samples = [results, *images_to_mix(results, 3, self)]
        fields = box_fields_of(samples, self)
        height, width = int(self.img_scale[0] * 2), int(self.img_scale[1] * 2)
        img = results['img']
        canvas = np.full((height, width, *img.shape[2:]), self.pad_val, dtype=img.dtype)
        center_x = int(np.random.uniform(*self.center_ratio_range) * self.img_scale[1])
        center_y = int(np.random.uniform(*self.center_ratio_range) * self.img_scale[0])

        parts: Dict[str, List[Objects]] = {key: [] for key in fields}
        for index, sample in enumerate(samples):
            part = sample['img']
            scale = min(self.img_scale[0] / part.shape[0], self.img_scale[1] / part.shape[1])
            size = max(int(part.shape[0] * scale), 1), max(int(part.shape[1] * scale), 1)
            part = mmcv.imresize(part, size[::-1])
            # the top left corner of the whole part on the canvas; it may be outside
            left = center_x - (0 if index % 2 else size[1])
            top = center_y - (0 if index // 2 else size[0])
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = min(left + size[1], width), min(top + size[0], height)
            canvas[y1:y2, x1:x2] = part[y1 - top:y2 - top, x1 - left:x2 - left]
            for key in fields:
                objects = objects_of(sample, key)
                boxes = objects.boxes * np.float32(scale) + np.array([left, top, left, top],
                                                                     dtype=np.float32)
                masks = objects.masks
                if masks is not None:
                    inside = np.array([x1 - left, y1 - top, x2 - left, y2 - top])
                    masks = masks.resize(size).crop(inside).expand(height, width, y1, x1)
                parts[key].append(Objects(boxes, objects.labels, masks))

        results['img'] = canvas
        results['img_shape'] = canvas.shape
        for key in fields:
            put_objects(results, key,
                        [self._clean(objects, height, width) for objects in parts[key]])
        results['bbox_fields'] = fields
        return results

    def _clean(self, objects: Objects, height: int, width: int) -> Objects:
        """Return the objects on the canvas, clipped to its border, without those outside."""
        boxes = objects.boxes
        if self.bbox_clip_border:
            boxes = clip_boxes(boxes, height, width)
        keep = boxes_inside(boxes, height, width)
        if not self.skip_filter:
            keep &= (boxes[:, 2:] - boxes[:, :2] > self.min_bbox_size).all(axis=1)
        return objects._replace(boxes=boxes).kept(keep)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(img_scale={self.img_scale}, '
                f'center_ratio_range={self.center_ratio_range}, pad_val={self.pad_val}, '
                f'min_bbox_size={self.min_bbox_size}, skip_filter={self.skip_filter}, '
                f'prob={self.prob})')


@PIPELINES.register_module()
class MixUp:
    """Mean of the image and another one, with the objects of both (YOLOX, arXiv:2107.08430).

    The other image is resized to fit `img_scale` and padded to it. It is then scaled by a random
    ratio, perhaps flipped, and cropped or padded (with 0) to the image's size. An image without
    objects is not mixed in.

    Args:
        img_scale: (height, width) of the other image before the random ratio.
        ratio_range: (smallest, largest) ratio.
        flip_ratio: probability 0..1 of a horizontal flip.
        pad_val: value of its padding to img_scale.
        max_iters: how often to look for an image with objects.
        min_bbox_size, min_area_ratio, max_aspect_ratio: thresholds for boxes after the crop (see
            boxes_worth_keeping).
        bbox_clip_border: clip boxes to the image.
        skip_filter: do not apply these thresholds.

    The image becomes uint8. Sets img_shape. Raises ValueError without one entry of `mix_results`.
    """
    moves = ('img', 'bbox', 'mask')
    instead = 'load without maps: LoadAnnotations(with_seg=False)'

    def __init__(self,
                 img_scale: Tuple[int, int] = (640, 640),
                 ratio_range: Tuple[float, float] = (0.5, 1.5),
                 flip_ratio: float = 0.5,
                 pad_val: float = 114,
                 max_iters: int = 15,
                 min_bbox_size: float = 5,
                 min_area_ratio: float = 0.2,
                 max_aspect_ratio: float = 20,
                 bbox_clip_border: bool = True,
                 skip_filter: bool = True):
        self.dynamic_scale = _check_scale(img_scale, self)
        self.ratio_range = ratio_range
        self.flip_ratio = flip_ratio
        self.pad_val = pad_val
        self.max_iters = max_iters
        self.min_bbox_size = min_bbox_size
        self.min_area_ratio = min_area_ratio
        self.max_aspect_ratio = max_aspect_ratio
        self.bbox_clip_border = bbox_clip_border
        self.skip_filter = skip_filter

    def get_indexes(self, dataset: Dataset) -> int:
        """Return the index of an image to mix in: one with objects, if `max_iters` samples find one."""
        for _ in range(self.max_iters):
            index = int(np.random.randint(0, len(dataset)))
            if len(dataset.get_ann_info(index)['bboxes']):
                break
        return index

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        other, = images_to_mix(results, 1, self)
        fields = box_fields_of([results, other], self)
        if not len(other['gt_bboxes']):
            return results
        ratio = np.random.uniform(*self.ratio_range)
        flip = np.random.uniform(0, 1) < self.flip_ratio

        # resize to fit the scale and pad to it
        img = other['img']
        height, width = self.dynamic_scale
        scale = min(height / img.shape[0], width / img.shape[1])
        inner = max(int(img.shape[0] * scale), 1), max(int(img.shape[1] * scale), 1)
        padded = np.full((height, width, *img.shape[2:]), self.pad_val, dtype=img.dtype)
        padded[:inner[0], :inner[1]] = mmcv.imresize(img, inner[::-1])
        # scale and flip
        scale *= ratio
        scaled_height, scaled_width = max(int(height * ratio), 1), max(int(width * ratio), 1)
        scaled = mmcv.imresize(padded, (scaled_width, scaled_height))
        if flip:
            scaled = scaled[:, ::-1]
        # crop to the size of the image
        target_height, target_width = results['img'].shape[:2]
        whole = max(scaled_height, target_height), max(scaled_width, target_width)
        top = left = 0
        if whole[0] > target_height:
            top = int(np.random.randint(0, whole[0] - target_height))
        if whole[1] > target_width:
            left = int(np.random.randint(0, whole[1] - target_width))
        seen = np.zeros((*whole, *img.shape[2:]), dtype=np.uint8)
        seen[:scaled_height, :scaled_width] = scaled
        seen = seen[top:top + target_height, left:left + target_width]
        mixed = 0.5 * results['img'].astype(np.float32) + 0.5 * seen.astype(np.float32)

        for key in fields:
            objects = objects_of(other, key)
            before = objects.boxes * np.float32(scale)
            if self.bbox_clip_border:
                before = clip_boxes(before, scaled_height, scaled_width)
            if flip:
                before[:, 0::2] = scaled_width - before[:, 2::-2]
            boxes = before - np.array([left, top, left, top], dtype=np.float32)
            if self.bbox_clip_border:
                boxes = clip_boxes(boxes, target_height, target_width)
            keep = boxes_inside(boxes, target_height, target_width)
            if not self.skip_filter:
                keep &= boxes_worth_keeping(before, boxes, self.min_bbox_size, self.min_area_ratio,
                                            self.max_aspect_ratio)
            masks = objects.masks
            if masks is not None:
                masks = masks.resize(inner).expand(height, width, 0, 0)
                masks = masks.resize((scaled_height, scaled_width))
                masks = masks.flip() if flip else masks
                box = np.array([left, top, left + target_width, top + target_height])
                masks = masks.expand(*whole, 0, 0).crop(box)
            own = objects_of(results, key)
            own = own.kept(boxes_inside(own.boxes, target_height, target_width))
            put_objects(results, key, [own, Objects(boxes, objects.labels, masks).kept(keep)])
        results['img'] = mixed.astype(np.uint8)
        results['img_shape'] = mixed.shape
        results['bbox_fields'] = fields
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(img_scale={self.dynamic_scale}, '
                f'ratio_range={self.ratio_range}, flip_ratio={self.flip_ratio}, '
                f'pad_val={self.pad_val}, max_iters={self.max_iters}, '
                f'min_bbox_size={self.min_bbox_size}, min_area_ratio={self.min_area_ratio}, '
                f'max_aspect_ratio={self.max_aspect_ratio}, skip_filter={self.skip_filter})')
