"""Samples of a dataset into one padded batch."""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.datasets.annotations.masks import PolygonMasks
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.shared_batches import shared_empty
from mmdet_ft.datasets.pipelines.shared.formatting import DeferredImage
from mmdet_ft.structures import (Batch, ClassTruth, GroundTruth, Masks, Outlines, Regions,
                                 SemanticMaps)

PROPOSAL_SLOTS = 64  # likewise of the slots for proposals
SLOTS = 8  # numbers of ground-truth slots are multiples of this, so that few shapes occur
KNOWN_KEYS = ('img', 'img_metas', 'img_mean', 'img_std', 'gt_bboxes', 'gt_labels',
              'gt_bboxes_ignore', 'gt_masks', 'gt_semantic_seg', 'gt_label', 'proposals')


def collate(samples: List[Dict[str, Any]], bucket: int = 1) -> Union[Batch, Tuple[Batch, ...]]:
    """Collate the samples of Collect into one batch, padded to multiples of `bucket` pixels.

    Training samples (with gt_bboxes, or a classifier's with gt_label) give a Batch with ground
    truth. Test samples give a tuple of Batches without it, one per view of MultiScaleFlipAug, else
    a single one.

    Raises ValueError for a key that Batch lacks, DataError for a classifier's images of unequal
    size.
    """
    first = samples[0]
    unknown = [key for key in first if key not in KNOWN_KEYS]
    if unknown:
        raise ValueError(
            f'Collect gives {", ".join(unknown)}, which no model here takes; keys of a batch are '
            f'{", ".join(KNOWN_KEYS)}')
    if isinstance(first['img'], (list, tuple)):
        views = len(first['img'])
        return tuple(
            _batch([{
                key: value[view]
                for key, value in sample.items()
            } for sample in samples], bucket) for view in range(views))
    if 'gt_bboxes' in first:
        return _batch(samples, bucket, _ground_truth(samples, bucket))
    if 'gt_label' in first:
        check_equal_sizes(samples)
        labels = torch.stack([torch.as_tensor(sample['gt_label']) for sample in samples])
        return _batch(samples, bucket, ClassTruth(labels))
    return (_batch(samples, bucket), )


def collate_of_classifier(samples: List[Dict[str, Any]],
                          bucket: int = 1) -> Union[Batch, Tuple[Batch, ...]]:
    """Collate like `collate`; samples may lack a label, and their images have to be of one size."""
    check_equal_sizes(samples)
    return collate(samples, bucket)


def check_equal_sizes(samples: Sequence[Dict[str, Any]]) -> None:
    """Raise DataError if images differ in size.

    A classifier averages over the whole image: with padding, its scores depend on the other images
    of the batch.
    """
    if len(group_by_size(samples)) == 1:
        return
    (name, size), (other_name, other) = [(_name_of(samples[indices[0]]),
                                          _size_of(samples[indices[0]]))
                                         for indices in group_by_size(samples)[:2]]
    raise DataError(
        f'images of unequal size in one batch of a classifier: {name} leaves its pipeline with {size[1]} x {size[0]} '
        f'pixels (width x height), {other_name} with {other[1]} x {other[0]}. Padding would change their scores. '
        "To fix: before Normalize write dict(type='CenterCrop', crop_size=224) or dict(type='Resize', size=(224, "
        '224)), with the size that the model is to see; or write samples_per_gpu=1')


def group_by_size(samples: Sequence[Dict[str, Any]]) -> List[List[int]]:
    """Group the indices of samples by image size, in the order of the first: batches without padding."""
    groups: Dict[Any, List[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(_size_of(sample), []).append(index)
    return list(groups.values())


def _size_of(sample: Dict[str, Any]) -> Tuple[int, ...]:
    """Return height and width of the image; those of several views one after the other."""
    views = sample['img'] if isinstance(sample['img'], (list, tuple)) else [sample['img']]
    return tuple(side for view in views for side in tuple(view.shape)[-2:])


def _name_of(sample: Dict[str, Any]) -> str:
    metas = sample.get('img_metas') or {}
    metas = metas[0] if isinstance(metas, (list, tuple)) else metas
    return repr(metas.get('filename') or metas.get('ori_filename') or 'one')


def _batch(samples: List[Dict[str, Any]],
           bucket: int,
           gt: Union[GroundTruth, ClassTruth, None] = None) -> Batch:
    metas = [sample['img_metas'] for sample in samples]
    deferred = [sample['img'].dtype == torch.uint8 and 'img_mean' in sample for sample in samples]
    mean = std = None
    if all(deferred):
        mean = torch.stack([sample['img_mean'] for sample in samples])
        std = torch.stack([sample['img_std'] for sample in samples])
    elif any(deferred):  # a transform that changes the type of some images only
        samples = [
            _normalized(sample) if late else sample for sample, late in zip(samples, deferred)
        ]
    scale = np.ones((len(metas), 4), dtype=np.float32)
    for row, meta in zip(scale, metas):
        row[:] = meta.get('scale_factor', 1.0)
    return Batch(
        images=_stack_images([sample['img'] for sample in samples], metas[0].get('img_pad_val', 0),
                             bucket),
        sizes=torch.tensor([meta['img_shape'][:2] for meta in metas], dtype=torch.float32),
        pad_sizes=torch.tensor([meta.get('pad_shape', meta['img_shape'])[:2] for meta in metas],
                               dtype=torch.float32),
        scale_factors=torch.from_numpy(scale),
        metas=metas,
        mean=mean,
        std=std,
        gt=gt,
        own_sizes=_own_sizes(samples, bucket),
        proposals=_proposals(samples))


def _own_sizes(samples: Sequence[Dict[str, Any]], bucket: int) -> Optional[List[Tuple[int, int]]]:
    """Return the height and width of each image in a batch of its own; None where all are the same."""
    sizes = [(round_up(sample['img'].shape[-2], bucket), round_up(sample['img'].shape[-1], bucket))
             for sample in samples]
    return sizes if len(set(sizes)) > 1 else None


def _normalized(sample: Dict[str, Any]) -> Dict[str, Any]:
    """Apply the deferred normalization on the host and set the padding to zero."""
    mean, std = sample['img_mean'][:, None, None], sample['img_std'][:, None, None]
    img = (sample['img'].float() - mean) / std
    height, width = sample['img_metas']['img_shape'][:2]
    img[:, height:] = 0
    img[:, :, width:] = 0
    return {**sample, 'img': img}


def _stack_images(images: Sequence[Union[Tensor, DeferredImage]], pad_value: float,
                  bucket: int) -> Tensor:
    """Stack images [C, h, w] into one tensor [B, C, H, W], padded at the right and bottom."""
    height, width = (round_up(max(img.shape[side] for img in images), bucket) for side in (1, 2))
    stacked = shared_empty((len(images), images[0].shape[0], height, width), images[0].dtype)
    if isinstance(images[0], DeferredImage):  # then all are, and pad_value is 0
        for target, img in zip(stacked.numpy(), images):
            img.write(target)
        return stacked
    if all(img.shape == stacked.shape[1:] and img.dtype == stacked.dtype for img in images):
        return torch.stack(images, out=stacked)
    for target, img in zip(stacked, images):
        target[:, img.shape[1]:] = pad_value
        target[:, :img.shape[1], img.shape[2]:] = pad_value
        target[:, :img.shape[1], :img.shape[2]] = img
    return stacked


def round_up(number: int, multiple: int = SLOTS) -> int:
    return -(-number // multiple) * multiple


def _slots(boxes: List[Tensor], slots: int) -> Tuple[Tensor, Tensor]:
    """Return boxes [B, slots, 4] and which are real [B, slots]; padding is a unit box."""
    # in numpy, here and below: small tensors take several times as long
    padded = np.zeros((len(boxes), slots, 4), dtype=np.float32)
    padded[..., 2:] = 1
    valid = np.zeros((len(boxes), slots), dtype=bool)
    for row, real, box in zip(padded, valid, boxes):
        row[:len(box)] = box
        real[:len(box)] = True
    return torch.from_numpy(padded), torch.from_numpy(valid)


def _ground_truth(samples: List[Dict[str, Any]], bucket: int) -> GroundTruth:
    boxes = [sample['gt_bboxes'] for sample in samples]
    slots = max(SLOTS, round_up(max(len(box) for box in boxes)))
    padded, valid = _slots(boxes, slots)
    labels = np.zeros((len(samples), slots), dtype=np.int64)
    for row, sample in zip(labels, samples):
        if 'gt_labels' in sample:
            row[:len(sample['gt_labels'])] = sample['gt_labels']
    ignored = [sample.get('gt_bboxes_ignore', torch.zeros(0, 4)) for sample in samples]
    ignore, ignore_valid = _slots(ignored, round_up(max(len(box) for box in ignored)))
    masks = _masks([sample['gt_masks']
                    for sample in samples], slots) if 'gt_masks' in samples[0] else None
    semantic = _semantic_maps(samples, bucket) if 'gt_semantic_seg' in samples[0] else None
    return GroundTruth(padded, torch.from_numpy(labels), valid, ignore, ignore_valid, masks,
                       semantic)


def _semantic_maps(samples: Sequence[Dict[str, Any]], bucket: int) -> SemanticMaps:
    """Pad maps [1, h, w] to the size of the batch's images, scaled as the first map is to its image."""
    maps = [np.asarray(sample['gt_semantic_seg'])[0] for sample in samples]
    size = []
    for side in (0, 1):
        length = samples[0]['img'].shape[side + 1]
        whole = round_up(max(sample['img'].shape[side + 1] for sample in samples), bucket)
        largest = max(item.shape[side] for item in maps)
        size.append(max(largest, whole * maps[0].shape[side] // length))
    pad_value = samples[0]['img_metas'].get('seg_pad_val', 255)
    labels = np.full((len(maps), *size), pad_value, dtype=np.int64)
    for target, item in zip(labels, maps):
        target[:item.shape[0], :item.shape[1]] = item
    return SemanticMaps(torch.from_numpy(labels), tuple(np.unique(labels).tolist()))


def _proposals(samples: List[Dict[str, Any]]) -> Optional[Regions]:
    if 'proposals' not in samples[0]:
        return None
    boxes = [sample['proposals'] for sample in samples]
    return Regions(*_slots(boxes, round_up(max(len(box) for box in boxes), PROPOSAL_SLOTS)))


class _Crop(NamedTuple):
    pixels: np.ndarray  # [h, w]
    offset: Tuple[int, int]  # position of the pixels in the crop with margin, x y
    rect: Tuple[int, int, int, int]  # x0 y0 w h with margin


def _with_margin(pixels: np.ndarray, corner: Tuple[int, int], height: int, width: int) -> _Crop:
    """Return a crop with one empty pixel around it inside the image; an object without pixels gets one empty pixel."""
    if not pixels.size:
        return _Crop(np.zeros((1, 1), dtype=np.uint8), (0, 0), (0, 0, 1, 1))
    (x0, y0), (h, w) = corner, pixels.shape
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)
    right, bottom = min(x0 + w + 1, width), min(y0 + h + 1, height)
    return _Crop(pixels, (x0 - left, y0 - top), (left, top, right - left, bottom - top))


def _outlines(all_masks: List[PolygonMasks], slots: int) -> Outlines:
    """Collect the polygons of a batch."""
    count = torch.zeros(len(all_masks), slots, dtype=torch.int64)
    sides, parts, max_parts = [np.zeros((0, 4))], [], 0
    for row, masks in zip(count, all_masks):
        for slot, polygons in enumerate(masks):
            for number, polygon in enumerate(polygons):
                points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
                sides.append(np.concatenate([points, np.roll(points, -1, axis=0)], 1))
                parts += [number] * len(points)
            row[slot] = sum(len(polygon) // 2 for polygon in polygons)
            max_parts = max(max_parts, len(polygons))
    start = count.flatten().cumsum(0).view_as(count) - count
    return Outlines(
        torch.from_numpy(np.concatenate(sides)), torch.tensor(parts, dtype=torch.int64), start,
        count, int(count.max()), max_parts)


def _masks(all_masks: List[Any], slots: int) -> Union[Masks, Outlines]:
    """Collect the masks of a batch, cropped to their objects; polygons stay polygons."""
    if all(isinstance(masks, PolygonMasks) for masks in all_masks):
        return _outlines(all_masks, slots)
    rect = np.zeros((len(all_masks), slots, 4), dtype=np.int64)
    crops = []
    for row, masks in zip(rect, all_masks):
        masks = masks.to_bitmap()
        found = [
            _with_margin(pixels, corner, masks.height, masks.width)
            for pixels, corner in zip(masks.crops, masks.corners)
        ]
        if found:
            row[:len(found)] = [crop.rect for crop in found]
        crops.append(found)
    sizes = rect[..., 2] * rect[..., 3]
    ends = sizes.cumsum().reshape(sizes.shape)
    offset = ends - sizes
    data = shared_empty((int(ends[-1, -1]), ), torch.uint8).zero_()
    flat = data.numpy()
    for starts, found in zip(offset.tolist(), crops):
        for start, crop in zip(starts, found):
            x, y = crop.offset
            _, _, w, h = crop.rect
            target = flat[start:start + w * h].reshape(h, w)
            target[y:y + crop.pixels.shape[0], x:x + crop.pixels.shape[1]] = crop.pixels
    width, height = rect[..., 2:].max(axis=(0, 1)).tolist()
    return Masks(data, torch.from_numpy(offset), torch.from_numpy(rect), (height, width))
