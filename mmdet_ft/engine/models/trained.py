"""A trained model over data: the classes of its checkpoint matched by name with those of the data."""
import copy
import logging
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence

import numpy as np
from torch import nn

from mmdet_ft.checkpoints import fitting, reading
from mmdet_ft.checkpoints.classes import Comparison, compare, line_of, listed, renaming_line
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.classification.base import ClassificationDataset
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.settings.records import PartSettings
from mmdet_ft.registry import MODELS

logger = logging.getLogger('mmdet_ft')


def build_trained(settings: PartSettings, dataset: Dataset, source: str) -> nn.Module:
    """Build a model with the weights of its checkpoint, and results for the dataset's classes.

    If the checkpoint names its classes, they are compared with those of the data by name. A detector's
    results are reordered for the data; a dataset of class folders is relabeled for the checkpoint.

    Raises CheckpointError for data with classes that the checkpoint lacks, and for weights of another model.
    """
    settings = {**settings, 'train_cfg': None}
    checkpoint = reading.read(source)
    found = compare(checkpoint.meta.get('CLASSES'), getattr(dataset, 'CLASSES', None))
    if found is None or found.is_same or found.is_spelling:
        model = build_model(settings, dataset)
        fitting.load_trained(model, checkpoint)
        return model
    if found.missing:
        raise CheckpointError(_other_classes(source, found))
    is_classified = all(isinstance(part, ClassificationDataset) for part in innermost(dataset))
    model = _of_checkpoint(settings, dataset, checkpoint, found)
    what = 'has' if len(found.known) == len(found.wanted) else 'is of'
    if is_classified:
        _relabel(dataset, found)
        did = 'labels are counted as in the checkpoint'
    else:
        _in_order(model, found.indices)
        model.CLASSES = dataset.CLASSES
        did = 'results are put in the order of the data, by name'
    logger.warning('%s was trained on %s, and data.test %s %s: %s', source, listed(found.known),
                   what, listed(found.wanted), did)
    return model


def _of_checkpoint(settings: PartSettings, dataset: Dataset, checkpoint: reading.Checkpoint,
                   found: Comparison) -> nn.Module:
    """Build the model with the number of classes of its checkpoint instead of that of the data."""
    settings = copy.deepcopy(settings)
    if len(found.known) != len(found.wanted):
        _count_as(settings, len(found.wanted), len(found.known))
    palette = getattr(dataset, 'PALETTE', None)
    model = build_model(settings, SimpleNamespace(CLASSES=found.known, PALETTE=palette))
    fitting.load_trained(model, checkpoint)
    return model


def _count_as(settings: object, old: int, new: int) -> None:
    """Replace num_classes=`old` in a model's settings by `new`."""
    if isinstance(settings, dict):
        if settings.get('num_classes') == old and _counts_classes(settings):
            settings['num_classes'] = new
        for value in settings.values():
            _count_as(value, old, new)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            _count_as(value, old, new)


def _counts_classes(settings: object) -> bool:
    return getattr(MODELS.class_of(settings), 'counts_classes', True)


def _relabel(dataset: Dataset, found: Comparison) -> None:
    """Relabel classification data by the classes of the checkpoint."""
    indices = np.array(found.indices, dtype=np.int64)
    for part in innermost(dataset):
        records = part.data_infos
        if hasattr(records, 'labels'):
            records.labels = indices[np.asarray(records.labels)]
        else:
            for info in records:
                info['gt_label'] = indices[np.asarray(info['gt_label'])]
        part.CLASSES = list(found.known)
    dataset.CLASSES = list(found.known)


def _in_order(model: nn.Module, indices: Sequence[int]) -> None:
    """Make a detector return its results for some of its classes, or in another order."""
    results = model.results

    def in_order(detections: object, metas: List[Dict[str, Any]]) -> List[Any]:
        return [_chosen(result, indices) for result in results(detections, metas)]

    model.results = in_order


def _chosen(result: Any, indices: Sequence[int]) -> Any:
    """Return V2's result of an image, a list over classes or a tuple of such, for some of the classes."""
    if isinstance(result, tuple):
        return tuple(_chosen(part, indices) for part in result)
    return [result[index] for index in indices]


def _other_classes(source: str, found: Comparison) -> str:
    ways = []
    if found.shared:
        ways.append(f'test the classes that both have: data.test.{line_of(found.shared)}')
    if len(found.known) == len(found.wanted):
        names = [
            new if index is None else old
            for old, new, index in zip(found.known, found.wanted, found.indices)
        ] if not found.are_moved else found.wanted
        ways.append(
            f'if only the names differ, give them to the checkpoint: {renaming_line(source, names)}'
        )
    ways.append('or name a checkpoint of these classes')
    return (
        f'{source} was trained on {listed(found.known)}, and data.test has classes that it does not know: '
        f'{", ".join(map(repr, found.missing[:8]))}\n{found.table("data.test")}\n  To fix: ' +
        '; '.join(ways))
