"""PASCAL VOC's mean average precision of boxes, with V2's arithmetic."""
import logging
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.evaluation.recall import pairwise_iou
from mmdet_ft.evaluation.table_output import NO_OBJECTS, LoggerLike, print_log, table_text

Range = Tuple[float, float]


class ClassResult(NamedTuple):
    """Results of one class; R ranges of size, N detections in order of their scores."""
    num_gts: np.ndarray  # int64 [R]
    num_dets: int
    recall: np.ndarray  # float64 [R, N]
    precision: np.ndarray  # float64 [R, N]
    ap: np.ndarray  # float32 [R]


def average_precision(recalls: np.ndarray, precisions: np.ndarray, mode: str = 'area') -> float:
    """Average the best precisions at a recall or above it.

    'area': over all recalls (VOC from 2010 on); '11points': at recall 0, 0.1, ..., 1 (VOC 2007).

    recalls, precisions: [N], of the best 1, 2, ..., N detections.
    """
    if mode == '11points':
        return sum(precisions[recalls >= point].max(initial=0)
                   for point in np.arange(0, 1 + 1e-3, 0.1)) / 11
    if mode != 'area':
        raise ValueError(f"mode is 'area' or '11points', not {mode!r}")
    reached = np.maximum.accumulate(precisions[::-1])[::-1]
    return float((np.diff(recalls, prepend=0) * reached).sum())


def match_detections(detections: np.ndarray,
                     gt_boxes: np.ndarray,
                     gt_boxes_ignore: np.ndarray,
                     iou_thr: float = 0.5,
                     area_ranges: Optional[Sequence[Range]] = None,
                     use_legacy_coordinate: bool = False) -> Tuple[np.ndarray, np.ndarray]:
    """Match the detections of one image and class; return which are true positives and which are false.

    A detection belongs to the ground truth of largest overlap. From `iou_thr` up, the best-scored
    one of a ground truth is a true positive and the others are false positives. Those of an ignored
    ground truth, or of one outside the range, are neither. With less overlap a detection is a false
    positive if its own area is in the range.

    detections: [N, 5]; gt_boxes [G, 4]; gt_boxes_ignore [I, 4]; area_ranges: R of (from, below) in
    square pixels. use_legacy_coordinate: a box from 3 to 5 is 3 pixels wide, as VOC counts.

    Returns bool arrays [R, N] in the order of the detections; R = 1 without ranges.
    """
    extra = 1. if use_legacy_coordinate else 0.
    ranges = [(-np.inf, np.inf)] if area_ranges is None else area_ranges
    truths = np.concatenate([gt_boxes, gt_boxes_ignore]).astype(np.float32)
    ignored = np.arange(len(truths)) >= len(gt_boxes)
    found = np.zeros(len(detections), dtype=bool)
    truth_of = np.zeros(len(detections), dtype=np.int64)
    if len(truths) and len(detections):
        iou = pairwise_iou(detections, truths, extra)
        found, truth_of = iou.max(axis=1) >= iou_thr, iou.argmax(axis=1)
    by_score = np.argsort(-detections[:, 4], kind='stable')
    claims = by_score[found[by_score]]
    first = claims[np.unique(truth_of[claims], return_index=True)[1]]
    best = np.zeros(len(detections), dtype=bool)
    best[first] = True
    true = np.zeros((len(ranges), len(detections)), dtype=bool)
    false = np.zeros_like(true)
    for row, (low, high) in enumerate(ranges):
        skipped = ignored | _outside(truths, low, high, extra)
        counts = found & ~skipped[truth_of] if len(truths) else found
        true[row] = counts & best
        false[row] = (counts & ~best) | (~found & ~_outside(detections, low, high, extra))
    return true, false


def _outside(boxes: np.ndarray, low: float, high: float, extra: float) -> np.ndarray:
    area = (boxes[:, 2] - boxes[:, 0] + extra) * (boxes[:, 3] - boxes[:, 1] + extra)
    return (area < low) | (area >= high)


def eval_map(det_results: List[Any],
             annotations: List[Dict[str, np.ndarray]],
             class_names: Sequence[str],
             scale_ranges: Optional[Sequence[Range]] = None,
             iou_thr: float = 0.5,
             mode: str = 'area',
             use_legacy_coordinate: bool = False,
             logger: LoggerLike = None) -> Tuple[Any, List[ClassResult]]:
    """Evaluate boxes at `iou_thr` as V2 does, and log its table.

    Args:
        det_results: per image a list over K classes of arrays [n, 5], or a tuple (boxes, masks).
        annotations: per image a dict of bboxes [n, 4], labels [n], and optionally bboxes_ignore [k,
            4], labels_ignore [k]; nothing is ignored by default.
        class_names: K names.
        scale_ranges: (from, below) of the square root of the area, in pixels.
        mode: see `average_precision`.
        use_legacy_coordinate: see `match_detections`.

    Returns the mean over the classes with ground truths (a list, one per range, with
    `scale_ranges`), and the results of each class. Raises ValueError when the numbers of images or
    classes differ.
    """
    if len(det_results) != len(annotations):
        raise ValueError(f'{len(det_results)} results for {len(annotations)} images')
    boxes = [result[0] if isinstance(result, tuple) else result for result in det_results]
    for result in boxes:
        if len(result) != len(class_names):
            raise ValueError(
                f'results of {len(result)} classes for a dataset of {len(class_names)}; num_classes of '
                f'the heads and the classes of the dataset differ')
    area_ranges = None if scale_ranges is None else [(low**2, high**2)
                                                     for low, high in scale_ranges]
    results = [
        _evaluate_class([result[label] for result in boxes], annotations, label, iou_thr,
                        area_ranges, mode, use_legacy_coordinate)
        for label in range(len(class_names))
    ]
    counted = np.stack([result.num_gts > 0 for result in results])  # [K, R]
    ap = np.stack([result.ap for result in results])
    means = [
        float(ap[rows, index].mean()) if rows.any() else 0.0 for index, rows in enumerate(counted.T)
    ]
    log_table(results, means, class_names, scale_ranges, logger)
    return (means[0] if scale_ranges is None else means), results


def evaluate_map(results: List[Any], annotations: List[Dict[str, np.ndarray]],
                 class_names: Optional[Sequence[str]], iou_thrs: Sequence[float],
                 scale_ranges: Optional[Sequence[Range]], mode: str, use_legacy_coordinate: bool,
                 logger: LoggerLike) -> 'OrderedDict[str, float]':
    """Run `eval_map` at each threshold; return V2's keys, `AP50` and so on, and their mean `mAP`.

    With scale_ranges there is also `AP50_<from>_<below>`. Without class_names the table numbers the
    classes. All are -1, and a warning is logged, where no image has a ground truth: 0 would be the
    result of a bad model.
    """
    if class_names is None:
        boxes = results[0][0] if isinstance(results[0], tuple) else results[0]
        class_names = [str(label) for label in range(len(boxes))]
    values: 'OrderedDict[str, float]' = OrderedDict()
    means = []
    for threshold in iou_thrs:
        print_log(f'\n{"-" * 15}iou_thr: {threshold}{"-" * 15}', logger=logger)
        mean, _ = eval_map(results, annotations, class_names, scale_ranges, threshold, mode,
                           use_legacy_coordinate, logger)
        key = f'AP{round(threshold * 100):02d}'
        if scale_ranges is not None:
            for (low, high), value in zip(scale_ranges, mean):
                values[f'{key}_{low}_{high}'] = round(value, 3)
            mean = sum(mean) / len(mean)
        means.append(mean)
        values[key] = round(mean, 3)
    values['mAP'] = sum(means) / len(means)
    if not any(len(annotation['bboxes']) for annotation in annotations):
        print_log(NO_OBJECTS, logger=logger, level=logging.WARNING)
        values.update(dict.fromkeys(values, -1.))
    return values


def _evaluate_class(detections: List[np.ndarray], annotations: List[Dict[str, np.ndarray]],
                    label: int, iou_thr: float, area_ranges: Optional[Sequence[Range]], mode: str,
                    use_legacy_coordinate: bool) -> ClassResult:
    extra = 1. if use_legacy_coordinate else 0.
    ranges = [(-np.inf, np.inf)] if area_ranges is None else area_ranges
    num_gts = np.zeros(len(ranges), dtype=np.int64)
    true, false = [], []
    for found, annotation in zip(detections, annotations):
        truths = annotation['bboxes'][annotation['labels'] == label]
        ignored = np.zeros((0, 4), dtype=np.float32)
        if annotation.get('labels_ignore') is not None:
            ignored = annotation['bboxes_ignore'][annotation['labels_ignore'] == label]
        num_gts += [(~_outside(truths, low, high, extra)).sum() for low, high in ranges]
        matched = match_detections(found, truths, ignored, iou_thr, area_ranges,
                                   use_legacy_coordinate)
        true.append(matched[0])
        false.append(matched[1])
    scores = np.concatenate([found[:, 4] for found in detections])
    return result_of_class(scores, np.concatenate(true, axis=1), np.concatenate(false, axis=1),
                           num_gts, mode)


def result_of_class(scores: np.ndarray,
                    true: np.ndarray,
                    false: np.ndarray,
                    num_gts: np.ndarray,
                    mode: str = 'area') -> ClassResult:
    """Return the result of a class from its detections in all images.

    scores: [N]; true, false: bool [R, N], whether a detection is a true or a false positive;
    num_gts: int64 [R]; mode: see `average_precision`.
    """
    order = np.argsort(-scores, kind='stable')
    num_true = np.cumsum(true[:, order], axis=1, dtype=np.float64)
    num_false = np.cumsum(false[:, order], axis=1, dtype=np.float64)
    smallest = np.finfo(np.float32).eps
    recall = num_true / np.maximum(num_gts[:, None], smallest)
    precision = num_true / np.maximum(num_true + num_false, smallest)
    ap = np.array([average_precision(*rows, mode) for rows in zip(recall, precision)], np.float32)
    return ClassResult(num_gts, len(scores), recall, precision, ap)


def log_table(results: List[ClassResult], means: List[float], class_names: Sequence[str],
              scale_ranges: Optional[Sequence[Range]], logger: LoggerLike) -> None:
    """Log a table of classes and their mean, one for each range."""
    for index, mean in enumerate(means):
        if scale_ranges is not None:
            print_log(f'Scale range {scale_ranges[index]}', logger=logger)
        rows: List[Tuple[object, ...]] = [
            (name, result.num_gts[index], result.num_dets,
             f'{result.recall[index, -1] if result.num_dets else 0:.3f}', f'{result.ap[index]:.3f}')
            for name, result in zip(class_names, results)
        ]
        rows.append(('mAP', '', '', '', f'{mean:.3f}'))
        table = table_text(['class', 'gts', 'dets', 'recall', 'ap'], rows, last_row_apart=True)
        print_log('\n' + table, logger=logger)
