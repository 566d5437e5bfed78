"""Open Images' mean average precision of boxes, with groups and a hierarchy of classes, by V2's arithmetic."""
import logging
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from mmdet_ft.evaluation.mean_ap import ClassResult, log_table, match_detections, result_of_class
from mmdet_ft.evaluation.table_output import NO_OBJECTS, LoggerLike, print_log

NO_BOXES = np.zeros((0, 4), dtype=np.float32)


class ImageTruth(NamedTuple):
    """Objects of an image; one of a class counts for its parent classes too, see `with_parents`."""
    boxes: np.ndarray  # float32 [n, 4], x1 y1 x2 y2 in pixels
    labels: np.ndarray  # int64 [n]
    is_group: np.ndarray  # bool [n]: a box around several objects


def with_parents(truth: ImageTruth, tree: np.ndarray) -> ImageTruth:
    """Repeat each object for every parent of its class.

    tree: bool [K, K]; row c is true at c and at the parents of class c.
    """
    row, label = np.nonzero(tree[truth.labels])
    return ImageTruth(truth.boxes[row], label, truth.is_group[row])


def expand_detections(result: Sequence[np.ndarray], labels: Set[int], tree: np.ndarray,
                      adds_parents: bool, filters: bool) -> List[np.ndarray]:
    """Return the detections [n, 5] of each class of an image, as they are evaluated.

    Args:
        result: of one image, K arrays [n, 5].
        labels: classes that are verified for the image, by a box or by an image-level label.
        tree: see `with_parents`.
        adds_parents: a detection counts for the verified parents of its class too.
        filters: detections of classes that are not verified do not count.
    """
    found = [boxes for boxes in result]
    for label in [label for label, boxes in enumerate(result) if len(boxes)]:
        for parent in np.flatnonzero(tree[label]).tolist():
            if parent in labels and parent != label and adds_parents:
                found[parent] = np.concatenate([found[parent], result[label]])
            elif parent not in labels and filters:
                found[parent] = np.zeros((0, 5), dtype=np.float32)
    return found


def match_with_groups(detections: np.ndarray, truths: np.ndarray, is_group: np.ndarray,
                      iou_thr: float, ioa_thr: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the detections of one image and class; return scores [M], true and false positives [M].

    Single objects are matched first, as in VOC. Every other detection that is inside a group, by at
    least `ioa_thr` of its own area, belongs to the group that has most of it. A group with detections
    is one true positive with the best of their scores. One without is a false positive of score 0,
    as in V2.

    detections: [N, 5]; truths [G, 4]; is_group bool [G].
    """
    groups = truths[is_group]
    true, false = (
        part[0] for part in match_detections(detections, truths[~is_group], NO_BOXES, iou_thr))
    if not len(groups):
        return detections[:, 4], true, false
    share = _share_inside(detections, groups)
    inside = ~true & (share.max(axis=1, initial=-1) >= ioa_thr)
    best = np.zeros(len(groups), dtype=np.float64)
    np.maximum.at(best, share.argmax(axis=1)[inside], detections[inside, 4])
    matched = np.zeros(len(groups), dtype=bool)
    matched[share.argmax(axis=1)[inside]] = True
    scores = np.concatenate([detections[~inside, 4], best])
    return scores, np.concatenate([true[~inside],
                                   matched]), np.concatenate([false[~inside], ~matched])


def _share_inside(boxes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the share [N, M] of the area of boxes [N, 4] that is inside groups [M, 4]."""
    low = np.maximum(boxes[:, None, :2], groups[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], groups[None, :, 2:4])
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(axis=1)[:, None]
    return np.clip(high - low, 0, None).prod(axis=2) / np.maximum(areas, 1e-6)


def evaluate_open_images(results: List[List[np.ndarray]], truths: List[ImageTruth],
                         class_names: Sequence[str], iou_thrs: Sequence[float],
                         ioa_thrs: Sequence[float], use_group_of: bool,
                         logger: LoggerLike) -> 'OrderedDict[str, float]':
    """Return V2's keys `AP50` and so on, one for each pair of thresholds, and their mean `mAP`.

    Args:
        results, truths: of each image, with parents, see `expand_detections` and `with_parents`.
        use_group_of: match groups as `match_with_groups` does; else they are objects like others.

    All are -1, and a warning is logged, where no image has an object.
    """
    pairs = _pairs_of_classes(results, truths, len(class_names))
    values: 'OrderedDict[str, float]' = OrderedDict()
    means = []
    for iou_thr, ioa_thr in zip(iou_thrs, ioa_thrs):
        print_log(f'\n{"-" * 15}iou_thr, ioa_thr: {iou_thr}, {ioa_thr}{"-" * 15}', logger=logger)
        of_classes = [
            _evaluate_class(images, label, results, truths, iou_thr, ioa_thr, use_group_of)
            for label, images in enumerate(pairs)
        ]
        aps = [float(result.ap[0]) for result in of_classes if result.num_gts[0] > 0]
        means.append(float(np.mean(aps, dtype=np.float32)) if aps else 0.)
        log_table(of_classes, means[-1:], class_names, None, logger)
        values[f'AP{round(iou_thr * 100):02d}'] = round(means[-1], 3)
    values['mAP'] = sum(means) / len(means)
    if not any(len(truth.labels) for truth in truths):
        print_log(NO_OBJECTS, logger=logger, level=logging.WARNING)
        values.update(dict.fromkeys(values, -1.))
    return values


def _pairs_of_classes(results: List[List[np.ndarray]], truths: List[ImageTruth],
                      num_classes: int) -> List[List[int]]:
    """Return for each class the images with an object or a detection of it; most have neither."""
    images: List[List[int]] = [[] for _ in range(num_classes)]
    for index, (result, truth) in enumerate(zip(results, truths)):
        found = {label for label, boxes in enumerate(result) if len(boxes)}
        for label in found.union(truth.labels.tolist()):
            images[label].append(index)
    return images


def _evaluate_class(images: List[int], label: int, results: List[List[np.ndarray]],
                    truths: List[ImageTruth], iou_thr: float, ioa_thr: float,
                    use_group_of: bool) -> ClassResult:
    scores, true, false, num_gts = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, bool)], 0
    for index in images:
        truth = truths[index]
        own = truth.labels == label
        is_group = truth.is_group[own] if use_group_of else np.zeros(int(own.sum()), dtype=bool)
        parts = match_with_groups(results[index][label], truth.boxes[own], is_group, iou_thr,
                                  ioa_thr)
        for column, part in zip((scores, true, false), parts):
            column.append(part)
        num_gts += int(own.sum())
    return result_of_class(
        np.concatenate(scores),
        np.concatenate(true)[None],
        np.concatenate(false)[None], np.array([num_gts]))


def tree_of(hierarchy: Dict[str, Any], index_of: Dict[str, int], num_classes: int) -> np.ndarray:
    """Return the tree of `with_parents` from Open Images' nested `Subcategory` and `LabelName`.

    Names that are no class, such as the root, are passed over.
    """
    tree = np.eye(num_classes, dtype=bool)
    _add_children(hierarchy, [], index_of, tree)
    return tree


def _add_children(node: Dict[str, Any], parents: List[int], index_of: Dict[str, int],
                  tree: np.ndarray) -> None:
    for child in node.get('Subcategory', ()):
        label: Optional[int] = index_of.get(child.get('LabelName'))
        if label is not None:
            tree[label, parents] = True
        _add_children(child, parents if label is None else [label, *parents], index_of, tree)
