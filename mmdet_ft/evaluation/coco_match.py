"""COCO's matching of detections with the truth: by hotcoco where it is installed, by pycocotools otherwise.

Both give the same numbers; hotcoco is a hundred times as fast (tools/benchmarks/coco_eval.py).
"""
import contextlib
import io
import re
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OLDEST = (1, 0, 1)  # before, hotcoco took run lengths written as bytes for empty masks


def hotcoco() -> Optional[Any]:
    """The package, where it is installed and new enough."""
    try:
        import hotcoco as package
    except ImportError:
        return None
    version = tuple(int(part) for part in re.findall(r'\d+', package.__version__)[:3])
    return package if version >= OLDEST else None


def match(images: List[Dict[str, Any]],
          truth: List[Dict[str, Any]],
          detections: List[Dict[str, Any]],
          category_ids: Sequence[int],
          iou_type: str,
          max_dets: Sequence[int],
          iou_thrs: np.ndarray,
          use_categories: bool = True) -> COCOeval:
    """Match and accumulate; what comes back has `params` and `eval`, and can be summarised.

    images, truth, detections: COCO's dicts, all ids integers; those of detections count from 1 in the order of the
    predictions, which decides between equal scores.
    """
    categories = [dict(id=id_, name=str(id_)) for id_ in category_ids]
    package = hotcoco()
    evaluation = COCOeval(iouType=iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        if package is None:
            evaluation = COCOeval(
                _indexed(COCO, images, truth, categories),
                _indexed(COCO, images, detections, categories), iou_type)
            _match(evaluation, images, category_ids, max_dets, iou_thrs, use_categories)
        else:
            fast = package.COCOeval(
                _indexed(package.COCO, images, truth, categories),
                _indexed(package.COCO, images, detections, categories), iou_type)
            _match(fast, images, category_ids, max_dets, iou_thrs, use_categories)
            _set(evaluation, images, category_ids, max_dets, iou_thrs, use_categories)
            evaluation.eval = {
                key: np.asarray(fast.eval[key])
                for key in ('precision', 'recall', 'scores')
            }
    return evaluation


def _indexed(kind: Any, images: List[Dict], annotations: List[Dict], categories: List[Dict]) -> Any:
    coco = kind()
    coco.dataset = dict(images=images, annotations=annotations, categories=categories)
    coco.createIndex()
    return coco


def _set(evaluation: Any, images: List[Dict], category_ids: Sequence[int], max_dets: Sequence[int],
         iou_thrs: np.ndarray, use_categories: bool) -> None:
    # sorted, as pycocotools makes them; hotcoco takes them as they come
    evaluation.params.catIds = sorted(category_ids)
    evaluation.params.imgIds = sorted(image['id'] for image in images)
    evaluation.params.maxDets = list(max_dets)
    evaluation.params.iouThrs = iou_thrs
    evaluation.params.useCats = int(use_categories)


def _match(evaluation: Any, *settings: Any) -> None:
    _set(evaluation, *settings)
    evaluation.evaluate()
    evaluation.accumulate()
