"""Defects of a COCO json that stop its reader or that it cannot see, and the file without them.

The reader refuses a file at the first of them. Here all are collected, and what stands in the way is mended in memory,
so that one run tells everything.
"""
import difflib
import math
import os.path as osp
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from mmdet_ft.datasets.checks.problem import Example, Problem, examples
from mmdet_ft.datasets.coco_file import name_by_url
from mmdet_ft.datasets.packed import PackedSegmentations


class CocoJson:
    """A COCO file on its way through the checks.

    Args:
        data: the content; its lists are replaced by mended ones.
        split: name of the split, for the problems.
        img_prefix: folder of the images.
        classes: those of the config.
        are_named: the config names them, they are not a type's own.
        size_of: path -> (width, height) of an image, None where it cannot be read.

    `problems` are those found; `is_mended` tells whether the reader would have refused the file.
    """

    def __init__(self, data: Dict[str, Any], split: str, img_prefix: str, classes: Sequence[str],
                 are_named: bool, size_of: Callable[[str], Optional[Tuple[int, int]]]):
        self.data = data
        self.split = split
        self.img_prefix = img_prefix
        self.classes = list(classes)
        self.are_named = are_named
        self.size_of = size_of
        self.problems: List[Problem] = []
        self.is_mended = False
        self._images()
        self._categories()
        self._annotations()

    def _tell(self,
              kind: str,
              found: Sequence[Example],
              text: str,
              fix: str,
              stops: bool = False,
              is_defect: bool = True) -> None:
        if found:
            self.problems.append(
                Problem(self.split, kind, len(found), text, fix, examples(found), is_defect))
            self.is_mended |= stops

    def _path(self, image: Dict[str, Any]) -> str:
        return osp.join(self.img_prefix, str(image.get('file_name', '')))

    # Images
    def _images(self) -> None:
        nameless, sizeless, kept = [], [], []
        for place, image in enumerate(self.data.get('images') or []):
            name_by_url(image)
            if image.get('id') is None or not image.get('file_name'):
                nameless.append(Example(f'images[{place}]: {str(image)[:80]}'))
                continue
            width, height = image.get('width'), image.get('height')
            if not (_is_positive(width) and _is_positive(height)):
                sizeless.append(
                    Example(f'{image["file_name"]}: width {width!r}, height {height!r}',
                            self._path(image)))
                size = self.size_of(self._path(image))
                if size is None:
                    continue
                image = {**image, 'width': size[0], 'height': size[1]}
            kept.append(image)
        self._tell('image record incomplete', nameless, 'image records without id or file_name',
                   'give every entry of "images" an id and a file_name', True)
        self._tell(
            'image size missing', sizeless, 'image records without width and height',
            'write the size in pixels that the image has once it is turned as its EXIF says', True)
        self.data['images'] = self._with_own_ids(kept)
        self._same_files(kept)

    def _with_own_ids(self, images: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The records with ids that are unique: annotations stay with the first of those that shared one."""
        seen: Dict[Any, str] = {}
        double, kept = [], []
        for image in images:
            if image['id'] in seen:
                double.append(
                    Example(
                        f'id {image["id"]!r} stands for {seen[image["id"]]!r} and {image["file_name"]!r}',
                        self._path(image)))
                image = {**image, 'id': f'double {len(double)} of {image["id"]}'}
            seen[image['id']] = image['file_name']
            kept.append(image)
        self._tell(
            'image id twice', double, 'image ids that stand for two images: objects of one are '
            'trained on the other',
            'number the images anew, as when two files are joined: each image one id, '
            'and image_id of its annotations with it', True)
        return kept

    def _same_files(self, images: List[Dict[str, Any]]) -> None:
        counts = Counter(image['file_name'] for image in images)
        double = [
            Example(f'{name} ({count} records)', osp.join(self.img_prefix, name))
            for name, count in counts.items() if count > 1
        ]
        self._tell(
            'image listed twice', double, 'files listed by several image records, each with a part '
            'of the objects or with the same again', 'join the records of a file into one')

    # Categories
    def _categories(self) -> None:
        categories, broken, double_ids, by_name = [], [], [], {}
        seen: Dict[Any, str] = {}
        self.same_category: Dict[Any, Any] = {}  # id -> the id it is joined to
        for category in self.data.get('categories') or []:
            if category.get('id') is None or not category.get('name'):
                broken.append(Example(str(category)[:80]))
            elif category['id'] in seen:
                double_ids.append(
                    Example(
                        f'id {category["id"]!r}: {seen[category["id"]]!r} and {category["name"]!r}')
                )
            else:
                seen[category['id']] = category['name']
                first = by_name.setdefault(category['name'], category['id'])
                if first == category['id']:
                    categories.append(category)
                else:
                    self.same_category[category['id']] = first
        self._tell('category incomplete', broken, 'categories without id or name',
                   'give every category an id and a name', True)
        self._tell(
            'category id twice', double_ids, 'category ids that stand for two names',
            'give each category an id of its own, and category_id of its annotations with it', True)
        names = dict(map(reversed, by_name.items()))
        self._tell('category name twice', [
            Example(f'{names[first]!r} has the ids {first!r} and {second!r}')
            for second, first in self.same_category.items()
        ], 'names that stand for several category ids',
                   'keep one id for the name, and write it into the annotations of the others',
                   True)
        self._missing_classes(categories, by_name)
        self.data['categories'] = categories

    def _missing_classes(self, categories: List[Dict[str, Any]], by_name: Dict[str, Any]) -> None:
        missing = [name for name in self.classes if name not in by_name]
        unused = [name for name in by_name if name not in self.classes]
        lower = {name.lower(): name for name in unused}
        found, near = [], {}
        for name in missing:
            close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=.6)
            near[name] = lower[close[0]] if close else None
            found.append(
                Example(f'{name!r}: ' +
                        (f'did you mean {near[name]!r}?' if close else 'nothing like it')))
        wanted = [near.get(name) or name for name in self.classes]
        if not all(near.values()) or not self.are_named:
            wanted = list(by_name)
        self._tell(
            'class not in the file', found,
            f'classes of the config that the file does not know (it has {_listed(by_name)})',
            f'write classes={_as_tuple(wanted)} and num_classes={len(wanted)} in the heads, or rename the '
            f'categories of the file', True)
        # what is nearly called so is meant, for the rest of the checks
        meant = {other: name for name, other in near.items() if other}
        for category in categories:
            category['name'] = meant.get(category['name'], category['name'])
        numbers = [category['id'] for category in categories if isinstance(category['id'], int)]
        for place, name in enumerate(name for name in missing if not near[name]):
            categories.append(dict(id=max(numbers, default=0) + 1 + place, name=name))

    # Annotations
    def _annotations(self) -> None:
        images = {image['id']: image for image in self.data['images']}
        known = {category['id'] for category in self.data['categories']}
        incomplete, orphans, strangers, malformed, kept = [], [], [], [], []
        for place, annotation in enumerate(self.data.get('annotations') or []):
            box = annotation.get('bbox')
            who = f'annotation {annotation.get("id", f"at place {place}")!r}'
            if annotation.get('image_id') is None or annotation.get('category_id') is None or not (
                    isinstance(box, (list, tuple)) and len(box) == 4
                    and all(isinstance(side, (int, float)) for side in box)):
                incomplete.append(
                    Example(f'{who}: image_id {annotation.get("image_id")!r}, category_id '
                            f'{annotation.get("category_id")!r}, bbox {box!r}'))
                continue
            if annotation['category_id'] in self.same_category:
                annotation = {
                    **annotation, 'category_id': self.same_category[annotation['category_id']]
                }
            image = images.get(annotation['image_id'])
            if image is None:
                orphans.append(Example(f'{who}: image_id {annotation["image_id"]!r}'))
                continue
            where = f'{who} in {image["file_name"]}'
            example = Example(where, self._path(image), _corners(box))
            if annotation['category_id'] not in known:
                strangers.append(
                    example._replace(text=f'{where}: category_id {annotation["category_id"]!r}'))
            fault = _fault_of(annotation, image)
            if fault is not None:
                malformed.append(example._replace(text=f'{where}: {fault}'))
                annotation = {**annotation, 'segmentation': None}
            kept.append(annotation)
        self._tell('annotation incomplete', incomplete,
                   'annotations without image_id, category_id or a bbox of four numbers',
                   'complete them, or take them out', True)
        self._tell('annotation without image', orphans,
                   'annotations of images that the file does not list: never used',
                   'list their images, or take them out')
        self._tell('unknown category id', strangers,
                   'annotations of a category id that the file does not define: never used',
                   'add the category, or correct category_id')
        self._tell(
            'segmentation malformed', malformed,
            'segmentations that are none of COCO\'s forms, or of another image size',
            'a polygon is [x0, y0, x1, y1, ...], run lengths are {size: [height, width], counts: ...} '
            'that sum up to height x width of the image', True)
        self.data['annotations'] = self._with_unique_ids(kept, images)

    def _with_unique_ids(self, annotations: List[Dict[str, Any]],
                         images: Dict[Any, Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The annotations with ids that are unique: of those that shared one the first keeps it."""
        seen: Dict[Any, Any] = {}
        double, kept = [], []
        largest = max((annotation['id']
                       for annotation in annotations if isinstance(annotation.get('id'), int)),
                      default=0)
        for annotation in annotations:
            id_ = annotation.get('id')
            if id_ is not None and id_ in seen:
                image = images[annotation['image_id']]
                double.append(
                    Example(
                        f'id {id_!r} in {images[seen[id_]]["file_name"]} and in {image["file_name"]}',
                        self._path(image), _corners(annotation['bbox'])))
                annotation = {**annotation, 'id': largest + len(double)}
            seen.setdefault(id_, annotation['image_id'])
            kept.append(annotation)
        self._tell('annotation id twice', double,
                   'annotation ids that stand twice: pycocotools finds one of '
                   'the two only', 'number the annotations anew: 1, 2, 3, ...', True)
        return kept


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _corners(box: Sequence[float]) -> List[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _fault_of(annotation: Dict[str, Any], image: Dict[str, Any]) -> Optional[str]:
    """Why the reader or the loader would refuse a segmentation."""
    segmentation = annotation.get('segmentation')
    size = [image['height'], image['width']]
    if isinstance(segmentation, dict) and 'size' in segmentation and list(
            segmentation['size']) != size:
        return f'run lengths of size {segmentation["size"]} in an image of {size} (height, width)'
    try:
        PackedSegmentations().append(segmentation, *size)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def _listed(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ', '.join(map(
        repr, names[:most])) + (f', ... {len(names)} in all' if len(names) > most else '')


def _as_tuple(names: Sequence[str]) -> str:
    return f'({", ".join(map(repr, names))}{", " if len(names) == 1 else ""})'
