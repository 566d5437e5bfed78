"""Defects of a COCO json that stop its reader or that it cannot detect, and the file without them.

The reader refuses a file at the first defect. Here the same code collects all of them, and drops
invalid records in memory, so that one run reports everything.
"""
import os.path as osp
from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np

from mmdet_ft.datasets.annotations.coco_records import (FIXES, CocoRecords, Fault, SizeOf,
                                                        double_names, find_shift, unknown_ids)
from mmdet_ft.datasets.annotations.image_lists import (describe_missing_classes, guess_names,
                                                       missing_classes_fix, same_but_for_unicode)
from mmdet_ft.datasets.checks.problem import Example, Problem, examples

TEXTS = {  # kind of fault -> description of all its records
    'image record incomplete': 'image records that cannot be read',
    'image size missing': 'image records whose width and height cannot be read',
    'image id twice': 'image ids of two images: objects of one are trained on the other',
    'category incomplete': 'categories that cannot be read',
    'category id twice': 'category ids of two names',
    'annotation incomplete': 'annotations that are no dicts',
    **{f'{key} unreadable': f'annotations whose {key} cannot be read' for key in FIXES},
    'annotation without image': 'annotations of images that the file does not list: never used',
    'annotation id twice': 'annotation ids that occur twice: pycocotools finds one of the two only',
    'segmentation malformed': 'segmentations in another form than COCO\'s, or outside the image',
}


class CocoJson:
    """A COCO file during the checks.

    Args:
        data: the content.
        split: name of the split, for the problems.
        img_prefix: folder of the images.
        classes: those of the config; None for all of the file.
        are_named: the config names them, they are not a type's own.
        size_of: path -> (width, height) of an image, None where it cannot be read.
        path: of the file, for the DataError that it is not a COCO json.
        assumed: classes of another split, used where the config names none and those of the type
            differ.

    `problems` are those found; `is_mended` is true if the reader would have refused the file. Then
    `data` is one that it reads, and `classes` are those to read it by. Names that the file spells
    slightly differently count as the same, and where the config names none, the classes are those
    of the file.
    """

    def __init__(self,
                 data: object,
                 split: str,
                 img_prefix: str,
                 classes: Optional[Sequence[str]],
                 are_named: bool,
                 size_of: SizeOf,
                 path: str = '',
                 assumed: Sequence[str] = ()):
        self.split = split
        self.img_prefix = img_prefix
        self.are_named = are_named
        self.problems: List[Problem] = []
        self.is_mended = False
        self._assumed = list(assumed)
        self._faults: Dict[Any, List[Fault]] = {}
        self.records = CocoRecords(data, path, self._collect,
                                   lambda name: size_of(self._path(name)))
        self.records.pack(np.flatnonzero(self.records.image_indices >= 0).tolist())
        for (kind, stops), faults in self._faults.items():
            self._report_faults(kind, stops, faults)
        self._unknown_categories()
        self.classes = list(classes) if classes is not None else None
        if self.classes is not None and self.records.categories:
            self._merge_ids_by_name()
            self._missing_classes()
        self.data = self.records.content()

    def _collect(self, fault: Fault) -> None:
        self._faults.setdefault((fault.kind, fault.stops), []).append(fault)

    def _report_faults(self, kind: str, stops: bool, faults: List[Fault]) -> None:
        first, count = faults[0], sum(fault.count for fault in faults)
        found = [
            Example(f'{fault.location} {fault.text}', fault.file_name
                    and self._path(fault.file_name), fault.box and _corners(fault.box))
            for fault in faults
        ] if first.is_defect and (kind in TEXTS or count > 1) else []
        self._add(kind, count, TEXTS.get(kind, f'{first.location} {first.text}'), first.fix, found,
                  stops, first.is_defect)

    def _add(self,
             kind: str,
             count: int,
             text: str,
             fix: str,
             found: Sequence[Example] = (),
             stops: bool = False,
             is_defect: bool = True) -> None:
        self.problems.append(
            Problem(self.split, kind, count, text, fix, examples(found), is_defect, stops))
        self.is_mended |= stops

    def _path(self, name: str) -> str:
        return osp.join(self.img_prefix, name)

    # Categories
    def _unknown_categories(self) -> None:
        records = self.records
        shift, step = find_shift(records.category_ids, records.categories)
        if shift:
            text, _, fix = shift.partition('. ')
            self._add('category ids shifted', len(records.category_ids), text,
                      fix[0].lower() + fix[1:], [], True)
            records.category_ids += step
        ids = unknown_ids(records.category_ids, [item['id'] for item in records.categories])
        found = np.flatnonzero(np.isin(records.category_ids, ids)
                               & (records.image_indices >= 0)).tolist()
        if not found or not records.categories:
            return
        shown = []
        for index in found[:5]:
            name = records.images[records.image_indices[index]]['file_name']
            shown.append(
                Example(
                    f'{records.describe_kept(index)}: category_id {records.category_ids[index]}',
                    self._path(name), _corners(records.boxes[index])))
        self._add('unknown category id', len(found),
                  'annotations of a category id that the file does not define: never used',
                  'add the category, or correct category_id', shown)

    def _merge_ids_by_name(self) -> None:
        """Merge the ids of a name into one; the reader itself skips ids without annotations."""
        records = self.records
        double = double_names(records.categories, records.category_ids)
        if double:
            # the reader checks the names that it needs
            stops = [name for name in double if name in self.classes]
            order = stops + [name for name in double if name not in stops]
            self._add(
                'category name twice', len(double), 'names with several category ids',
                'keep one id for the name, and write it into the annotations of the others',
                [Example(f'class {name!r} has the category ids {double[name]}') for name in order],
                bool(stops))
        for name, ids in double.items():
            records.category_ids[np.isin(records.category_ids, ids[1:])] = ids[0]
            records.categories = [item for item in records.categories if item['id'] not in ids[1:]]

    def _missing_classes(self) -> None:
        categories = self.records.categories
        names = list(dict.fromkeys(category['name'] for category in categories))
        missing = [name for name in self.classes if name not in names]
        for name, own in same_but_for_unicode(missing, names).items():
            missing.remove(name)  # the reader matches them
            names[names.index(own)] = name
        if not missing:
            return
        used = set(self.records.category_ids.tolist())
        real = [item['name'] for item in categories if item['id'] in used] or names
        near = guess_names(missing, [name for name in names if name not in self.classes])
        if not self.are_named:
            near, names = {}, self._assumed or list(dict.fromkeys(real))
        found = [
            Example(f'{name!r}: ' +
                    (f'did you mean {near[name]!r}?' if name in near else 'nothing like it'))
            for name in missing
        ]
        fix = missing_classes_fix(self.classes, names, near, self.are_named,
                                  [item['id'] for item in categories])
        self._add('class not in the file', len(missing), describe_missing_classes(missing),
                  f'the file has {_listed(dict.fromkeys(real))}: {fix}', found, True)
        if not self.are_named:
            self.classes = names
            missing = [name for name in names if name not in {item['name'] for item in categories}]
        # a similar name is taken as meant, for the rest of the checks
        meant = {other: name for name, other in near.items()}
        for category in categories:
            category['name'] = meant.get(category['name'], category['name'])
        numbers = [category['id'] for category in categories]
        for index, name in enumerate((name for name in missing if name not in near), 1):
            categories.append(dict(id=max(numbers) + index, name=name))


def _corners(box: Sequence[float]) -> List[float]:
    x, y, width, height = (float(side) for side in box)
    return [x, y, x + width, y + height]


def _listed(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ', '.join(map(
        repr, names[:most])) + (f', ... {len(names)} in all' if len(names) > most else '')
