"""Split a COCO json, or a folder of class folders, into train and val."""
import copy
import os
import os.path as osp
import re
from argparse import Namespace
from typing import Any, Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.coco_file import CocoFile
from mmdet_ft.datasets.annotations.to_coco import write_json, write_text
from mmdet_ft.datasets.annotations.values import parse_json
from mmdet_ft.datasets.classification.folder import ClassFolders
from mmdet_ft.datasets.images.names import find_image
from mmdet_ft.datasets.splitting import (Items, assign_parts, group_images, json_parts,
                                         keys_by_pattern)
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError
from mmdet_ft.outputs import Inputs
from mmdet_ft.spelling import counted

MOST_CLASSES = 30  # rows of the table
MOST_FOLDERS = 50  # near a json that are searched for images

# ------------------------------------------------------------------------------ what is split


def of_json(path: str, img_prefix: Optional[str]) -> Tuple[Dict[str, Any], Items]:
    """Read a COCO json: its unchanged content, and the items to split.

    Raises DataError for a json that training would refuse.
    """
    with open(path, 'rb') as stream:
        content = parse_json(stream.read(), path)
    file = CocoFile(path, copy.deepcopy(content))
    categories = {category['id']: index for index, category in enumerate(file.categories)}
    counts = np.zeros((len(file.images), max(len(categories), 1)), dtype=np.int64)
    image = np.repeat(np.arange(len(file.images)), np.diff(file.starts))
    for index, category_id in zip(image.tolist(), file.category_ids.tolist()):
        if category_id in categories:
            counts[index, categories[category_id]] += 1
    names = [record['file_name'] for record in file.images]
    return content, Items(names, _paths(path, names, img_prefix),
                          [category['name'] for category in file.categories], counts)


def _paths(path: str, names: List[str], img_prefix: Optional[str]) -> List[Optional[str]]:
    """Find the image files under img_prefix, or in the nearby folder that has most of the first 50."""
    folders = [img_prefix] if img_prefix is not None else _near_folders(path)
    if img_prefix is not None and not osp.isdir(img_prefix):
        raise DataError(
            f'there is no folder {img_prefix!r}; --img-prefix is the folder of the images')
    first = names[:50]
    folder = max(folders, key=lambda item: sum(osp.isfile(osp.join(item, name)) for name in first))

    def find(name: str) -> Optional[str]:
        if osp.isfile(osp.join(folder, name)):
            return osp.join(folder, name)
        found = find_image(folder, name) if img_prefix is not None else None
        return None if found is None else osp.join(folder, found.name)

    return [find(name) for name in names]


def _near_folders(path: str) -> List[str]:
    """List the folder of a json, its parent, and the folders in both: images/, or train2017/ beside annotations/."""
    beside = osp.dirname(osp.abspath(path))
    found = []
    for base in (beside, osp.dirname(beside)):
        inside = sorted(entry.path for entry in os.scandir(base) if entry.is_dir())
        found += [base, *inside[:MOST_FOLDERS]]
    return found


def of_folders(root: str) -> Tuple[ClassFolders, Items]:
    """Read the images of class folders, one label each."""
    dataset = ClassFolders(root)
    labels = dataset.get_gt_labels()
    names = list(dataset.data_infos.names)
    return dataset, Items(names, [osp.join(root, name) for name in names], list(dataset.CLASSES),
                          np.eye(len(dataset.CLASSES), dtype=np.int64)[labels])


def read_groups(names: Sequence[str], pattern: Optional[str]) -> List[Optional[Hashable]]:
    """Return what --group-by finds in each name; None for nothing. Raises DataError for an invalid expression."""
    if pattern is None:
        return [None] * len(names)
    try:
        return keys_by_pattern(names, pattern)
    except re.error as error:
        raise DataError(f'--group-by {pattern!r} is no regular expression: {error}') from None


# ------------------------------------------------------------------------------ what is written


def table(items: Items, parts: Dict[str, np.ndarray]) -> List[str]:
    """Format a table of images, and objects of each class, in each part."""
    rows: List[Sequence[Any]] = [('', *parts),
                                 ('images', *(int(chosen.sum()) for chosen in parts.values()))]
    rows += [(name, *(int(items.counts[chosen, index].sum()) for chosen in parts.values()))
             for index, name in enumerate(items.classes[:MOST_CLASSES])]
    if len(items.classes) > MOST_CLASSES:
        rows.append((f'... {len(items.classes)} classes in all', *('' for _ in parts)))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return [
        '  '.join([
            str(row[0]).ljust(widths[0]), *(str(cell).rjust(width)
                                            for cell, width in zip(row[1:], widths[1:]))
        ]).rstrip() for row in rows
    ]


def warnings(items: Items, parts: Dict[str, np.ndarray]) -> List[str]:
    """Return warnings about classes that have objects, but none in one of the parts."""
    lines = []
    for name, chosen in parts.items():
        lacks = [
            items.classes[index]
            for index in np.flatnonzero((items.counts.sum(0) > 0)
                                        & (items.counts[chosen].sum(0) == 0)).tolist()
            if index < len(items.classes)
        ]
        if lacks:
            lines.append(f'{name} has no object of {", ".join(map(repr, lacks[:10]))}'
                         f'{" ..." if len(lacks) > 10 else ""}: too few images show it')
    return lines


def plan(args: Namespace) -> List[Tuple[str, Sequence[float], int]]:
    """Return (prefix of the names, shares of the parts, index of the val part) of each split."""
    if args.folds is not None:
        if args.folds < 2:
            raise DataError(f'--folds {args.folds}: write 2 or more')
        return [(f'fold{fold}_', [1] * args.folds, fold) for fold in range(args.folds)]
    share = 0.2 if args.val is None else args.val
    if not 0 < share < 1:
        raise DataError(
            f'--val {share:g} is no share of the images: write a number between 0 and 1, such as 0.2'
        )
    return [('', [1 - share, share], 1)]


def refuse_files(paths: Sequence[str], inputs: Iterable[Optional[str]], force: bool) -> None:
    """Raise DataError for existing outputs unless `force`, and always OutputError for outputs that are inputs."""
    read = Inputs(inputs)
    for path in paths:
        read.require_free(path, '--out-dir:')
    there = [path for path in paths if osp.exists(path)]
    if there and not force:
        raise DataError(
            f'{there[0]} is there already; name another --out-dir, or add --force to replace it')


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    if args.seed < 0:
        raise DataError(f'--seed {args.seed}: write a whole number from 0')
    splits = plan(args)
    is_folder = osp.isdir(args.source)
    content, items = of_folders(args.source) if is_folder else of_json(args.source, args.img_prefix)
    names = name_outputs(args, [prefix for prefix, _, _ in splits])
    classes_file = [osp.join(out_dir(args), 'classes.txt')] if is_folder else []
    refuse_files([*names.values(), *classes_file], [args.source, *items.paths], args.force)
    matched = read_groups(items.names, args.group_by)
    groups, num_twins = group_images(
        items.paths, matched, watch=lambda asked: track(asked, 'comparing', len(asked)))
    num_matched = sum(key is not None for key in matched)
    require_enough(args, items, len(groups), num_matched)
    part = assign_parts(groups, items.counts, splits[0][1], args.seed)
    require_images(args, splits, part, len(groups))
    lines = []
    missing = sum(path is None for path in items.paths)
    if missing:
        lines.append(
            f'{missing} of {len(items.paths)} images were not found, so equal ones among them are not '
            f'known: --img-prefix names their folder')
    lines.append(
        f'{len(groups)} groups of {len(items.names)} images: {counted(num_twins, "duplicate image")}'
        + (f', {num_matched} match --group-by' if args.group_by is not None else ''))
    for prefix, _, val in splits:
        chosen = {'train': part != val, 'val': part == val}
        lines += ['', *table(items, {f'{prefix}{name}': mask for name, mask in chosen.items()})]
        lines += warnings(items, {f'{prefix}{name}': mask for name, mask in chosen.items()})
        for name, mask in chosen.items():
            write_part(names[prefix, name], content, items, mask)
            lines.append(f'-> {names[prefix, name]}')
    if is_folder:
        write_text(classes_file[0], ''.join(f'{name}\n' for name in items.classes))
    print('\n'.join(lines + advice(args, {name: names[splits[0][0], name] for name in chosen})))


def out_dir(args: Namespace) -> str:
    """Return the folder to write to."""
    return args.out_dir or (args.source if osp.isdir(args.source) else osp.dirname(args.source))


def name_outputs(args: Namespace, prefixes: Sequence[str]) -> Dict[Tuple[str, str], str]:
    """Return the path of each part of each split: {(prefix, 'train' or 'val'): path}."""
    stem, ending = '', '.txt'
    if not osp.isdir(args.source):
        stem, ending = f'{osp.splitext(osp.basename(args.source))[0]}_', '.json'
    return {
        (prefix, part): osp.join(out_dir(args), f'{stem}{prefix}{part}{ending}')
        for prefix in prefixes
        for part in ('train', 'val')
    }


def require_enough(args: Namespace, items: Items, num_groups: int, num_matched: int) -> None:
    """Raise DataError for a pattern that matches no name, and for fewer groups than parts."""
    if args.group_by is not None and items.names and not num_matched:
        raise DataError(f'--group-by {args.group_by!r} matches no name, such as {items.names[0]!r}')
    if num_groups < (args.folds or 2):
        why = f' ({num_matched} names match --group-by {args.group_by!r})' if num_matched else ''
        raise DataError(
            f'{args.source} has {len(items.names)} images in {num_groups} groups that stay together{why}: '
            f'too few for {args.folds or 2} parts')


def require_images(args: Namespace, splits: Sequence[Tuple[str, Sequence[float], int]],
                   part: np.ndarray, num_groups: int) -> None:
    """Raise DataError for a part without an image, before the first file is written."""
    for prefix, shares, val in splits:
        for name, count in (('train', (part != val).sum()), ('val', (part == val).sum())):
            if not count:
                asked = f'--folds {args.folds}' if args.folds else f'--val {shares[1]:g}'
                raise DataError(
                    f'{prefix}{name} would have no image: {num_groups} groups are too few for {asked}'
                )


def write_part(path: str, content: Any, items: Items, mask: np.ndarray) -> None:
    """Write the chosen images: a json, or the label file of class folders."""
    if isinstance(content, ClassFolders):
        labels = content.get_gt_labels()
        rows = (f'{items.names[index]} {labels[index]}\n' for index in np.flatnonzero(mask))
        write_text(path, ''.join(rows))
    else:
        write_json(path, json_parts(content, mask))


def advice(args: Namespace, names: Dict[str, str]) -> List[str]:
    """Return what to write in a config, for the paths of train and val."""
    if osp.isdir(args.source):
        classes_file = osp.join(out_dir(args), 'classes.txt')
        return [
            f"in the config: data_prefix={args.source!r}, ann_file='{names['train']}', "
            f'classes={classes_file!r}'
        ]
    if args.img_prefix is None:
        return []
    paths = ', '.join(
        f'{part}=dict(ann_file={path!r}, img_prefix={osp.join(args.img_prefix, "")!r})'
        for part, path in names.items())
    return [f'in the config: data = dict({paths})']
