"""The splits of a recognized folder, with the files that their datasets read."""
import contextlib
import json
import logging
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.checks.split import Split, split_of
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.found import Layout, Part
from mmdet_ft.datasets.layouts.tree import ALL
from mmdet_ft.folders.dividing import divide
from mmdet_ft.folders.files import annotation_path, write_once
from mmdet_ft.registry import DATASETS

Settings = Dict[str, Any]  # of a dataset, without pipeline


class Contents(NamedTuple):
    """The splits of a folder, and what is in them."""
    layout: Layout
    settings: Dict[str, Settings]  # of train, val, and test where there is one
    splits: Dict[str, Split]
    classes: List[str]
    notes: List[str]  # messages about the files

    @property
    def has_boxes(self) -> bool:
        """Return whether there are boxes; otherwise an image has one label."""
        return self.splits['train'].has_boxes

    @property
    def num_objects(self) -> int:
        """Return the number of objects to learn."""
        return len(_learned(self.splits['train']))

    @property
    def num_masks(self) -> int:
        """Return the number of objects to learn that have a mask."""
        train = self.splits['train']
        if train.segmentation is None or not train.num_masks:
            return 0
        return sum(train.segmentation(int(index)) is not None for index in _learned(train))


def _learned(split: Split) -> np.ndarray:
    """Return the indices of the objects of the classes that are not to be ignored, int64 [n]."""
    return np.flatnonzero((split.labels >= 0) & ~split.ignored)


def read_contents(layout: Layout, out: str, seed: int = 0) -> Contents:
    """Build the datasets of a layout; write the lists and jsons that they read into the folder `out`.

    Without images to validate on, a fifth of those to train on becomes them.

    Raises DataError where nothing can be learned, and UserError for a file in `out` of another content.
    """
    parts, notes = _with_training(layout)
    is_whole = 'val' not in parts  # is to be divided
    settings, datasets = {}, {}
    classes: Optional[Sequence[str]] = None
    for split, part in parts.items():
        name = ALL if split == 'train' and is_whole else split
        own, found = _settings_of(part, annotation_path(out, name))
        classes = _classes_of(part, own) if split == 'train' else classes
        settings[split] = own if classes is None else {**own, 'classes': tuple(classes)}
        datasets[split] = _build(settings[split])
        classes = tuple(datasets['train'].CLASSES or ())  # of every split
        found += [*part.notes, *getattr(datasets[split], 'left_out', [])]
        notes += [f'{split}: {text}' if len(parts) > 1 else text for text in found]
    names = list(datasets['train'].CLASSES or ())
    settings = {split: {**own, 'classes': tuple(names)} for split, own in settings.items()}
    if is_whole:
        division = divide(split_of(datasets['train'], 'train'), seed)
        notes.append(division.text)
        dataset, whole = datasets['train'], settings['train']
        for split, indices in (('train', division.train), ('val', division.val)):
            settings[split] = _part_of(dataset, whole, indices, annotation_path(out, split))
            datasets[split] = _build(settings[split])
    order = [split for split in ('train', 'val', 'test') if split in settings]
    contents = Contents(layout, {split: settings[split]
                                 for split in order},
                        {split: split_of(datasets[split], split)
                         for split in order}, names, notes)
    if not contents.num_objects:
        raise DataError(f'{layout.describe()}: there is no object to learn')
    return contents


def _with_training(layout: Layout) -> Tuple[Dict[str, Part], List[str]]:
    """Return the parts with one to train on, the first; DataError without one."""
    parts, notes = dict(layout.parts), []
    if 'train' not in parts and ALL in parts:
        parts['train'] = parts.pop(ALL)
    elif 'train' not in parts and len(parts) == 1:
        split, part = next(iter(parts.items()))
        parts = {'train': part}
        notes.append(f'the only split is {split!r}: it is divided')
    if 'train' not in parts:
        raise DataError(f'{layout.describe()}: there are the splits {", ".join(parts)} and none to '
                        f'train on; name one train')
    if ALL in parts:
        notes.append(f'{parts.pop(ALL).source} is of no split: not used')
    return {'train': parts.pop('train'), **parts}, notes


def _settings_of(part: Part, path: str) -> Tuple[Settings, List[str]]:
    """Return the settings of a part after writing the file that they name, to `path` and an ending; and messages."""
    if part.names is not None:
        text = ''.join(f'{name}\n' for name in part.names)
        return {**part.settings, 'ann_file': write_once(f'{path}.txt', text)}, []
    if part.content is None:
        return dict(part.settings), []
    content = part.content()
    names = [category['name'] for category in content.records['categories']]
    file = write_once(f'{path}.json', json.dumps(content.records))
    return {'classes': tuple(names), **part.settings, 'ann_file': file}, list(content.notes)


def _classes_of(part: Part, settings: Settings) -> Optional[Sequence[str]]:
    """Return the names of the objects to train on; None where the dataset has them."""
    if 'classes' in settings or part.classes is None:
        return settings.get('classes')
    names = part.classes()
    if not names:
        raise DataError(f'{part.source}: there is no object to learn')
    return names


def _part_of(dataset: Any, settings: Settings, indices: Sequence[int], path: str) -> Settings:
    """Write the annotation file of some images; return the settings of their dataset."""
    file = dataset.part_file(indices)
    found = {**settings, **file.settings, 'ann_file': write_once(f'{path}{file.ending}', file.text)}
    return {key: value for key, value in found.items() if value is not None}


def _build(settings: Settings) -> Any:
    """Build a dataset with all its images, without the warnings that the training logs again."""
    with _quiet():
        return DATASETS.build({**settings, 'pipeline': [], 'test_mode': True})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger('mmdet_ft')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
