"""A new split of data that have none to validate on."""
import os.path as osp
from typing import Hashable, List, NamedTuple, Optional, Sequence

import numpy as np

from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.splitting import are_useful, assign_parts, copies_of, group_images, scenes_of
from mmdet_ft.spelling import counted

SHARE = 0.2  # of the images that validate
FEWEST, MOST = 0.1, 0.35  # shares that whole scenes may give; otherwise they are divided


class Division(NamedTuple):
    """Indices of the images to train and to validate on, and how they were chosen."""
    train: List[int]
    val: List[int]
    text: str


def divide(split: Split, seed: int) -> Division:
    """Divide images into four fifths to train and a fifth to validate: the same ones for the same seed.

    Classes have about the same shares on both sides. Equal images are on one side, as are copies that Roboflow has
    changed, and scenes: images of one folder whose names differ in a running number, where there are several.

    Raises DataError for fewer than two images that differ.
    """
    names = [name_below(split, index) for index in range(len(split.paths))]
    paths = [path if path and osp.isfile(path) else None for path in split.paths]
    scenes = scenes_of(names)
    for keys in ([scenes] if are_useful(scenes) else []) + [[None] * len(names)]:
        division = _divide(split, names, paths, keys, seed)
        if division is not None:
            return division
    raise DataError(f'{split.source} has {counted(len(names), "image")}; two that differ are '
                    f'needed at least, one to train and one to validate')


def _divide(split: Split, names: Sequence[str], paths: Sequence[Optional[str]],
            scenes: Sequence[Optional[Hashable]], seed: int) -> Optional[Division]:
    """Divide images with scenes; None where one side would get too few."""
    groups, num_twins = group_images(paths, copies_of(names), scenes)
    if len(groups) < 2:
        return None
    part = assign_parts(groups, _counts(split), [1 - SHARE, SHARE], seed)
    train, val = (np.flatnonzero(part == index).tolist() for index in (0, 1))
    has_scenes = any(key is not None for key in scenes)
    if has_scenes and not FEWEST <= len(val) / len(names) <= MOST:
        return None
    if not val or not train:  # two groups, and both are wanted on one side
        train, val = sorted(groups[0]), sorted(index for group in groups[1:] for index in group)
    text = f'the split is new: {len(train)} images to train, {len(val)} to validate, by class, seed {seed}'
    if has_scenes:
        text += f'; {len(set(scenes) - {None})} scenes stay whole, such as {_shown(scenes)!r}'
    if num_twins:
        text += f'; {num_twins} images that are copies of each other are on one side'
    return Division(train, val, text)


def _shown(scenes: Sequence[Optional[Hashable]]) -> str:
    first = next(key for key in scenes if key is not None)
    return first[0] if isinstance(first, tuple) else str(first)


def _counts(split: Split) -> np.ndarray:
    """Return the objects of each class in each image, int64 [I, K]."""
    counts = np.zeros((len(split.paths), max(len(split.classes), 1)), dtype=np.int64)
    known = split.labels >= 0
    np.add.at(counts, (split.image[known], split.labels[known]), 1)
    return counts


def name_below(split: Split, index: int) -> str:
    """Return the name of an image relative to the folder of its split, with forward slashes."""
    path = split.paths[index] or f'{index}'
    return osp.relpath(path, split.prefix or '.').replace('\\', '/')
