"""Checks of the labels of a classifier's data against its head."""
import logging
from typing import List, Optional, Sequence

import numpy as np
from torch import nn

from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.split import Split, innermost
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.settings.records import TestSettings
from mmdet_ft.registry import MODELS
from mmdet_ft.spelling import counted

logger = logging.getLogger('mmdet_ft')


def check_labels(dataset: Dataset, model: nn.Module) -> None:
    """Raise UserError for labels that the head of an ImageClassifier has no output for.

    They would fail in the first step: in a device assert on a GPU, in an IndexError on the CPU.
    """
    head = getattr(model, 'head', None)
    if not hasattr(head, 'one_label'):
        return
    for part in innermost(dataset):
        labels = labels_of(part)
        if labels is None or not len(labels):
            continue
        where = _source(part)
        kind = type(head).__name__
        if not head.one_label and labels.ndim == 1:
            raise UserError(
                f'{kind} learns several labels per image, and {type(part).__name__} {where} gives one: '
                f"write model.head.type='LinearClsHead'")
        if labels.ndim != 1:
            continue
        count = getattr(head, 'num_classes', getattr(model.backbone, 'num_classes', None))
        if isinstance(count, int) and count > 0 and labels.max() >= count:
            raise UserError(
                explain_large_labels(type(part).__name__, where, labels, count, part.CLASSES))


def check_learnable(dataset: Dataset, model: nn.Module) -> None:
    """Raise UserError for training images of a single class, from which a softmax learns nothing."""
    head = getattr(model, 'head', None)
    if not getattr(head, 'one_label', False):
        return
    parts = [(part, labels_of(part)) for part in innermost(dataset)]
    if any(labels is None or labels.ndim != 1 for _, labels in parts):
        return
    labels = np.unique(np.concatenate([labels for _, labels in parts]))
    if len(labels) == 1:
        part = parts[0][0]
        raise UserError(
            explain_single_class(type(part).__name__, _source(part), int(labels[0]), part.CLASSES))


def warn_of_unused_outputs(dataset: Dataset, model: nn.Module) -> None:
    """Log a warning if a classifier's head has more outputs than the training dataset has classes."""
    head = getattr(model, 'head', None)
    count, classes = getattr(head, 'num_classes', None), getattr(dataset, 'CLASSES', None)
    if (hasattr(head, 'one_label') and isinstance(count, int)
            and isinstance(classes, (list, tuple)) and 0 < len(classes) < count):
        logger.warning(
            'model.head.num_classes is %d and the training dataset has %s: the other outputs learn '
            "no class; write num_classes=%d, or num_classes='auto', which counts them", count,
            counted(len(classes), 'class', 'classes'), len(classes))


def explain_single_class(kind: str, where: str, label: int,
                         classes: Optional[Sequence[str]]) -> str:
    """Return the message for images that all have one label."""
    classes = list(classes or ())
    name = repr(classes[label]) if label < len(classes) else f'the label {label}'
    return (
        f'every image of {kind} {where} is of one class, {name}. The scores of a classifier add up to 1 over its '
        f'classes, so it would answer {name} to any image, at loss 0. Add images of something else, '
        f'as a class of their own')


def explain_large_labels(kind: str, where: str, labels: np.ndarray, count: int,
                         classes: Optional[Sequence[str]]) -> str:
    """Return the message for labels int64 [N] that exceed a head of `count` classes."""
    beyond = int((labels >= count).sum())
    text = (
        f'{kind} {where}: {beyond} of {len(labels)} images have a label of {count} or more (up to '
        f'{labels.max()}), and model.head.num_classes is {count}: labels count from 0')
    if labels.min() == 1 and labels.max() == count:
        return f'{text}. None is 0, so they seem to count from 1: subtract 1 from all'
    number = len(classes or ()) or int(labels.max()) + 1
    return f'{text}. Write model.head.num_classes={number}, or correct the labels'


def label_problems(settings: TestSettings, split: Split) -> List[Problem]:
    """Return the findings of `check_labels` and `check_learnable` as problems of a split of check_data."""
    head = settings.model.get('head')
    if split.has_boxes or not len(split.labels) or not isinstance(head, dict):
        return []
    cls = MODELS.class_of(head)
    if not getattr(cls, 'one_label', False):
        return []
    problems, labels, count = [], split.labels, head.get('num_classes')
    training = split.name.startswith('train')
    if isinstance(count, int) and count > 0 and labels.max() >= count:
        problems.append(
            Problem(split.name, 'label beyond the head', int((labels >= count).sum()),
                    explain_large_labels(split.kind, split.source, labels, count, split.classes),
                    f'num_classes={len(split.classes) or int(labels.max()) + 1}, or other labels'))
    elif isinstance(count, int) and split.classes and count != len(
            split.classes) and _counts_classes(settings):
        number = len(split.classes)
        problems.append(
            Problem(split.name, 'another number of classes', number,
                    f'{split.kind} has {number} classes but model.head.num_classes is {count}',
                    f"write num_classes={number}, or num_classes='auto', which counts them"))
    if training and len(np.unique(labels)) == 1:
        problems.append(
            Problem(split.name, 'one class only', len(labels),
                    explain_single_class(split.kind, split.source, int(labels[0]), split.classes),
                    'add a second class'))
    return problems


def _counts_classes(settings: TestSettings) -> bool:
    """Return whether NumClassCheckHook requires as many outputs as classes."""
    return any(hook.get('type') == 'NumClassCheckHook' for hook in settings.hooks.custom)


def labels_of(dataset: Dataset) -> Optional[np.ndarray]:
    """Return the labels of a classification dataset, int64 [N] (or [N, K]); None for other datasets."""
    if not hasattr(dataset, 'get_gt_labels'):
        return None
    return np.asarray(dataset.get_gt_labels())


def _source(dataset: Dataset) -> str:
    return str(getattr(dataset, 'ann_file', None) or getattr(dataset, 'data_prefix', ''))
