"""Metric values of an evaluation: whether they can be compared, and why one is missing."""
import math
import re
from typing import Any, Dict, List, Optional

import numpy as np

from mmdet_ft.engine.errors import UserError
from mmdet_ft.spelling import did_you_mean

# AP and AR, overall or partial: bbox_mAP, 0_segm_mAP_50, AR@100, bbox_AP, AP50, moderate_mAP, recall@100@0.5.
# -1 marks an undefined one.
_AVERAGE = re.compile(r'(^|_)(m?A[PR]\d*|recall)(_|@|$)')


def read_finite_metric(name: str, metrics: Dict[str, Any]) -> Optional[float]:
    """Read a metric that can be compared with others; None if it is missing, NaN, infinite or undefined."""
    value = float(metrics.get(name, math.nan))
    is_undefined = value == -1 and _AVERAGE.search(name) is not None
    return value if math.isfinite(value) and not is_undefined else None


def check_metric(key: str, name: str, metrics: Dict[str, Any]) -> None:
    """Raise UserError if a key of the config names no metric of an evaluation.

    `<metric>_copypaste` is a string of several numbers and cannot be compared.
    """
    known = [
        metric for metric, value in metrics.items()
        if metric != 'eval_iter_num' and not isinstance(value, str)
    ]
    if name not in known:
        first = name.partition('_copypaste')[0]
        hint = f'did you mean {first!r}?' if first in known else did_you_mean(name, known)
        raise UserError(f'{key}={name!r} is not among the metrics: {", ".join(known)}' +
                        (f'\n{hint}' if hint else ''))


def has_detections(results: List[Any]) -> bool:
    """Return whether any image has a detection; the scores of a classifier always count."""
    return any(_num_found(result) for result in results)


def _num_found(result: object) -> int:
    if isinstance(result, tuple):  # (boxes, masks)
        return _num_found(result[0])
    if isinstance(result, list):  # an array [n, 5] per class
        return sum(map(len, result))
    return len(result) if isinstance(result, np.ndarray) else 1


def explain_missing(name: str, metrics: Dict[str, Any], results: List[Any]) -> str:
    """Explain why a known metric has no value: it is undefined, or there are no detections."""
    if name in metrics and read_finite_metric(name, metrics) is None:
        value = float(metrics[name])
        if value == -1:
            return f'{name} is -1: the validation set has no objects of these classes, so that it is not defined'
        return f'{name} is {value}'
    assert not has_detections(results), (name, metrics)
    return f'the model has found nothing in {len(results)} validation images, so that there is no {name} yet'
