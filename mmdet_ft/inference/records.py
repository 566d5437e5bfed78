"""Results as plain records."""
from typing import Any, Dict, List, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from mmdet_ft import visualization


def class_of(scores: np.ndarray, class_names: Sequence[str]) -> Dict[str, Any]:
    """Return the best class of scores [K]."""
    label = int(scores.argmax())
    return dict(pred_label=label, pred_score=float(scores[label]), pred_class=class_names[label])


def detections_of(result: Any,
                  class_names: Sequence[str],
                  score_thr: float = 0.) -> List[Dict[str, Any]]:
    """Return a result as plain records that json can hold, best first.

    Each has `category_id` (class index from 1), `category_name`, `score`, `bbox` [x, y, width, height] in
    pixels and, with masks, `segmentation` (a COCO run length) and `area`.
    """
    boxes, masks = visualization.split_result(result)
    records = []
    for label, name in enumerate(class_names):
        for i, (x0, y0, x1, y1, score) in enumerate(np.asarray(boxes[label], np.float64)):
            if score < score_thr:
                continue
            record = dict(
                category_id=label + 1,
                category_name=name,
                score=round(float(score), 5),
                bbox=[round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)])
            if masks is not None:
                run_length = masks[label][i]
                if not isinstance(run_length, dict):
                    run_length = coco_mask.encode(np.asfortranarray(run_length, np.uint8))
                record['area'] = int(coco_mask.area(run_length))
                counts = run_length['counts']
                record['segmentation'] = dict(
                    size=[int(length) for length in run_length['size']],
                    counts=counts.decode('ascii') if isinstance(counts, bytes) else counts)
            else:
                record['area'] = round(float((x1 - x0) * (y1 - y0)), 2)
            records.append(record)
    return sorted(records, key=lambda record: -record['score'])
