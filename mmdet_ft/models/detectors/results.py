"""Conversion of padded detections to V2's results; only here they are copied to the host."""
from typing import Any, Dict, List

import numpy as np
from torch import Tensor

from mmdet_ft.ops.paste import paste_to_rle
from mmdet_ft.structures import Detections


def to_results(detections: Detections, metas: List[Dict[str, Any]], num_classes: int,
               mask_threshold: float) -> List[Any]:
    """Return V2's result of each image of a batch.

    Boxes are a list over classes of float32 arrays [n, 5] (x0, y0, x1, y1, score), best first, in
    original pixels. With masks a result is a pair of that and a list over classes of lists of COCO
    run lengths; with scores of masks the second is a pair of that list and one of arrays [n].
    """
    boxes_of, scores, labels_of, is_valid = (_to_host(part) for part in detections[:4])
    bitmaps = None if detections.masks is None else _to_host(detections.masks)
    scores_of_masks = None if detections.mask_scores is None else _to_host(detections.mask_scores)
    results: List[Any] = []
    for number, meta in enumerate(metas):
        valid = is_valid[number] > 0
        labels = labels_of[number][valid].astype(int)
        rows = np.concatenate([boxes_of[number][valid], scores[number][valid][:, None]],
                              1).astype(np.float32)
        boxes = [rows[labels == label] for label in range(num_classes)]
        if bitmaps is None:
            results.append(boxes)
            continue
        height, width = map(int, meta['ori_shape'][:2])
        masks: List[List[Any]] = [[] for _ in range(num_classes)]
        for label, row, mask in zip(labels, rows, bitmaps[number][valid]):
            masks[label].append(paste_to_rle(mask, row[:4], (height, width), mask_threshold))
        if scores_of_masks is None:
            results.append((boxes, masks))
        else:
            of_image = scores_of_masks[number][valid].astype(np.float32)
            results.append((boxes, (masks, [of_image[labels == k] for k in range(num_classes)])))
    return results


def _to_host(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
