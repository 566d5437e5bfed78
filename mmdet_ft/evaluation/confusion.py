"""What a detector takes for what."""
from typing import Any, List, Sequence

import numpy as np

from mmdet_ft.evaluation.recall import pairwise_iou


def detection_confusion(results: Sequence[Any],
                        annotations: Sequence[Any],
                        num_classes: int,
                        score_thr: float = 0.3,
                        iou_thr: float = 0.5) -> np.ndarray:
    """V2's confusion matrix of detections: int64 [K + 1, K + 1], truth by prediction, background last.

    A detection counts once for each truth that it overlaps by `iou_thr` or more, of whatever class, and as
    background taken for its class where it overlaps none. A truth that no detection of its class overlaps counts as
    taken for background.

    Args:
        results: an image a list over classes of arrays [n, 5] (x1 y1 x2 y2 score), or a pair of that and masks.
        annotations: an image a dict with bboxes [G, 4] and labels [G], as `get_ann_info` gives.
        num_classes: K.
        score_thr: detections that score less are left out.
        iou_thr: the overlap, 0..1.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for result, annotation in zip(results, annotations):
        classes: List[np.ndarray] = result[0] if isinstance(result, tuple) else result
        boxes = np.concatenate(classes).reshape(-1, 5)
        predicted = np.repeat(np.arange(len(classes)), [len(rows) for rows in classes])
        kept = boxes[:, 4] >= score_thr
        boxes, predicted = boxes[kept], predicted[kept]
        truth = np.asarray(annotation['labels'], dtype=np.int64)
        near = pairwise_iou(boxes, np.asarray(annotation['bboxes']).reshape(-1, 4)) >= iou_thr
        which, of = np.nonzero(near)
        np.add.at(matrix, (truth[of], predicted[which]), 1)
        np.add.at(matrix, (num_classes, predicted[~near.any(1)]), 1)
        found = (near & (predicted[:, None] == truth)).any(0)
        np.add.at(matrix, (truth[~found], num_classes), 1)
    return matrix
