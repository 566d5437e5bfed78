"""Results that tools/test.py --out has written, read back."""
import json
from typing import Any, List

import numpy as np

from mmdet_ft.errors import UserError
from mmdet_ft.untrusted import load_pickle


def read_results(path: str, dataset: Any, config: str) -> List[Any]:
    """Read a result for each image of `dataset` from a .pkl, or of a classifier from a .json.

    A classifier's file may hold a dict with `class_scores` [N, K], as tools/test.py writes it. `config` is what
    messages call the config. Raises UserError for files of other images or classes.
    """
    if path.endswith('.json'):
        with open(path, encoding='utf-8') as file:
            try:
                results = json.load(file)
            except ValueError as error:
                raise UserError(f'{path} is not a json file: {error}') from None
    else:
        results = load_pickle(path)
    again = f'write it again with tools/test.py {config} CHECKPOINT --out {path}'
    is_classifier = hasattr(dataset, 'result_items')
    if isinstance(results, dict) and is_classifier:
        if 'class_scores' not in results:
            raise UserError(
                f'{path} has {", ".join(map(str, results))} and no class_scores, which metrics are '
                f'computed from; {again} --out-items class_scores')
        results = list(np.asarray(results['class_scores'], dtype=np.float64))
    if not isinstance(results, list):
        raise UserError(
            f'{path} holds a {type(results).__name__}, not a list with a result for each image; {again}'
        )
    if len(results) != len(dataset):
        raise UserError(
            f'{path} has {len(results)} results and data.test {len(dataset)} images; {again}')
    if results and dataset.CLASSES:
        first = results[0]
        count = len(first[0] if isinstance(first, tuple) else first)
        if count != len(dataset.CLASSES):
            raise UserError(
                f'{path} has results of {count} classes and data.test has {len(dataset.CLASSES)}: give '
                f'the config of the model, or its data.test.classes')
    return results
