"""Records of a COCO json, each read by one function for all users.

Training ends at the first invalid record; tools/misc/check_data.py collects them all.
"""
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.foreign import LABEL_STUDIO, is_label_studio
from mmdet_ft.datasets.annotations.image_lists import Spelling
from mmdet_ft.datasets.annotations.packed import (LONGEST_SIDE, MOST_PIXELS, PackedSegmentations,
                                                  segmentation_fault)
from mmdet_ft.datasets.annotations.values import (format_value, plain_id, read_flag, read_id,
                                                  read_name, read_number, read_whole)
from mmdet_ft.datasets.errors import DataError

FARTHEST = 1e7  # pixels; a box beyond does not count as a number
SIDE = f'a whole number of pixels from 1 to {LONGEST_SIDE}'
SIZE_FIX = 'write the width and height in pixels that the image has once it is turned as its EXIF says'
MASK_FIX = (
    'a polygon is [x0, y0, x1, y1, ...] in pixels, run lengths are {"size": [height, width], "counts": ...} '
    'that sum up to height x width of the image')

FIXES = {  # key of an annotation -> fix for an invalid value
    'id': 'number the annotations 1, 2, 3, ...',
    'image_id': 'write the id that its image has in "images", or take the annotation out',
    'category_id': 'write the id that its class has in "categories", or take the annotation out',
    'bbox': 'write "bbox": [x, y, width, height] in pixels, or take the annotation out',
    'area': 'write its number of pixels, or leave "area" out: it is then counted',
    'iscrowd': 'write "iscrowd": 0 for a single object, 1 for a group',
    'ignore': 'write "ignore": 0 for an object to learn, 1 for one to leave out',
}

Id = Union[int, str]
SizeOf = Callable[[str], Optional[Tuple[int, int]]]


class Fault(NamedTuple):
    """A fault of one record, or the same fault of several."""
    kind: str  # a few words, the same for all faults of one kind
    location: str  # location of the record in the file
    text: str  # what was found and expected; after `location` it makes a sentence
    fix: str
    stops: bool = True  # training refuses the file because of it
    is_defect: bool = True  # otherwise a note
    count: int = 1
    file_name: Optional[str] = None  # of the image
    box: Optional[Sequence[float]] = None  # x y w h

    def __str__(self) -> str:
        return f'{self.location} {self.text}; {self.fix}'


def refuse(path: str) -> Callable[[Fault], None]:
    """Return the handler of training: raise DataError for a fault that stops."""

    def report(fault: Fault) -> None:
        if fault.stops:
            raise DataError(f'{path}: {fault}')

    return report


class CocoRecords:
    """Images, categories and annotations of a COCO json, with values of their proper types.

    Args:
        data: content of the file.
        path: for the DataError that it is not a COCO json.
        report: function called with each fault, in the order of the file. If it returns, the record
            is dropped, or used as far as it can be read.
        size_of: image name -> (width, height), for images whose size cannot be read.

    Attributes:
        images: dicts with id, file_name, width, height of their types, and the file's other keys.
        categories: dicts with id (64 bits) and name.
        ids: of the N annotations; None where the file has none.
        image_indices: int64 [N], the image index of each; -1 for annotations of images that are not
            listed.
        category_ids: int64 [N]; boxes: float64 [N, 4], x y w h; areas: float64 [N], NaN where there is none.
        crowd, ignore: bool [N].
        segmentations: N, as in the file.
    """

    def __init__(self,
                 data: object,
                 path: str,
                 report: Callable[[Fault], None],
                 size_of: Optional[SizeOf] = None):
        if not isinstance(data, dict) or 'images' not in data:
            found = LABEL_STUDIO if is_label_studio(data) else f'a {type(data).__name__}'
            if isinstance(data, dict):
                found = f'the keys {", ".join(map(str, list(data)[:8]))}' if data else 'an empty one'
            raise DataError(
                f'{path} is not a COCO annotation file: it needs a dict with images, annotations and '
                f'categories, found {found}')
        self._report = report
        self._size_of = size_of
        self._refused: Set[Id] = set()  # ids of unusable images
        self.images: List[Dict[str, Any]] = []
        self._read_images(self._list_of(data, 'images'))
        self._read_categories(self._list_of(data, 'categories'))
        self._read_annotations(self._list_of(data, 'annotations'))
        if len(self.ids) and not self.categories:
            report(
                Fault(
                    'no categories', 'the file', 'has annotations but no categories',
                    'add "categories": [{"id": 1, "name": ...}, ...] with the ids of the annotations'
                ))

    def _list_of(self, data: Dict[str, Any], key: str) -> List[Any]:
        records = data.get(key)
        if isinstance(records, list):
            return records
        if records is None and key != 'images':
            return []
        self._report(
            Fault(f'{key} not a list', f'"{key}"',
                  f'is {format_value(records)}, expected a list of dicts',
                  f'write "{key}": [{{"id": 1, ...}}, ...]'))
        return []

    # Images
    def _read_images(self, records: List[Any]) -> None:
        self.index_of_id: Dict[Id, int] = {}
        for index, record in enumerate(records):
            image = self._image(index, record)
            if image is None:
                continue
            other = self.index_of_id.get(image['id'])
            if other is not None:
                self._report(
                    Fault(
                        'image id twice',
                        f'image id {image["id"]!r}',
                        f'belongs to both {self.images[other]["file_name"]!r} and {image["file_name"]!r}',
                        'number the images 1, 2, 3, ..., as when two files are joined, and image_id of their '
                        'annotations with them',
                        file_name=image['file_name']))
                image['id'] = f'double {len(self.images)} of {image["id"]}'
            self.index_of_id[image['id']] = len(self.images)
            self.images.append(image)
        self.sizes = np.array([(image['width'], image['height']) for image in self.images],
                              dtype=np.int64).reshape(-1, 2)

    def _image(self, index: int, record: object) -> Optional[Dict[str, Any]]:
        """Return the record with values of their types; None for an unusable one."""
        where = f'images[{index}]'
        kind, fix = 'image record incomplete', 'give every entry of "images" an id and a file_name'
        if not isinstance(record, dict):
            self._report(Fault(kind, where, f'is {format_value(record)}, expected a dict', fix))
            return None
        image = dict(record)
        try:
            name_by_url(image)
            key = 'file_name'
            if image.get(key) is not None:
                image[key] = read_name(image[key], 'the name of a file')
                where += f' {image[key]!r}'
            missing = [
                key for key in ('id', 'file_name', 'width', 'height') if image.get(key) is None
            ]
            if {'id', 'file_name'} & set(missing):
                raise ValueError(f'has no {" and no ".join(missing)}')
            key = 'id'
            image[key] = read_id(image[key])
            if 'segm_file' in image:
                key = 'segm_file'
                image[key] = read_name(image[key], 'the name of a file')
        except ValueError as error:
            text = str(error) if str(error).startswith('has no ') else f'has a fault: {key} {error}'
            self._report(Fault(kind, where, text, fix))
            if isinstance(record.get('id'), (int, str)):
                self._refused.add(record['id'])
            return None
        try:
            if missing:
                raise ValueError(f'has no {" and no ".join(missing)}')
            for key in ('width', 'height'):
                try:
                    image[key] = read_whole(image[key], SIDE, 1, LONGEST_SIDE)
                except ValueError as error:
                    raise ValueError(f'has a size that cannot be read: {key} {error}') from None
            if image['width'] * image['height'] > MOST_PIXELS:
                raise ValueError(
                    f'has {image["width"]} x {image["height"]} pixels, more than OpenCV '
                    f'opens ({MOST_PIXELS})')
        except ValueError as error:
            size = self._size_of(image['file_name']) if self._size_of is not None else None
            there = f' (the file has {size[0]} x {size[1]}, width x height)' if size else ''
            self._report(
                Fault(
                    'image size missing',
                    where,
                    f'{error}{there}',
                    SIZE_FIX,
                    file_name=image['file_name']))
            if size is None:
                self._refused.add(image['id'])
                return None
            image['width'], image['height'] = size
        return image

    # Categories
    def _read_categories(self, records: List[Any]) -> None:
        self.categories: List[Dict[str, Any]] = []
        name_of_id: Dict[int, str] = {}
        spelling = Spelling()  # names that look the same are one name
        num_texts, num_numbers = 0, 0
        for index, record in enumerate(records):
            where = f'categories[{index}]'
            kind, fix = 'category incomplete', 'a category needs id and name: {"id": 1, "name": "cat"}'
            if not isinstance(record, dict):
                self._report(Fault(kind, where, f'is {format_value(record)}, expected a dict', fix))
                continue
            where += f' {format_value(record, 60)}'
            missing = [key for key in ('id', 'name') if record.get(key) is None]
            if missing:
                # without a name it cannot be a class: skip it
                self._report(
                    Fault(kind, where, f'has no {" and no ".join(missing)}', fix, missing
                          != ['name']))
                continue
            name = record['name']
            try:
                if isinstance(name, (int, float)) and not isinstance(name, bool):
                    num_numbers += 1
                    name = f'{name:g}' if isinstance(name, float) else str(name)
                name = spelling.of(read_name(name, 'the name of a class'))
            except ValueError as error:
                self._report(Fault(kind, where, f'has a name that {error}', fix))
                continue
            try:
                id_ = read_whole(record['id'], 'a whole number of at most 64 bits')
            except ValueError as error:
                self._report(
                    Fault(
                        kind, where, f'has an id that {error}',
                        'number the categories 1, 2, 3, ..., and category_id of the annotations with them'
                    ))
                continue
            num_texts += isinstance(record['id'], str)
            if name_of_id.setdefault(id_, name) != name:
                self._report(
                    Fault(
                        'category id twice', f'category id {id_}',
                        f'belongs to both {name_of_id[id_]!r} and {name!r}',
                        'give each category an id of its own, and category_id of its annotations with it'
                    ))
                continue
            if not any(item['id'] == id_ for item in self.categories if item['name'] == name):
                self.categories.append({**record, 'id': id_, 'name': name})
        self._note('category written in another type', num_texts,
                   'categories have ids that are texts: read as numbers')
        self._note('category written in another type', num_numbers,
                   'categories have names that are numbers: read as texts')

    def _note(self,
              kind: str,
              count: int,
              text: str,
              fix: str = 'nothing, if that is meant so') -> None:
        if count:
            self._report(
                Fault(kind, str(count), text, fix, stops=False, is_defect=False, count=count))

    # Annotations
    def _read_annotations(self, records: List[Any]) -> None:
        indices = list(range(len(records)))
        if set(map(type, records)) - {dict}:
            indices = [position for position in indices if isinstance(records[position], dict)]
            for position, record in enumerate(records):
                if not isinstance(record, dict):
                    self._report(
                        Fault('annotation incomplete', f'annotations[{position}]',
                              f'is {format_value(record)}, expected a dict',
                              'write it as a dict, or take it out'))
            records = [records[position] for position in indices]
        self._records, self._record_indices = records, indices
        self._bad: Set[int] = set()  # unusable records
        self.ids = self._column('id', {int}, read_id, needed=False)
        image_ids = self._column('image_id', {int}, read_id)
        category_ids = self._category_ids()
        boxes = self._boxes()
        crowd, ignore = self._flags('iscrowd'), self._flags('ignore')
        areas = self._column('area', {int, float}, read_number, needed=False)
        kept = [index for index in range(len(records))
                if index not in self._bad] if self._bad else None

        def take(values: List[Any]) -> List[Any]:
            return values if kept is None else [values[index] for index in kept]

        self.ids, image_ids, crowd, ignore = map(take, (self.ids, image_ids, crowd, ignore))
        self.category_ids = np.array(take(category_ids), dtype=np.int64)
        self.boxes = boxes if kept is None else boxes[kept]
        self.crowd, self.ignore = np.array(crowd, dtype=bool), np.array(ignore, dtype=bool)
        self.areas = _as_areas(take(areas))
        self.segmentations = [record.get('segmentation') for record in take(records)]
        self._kept = kept
        self._find_images(image_ids)
        self._warn_of_areas()
        self._refuse_double_ids()
        self._warn_of_duplicate_names()

    def _warn_of_duplicate_names(self) -> None:
        names = Counter(category['name'] for category in self.categories)
        double = double_names(self.categories, self.category_ids)
        twins = [name for name, count in names.items() if count > 1 and name not in double]
        self._note(
            'category without annotations passed over', len(twins),
            'category names have several ids, of which one has annotations: that one is used '
            f'({", ".join(map(repr, twins[:5]))})')

    def describe_kept(self, index: int) -> str:
        """Return the name of kept annotation `index` in messages."""
        return self._describe_record(index if self._kept is None else self._kept[index])

    def _describe_record(self, index: int) -> str:
        record = self._records[index]
        id_ = record.get('id')
        name = f'annotations[{self._record_indices[index]}]' if id_ is None else f'annotation {format_value(id_, 50)}'
        return f'{name} of image {format_value(record.get("image_id"), 50)}'

    def _column(self,
                key: str,
                types: Set[type],
                read: Callable[[Any], Any],
                needed: bool = True) -> List[Any]:
        """Return the values of a key in all records; None where it is missing or cannot be read."""
        values = [record.get(key) for record in self._records]
        if not set(map(type, values)) - types - (set() if needed else {type(None)}):
            return values
        for index, value in enumerate(values):
            if type(value) in types:
                continue
            if value is None:
                if needed:
                    self._bad_annotation(index, key, f'has no {key}')
                continue
            try:
                values[index] = read(value)
            except ValueError as error:
                self._bad_annotation(index, key, f'has a fault: {key} {error}')
                values[index] = None
        return values

    def _flags(self, key: str) -> List[bool]:
        values = self._column(key, {bool, int}, read_flag, needed=False)
        for index, value in enumerate(values if set(values) - {None, 0, 1} else ()):
            if value not in (None, 0, 1):
                self._bad_annotation(
                    index, key, f'has a fault: {key} is {format_value(value)}, expected 0 or 1')
        return [value == 1 for value in values]

    def _bad_annotation(self, index: int, key: str, text: str, fix: Optional[str] = None) -> None:
        self._report(
            Fault(f'{key} unreadable', self._describe_record(index), text, fix or FIXES[key]))
        self._bad.add(index)

    def _category_ids(self) -> List[Any]:
        values = self._column('category_id', {int}, self._category_id)
        if any(value is not None and not -2**63 <= value < 2**63 for value in values):
            for index, value in enumerate(values):
                if value is not None and not -2**63 <= value < 2**63:
                    self._bad_annotation(
                        index, 'category_id',
                        f'has a category_id of {format_value(value)}, more than 64 bits',
                        'number the categories 1, 2, 3, ..., and category_id of the annotations with them'
                    )
        self._note(
            'category_id written in another type',
            sum(
                isinstance(record.get('category_id'), str) and value is not None
                for record, value in zip(self._records, values)) if any(
                    isinstance(record.get('category_id'), str) for record in self._records) else 0,
            'annotations have a category_id that is a text: read as a number')
        return values

    def _category_id(self, value: object) -> int:
        try:
            return read_whole(value, 'the id of a category')
        except ValueError as error:
            named = [item['id'] for item in self.categories if item['name'] == value]
            hint = f' (the category of this name has the id {named[0]})' if named else ''
            raise ValueError(f'{error}{hint}') from None

    def _boxes(self) -> np.ndarray:
        """Return the boxes of all records, float64 [M, 4]; NaN or infinite for invalid values."""
        values = [record.get('bbox') for record in self._records]
        boxes = None
        if not set(map(type, values)) - {list} and not set(map(len, values)) - {4}:
            flat = [side for value in values for side in value]
            if not set(map(type, flat)) - {int, float}:
                try:
                    boxes = np.array(flat, dtype=np.float64).reshape(-1, 4)
                except OverflowError:
                    pass
        if boxes is None:
            boxes = np.array([self._box(index, value) for index, value in enumerate(values)],
                             dtype=np.float64).reshape(-1, 4)
        with np.errstate(invalid='ignore'):
            boxes[np.abs(boxes) > FARTHEST] = np.inf
        return boxes

    def _box(self, index: int, value: object) -> List[float]:
        expected = 'expected four numbers [x, y, width, height]'
        if isinstance(value, (list, tuple)) and len(value) == 4:
            try:
                return [np.nan if side is None else read_number(side) for side in value]
            except ValueError:
                pass
        if index not in self._bad:
            text = f'has no bbox, {expected}' if value is None else f'has a bbox of {format_value(value)}, {expected}'
            self._bad_annotation(index, 'bbox', text + self._box_of_mask(index))
        return [np.nan] * 4

    def _box_of_mask(self, index: int) -> str:
        """Return the box around the polygons, as the end of a message; '' without polygons."""
        segmentation = self._records[index].get('segmentation')
        if not isinstance(segmentation, list) or segmentation_fault(segmentation, 1 << 19, 1 << 19):
            return ''
        points = [np.array(part, dtype=np.float64) for part in segmentation if len(part) % 2 == 0]
        points = np.concatenate([np.zeros(0), *points]).reshape(-1, 2)
        if not len(points):
            return ''
        low, size = points.min(0), np.ptp(points, axis=0)
        box = ', '.join(f'{side:g}' for side in (*low, *size))
        return f' (its segmentation is in [{box}])'

    def _find_images(self, image_ids: List[Id]) -> None:
        indices = [self.index_of_id.get(image_id, -1) for image_id in image_ids]
        if -1 in indices:
            plain: Dict[Id, int] = {}
            for id_, position in self.index_of_id.items():
                key = plain_id(id_)
                plain[key] = -1 if key in plain else position  # -1: ambiguous
            matched = [index for index, position in enumerate(indices) if position < 0]
            matched = [index for index in matched if plain.get(plain_id(image_ids[index]), -1) >= 0]
            for index in matched:
                indices[index] = plain[plain_id(image_ids[index])]
            if matched:
                own = self.images[indices[matched[0]]]['id']
                self._note(
                    'image_id written in another type', len(matched),
                    'annotations have an image_id of another type than "images": matched '
                    f'({image_ids[matched[0]]!r} is {own!r})')
        self.image_indices = np.array(indices, dtype=np.int64)
        for index in np.flatnonzero(self.image_indices < 0).tolist() if self.images else ():
            if plain_id(image_ids[index]
                        ) not in self._refused and image_ids[index] not in self._refused:
                self._report(
                    Fault(
                        'annotation without image',
                        self.describe_kept(index),
                        'is of an image that the file does not list',
                        'list its image, or take it out',
                        stops=False))

    def _warn_of_areas(self) -> None:
        given = np.array([record.get('area') is not None for record in self._records], dtype=bool)
        if self._kept is not None:
            given = given[self._kept]
        usable = given & (self.image_indices >= 0)
        with np.errstate(invalid='ignore'):
            wrong = usable & ~(self.areas > 0) & (self.boxes[:, 2:] >= 1).all(1)
        self.areas[~(self.areas > 0)] = np.nan
        self._note(
            'area computed', int(wrong.sum()),
            'annotations have an area of 0, below 0 or no number, and a box: computed from mask or box'
        )

    def _refuse_double_ids(self) -> None:
        counts = [id_ for id_ in self.ids if id_ is not None]
        if len(set(counts)) == len(counts):
            return
        numbers = [id_ for id_ in counts if isinstance(id_, int)]
        largest = max(numbers, default=0)
        seen: Dict[Id, int] = {}
        for index, id_ in enumerate(self.ids):
            if id_ is None:
                continue
            if id_ in seen:
                position = int(self.image_indices[index])
                self._report(
                    Fault(
                        'annotation id twice',
                        f'annotation id {id_!r}',
                        f'occurs twice: ids are not unique ({self.describe_kept(seen[id_])}; '
                        f'{self.describe_kept(index)})',
                        'number the annotations 1, 2, 3, ..., as after joining two files',
                        file_name=self.images[position]['file_name'] if position >= 0 else None,
                        box=self.boxes[index].tolist()))
                largest += 1
                self.ids[index] = largest
            seen.setdefault(id_, index)

    # Masks
    def pack(self, order: Sequence[int]) -> PackedSegmentations:
        """Pack the segmentations of the annotations in this order (of listed images); report invalid ones."""
        packed = PackedSegmentations()
        sizes = self.sizes[self.image_indices[order]]
        faults: Dict[int, str] = {}
        for position, (index, (width, height)) in enumerate(zip(order, sizes.tolist())):
            try:
                packed.append(self.segmentations[index], height, width)
            except ValueError as error:
                faults[position] = str(error)
                packed.append(None, height, width)
        faults.update(packed.finish(sizes))
        for position in sorted(faults):
            index = order[position]
            image = self.images[int(self.image_indices[index])]
            self._report(
                Fault(
                    'segmentation malformed',
                    self.describe_kept(index),
                    f'has a segmentation that cannot be used: it {faults[position]}',
                    MASK_FIX,
                    file_name=image['file_name'],
                    box=self.boxes[index].tolist()))
            # reported once: the box replaces it, or the object would also count as one without a
            # mask
            x, y, width, height = self.boxes[index].tolist()
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            self.segmentations[index] = [corners] if np.isfinite(corners).all() else None
        return packed

    def content(self) -> Dict[str, Any]:
        """Return the content of a file with the usable records."""
        annotations = [
            dict(
                id=index + 1 if id_ is None else id_,
                image_id=self.images[position]['id'],
                category_id=category_id,
                bbox=box,
                area=area if area > 0 else None,
                iscrowd=int(crowd),
                ignore=int(ignore),
                segmentation=segmentation)
            for index, (id_, position, category_id, box, area, crowd, ignore,
                        segmentation) in enumerate(
                            zip(self.ids, self.image_indices.tolist(), self.category_ids.tolist(),
                                self.boxes.tolist(), self.areas.tolist(), self.crowd.tolist(),
                                self.ignore.tolist(), self.segmentations)) if position >= 0
        ]
        return dict(images=self.images, categories=self.categories, annotations=annotations)


def _as_areas(values: List[Union[int, float, None]]) -> np.ndarray:
    """Convert to float64 [N]; NaN for missing and infinite values."""
    try:
        areas = np.array(values, dtype=np.float64)  # None becomes NaN
    except OverflowError:  # an int of hundreds of digits
        areas = np.array([np.nan if value is None else read_number(value) for value in values])
    areas[np.isinf(areas)] = np.nan
    return areas


def name_by_url(image: Dict[str, Any]) -> None:
    """Set the file_name of a record of LVIS v1 to the last two parts of its coco_url."""
    if isinstance(image.get('coco_url'), str) and 'file_name' not in image:
        image['file_name'] = '/'.join(image['coco_url'].split('/')[-2:])


def double_names(categories: Sequence[Dict[str, Any]],
                 category_ids: np.ndarray) -> Dict[str, List[int]]:
    """Return the names with several ids, and these ids; an id without annotations does not count.

    A json of Roboflow has an unused category 0 with the name of another one.
    """
    counts = Counter(category['name'] for category in categories)
    if max(counts.values(), default=0) < 2:
        return {}
    used = set(category_ids.tolist())
    found: Dict[str, List[int]] = {}
    for category in categories:
        if counts[category['name']] > 1 and category['id'] in used:
            found.setdefault(category['name'], []).append(category['id'])
    return {name: ids for name, ids in found.items() if len(ids) > 1}


BACKGROUND = ('background', '_background_', '__background__', 'bg')


def unknown_ids(category_ids: np.ndarray, listed: Sequence[int]) -> List[int]:
    """Return the category ids of annotations that `categories` does not list."""
    found = np.unique(category_ids)
    return found[~np.isin(found, np.array(listed, dtype=np.int64))].tolist()


def find_shift(category_ids: np.ndarray, categories: Sequence[Dict[str, Any]]) -> Tuple[str, int]:
    """Return why all category ids seem shifted by one, and the number to add to them; ('', 0) if none seem so.

    The ids of annotations start below those of `categories`, or above, and lack one at the other
    end: the number of classes is the same, but the first number differs. A background that
    `categories` lists as 0 is no class of objects.
    """
    listed = {category['id']: category['name'] for category in categories}
    found = np.unique(category_ids).tolist()
    if not found or not listed:
        return '', 0
    first, last = min(listed), max(listed)
    unknown = unknown_ids(category_ids, list(listed))
    if first == 1 and unknown == [0] and found[-1] < last:
        return (
            f'its annotations have the category ids {found[0]} to {found[-1]}, and `categories` has {first} to {last}: '
            f'they count from 0 and 1, and each object would be of the class before its own. Add 1 to each '
            f'category_id; or, if 0 means no class, remove these annotations'), 1
    if first == 0 and unknown == [last + 1] and found[0] >= 1:
        return (
            f'its annotations have the category ids {found[0]} to {found[-1]}, and `categories` has {first} to {last}: '
            f'they count from 1 and 0, and each object would be of the class after its own. Subtract 1 from '
            f'each category_id; or add the category {last + 1} to `categories`'), -1
    if first == 0 and listed[0].strip().lower(
    ) in BACKGROUND and found[0] == 0 and found[-1] < last:
        return (
            f'its annotations have the category ids {found[0]} to {found[-1]}: those of 0 would be objects of '
            f'{listed[0]!r}, and no annotation has the id {last} ({listed[last]!r}). '
            f'They seem to count the classes from 0 '
            f'without the background: add 1 to each category_id; or, if they are right, take the annotations of '
            f'{listed[0]!r} out'), 1
    return '', 0


def only_ignored(labels: np.ndarray, ignored: np.ndarray, num_classes: int) -> Dict[int, int]:
    """Return the labels whose objects are all ignored, with their number of objects.

    labels: int64 [N], -1 for none; ignored: bool [N].
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    real = np.bincount(labels[(labels >= 0) & ~ignored], minlength=num_classes)
    return {int(label): int(counts[label]) for label in np.flatnonzero((counts > 0) & (real == 0))}


def ignored_by(crowd: np.ndarray, ignore: np.ndarray) -> Tuple[str, str]:
    """Return the term for objects that are all ignored, and the fix; bool [n] each."""
    if crowd.all():
        return 'crowd (iscrowd 1)', 'set iscrowd to 0 for single objects'
    if ignore.all():
        return 'ignored (ignore 1)', 'set ignore to 0, or leave it out'
    return 'crowd or ignored (iscrowd 1 or ignore 1)', 'set iscrowd and ignore to 0 for single objects'
