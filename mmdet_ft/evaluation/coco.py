"""COCO's metrics of boxes and masks under V2's keys and tables.

The ground truth is passed as arrays by the evaluated dataset: there is no second path that could
name another file.
"""
import contextlib
import io
import itertools
import logging
import numbers
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import pycocotools.mask as mask_api
from pycocotools.cocoeval import COCOeval

from mmdet_ft.command_names import how_to_run
from mmdet_ft.errors import DataError
from mmdet_ft.evaluation.coco_match import Detected, match
from mmdet_ft.evaluation.recall import recalls
from mmdet_ft.evaluation.run_lengths import fault_of_runs, sum_runs
from mmdet_ft.evaluation.table_output import NO_OBJECTS, LoggerLike, print_log, table_text

ALLOWED_METRICS = ('bbox', 'segm', 'proposal', 'proposal_fast')
# indices in COCOeval.stats; the names say 100, 300 and 1000 whatever proposal_nums is, as in V2
METRIC_ITEMS = {
    'mAP': 0,
    'mAP_50': 1,
    'mAP_75': 2,
    'mAP_s': 3,
    'mAP_m': 4,
    'mAP_l': 5,
    'AR@100': 6,
    'AR@300': 7,
    'AR@1000': 8,
    'AR_s@1000': 9,
    'AR_m@1000': 10,
    'AR_l@1000': 11
}


class CocoGroundTruth(NamedTuple):
    """The ground truth of I images, N instances in all."""
    image_ids: List[Any]  # [I]
    sizes: np.ndarray  # int64 [I, 2], width and height
    category_ids: List[int]  # of the classes, in the order of the labels
    image_of_annotation: np.ndarray  # int64 [N], index of the image
    boxes: np.ndarray  # float64 [N, 4], x y w h
    areas: np.ndarray  # float64 [N]
    categories: np.ndarray  # int64 [N], category ids; others than those of the classes may occur
    crowd: np.ndarray  # bool [N]
    ignore: np.ndarray  # bool [N]
    segmentation: Callable[[int], Any]  # annotation -> polygon parts, run lengths, or None


class Found(NamedTuple):
    """The detections of I images, N in all, in the order of the results."""
    image: np.ndarray  # int64 [N], index of the image
    labels: np.ndarray  # int64 [N]
    boxes: np.ndarray  # float64 [N, 4], x y w h
    scores: np.ndarray  # float64 [N]
    masks: Optional[List[Any]] = None  # [N], run lengths or bitmaps
    mask_scores: Optional[
        np.ndarray] = None  # float64 [N]; Mask Scoring R-CNN scores masks apart from boxes


def read_results(results: List[Any], num_classes: int) -> Found:
    """Convert V2's results to columns.

    results: per image a list over classes of arrays [n, 5], a tuple (boxes, masks), or one array
    [n, 5] of proposals. Proposals get the label 0. Raises DataError when the number of classes is
    not `num_classes`.
    """
    if results and isinstance(results[0], np.ndarray):
        return _joined([(index, 0, boxes, None, None) for index, boxes in enumerate(results)])
    if results and not isinstance(results[0], (list, tuple)):
        raise DataError(
            f'an image\'s result is a list over classes, a tuple (boxes, masks) or an array, not a '
            f'{type(results[0]).__name__}')
    parts = []
    for index, result in enumerate(results):
        boxes, masks = result if isinstance(result, tuple) else (result, None)
        if len(boxes) != num_classes:
            raise DataError(
                f'results of {len(boxes)} classes for a dataset of {num_classes}; num_classes of '
                f'the heads and the classes of the dataset differ')
        masks, scores = masks if isinstance(masks, tuple) else (masks, None)
        for label in range(num_classes):
            if masks is not None and len(masks[label]) != len(boxes[label]):
                raise DataError(
                    f'{len(boxes[label])} boxes but {len(masks[label])} masks of label {label} in the image at '
                    f'index {index}')
            if len(boxes[label]):
                parts.append((index, label, boxes[label], None if masks is None else masks[label],
                              None if scores is None else scores[label]))
    return _joined(parts, with_masks=bool(results) and isinstance(results[0], tuple))


def _joined(parts: List[Tuple[int, int, np.ndarray, Any, Any]], with_masks: bool = False) -> Found:
    """Join (image, label, rows x1 y1 x2 y2 score, masks, their scores) into columns."""
    rows = np.concatenate([np.zeros((0, 5))] + [np.asarray(part[2])[:, :5] for part in parts])
    counts = [len(part[2]) for part in parts]
    boxes = rows[:, :4].copy()
    boxes[:, 2:] -= boxes[:, :2]
    image, labels = (
        np.repeat(np.array([part[index] for part in parts], dtype=np.int64), counts)
        for index in (0, 1))
    if not with_masks:
        return Found(image, labels, boxes, rows[:, 4])
    masks = [mask for part in parts for mask in part[3]]
    scores = [part[2][:, 4] if part[4] is None else part[4] for part in parts]
    return Found(image, labels, boxes, rows[:, 4], masks,
                 np.concatenate([np.zeros(0), *scores]).astype(np.float64))


def results_to_records(results: List[Any], image_ids: List[Any],
                       category_ids: List[int]) -> Dict[str, List[Dict]]:
    """Convert V2's results to COCO's records of each kind: bbox and proposal, with masks also segm.

    results: see `read_results`.
    """
    found = read_results(results, len(category_ids))
    of_label = category_ids
    if results and isinstance(results[0], np.ndarray):
        # pycocotools drops categories without ground truth; V2 always writes 1
        of_label = [1 if 1 in category_ids else category_ids[0]]
    boxes = [
        dict(image_id=image_ids[index], bbox=box, score=score, category_id=of_label[label])
        for index, label, box, score in zip(found.image.tolist(), found.labels.tolist(),
                                            found.boxes.tolist(), found.scores.tolist())
    ]
    if of_label is not category_ids:
        return OrderedDict(proposal=boxes)
    records = OrderedDict(bbox=boxes, proposal=boxes)
    if found.masks is not None and found.mask_scores is not None:
        records['segm'] = [{
            **record, 'score': score,
            'segmentation': _text(_runs(mask))
        } for record, score, mask in zip(boxes, found.mask_scores.tolist(), found.masks)]
    return records


def _runs(mask: object) -> Dict[str, Any]:
    """Return compressed run lengths, from run lengths or a bitmap [H, W]."""
    if not isinstance(mask, dict):
        return mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    if isinstance(mask['counts'], list):
        return mask_api.frPyObjects(mask, *mask['size'])
    return dict(mask)


def _sound_runs(found: Found, ground_truth: CocoGroundTruth) -> List[Dict[str, Any]]:
    """Return the predicted masks as compressed run lengths; raise DataError for a mask that does not fit its image.

    pycocotools would never finish comparing it with the ground truth.
    """

    def refuse(index: int, text: str) -> DataError:
        image = int(found.image[index])
        return DataError(
            f'results: the mask at index {index - int(np.searchsorted(found.image, image))} of image '
            f'{ground_truth.image_ids[image]!r} {text}; the results are of other images, or damaged: '
            f'write them again with `{how_to_run("test")} --out`')

    runs = []
    for index, mask in enumerate(found.masks or ()):
        try:
            runs.append(_runs(mask))
            runs[-1]['counts'] = _bytes(runs[-1]['counts'])
            sides = [int(side) for side in runs[-1]['size']]
            if len(sides) != 2 or min(sides) < 1:
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError):
            raise refuse(
                index,
                f'is neither a bitmap [height, width] nor run lengths: {mask!r:.80}') from None
    sums = sum_runs([run['counts'] for run in runs])
    sizes = np.array([run['size'] for run in runs], dtype=np.int64).reshape(-1, 2)
    wanted = ground_truth.sizes[found.image][:, ::-1]
    wrong = ~sums.sound | (sizes != wanted).any(1) | (sums.pixels != wanted.prod(1))
    if wrong.any():
        index = int(wrong.argmax())
        height, width = wanted[index].tolist()
        fault = fault_of_runs(sizes[index].tolist(), height, width, bool(sums.sound[index]),
                              int(sums.pixels[index]))
        raise refuse(index, str(fault))
    return runs


def _bytes(counts: Union[str, bytes]) -> bytes:
    return counts.encode('ascii') if isinstance(counts, str) else bytes(counts)


def _text(runs: Dict[str, Any]) -> Dict[str, Any]:
    """Return run lengths in the form of a json."""
    counts = runs['counts']
    return {
        'size': [int(side) for side in runs['size']],
        'counts': counts.decode() if isinstance(counts, bytes) else counts
    }


def _numbers_of(image_ids: Sequence[Any]) -> Dict[Any, int]:
    """Return numbers for image ids of any type, in their order; equal scores are sorted by the number."""
    return {image_id: number for number, image_id in enumerate(sorted(image_ids, key=_by_kind), 1)}


def _by_kind(image_id: object) -> Tuple[str, Any]:
    return '' if isinstance(image_id, (int, float)) else type(image_id).__name__, image_id


def _truth(ground_truth: CocoGroundTruth, with_masks: bool,
           numbers: Dict[Any, int]) -> Tuple[List[Dict], List[Dict]]:
    """Return the images and their annotations as COCO's dicts."""
    images = [
        dict(id=numbers[image_id], width=width, height=height)
        for image_id, (width, height) in zip(ground_truth.image_ids, ground_truth.sizes.tolist())
    ]
    annotations = []
    wanted = set(ground_truth.category_ids)
    for position, (index, box, area, category_id, crowd) in enumerate(
            zip(ground_truth.image_of_annotation.tolist(), ground_truth.boxes.tolist(),
                ground_truth.areas.tolist(), ground_truth.categories.tolist(),
                ground_truth.crowd.tolist())):
        # ids start from 1 whatever the file has: COCOeval takes a match with id 0 for none
        annotation = dict(
            id=position + 1,
            image_id=images[index]['id'],
            category_id=category_id,
            bbox=box,
            area=area,
            iscrowd=int(crowd))
        if with_masks and category_id in wanted:
            annotation['segmentation'] = _truth_runs(
                ground_truth.segmentation(position), images[index], ground_truth.image_ids[index])
        annotations.append(annotation)
    return images, annotations


def _truth_runs(segmentation: Union[Dict[str, Any], Sequence[Sequence[float]], None],
                image: Dict[str, Any], image_id: object) -> Dict[str, Any]:
    height, width = image['height'], image['width']
    if isinstance(segmentation, dict):
        return segmentation
    parts = [part for part in segmentation or [] if len(part) >= 6 and len(part) % 2 == 0]
    if segmentation is None:
        raise DataError(
            f'image {image_id!r} has an annotation without segmentation, so the metric segm cannot be '
            f"computed; evaluate with metric='bbox'")
    if not parts:
        return mask_api.frPyObjects({
            'size': [height, width],
            'counts': [height * width]
        }, height, width)
    return mask_api.merge(mask_api.frPyObjects(parts, height, width))


def check_metric_items(metric_items: Union[str, Sequence[str], None]) -> None:
    """Raise DataError for an unknown metric item."""
    for item in [metric_items] if isinstance(metric_items, str) else metric_items or []:
        if item not in METRIC_ITEMS:
            raise DataError(
                f'metric_items: there is no {item!r}; there are {", ".join(METRIC_ITEMS)}')


def evaluate_det_segm(ground_truth: CocoGroundTruth,
                      results: List[Any],
                      metrics: Sequence[str],
                      class_names: Sequence[str],
                      logger: LoggerLike = None,
                      classwise: bool = False,
                      proposal_nums: Sequence[int] = (100, 300, 1000),
                      iou_thrs: Union[float, Sequence[float], None] = None,
                      metric_items: Union[str, List[str], None] = None,
                      max_dets: int = 100) -> 'OrderedDict[str, Any]':
    """Evaluate boxes, masks and proposals in COCO's protocol as V2 does; see CocoDataset.evaluate.

    Without any detection the remaining metrics are skipped and a line is logged, as in V2.
    """
    thresholds = np.atleast_1d(
        np.asarray(np.linspace(.5, .95, 10) if iou_thrs is None else iou_thrs, dtype=np.float64))
    check_metric_items(metric_items)
    if isinstance(metric_items, str):
        metric_items = [metric_items]
    if isinstance(proposal_nums, numbers.Integral):
        proposal_nums = (int(proposal_nums), )
    values: 'OrderedDict[str, Any]' = OrderedDict()
    found = read_results(results, len(ground_truth.category_ids))
    single = ~(ground_truth.crowd | ground_truth.ignore)
    if not np.isin(ground_truth.categories[single], ground_truth.category_ids).any():
        print_log(NO_OBJECTS, logger=logger, level=logging.WARNING)
    are_proposals = bool(results) and isinstance(results[0], np.ndarray)
    for metric in metrics:
        print_log(('\n' if logger is None else '') + f'Evaluating {metric}...', logger=logger)
        if metric == 'proposal_fast':
            values.update(_fast_recall(ground_truth, results, proposal_nums, thresholds, logger))
            continue
        if metric == 'segm' and found.masks is None or metric == 'bbox' and are_proposals:
            remedy = ", which are proposals; use metric='proposal'" if are_proposals else \
                "; metric 'segm' needs a detector with a mask head"
            raise DataError(f'{metric} is not in the results{remedy}')
        if not len(found.scores):
            print_log(
                'The testing results of the whole dataset is empty.',
                logger=logger,
                level=logging.ERROR)
            break
        evaluation = _match(ground_truth, found, metric,
                            _numbers_of_detections(proposal_nums, max_dets), thresholds)
        text = io.StringIO()
        # V2's thresholds of Cityscapes have 0.7500000000000002, which COCOeval does not take for
        # 0.75
        evaluation.params.iouThrs = np.round(evaluation.params.iouThrs, 10)
        with contextlib.redirect_stdout(text):
            evaluation.summarize()
        if max_dets != 100:
            evaluation.stats[0] = _average(evaluation, max_dets)
            print(
                f' Average Precision  (AP) @[ area=   all | maxDets={max_dets} ] = '
                f'{evaluation.stats[0]:0.3f} (mAP)',
                file=text)
        print_log('\n' + text.getvalue(), logger=logger)
        prefix = '' if metric == 'proposal' else f'{metric}_'
        default = list(METRIC_ITEMS)[6:] if metric == 'proposal' else list(METRIC_ITEMS)[:6]
        if classwise and metric != 'proposal':
            indices = np.argsort(np.argsort(
                ground_truth.category_ids))  # COCOeval sorts the categories by id
            log_classes(evaluation.eval['precision'][:, :, indices], class_names, logger)
        for item in metric_items or default:
            values[f'{prefix}{item}'] = float(f'{evaluation.stats[METRIC_ITEMS[item]]:.4f}')
        if metric != 'proposal':
            values[f'{prefix}mAP_copypaste'] = ' '.join(f'{value:.4f}'
                                                        for value in evaluation.stats[:6])
    return values


def _match(ground_truth: CocoGroundTruth, found: Found, metric: str, max_dets: Sequence[int],
           iou_thrs: np.ndarray) -> COCOeval:
    numbers = _numbers_of(ground_truth.image_ids)
    with_masks = metric == 'segm'
    images, truth = _truth(ground_truth, with_masks, numbers)
    ids = np.array(ground_truth.category_ids)
    scores = found.mask_scores if with_masks else found.scores
    assert scores is not None, 'masks have scores'
    detections = Detected(
        image_ids=np.array([image['id'] for image in images])[found.image],
        category_ids=ids[found.labels],
        boxes=found.boxes,
        scores=scores,
        runs=_sound_runs(found, ground_truth) if with_masks else None)
    return match(
        images,
        truth,
        detections,
        ground_truth.category_ids,
        max_dets,
        iou_thrs,
        use_categories=metric != 'proposal')


def _numbers_of_detections(proposal_nums: Sequence[int], max_dets: int) -> List[int]:
    """Return COCOeval's maxDets, with `max_dets` instead of 100; COCOeval reads the first three."""
    counts = [max_dets if number == 100 else number for number in proposal_nums]
    counts = counts if max_dets in counts else [*counts, max_dets]
    for filling in (1, 10, 2):  # fewer than three raise an IndexError there
        if len(counts) < 3 and filling not in counts:
            counts.append(filling)
    return sorted(counts)


def _average(evaluation: COCOeval, max_dets: int) -> float:
    """Return AP over all thresholds, classes and areas of the best `max_dets` detections per image."""
    index = list(evaluation.params.maxDets).index(max_dets)
    precision = evaluation.eval['precision'][..., 0, index]
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else -1.


def log_classes(precision: np.ndarray, class_names: Sequence[str], logger: LoggerLike) -> None:
    """Log V2's table of the AP of every class; `precision` is [thresholds, recalls, classes, area ranges, numbers]."""
    cells = []
    for label, name in enumerate(class_names):
        values = precision[:, :, label, 0, -1]  # all areas, the largest number of detections
        values = values[values > -1]
        cells += [name, f'{values.mean() if values.size else float("nan"):.3f}']
    columns = min(6, len(cells))
    rows = itertools.zip_longest(
        *[cells[column::columns] for column in range(columns)], fillvalue='')
    print_log('\n' + table_text(['category', 'AP'] * (columns // 2), list(rows)), logger=logger)


def _fast_recall(ground_truth: CocoGroundTruth, results: List[Any], proposal_nums: Sequence[int],
                 iou_thrs: np.ndarray, logger: LoggerLike) -> Dict[str, float]:
    if results and isinstance(results[0], tuple):
        raise DataError(
            "metric 'proposal_fast' is of results without masks; write 'proposal' instead")
    proposals = [np.vstack(result) if isinstance(result, list) else result for result in results]
    boxes = ground_truth.boxes.astype(np.float32)
    boxes[:, 2:] = (ground_truth.boxes[:, :2] + ground_truth.boxes[:, 2:])
    used = ~(ground_truth.ignore | ground_truth.crowd)
    per_image = [
        boxes[used & (ground_truth.image_of_annotation == index)]
        for index in range(len(ground_truth.image_ids))
    ]
    averages = recalls(per_image, proposals, proposal_nums, iou_thrs).mean(axis=1)
    print_log(
        ''.join(f'\nAR@{number}\t{value:.4f}' for number, value in zip(proposal_nums, averages)),
        logger=logger)
    return OrderedDict(
        (f'AR@{number}', float(value)) for number, value in zip(proposal_nums, averages))
