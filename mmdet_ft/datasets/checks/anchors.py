"""Whether a model's anchors can meet the objects of a data set."""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.split import Split


class Anchors(NamedTuple):
    """Of a dense head."""
    base: List[np.ndarray]  # a level [anchors a cell, 4], around the first cell
    strides: List[Tuple[float, float]]  # a level, x y
    pos_iou: float  # from here up an anchor is positive
    min_pos_iou: float  # and an object's best anchor from here up


class Reach(NamedTuple):
    """How well objects are met; shares of all."""
    good: float  # by an anchor of pos_iou
    best_only: float  # by their best anchor alone
    never: float


def input_scale(sizes: np.ndarray, img_scale: Sequence[float], keep_ratio: bool) -> np.ndarray:
    """Factors [n, 2] for x and y by which Resize(img_scale) changes images of these sizes (width, height)."""
    long, short = max(img_scale), min(img_scale)
    sizes = np.maximum(sizes, 1).astype(np.float64)
    if not keep_ratio:
        return np.asarray(img_scale, dtype=np.float64) / sizes
    factor = np.minimum(long / sizes.max(1), short / sizes.min(1))
    return np.stack([factor, factor], 1)


def best_iou(boxes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """For boxes [n, 4] of the network's input their IoU with the nearest anchor of the best shape, [n]."""
    best = np.zeros(len(boxes))
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    for base, stride in zip(anchors.base, anchors.strides):
        for anchor in base:
            middle = (anchor[:2] + anchor[2:]) / 2
            shift = np.round((center - middle) / stride) * stride
            placed = np.concatenate([shift + anchor[:2], shift + anchor[2:]], 1)
            low = np.maximum(placed[:, :2], boxes[:, :2])
            high = np.minimum(placed[:, 2:], boxes[:, 2:])
            both = (high - low).clip(0).prod(1)
            union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (anchor[2:] - anchor[:2]).prod() - both
            best = np.maximum(best, both / np.maximum(union, 1e-9))
    return best


def check_anchors(split: Split, anchors: Anchors, img_scale: Any,
                  keep_ratio: bool) -> Tuple[Optional[Reach], List[Problem]]:
    """The share of objects that training can teach a head with these anchors."""
    boxes, sizes = split.boxes, split.sizes[split.image]
    with np.errstate(invalid='ignore'):
        real = (split.labels >= 0) & ~split.ignored & np.isfinite(boxes).all(1) & (
            boxes[:, 2:] - boxes[:, :2] >= 1).all(1) & (sizes > 0).all(1)
    places = np.flatnonzero(real)
    if not len(places):
        return None, []
    scale = input_scale(sizes[places], img_scale, keep_ratio)
    scaled = boxes[places] * np.concatenate([scale, scale], 1)
    best = best_iou(scaled, anchors)
    never = best < anchors.min_pos_iou
    reach = Reach(*(float(part.mean()) for part in (best >= anchors.pos_iou,
                                                    ~never & (best < anchors.pos_iou), never)))
    if reach.never <= .02:
        return reach, []
    sides = np.sqrt((scaled[:, 2:] - scaled[:, :2]).prod(1))[never]
    anchor_sides = [
        float(np.sqrt((base[:, 2:] - base[:, :2]).prod(1)).min()) for base in anchors.base
    ]
    small = np.median(sides) < min(anchor_sides)
    fix = ('a larger img_scale, or smaller anchors (anchor_generator.scales or base_sizes)'
           if small else 'other ratios or scales of the anchor_generator')
    return reach, split.of_objects(
        'object that no anchor meets',
        places[never],
        f'{reach.never:.0%} of the objects overlap with no anchor by {anchors.min_pos_iou:g} (IoU): they are not '
        f'learnt. In the network\'s input their side is {np.median(sides):.0f} pixels (median), the anchors\' '
        f'{min(anchor_sides):.0f} to {max(anchor_sides):.0f}',
        fix,
        is_defect=False)
