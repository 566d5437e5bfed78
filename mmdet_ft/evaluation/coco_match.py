"""COCO's matching of detections with the ground truth, by hotcoco where it is installed, else by pycocotools.

Both give the same numbers; tools/benchmarks/coco_eval.py measures their time.
"""
import contextlib
import io
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import pycocotools.mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OLDEST = (1, 0, 1)  # earlier hotcoco took run lengths written as bytes for empty masks


def hotcoco() -> Optional[Any]:
    """Return the hotcoco package if it is installed and new enough."""
    try:
        import hotcoco as package
    except ImportError:
        return None
    version = tuple(int(part) for part in re.findall(r'\d+', package.__version__)[:3])
    return package if version >= OLDEST else None


class Detected(NamedTuple):
    """N detections, in the order that breaks ties between equal scores."""
    image_ids: np.ndarray  # int64 [N]
    category_ids: np.ndarray  # int64 [N]
    boxes: np.ndarray  # float64 [N, 4], x y w h
    scores: np.ndarray  # float64 [N]
    runs: Optional[List[Dict[
        str, Any]]]  # run lengths, for masks; areas are those of the masks, not of the boxes

    def areas(self) -> np.ndarray:
        if self.runs is None:
            return self.boxes[:, 2] * self.boxes[:, 3]
        # pycocotools 2.0.11 on NumPy 2 refuses more than 255 at once
        chunks = [self.runs[begin:begin + 255] for begin in range(0, len(self.runs), 255)]
        return np.concatenate([np.zeros(0), *map(mask_api.area, chunks)])


def match(images: List[Dict[str, Any]],
          truth: List[Dict[str, Any]],
          detections: Detected,
          category_ids: Sequence[int],
          max_dets: Sequence[int],
          iou_thrs: np.ndarray,
          use_categories: bool = True) -> COCOeval:
    """Match and accumulate; the result has `params` and `eval`, and can be summarized.

    images, truth: COCO's dicts, all ids integers.
    """
    categories = [dict(id=id_, name=str(id_)) for id_ in category_ids]
    settings = images, category_ids, max_dets, iou_thrs, use_categories
    iou_type = 'bbox' if detections.runs is None else 'segm'
    package = hotcoco()
    with contextlib.redirect_stdout(io.StringIO()):
        if package is None:
            evaluation = COCOeval(
                _indexed(COCO, images, truth, categories),
                _indexed(COCO, images, _as_dicts(detections), categories), iou_type)
            _match(evaluation, *settings)
            return evaluation
        coco = _indexed(package.COCO, images, truth, categories)
        fast = package.COCOeval(coco, _loaded(coco, detections), iou_type)
        _match(fast, *settings)
    evaluation = COCOeval(iouType=iou_type)
    _set(evaluation, *settings)
    evaluation.eval = {key: np.asarray(fast.eval[key]) for key in ('precision', 'recall', 'scores')}
    return evaluation


def _as_dicts(detections: Detected) -> List[Dict[str, Any]]:
    columns = dict(
        id=range(1,
                 len(detections.scores) + 1),
        image_id=detections.image_ids.tolist(),
        category_id=detections.category_ids.tolist(),
        score=detections.scores.tolist(),
        area=detections.areas().tolist(),
        iscrowd=[0] * len(detections.scores))
    if detections.runs is None:
        columns['bbox'] = detections.boxes.tolist()
    else:
        columns['segmentation'] = detections.runs
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _loaded(coco: Any, detections: Detected) -> Any:
    """Load detections into hotcoco, without a dict for each."""
    rows = np.column_stack(
        [detections.image_ids, detections.boxes, detections.scores, detections.category_ids])
    loaded = coco.loadRes(rows, segmentation=detections.runs)
    if detections.runs is not None:
        loaded.update_anns(ids=np.arange(1, len(rows) + 1), area=detections.areas())
    return loaded


def _indexed(kind: Callable[[], Any], images: List[Dict], annotations: List[Dict],
             categories: List[Dict]) -> Any:
    coco = kind()
    coco.dataset = dict(images=images, annotations=annotations, categories=categories)
    coco.createIndex()
    return coco


def _set(evaluation: Any, images: List[Dict], category_ids: Sequence[int], max_dets: Sequence[int],
         iou_thrs: np.ndarray, use_categories: bool) -> None:
    # sorted, as by pycocotools; hotcoco keeps the given order
    evaluation.params.catIds = sorted(category_ids)
    evaluation.params.imgIds = sorted(image['id'] for image in images)
    evaluation.params.maxDets = list(max_dets)
    evaluation.params.iouThrs = iou_thrs
    evaluation.params.useCats = int(use_categories)


def _match(evaluation: Any, *settings: Any) -> None:
    _set(evaluation, *settings)
    evaluation.evaluate()
    evaluation.accumulate()
