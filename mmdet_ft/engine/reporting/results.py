"""Reader for the results written by tools/test.py --out."""
import json
import logging
import shlex
from typing import Any, Dict, List

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.values import format_value
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.errors import UserError
from mmdet_ft.untrusted import load_pickle


def read_results(path: str, dataset: Dataset, config: str) -> List[Any]:
    """Read a result for each image of `dataset` from a .pkl, or of a classifier from a .json.

    A classifier's file may hold a dict with `class_scores` [N, K], as tools/test.py writes it. `config`
    is the name of the config in messages. Raises UserError for files of other images or classes.
    """
    if path.endswith('.json'):
        with open(path, encoding='utf-8') as file:
            try:
                results = json.load(file)
            except ValueError as error:
                raise UserError(f'{path} is not a json file: {error}') from None
    else:
        results = load_pickle(path)
    again = f'write it again with {how_to_run("test")} {shlex.quote(config)} CHECKPOINT --out {shlex.quote(path)}'
    is_classifier = hasattr(dataset, 'result_items')
    if isinstance(results, dict) and is_classifier:
        if 'class_scores' not in results:
            raise UserError(
                f'{path} has {", ".join(map(str, results))} and no class_scores, which metrics are '
                f'computed from; {again} --out-items class_scores')
        _require_same_names(results, dataset, path)
        results = list(np.asarray(results['class_scores'], dtype=np.float64))
    if not isinstance(results, list):
        raise UserError(
            f'{path} holds a {type(results).__name__}, not a list with a result for each image; {again}'
        )
    if len(results) != len(dataset):
        raise UserError(
            f'{path} has {len(results)} results and data.test {len(dataset)} images; {again}')
    if is_classifier:
        _require_scores(results, dataset, path, again)
        return results
    for index, result in enumerate(results):
        _require_detections(result, dataset, f'{path}: the result of image {index}', again)
    _warn_of_boxes_outside(results, dataset, path)
    return results


def _require_same_names(table: Dict[str, Any], dataset: Dataset, path: str) -> None:
    """Raise UserError for a table whose class names do not match the dataset's labels."""
    names = list(dataset.CLASSES or ())
    labels, found = table.get('pred_label'), table.get('pred_class')
    if labels is None or found is None or not names:
        return
    for label, name in zip(labels, found):
        if isinstance(name, str) and 0 <= int(label) < len(names) and names[int(label)] != name:
            raise UserError(
                f'{path} was written with other classes: label {int(label)} is {name!r} there, and '
                f'{names[int(label)]!r} in data.test ({", ".join(names)}). Write data.test.classes=(...) in the order '
                'of the results')


def _require_scores(results: List[Any], dataset: Dataset, path: str, again: str) -> None:
    """Raise UserError for results other than scores [K] of a classifier."""
    number = len(dataset.CLASSES or ())
    for index, scores in enumerate(results):
        try:
            count = np.asarray(scores, dtype=np.float64).shape
        except (TypeError, ValueError):
            count = ()
        if len(count) != 1:
            raise UserError(
                f'{path}: the result of image {index} is {format_value(scores)}, expected the scores of all classes; '
                f'{again}')
        if number and count[0] != number:
            raise UserError(_other_classes(path, count[0], number))


def _require_detections(result: Any, dataset: Dataset, where: str, again: str) -> None:
    """Raise UserError for results other than a detector's: [n, 5] per class, a pair with masks, or
    proposals [n, 5]."""
    if isinstance(result, np.ndarray) and result.ndim == 2:  # proposals
        classes, is_right = [result], result.shape[1] in (4, 5)
    else:
        pair = isinstance(result, tuple) and len(result) == 2
        classes = result[0] if pair else result
        is_right = isinstance(classes, (list, tuple)) and all(
            isinstance(rows, np.ndarray) and rows.dtype.kind in 'iuf' and
            (not rows.size or rows.ndim == 2 and rows.shape[1] == 5) for rows in classes)
        number = len(dataset.CLASSES or ())
        if is_right and number and len(classes) != number:
            raise UserError(_other_classes(where, len(classes), number))
    if not is_right:
        kind = ''
        if isinstance(result, dict):
            kind = (
                f'; a dict ({", ".join(map(str, list(result)[:6]))}) is an annotation of the middle format, or a '
                'result of MMDetection 3, which is not read here')
        raise UserError(
            f'{where} is {format_value(result)}, expected a list with an array [n, 5] (x1 y1 x2 y2 score) for '
            f'each class{kind}'
            f'; {again}')


def _other_classes(where: str, found: int, expected: int) -> str:
    return (
        f'{where} has {found} classes and data.test has {expected}: give the config that the results were made '
        f'with; or name all {found} classes in data.test.classes, in the order of the model (its checkpoint lists '
        f'them: `{how_to_run("inspect_checkpoint")}`)')


def _warn_of_boxes_outside(results: List[Any], dataset: Dataset, path: str) -> None:
    """Warn of boxes outside their images: the results are of other images, or in another order."""
    outside, first = 0, None
    for index, result in enumerate(results):
        info = dataset.data_infos[index] if hasattr(dataset, 'data_infos') else {}
        if not (info.get('width') and info.get('height')):
            continue
        rows = [result] if isinstance(
            result, np.ndarray) else result[0] if isinstance(result, tuple) else result
        corners = np.concatenate([np.zeros((0, 4)), *(part[:, :4] for part in rows if len(part))])
        if (corners > np.tile([info['width'] + 1, info['height'] + 1], 2)).any():
            outside += 1
            first = info.get('filename') if first is None else first
    if outside:
        logging.getLogger('mmdet_ft').warning(
            '%s: in %d of %d images boxes reach out of the image, the first one %r: are these the results of '
            'data.test, in its order?', path, outside, len(results), first)
