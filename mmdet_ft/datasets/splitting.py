"""Splits of a dataset: stratified by class, with the images of a group on one side."""
import hashlib
import os
import re
from collections import defaultdict
from typing import (Any, Callable, Dict, Hashable, Iterable, List, NamedTuple, Optional, Sequence,
                    Tuple)

import numpy as np

from mmdet_ft.datasets.annotations.values import plain_id

# The part of a name before its running number: street_0001.jpg, cam1/000123.png, photo (12).jpg
SCENE = r'^(.*?)[-_. ]*\(?\d+\)?\.[^./]+$'
COPY = r'^(.*)\.rf\.[0-9a-zA-Z]{16,}\.[^./]+$'  # Roboflow's name of a changed copy
FEWEST_SCENES = 5

Watch = Callable[[List[int]], Iterable[int]]


class Items(NamedTuple):
    """I images with the data that determines the split."""
    names: List[str]  # [I]
    paths: List[Optional[str]]  # [I]; None if there is no such file
    classes: List[str]  # K
    counts: np.ndarray  # int64 [I, K], objects of each class


def group_images(paths: Sequence[Optional[str]],
                 *keys: Sequence[Optional[Hashable]],
                 watch: Watch = list) -> Tuple[List[List[int]], int]:
    """Group the indices of images to keep together; also count images with a duplicate.

    Images of equal content are together, and those that are equal in one of `keys`, of which None is equal to none.

    paths: [I], None for an image without a file. watch: passes on the indices whose files are read.
    """
    owner = list(range(len(paths)))

    def root_of(index: int) -> int:
        while owner[index] != index:
            owner[index] = owner[owner[index]]
            index = owner[index]
        return index

    twins = equal_files(paths, watch)
    for indices in (*twins, *(group for names in keys for group in _equal(names))):
        for index in indices[1:]:
            owner[root_of(index)] = root_of(indices[0])
    groups: Dict[int, List[int]] = defaultdict(list)
    for index in range(len(owner)):
        groups[root_of(index)].append(index)
    return list(groups.values()), sum(map(len, twins))


def _equal(keys: Sequence[Optional[Hashable]]) -> List[List[int]]:
    """Return the indices of equal keys; None is equal to none."""
    found: Dict[Hashable, List[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            found[key].append(index)
    return list(found.values())


def equal_files(paths: Sequence[Optional[str]], watch: Watch = list) -> List[List[int]]:
    """Return the indices of files with equal content, by its hash; only files of equal size are read."""
    sizes = [None if path is None else os.path.getsize(path) for path in paths]
    asked = [index for indices in _equal(sizes) if len(indices) > 1 for index in indices]
    digests: List[Optional[bytes]] = [None] * len(paths)
    for index in watch(asked):
        with open(str(paths[index]), 'rb') as file:
            digests[index] = hashlib.blake2b(file.read(), digest_size=16).digest()
    return [indices for indices in _equal(digests) if len(indices) > 1]


def keys_by_pattern(names: Sequence[str], pattern: str) -> List[Optional[Hashable]]:
    """Return what a regular expression finds in each name: its groups, or all that it matches; None for nothing.

    Raises re.error for an invalid expression.
    """
    found = [re.search(pattern, name) for name in names]
    keys = [item and (item.groups() or (item.group(), )) for item in found]
    return [key if key and any(key) else None for key in keys]  # x* finds '' in any name


def scenes_of(names: Sequence[str]) -> List[Optional[Hashable]]:
    """Return the scene of each image: its folder, and its name before a running number; None without one."""
    return keys_by_pattern(names, SCENE)


def copies_of(names: Sequence[str]) -> List[Optional[Hashable]]:
    """Return the original of each image that Roboflow has copied and changed; None for other images."""
    return keys_by_pattern(names, COPY)


def are_useful(scenes: Sequence[Optional[Hashable]]) -> bool:
    """Check whether a split by scenes is possible: there are several, and none has most of the images."""
    sizes = [len(indices) for indices in _equal(scenes)]
    alone = sum(key is None for key in scenes)
    return len(sizes) + alone >= FEWEST_SCENES and max(
        sizes, default=len(scenes)) <= len(scenes) / 2 and len(sizes) < len(scenes) - alone


def assign_parts(groups: List[List[int]], counts: np.ndarray, shares: Sequence[float],
                 seed: int) -> np.ndarray:
    """Assign a part to each image, int64 [I]: whole groups, and each class split by about `shares`.

    Groups with the rarest classes come first, as later groups cannot make up for them. Each goes to the part that
    lacks most of its rarest class; ties go to the part that lacks most images (Sechidis et al. 2011).
    """
    rng = np.random.default_rng(seed)
    shares = np.array(shares) / np.sum(shares)
    has = np.concatenate([counts > 0, ~(counts > 0).any(1)[:, None]], 1).astype(
        np.int64)  # [I, K + 1]; the last column marks images without objects
    tables = np.array([has[group].sum(0) for group in groups])
    lacking = np.outer(shares, tables.sum(0)).astype(
        np.float64)  # [P, K + 1] images that each part still needs
    room = shares * len(has)
    part = np.zeros(len(has), dtype=np.int64)
    left = set(range(len(groups)))
    order = {group: index for index, group in enumerate(rng.permutation(len(groups)).tolist())}
    while left:
        rest = tables[sorted(left)].sum(0)
        wanted = [column for column in np.argsort(rest, kind='stable').tolist() if rest[column]]
        column = wanted[0]
        those = sorted((group for group in left if tables[group, column]),
                       key=lambda group: (-len(groups[group]), order[group]))
        for group in those:
            target = max(
                range(len(shares)),
                key=lambda index: (round(lacking[index, column], 6), round(room[index], 6), index))
            part[groups[group]] = target
            lacking[target] -= tables[group]
            room[target] -= len(groups[group])
            left.discard(group)
    return part


def json_parts(content: Dict[str, Any], chosen: np.ndarray) -> Dict[str, Any]:
    """Return the json with only the images where `chosen` is True, and their annotations."""
    images = [image for image, keep in zip(content['images'], chosen.tolist()) if keep]
    ids = {image['id'] for image in images}
    all_ids = {image['id'] for image in content['images']}
    plain = {plain_id(image['id']) for image in images}

    def is_chosen(image_id: Any) -> bool:
        # like the reader, take '1' for 1 if no image has exactly this id
        return image_id in ids or image_id not in all_ids and plain_id(image_id) in plain

    annotations = [item for item in content.get('annotations') or [] if is_chosen(item['image_id'])]
    return {**content, 'images': images, 'annotations': annotations}
