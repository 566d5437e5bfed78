"""The confusion matrix of a detector."""
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np
from pycocotools import mask as coco_mask

from mmdet_ft.evaluation.recall import pairwise_iou


def detection_confusion(results: Sequence[Any],
                        annotations: Sequence[Any],
                        num_classes: int,
                        score_thr: float = 0.3,
                        iou_thr: float = 0.5) -> np.ndarray:
    """Count detections and ground truths: int64 [K + 1, K + 1], ground truth by prediction, background last.

    Each ground truth counts once, and so does each detection. They are matched from `iou_thr` up:
    first within the same class, the highest score first, then with the best overlap of another
    class. An unmatched ground truth counts as predicted background, an unmatched detection as an
    object on background. (V2 counts a ground truth for each detection that overlaps it.)

    Args:
        results: per image a list over classes of [n, 5] (x1 y1 x2 y2 score), or that with masks.
        annotations: per image a dict with bboxes [G, 4] and labels [G], see `get_ann_info`. With
            `masks` (G run lengths) and masks in the results, masks are compared instead of boxes.
        num_classes: K.
        score_thr: detections with a lower score are dropped.
        iou_thr: the minimum IoU, 0..1.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for result, annotation in zip(results, annotations):
        classes: List[np.ndarray] = result[0] if isinstance(result, tuple) else result
        boxes = np.concatenate(classes).reshape(-1, 5)
        predicted = np.repeat(np.arange(len(classes)), [len(rows) for rows in classes])
        kept = np.flatnonzero(boxes[:, 4] >= score_thr)
        kept = kept[np.argsort(-boxes[kept, 4], kind='stable')]
        truth = np.asarray(annotation['labels'], dtype=np.int64)
        if annotation.get('masks') is not None and isinstance(result, tuple):
            overlap = mask_iou([masks_of(result)[index] for index in kept], annotation['masks'])
        else:
            overlap = pairwise_iou(boxes[kept], np.asarray(annotation['bboxes']).reshape(-1, 4))
        partner = pair_off(overlap, predicted[kept], truth, iou_thr)
        is_paired = partner >= 0
        np.add.at(matrix, (truth[partner[is_paired]], predicted[kept][is_paired]), 1)
        np.add.at(matrix[num_classes], predicted[kept][~is_paired], 1)
        missed = np.setdiff1d(np.arange(len(truth)), partner)
        np.add.at(matrix, (truth[missed], num_classes), 1)
    return matrix


def pair_off(overlap: np.ndarray, predicted: np.ndarray, truth: np.ndarray,
             iou_thr: float) -> np.ndarray:
    """Match each detection, the highest score first, to its own ground truth or -1: int64 [N]; overlap [N, G]."""
    partner = np.full(len(predicted), -1)
    if not len(truth):
        return partner
    free = np.ones(len(truth), dtype=bool)
    for row in range(len(predicted)):
        candidates = np.where(free & (truth == predicted[row]), overlap[row], -1)
        best = candidates.argmax()
        if candidates[best] >= iou_thr:
            partner[row], free[best] = best, False
    rest = np.where(free[None] & (partner < 0)[:, None], overlap, -1.)
    while rest.size and rest.max() >= iou_thr:
        first, column = np.unravel_index(rest.argmax(), rest.shape)
        partner[first] = column
        rest[first], rest[:, column] = -1, -1
    return partner


def masks_of(result: Tuple[Any, Any]) -> List[Any]:
    """Return the masks of a result, class by class, without the scores of Mask Scoring R-CNN."""
    masks = result[1][0] if isinstance(result[1], tuple) else result[1]
    return [mask for of_class in masks for mask in of_class]


def mask_iou(masks: Sequence[Any], others: Sequence[Any]) -> np.ndarray:
    """Compute the IoU [N, G] of masks: run lengths, or bool arrays [H, W]."""
    if not len(masks) or not len(others):
        return np.zeros((len(masks), len(others)))
    return np.asarray(
        coco_mask.iou([_runs(mask) for mask in masks], [_runs(mask) for mask in others],
                      [False] * len(others))).reshape(len(masks), len(others))


def _runs(mask: object) -> Any:
    return mask if isinstance(mask, dict) else coco_mask.encode(np.asfortranarray(mask, np.uint8))


class Rates(NamedTuple):
    """Detection rates of a class; a rate without anything to count is 0."""
    truths: int
    detections: int
    precision: float  # 0..1
    recall: float
    f1: float


def rates(matrix: np.ndarray) -> List[Rates]:
    """Compute the rates of each class from `detection_confusion`, and last those of all classes together."""
    right = np.diag(matrix)[:-1]
    truths, detections = matrix[:-1].sum(1), matrix[:, :-1].sum(0)
    counts = [*zip(right, truths, detections), (right.sum(), truths.sum(), detections.sum())]
    return [
        Rates(
            int(of), int(found), hits / max(found, 1), hits / max(of, 1),
            2 * hits / max(of + found, 1)) for hits, of, found in counts
    ]
