"""KITTI's average precision of 2D boxes: easy, moderate and hard objects, 40 recall points."""
import logging
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.evaluation.recall import pairwise_iou
from mmdet_ft.evaluation.table_output import NO_OBJECTS, LoggerLike, print_log, table_text

NUM_POINTS = 40
# Minimum IoU of a correct detection; 0.5 for other classes.
MIN_OVERLAPS = dict(Car=0.7, Pedestrian=0.5, Cyclist=0.5)
# Classes so similar that detecting one for the other is neither right nor wrong.
NEIGHBOURS = dict(Car='Van', Pedestrian='Person_sitting')
DONT_CARE = 'DontCare'


class Level(NamedTuple):
    """Limits for the ground truths that count: minimum height, maximum occlusion and truncation."""
    min_height: float
    max_occlusion: int
    max_truncation: float


LEVELS = dict(
    easy=Level(40, 0, .15), moderate=Level(25, 1, .3), hard=Level(25, 2, .5),
    all=Level(0, 3, 1.))  # not KITTI's: every labeled object


class Objects(NamedTuple):
    """The ground truths of an image, of any class and DontCare."""
    names: np.ndarray  # str [n]
    boxes: np.ndarray  # float [n, 4], x1 y1 x2 y2
    truncated: np.ndarray  # float [n], 0..1; -1 not known
    occluded: np.ndarray  # int [n], 0 to 3; 3 and -1 not known


class _Truth(NamedTuple):
    """A relevant ground truth for a class, and the indices of the detections that overlap it enough."""
    counts: bool  # at this level; others are ignored
    large: List[int]  # those high enough for the level, the largest overlap first
    small: List[int]  # the others
    by_score: List[int]  # both, the best score first


class _Image(NamedTuple):
    """The ground truths and detections of an image for one class and level."""
    truths: List[_Truth]
    scores: List[float]  # of the detections
    is_small: List[bool]
    is_wrong: List[bool]  # unless matched to a ground truth


def evaluate_kitti(results: List[Any],
                   objects: Sequence[Objects],
                   class_names: Sequence[str],
                   min_overlaps: Optional[Mapping[str, float]] = None,
                   logger: LoggerLike = None) -> 'OrderedDict[str, float]':
    """Compute the AP of every class at every level, by the rules of the benchmark's own program.

    A ground truth matches the free detection of largest overlap above the class's minimum. A
    detection is neither right nor wrong in three cases: it matches an ignored ground truth (another
    level, a similar class); it is inside a DontCare region; it is lower than the level's minimum.
    Precision is taken at 40 recall points (from 1/40 to 1), each the best at that recall or above
    it (Simonelli et al., arXiv:1905.12365).

    One rule differs: with fewer than 41 ground truths that program skips recall points, and five
    cars, all found, score 0.1. Here a ground truth counts for every recall point that it reaches.

    Args:
        results: per image a list over classes of arrays [n, 5].
        min_overlaps: for classes other than KITTI's, or to replace theirs.

    Returns `Car_easy_AP` and so on, 0 to 1, and `easy_mAP`, the mean over the classes with ground
    truths at the level. A level without any ground truth is omitted. The level 'all' counts every
    object. Without a ground truth at any level each mean is -1, and a warning is logged.
    """
    overlaps = {**MIN_OVERLAPS, **(min_overlaps or {})}
    values: 'OrderedDict[str, float]' = OrderedDict()
    table: Dict[str, List[str]] = {name: [name] for name in class_names}
    for level_name, level in LEVELS.items():
        found = []
        for label, name in enumerate(class_names):
            images = [
                _prepare(image, result, label, name, level, overlaps.get(name, .5))
                for image, result in zip(objects, results)
            ]
            num_truths = sum(truth.counts for image in images for truth in image.truths)
            if not num_truths:
                table[name] += ['0', '-']
                continue
            ap = _average_precision(images, num_truths)
            values[f'{name}_{level_name}_AP'] = ap
            table[name] += [str(num_truths), f'{ap:.3f}']
            found.append(ap)
        if found:
            values[f'{level_name}_mAP'] = sum(found) / len(found)
    rows = [[*table[name], f'{overlaps.get(name, .5):.2f}'] for name in class_names]
    headers = [text for level in LEVELS for text in (level, 'AP')]
    print_log('\n' + table_text(['class', *headers, 'IoU'], rows), logger=logger)
    if 'all_mAP' in values and 'hard_mAP' not in values:
        print_log(
            'No object is within the limits of easy, moderate or hard (occluded 3 means not known): '
            "the level 'all' counts instead.",
            logger=logger)
    if not values:
        print_log(NO_OBJECTS, logger=logger, level=logging.WARNING)
        values.update((f'{level}_mAP', -1.) for level in LEVELS)
    means = [name for name in ('moderate', 'all', 'easy', 'hard') if f'{name}_mAP' in values]
    for name in means[:1]:  # put KITTI's ranking metric first
        values.move_to_end(f'{name}_mAP', last=False)
    return values


def _prepare(objects: Objects, result: Any, label: int, name: str, level: Level,
             min_overlap: float) -> _Image:
    same = np.char.lower(objects.names) == name.lower()
    neighbour = np.char.lower(objects.names) == NEIGHBOURS.get(name, '').lower()
    height = objects.boxes[:, 3] - objects.boxes[:, 1]
    easy_enough = (height >= level.min_height) & (objects.occluded <= level.max_occlusion) & (
        objects.truncated <= level.max_truncation)
    kept = same | neighbour
    boxes = result[0] if isinstance(result, tuple) else result
    # low boxes of other classes can match an ignored ground truth, as in the original
    low = [part[np.trunc(part[:, 3] - part[:, 1]) < level.min_height] for part in boxes]
    own = boxes[label]
    detections = np.concatenate([own, *(low[:label] + low[label + 1:])]).astype(np.float64)
    scores = detections[:, 4]
    small = np.trunc(detections[:, 3] - detections[:, 1]) < level.min_height
    dont_care = objects.boxes[objects.names == DONT_CARE]
    inside = (_share_inside(detections, dont_care) > min_overlap).any(axis=1)
    truths = []
    for counts, iou in zip((same & easy_enough)[kept].tolist(),
                           pairwise_iou(objects.boxes[kept], detections)):
        near = np.flatnonzero(iou > min_overlap)
        large = near[~small[near]]
        truths.append(
            _Truth(
                counts,
                large=large[np.argsort(-iou[large], kind='stable')].tolist(),
                small=near[small[near]].tolist(),
                by_score=near[np.argsort(-scores[near], kind='stable')].tolist()))
    return _Image(truths, scores.tolist(), small.tolist(), (~small & ~inside).tolist())


def _share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return the fraction of each box's area inside each region, [N, M]."""
    top_left = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:4], regions[None, :, 2:4])
    area = (boxes[:, 2:4] - boxes[:, :2]).prod(axis=1)
    return np.clip(bottom_right - top_left, 0, None).prod(axis=2) / np.maximum(area, 1e-9)[:, None]


def _average_precision(images: List[_Image], num_truths: int) -> float:
    found = np.array([score for image in images for score in _scores_of_truths(image)])
    wrong = np.sort([
        score for image in images for score, is_wrong in zip(image.scores, image.is_wrong)
        if is_wrong
    ])
    precisions = []
    for threshold in _thresholds(np.sort(found)[::-1], num_truths):
        counts = [_count(image, threshold) for image in images if image.truths]
        num_right, num_taken = np.sum(counts, axis=0).tolist()
        num_wrong = len(wrong) - np.searchsorted(wrong, threshold) - num_taken
        precisions.append(num_right / max(num_right + num_wrong, 1))
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(np.sum(best[1:]) / NUM_POINTS)


def _scores_of_truths(image: _Image) -> List[float]:
    """Return the scores of detections matched to counted ground truths, each taking the highest score."""
    scores, taken = [], set()
    for truth in image.truths:
        index = next((index for index in truth.by_score if index not in taken), None)
        if index is not None:
            taken.add(index)
            if truth.counts and not image.is_small[index]:
                scores.append(image.scores[index])
    return scores


def _thresholds(scores: np.ndarray, num_truths: int) -> List[float]:
    """Return the scores at which the recall is nearest to 0, 1/40, ..., 1, up to the reached recall."""
    thresholds: List[float] = []
    recall = 0.
    for index, score in enumerate(scores):
        is_last = index == len(scores) - 1
        left = (index + 1) / num_truths
        right = left if is_last else (index + 2) / num_truths
        # The original tests once: with more than 40 ground truths none reaches two points.
        while len(thresholds) <= NUM_POINTS and (is_last or right - recall >= recall - left):
            thresholds.append(score)
            recall += 1 / NUM_POINTS
            if left < recall - 1e-9:
                break
    return thresholds


def _count(image: _Image, threshold: float) -> Tuple[int, int]:
    """Count the right detections of at least this score, and the matched ones that would be wrong otherwise."""
    taken: set = set()
    num_right = num_taken = 0
    for truth in image.truths:
        for index in truth.large + truth.small:
            if image.scores[index] >= threshold and index not in taken:
                taken.add(index)
                num_right += truth.counts and not image.is_small[index]
                num_taken += image.is_wrong[index]
                break
    return num_right, num_taken
