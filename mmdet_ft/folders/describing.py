"""What a folder of data has, said before anything starts."""
import os
import os.path as osp
from typing import Dict, List, Sequence

from mmdet_ft.datasets.annotations.image_lists import composed, plain
from mmdet_ft.datasets.checks.images import check_images, check_listed, check_overlap, inspect_image
from mmdet_ft.datasets.checks.objects import check_boxes, check_classes, check_same, class_table
from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.datasets.images.files import is_image_name
from mmdet_ft.datasets.layouts.found import DRAWN
from mmdet_ft.datasets.splitting import equal_files
from mmdet_ft.folders.contents import Contents
from mmdet_ft.spelling import counted

MOST_CLASSES = 20


def describe(contents: Contents) -> List[str]:
    """Return lines on the format, the splits, the objects of each class, what is left out, and defects."""
    lines = [f'Data: {contents.layout.describe()}']
    lines += _table(contents)
    lines += contents.notes
    if 0 < contents.num_masks < contents.num_objects:
        lines.append(
            f'{contents.num_masks} of {contents.num_objects} objects have masks: boxes are '
            f'learned')
    unused = _unused(contents)
    if unused:
        lines.append(
            f'{counted(len(unused), "image")} beside them in no split or without annotations: '
            f'not used, such as {unused[0]}')
    lines += _alike(contents.classes)
    lines += [
        f'note, {_of(problem)}: {problem.text}'
        for problem in check_classes(list(contents.splits.values()), True) if not problem.is_defect
    ]
    problems = [problem for problem in _problems(contents) if problem.is_defect]
    lines += [
        f'defect, {_of(problem)}: {problem.text}; to fix: {problem.fix}' for problem in problems
    ]
    return lines


def _alike(classes: Sequence[str]) -> List[str]:
    """Return a line for classes whose names differ in case, spaces or punctuation alone."""
    groups: Dict[str, List[str]] = {}
    for name in classes:
        groups.setdefault(plain(name), []).append(name)
    found = [' and '.join(map(repr, group)) for group in groups.values() if len(group) > 1]
    return [
        f'note: {"; ".join(found)} are classes of their own; where they are one, write one name'
    ] if found else []


def _unused(contents: Contents) -> List[str]:
    """Return the image files in the folders of the images that no split has; none where masks may be among them."""
    if contents.layout.rank == DRAWN:
        return []
    used = {osp.abspath(path) for split in contents.splits.values() for path in split.paths if path}
    files = (
        osp.join(folder, name) for folder in sorted({osp.dirname(path)
                                                     for path in used}) if osp.isdir(folder)
        for name in sorted(os.listdir(folder)))
    used = set(map(composed, used))
    return [
        path for path in files if is_image_name(path) and not osp.basename(path).startswith('.')
        and composed(path) not in used
    ]


def _of(problem: Problem) -> str:
    shown = f', such as {problem.examples[0].text}' if problem.examples else ''
    return f'{problem.count} in {problem.split}{shown}'


def _problems(contents: Contents) -> List[Problem]:
    """Return the defects of annotations, and files that are missing or in two splits; training opens the images."""
    splits = list(contents.splits.values())
    problems = check_classes(splits, True)
    for split in splits:
        problems += _missing(split) + check_listed(split)
        problems += check_boxes(split) + check_same(split) if split.has_boxes else []
    for split in splits[1:]:
        problems += check_overlap(splits[0], split, _equal_in(splits[0], split))
    return problems


def _missing(split: Split) -> List[Problem]:
    """Return a problem of the images that are not there, with a file of nearly the same name if there is one."""
    indices = [index for index, path in enumerate(split.paths) if path and not osp.isfile(path)]
    return check_images(split,
                        [(index, inspect_image(str(split.paths[index]), False, prefix=split.prefix))
                         for index in indices])


def _equal_in(first: Split, second: Split) -> Dict[str, Dict[str, List[int]]]:
    """Return split -> content -> indices of the images of this content, for contents of several files."""
    paths = [path if path and osp.isfile(path) else None for path in [*first.paths, *second.paths]]
    found: Dict[str, Dict[str, List[int]]] = {first.name: {}, second.name: {}}
    for number, indices in enumerate(equal_files(paths)):
        for index in indices:
            split, own = (first, index) if index < len(first.paths) else (second,
                                                                          index - len(first.paths))
            found[split.name].setdefault(str(number), []).append(own)
    return found


def _table(contents: Contents) -> List[str]:
    """Return a table of images, objects, and objects of each class, with a column for each split."""
    splits = list(contents.splits.values())
    rows: List[Sequence[object]] = [('', *contents.splits),
                                    ('images', *(len(split.paths) for split in splits))]
    if contents.has_boxes:
        rows.append(('objects', *(int((split.labels >= 0).sum()) for split in splits)))
    classes = class_table(splits)
    rows += [(f'  {row.name}', *row.counts) for row in classes[:MOST_CLASSES]]
    if len(classes) > MOST_CLASSES:
        rows.append((f'  ... {len(classes)} classes', *('' for _ in splits)))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return [
        '  '.join([
            str(row[0]).ljust(widths[0]), *(str(cell).rjust(width)
                                            for cell, width in zip(row[1:], widths[1:]))
        ]).rstrip() for row in rows
    ]
