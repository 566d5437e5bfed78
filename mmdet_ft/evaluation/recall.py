"""Recall of boxes without classes: V2's fast evaluation of proposals."""
from typing import Any, Dict, List, Sequence, Union

import numpy as np


def pairwise_iou(boxes: np.ndarray, others: np.ndarray, extra: float = 0) -> np.ndarray:
    """Return IoU [N, M] of boxes [N, 4] and [M, 4], x1 y1 x2 y2; sides are `extra` longer (VOC counts pixels: 1)."""
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    overlap = np.clip(bottom_right - top_left + extra, 0, None).prod(axis=2)
    areas = (boxes[:, 2:4] - boxes[:, :2] +
             extra).prod(axis=1)[:, None] + (others[:, 2:4] - others[:, :2] + extra).prod(axis=1)
    return overlap / np.maximum(areas - overlap, 1e-6)


def _matched_iou(iou: np.ndarray) -> np.ndarray:
    """Return the IoU of each row when rows and columns are matched greedily, the best pair first."""
    iou = iou.copy()
    matched = np.zeros(len(iou), dtype=np.float32)
    for _ in range(len(iou) if iou.shape[1] else 0):
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        if iou[row, column] < 0:
            break
        matched[row] = iou[row, column]
        iou[row, :] = -1
        iou[:, column] = -1
    return matched


def recalls(gt_boxes: List[np.ndarray],
            proposals: List[np.ndarray],
            proposal_nums: Sequence[int],
            iou_thrs: Union[Sequence[float], np.ndarray],
            extra: float = 0) -> np.ndarray:
    """Return the fraction of ground-truth boxes found, [numbers of proposals, thresholds].

    gt_boxes: per image [n, 4]; proposals: per image [m, 4], or [m, 5] with a score to sort by;
    extra: see `pairwise_iou`.
    """
    per_image = []
    for truth, found in zip(gt_boxes, proposals):
        if found.shape[1] == 5:
            found = found[np.argsort(found[:, 4])[::-1]]
        per_image.append(pairwise_iou(truth, found[:max(proposal_nums)], extra))
    total = sum(len(truth) for truth in gt_boxes)
    result = np.zeros((len(proposal_nums), len(iou_thrs)), dtype=np.float32)
    for i, number in enumerate(proposal_nums):
        matched = np.concatenate([_matched_iou(iou[:, :number]) for iou in per_image]
                                 or [np.zeros(0)])
        result[i] = [(matched >= threshold).sum() / max(total, 1) for threshold in iou_thrs]
    return result


def evaluate_recall(results: List[Any],
                    annotations: List[Dict[str, np.ndarray]],
                    proposal_nums: Sequence[int],
                    iou_thrs: Sequence[float],
                    use_legacy_coordinate: bool = False) -> Dict[str, float]:
    """Compute V2's keys `recall@100@0.5` and so on, and with several thresholds `AR@100`, their mean.

    results: per image a list over classes of arrays [n, 5], a tuple (boxes, masks), or one array;
    annotations: per image a dict with bboxes [n, 4]. All values are -1 where no image has a box.
    """
    boxes = []
    for result in results:
        result = result[0] if isinstance(result, tuple) else result
        boxes.append(np.concatenate(result) if isinstance(result, list) else result)
    found = recalls([annotation['bboxes'] for annotation in annotations], boxes, proposal_nums,
                    iou_thrs, float(use_legacy_coordinate)).tolist()
    values = {
        f'recall@{number}@{threshold}': value
        for number, row in zip(proposal_nums, found)
        for threshold, value in zip(iou_thrs, row)
    }
    if len(iou_thrs) > 1:
        values.update({
            f'AR@{number}': sum(row) / len(row)
            for number, row in zip(proposal_nums, found)
        })
    if not any(len(annotation['bboxes']) for annotation in annotations):  # no ground truth
        values.update(dict.fromkeys(values, -1.))
    return values
