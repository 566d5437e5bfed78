"""V2's metrics of a classifier's scores, in percent."""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.evaluation.table_output import LoggerLike, print_log, table_text

METRICS = ('accuracy', 'precision', 'recall', 'f1_score', 'support', 'confusion_matrix')
MOST_SHOWN = 20  # classes of a confusion matrix in the log


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, topk: Sequence[int],
                  thresholds: Sequence[float]) -> np.ndarray:
    """Return the percentage of images whose label is among the k best classes, with a score above a threshold.

    scores [N, K]; labels [N]. Returns [len(topk), len(thresholds)]. A k above the number of classes
    uses all of them.
    """
    rank = ranks(scores, labels)
    own = scores[np.arange(len(labels)), labels]
    right = [[(rank < k) & (own > threshold) for threshold in thresholds] for k in topk]
    return 100. * np.mean(right, axis=-1)


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the classes ranked before the label: those of higher score, and of equal score with a lower index.

    scores [N, K]; labels [N]. Returns [N].
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    # a label whose score is NaN is last
    return ((scores > own) | ((scores == own) & before) | np.isnan(own)).sum(1)


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count how often a class (row) was predicted as another (column): int64 [K, K]."""
    number = scores.shape[1]
    return np.bincount(
        labels * number + scores.argmax(1), minlength=number**2).reshape(number, number)


class ByClass(NamedTuple):
    """Percentages of each class, [K]; 0 where nothing was predicted, or no image has the label."""
    precision: np.ndarray
    recall: np.ndarray
    f1_score: np.ndarray


def precision_recall_f1(scores: np.ndarray, labels: np.ndarray, threshold: float = 0.) -> ByClass:
    """Return precision, recall and F1 score of each class; F1 is 2pr / (p + r).

    scores [N, K]; labels [N]. An image is predicted as its best class if that scores above the
    threshold.
    """
    number = scores.shape[1]
    best = scores.argmax(1)
    counted = scores.max(1) > threshold
    taken = np.bincount(best[counted], minlength=number)
    shown = np.bincount(labels, minlength=number)
    right = np.bincount(best[counted & (best == labels)], minlength=number)
    precision = 100. * right / np.maximum(taken, 1)
    recall = 100. * right / np.maximum(shown, 1)
    both = np.maximum(precision + recall, np.finfo(np.float32).eps)
    return ByClass(precision, recall, 2 * precision * recall / both)


def evaluate_scores(scores: np.ndarray,
                    labels: np.ndarray,
                    metric: Union[str, Sequence[str]] = 'accuracy',
                    metric_options: Optional[Dict[str, Any]] = None,
                    classes: Optional[Sequence[str]] = None,
                    logger: LoggerLike = None) -> Dict[str, Any]:
    """Compute MMClassification 0.25's metrics under its keys.

    Args:
        scores: [N, K], higher is likelier.
        labels: int64 [N].
        metric: METRICS, one or several; confusion_matrix, a list [K][K], is also logged as a table.
        metric_options: `topk`, default (1, 5): keys 'accuracy_top-1' and so on, or 'accuracy' for a
            single number. `thrs`, default 0: minimum score; a tuple gives 'accuracy_top-1_thr_0.50'
            and so on. `average_mode`: 'macro', the mean over the classes, or 'none', a list [K]
            where V2 has an array.
        classes: names for the table.

    Raises ValueError as read_metrics does, and when the numbers of scores and labels differ.
    """
    metrics, options = read_metrics(metric, metric_options)
    if len(scores) != len(labels):
        raise ValueError(f'{len(scores)} results for {len(labels)} images')

    topk, one_k = _several(options['topk'])
    thresholds, one_threshold = _several(0. if options['thrs'] is None else options['thrs'])
    endings = [''] if one_threshold else [f'_thr_{threshold:.2f}' for threshold in thresholds]
    is_mean = options['average_mode'] == 'macro'
    values: Dict[str, Any] = {}
    if 'accuracy' in metrics:
        names = ['accuracy'] if one_k else [f'accuracy_top-{k}' for k in topk]
        table = topk_accuracy(scores, labels, topk, thresholds)
        for name, row in zip(names, table):
            values.update({name + ending: float(value) for ending, value in zip(endings, row)})
    if 'support' in metrics:
        shown = np.bincount(labels, minlength=scores.shape[1])
        values['support'] = float(shown.sum()) if is_mean else shown.tolist()
    by_class = [precision_recall_f1(scores, labels, threshold) for threshold in thresholds]
    for name in ByClass._fields:
        if name in metrics:
            for ending, one in zip(endings, by_class):
                figures = getattr(one, name)
                values[name + ending] = float(figures.mean()) if is_mean else figures.tolist()
    if 'confusion_matrix' in metrics:
        values['confusion_matrix'] = confusion_matrix(scores, labels).tolist()
        print_log(_table(values['confusion_matrix'], classes), logger)
    return values


def read_metrics(metric: Union[str, Sequence[str]],
                 metric_options: Optional[Dict[str, Any]]) -> Tuple[List[str], Dict[str, Any]]:
    """Return the names of metrics, and all their options; see evaluate_scores.

    Raises ValueError for an unknown name or value, with the known ones.
    """
    metrics = [metric] if isinstance(metric, str) else list(metric)
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(
            f'unknown metric {", ".join(map(repr, unknown))}; there are {", ".join(METRICS)}')
    options = dict(topk=(1, 5), thrs=0., average_mode='macro')
    unknown = sorted(set(metric_options or ()) - set(options))
    if unknown:
        raise ValueError(
            f'metric_options has no {", ".join(unknown)}; it knows {", ".join(options)}')
    options.update(metric_options or {})
    if options['average_mode'] not in ('macro', 'none'):
        raise ValueError(
            f"metric_options.average_mode is 'macro' or 'none', not {options['average_mode']!r}")
    return metrics, options


def _several(value: object) -> Tuple[List[Any], bool]:
    """Return a list of one or several values, and whether it was a single value."""
    return (list(value), False) if isinstance(value, (list, tuple)) else ([value], True)


def _table(matrix: List[List[int]], classes: Optional[Sequence[str]]) -> str:
    names = list(classes or range(len(matrix)))
    if len(names) > MOST_SHOWN:
        return f'confusion matrix of {len(names)} classes: too large to show'
    rows = [[name, *row] for name, row in zip(names, matrix)]
    return 'rows: the truth, columns: taken for\n' + table_text(['', *map(str, names)], rows)
