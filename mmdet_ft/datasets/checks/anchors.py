"""Match between a model's anchors and the objects of a dataset."""
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.split import Split


class Anchors(NamedTuple):
    """The anchors of a dense head."""
    base: List[np.ndarray]  # per level [anchors per cell, 4], around the first cell
    strides: List[Tuple[float, float]]  # per level, x y
    pos_iou: float  # from this IoU on an anchor is positive
    min_pos_iou: float  # and an object's best anchor from this IoU on
    generator: str = 'anchor_generator'  # its key in the config
    settings: Dict[str, Any] = {}  # of the generator: scales or octave_base_scale, and ratios
    with_settings: Optional[Callable[[Dict[str, Any]],
                                     List[np.ndarray]]] = None  # gives other `base`


class AnchorCoverage(NamedTuple):
    """Objects that anchors match well, barely or never; fractions of all objects."""
    good: float  # matched by an anchor of pos_iou
    best_only: float  # matched by their best anchor alone
    never: float


def input_scale(sizes: np.ndarray, img_scale: Sequence[float], keep_ratio: bool) -> np.ndarray:
    """Return the factors [n, 2] for x and y by which Resize(img_scale) scales images of these sizes (width, height)."""
    long, short = max(img_scale), min(img_scale)
    sizes = np.maximum(sizes, 1).astype(np.float64)
    if not keep_ratio:
        return np.asarray(img_scale, dtype=np.float64) / sizes
    factor = np.minimum(long / sizes.max(1), short / sizes.min(1))
    return np.stack([factor, factor], 1)


def best_iou(boxes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """Return the IoU of boxes [n, 4] in network input pixels with the nearest anchor of the best shape, [n]."""
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


SCALES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # candidates
MOST_TRIED = 2000  # objects used for the advice
MOST_MISSED = .02  # fraction of objects without an anchor that is not reported


def find_settings(boxes: np.ndarray, anchors: Anchors) -> Optional[Tuple[Dict[str, Any], float]]:
    """Find generator settings that match more of the boxes [n, 4]: (settings, fraction that is still unmatched).

    Another scale alone is preferred to more scales, and those to more ratios: more anchors cost
    more. None if no candidate halves the unmatched fraction.
    """
    if anchors.with_settings is None:
        return None
    if len(boxes) > MOST_TRIED:
        boxes = boxes[np.linspace(0, len(boxes) - 1, MOST_TRIED).astype(int)]

    def measure_coverage(base: List[np.ndarray]) -> Tuple[float, float]:
        best = best_iou(boxes, anchors._replace(base=base))
        return float((best < anchors.min_pos_iou).mean()), float(best.mean())

    now, _ = measure_coverage(anchors.base)
    octave = anchors.settings.get('octave_base_scale')
    old = [octave] if octave else list(anchors.settings.get('scales') or (1, ))
    nearest = sorted(SCALES, key=lambda scale: abs(np.log(scale / old[0])))
    single = [
        dict(octave_base_scale=scale) if octave else dict(scales=[scale]) for scale in nearest
    ]
    several = [] if octave else [
        dict(scales=sorted([*old, scale])) for scale in nearest if scale not in old
    ]
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    longer = round(2 * float(np.percentile(sides.max(1) / sides.min(1), 90))) / 2
    ratios = sorted({*anchors.settings.get('ratios', ()), 1 / longer, longer})
    shapes = [dict(ratios=[round(ratio, 2) for ratio in ratios])]
    for tried in (single, several, shapes):
        limit = now / 2 if tried is shapes else max(MOST_MISSED, now / 4)
        found = [(*measure_coverage(anchors.with_settings(settings)), settings)
                 for settings in tried]
        found = [item for item in found if item[0] <= limit]
        if found:  # among similarly good ones the first: the nearest to the config
            fit = max(item[1] for item in found)
            share, _, settings = next(item for item in found if item[1] >= fit - .05)
            return settings, share
    return None


def check_anchors(split: Split, anchors: Anchors, img_scale: Sequence[float],
                  keep_ratio: bool) -> Tuple[Optional[AnchorCoverage], List[Problem]]:
    """Return the fractions of objects that these anchors match in training, and the problems."""
    boxes, sizes = split.boxes, split.sizes[split.image]
    with np.errstate(invalid='ignore'):
        real = (split.labels >= 0) & ~split.ignored & np.isfinite(boxes).all(1) & (
            boxes[:, 2:] - boxes[:, :2] >= 1).all(1) & (sizes > 0).all(1)
    indices = np.flatnonzero(real)
    if not len(indices):
        return None, []
    scale = input_scale(sizes[indices], img_scale, keep_ratio)
    scaled = boxes[indices] * np.concatenate([scale, scale], 1)
    best = best_iou(scaled, anchors)
    never = best < anchors.min_pos_iou
    reach = AnchorCoverage(*(float(part.mean())
                             for part in (best >= anchors.pos_iou,
                                          ~never & (best < anchors.pos_iou), never)))
    if reach.never <= MOST_MISSED:
        return reach, []
    sides = np.sqrt((scaled[:, 2:] - scaled[:, :2]).prod(1))[never]
    anchor_sides = [
        float(np.sqrt((base[:, 2:] - base[:, :2]).prod(1)).min()) for base in anchors.base
    ]
    small = np.median(sides) < min(anchor_sides)
    found = find_settings(scaled, anchors)
    if found is not None:
        written = ', '.join(f'{key}={value!r}' for key, value in found[0].items())
        fix = (
            f'write {anchors.generator}=dict({written}): then {found[1]:.0%} are matched by none. The layers of the '
            'head whose shape follows the anchors are re-initialized where there are more of them')
    else:
        fix = 'other ratios or scales of the anchor_generator'
    if small:
        factor = min(anchor_sides) / np.median(sides)
        larger = tuple(int(round(side * factor)) for side in img_scale)
        fix += f'; or a larger img_scale (with {larger} they are as large as the smallest anchors, at more memory)'
    return reach, split.of_objects(
        'object without a matching anchor',
        indices[never],
        f'{reach.never:.0%} of the objects overlap with no anchor by {anchors.min_pos_iou:g} (IoU): they are not '
        f'learned. In the network\'s input their side is {np.median(sides):.0f} pixels (median), the anchors\' '
        f'{min(anchor_sides):.0f} to {max(anchor_sides):.0f}',
        fix,
        is_defect=False)
