"""Exports of Label Studio: JSON and JSON-MIN."""
import functools
import os.path as osp
import re
import urllib.parse
from collections import Counter
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.bounds import read_corner, read_size, refuse_far
from mmdet_ft.datasets.annotations.brush import decode_brush
from mmdet_ft.datasets.annotations.foreign import is_label_studio
from mmdet_ft.datasets.annotations.outlines import box_around, ellipse, runs_of_crop, turned_box
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects
from mmdet_ft.datasets.annotations.values import format_value, parse_json, read_name
from mmdet_ft.datasets.detection.converted import ConvertedDataset, Source
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import is_image_name, read_head
from mmdet_ft.datasets.images.names import find_image
from mmdet_ft.datasets.images.sizes import mismatch
from mmdet_ft.datasets.layouts.found import Part, recognizes
from mmdet_ft.datasets.layouts.tree import Tree, by_split, only_each
from mmdet_ft.registry import DATASETS

LABELLED = ('rectanglelabels', 'polygonlabels', 'brushlabels', 'ellipselabels', 'labels')
BARE = ('rectangle', 'polygon', 'brush', 'ellipse')  # shapes whose label is in a second result
WITHOUT_AREA = ('keypointlabels', 'keypoint', 'vectorlabels')
ROTATED = 'rotated boxes are taken as the upright boxes around them'
RESIZED = 'images have another size than when they were annotated: the shares of the image are taken'
SEVERAL = ('tasks have several annotations: the one marked as ground truth is taken, or else '
           'the newest')
UPLOADED = re.compile(
    r'^[0-9a-f]{8}-')  # what Label Studio puts before the name of an uploaded file
Size = Tuple[int, int]


class Task(NamedTuple):
    """One image of an export, with its results."""
    where: str  # path and task, for messages
    url: str  # of the image
    results: List[Dict[str, Any]]


def read_label_studio(path: str,
                      prefix: str,
                      folder: Optional[ImageFolder] = None,
                      image_key: Optional[str] = None) -> Tuple[List[ImageObjects], List[str]]:
    """Read the images of an export, and messages; DataError names the path, the task and the faulty result.

    Rectangles, polygons, ellipses and brushes become objects. Predictions, cancelled annotations and tasks without
    annotations are left out. Of several annotations of a task one is taken.

    prefix: folder of the images. folder: collects the images that are not there, which are left out; otherwise they
    stay. image_key: the key of `data` that has the image; by default the only one with an image.
    """
    counts: Dict[str, int] = Counter()
    images: List[ImageObjects] = []
    owner: Dict[str, Task] = {}
    for task in _tasks(path, image_key, counts):
        name = _find(task.url, prefix)
        if name is None and folder is not None:
            folder.missing.append(task.url)
            continue
        first = owner.setdefault(name or task.url, task)
        if first.url != task.url:
            raise DataError(f'{task.where}: its image {task.url!r} and that of '
                            f'{first.where.split(": ")[-1]}, {first.url!r}, are the same file '
                            f'{name!r}; name the files as Label Studio does')
        images.append(_read_task(task, name, prefix))
    return images, [f'{count} {what}' for what, count in counts.items()]


# --- tasks


def _tasks(path: str, image_key: Optional[str], counts: Dict[str, int]) -> Iterator[Task]:
    """Yield the tasks that are annotated; count the others, and those with several annotations."""
    records = _records(path)
    key = image_key or _image_key(records, path)
    for index, record in enumerate(records):
        where = f'{path}: task {format_value(record.get("id", index + 1), 30)}'
        results = _results(record, where, counts)
        if results is None:
            continue
        try:
            url = read_name(_data_of(record).get(key), 'the path or address of an image')
        except ValueError as error:
            raise DataError(f'{where}: {key} {error}') from None
        yield Task(where, url, results)


def _records(path: str) -> List[Dict[str, Any]]:
    try:
        with open(path, 'rb') as file:
            content = parse_json(file.read(), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error
    content = [content] if isinstance(content, dict) and 'annotations' in content and isinstance(
        content.get('data'), dict) else content
    if not isinstance(content, list) or not content or not all(
            isinstance(record, dict) for record in content):
        raise DataError(f'{path} is not an export of Label Studio (JSON or JSON-MIN): expected a '
                        f'list of tasks, found {format_value(content)}')
    return content


def _data_of(record: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a task has besides annotations: JSON has it in `data`, JSON-MIN in the task itself."""
    data = record.get('data')
    return data if isinstance(data, dict) else record


def _image_key(records: Sequence[Dict[str, Any]], path: str) -> str:
    """Return the key of the images; DataError where several or none may be it."""
    keys: Dict[str, int] = Counter(key for record in records
                                   for key, value in _data_of(record).items()
                                   if isinstance(value, str) and is_image_name(_path_of(value)))
    if 'image' in keys or len(keys) == 1:
        return 'image' if 'image' in keys else next(iter(keys))
    found = f'several keys with images: {", ".join(map(repr, keys))}' if keys else 'no image'
    raise DataError(f"{path}: its tasks have {found}; write image_key='...' with the key of the "
                    f'annotated image')


def _results(record: Dict[str, Any], where: str,
             counts: Dict[str, int]) -> Optional[List[Dict[str, Any]]]:
    """Return the results of the annotation to take; None for a task to leave out, which is counted."""
    if 'data' not in record and 'annotations' not in record:
        return _results_of_min(record)
    annotations = record.get('annotations', record.get('completions')) or []
    if not isinstance(annotations, list) or not all(isinstance(item, dict) for item in annotations):
        raise DataError(f'{where}: annotations is {format_value(annotations)}, expected a list')
    if record.get('predictions'):
        counts['tasks have predictions, which are not read'] += 1
    valid = [item for item in annotations if not item.get('was_cancelled')]
    if not valid:
        counts['tasks are skipped (cancelled): left out'
               if annotations else 'tasks have no annotation: left out'] += 1
        return None
    if len(valid) > 1:
        counts[SEVERAL] += 1
    chosen = max(valid, key=_rank)
    results = chosen.get('result') or []
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise DataError(f'{where}: result is {format_value(results)}, expected a list of dicts')
    return results


def _rank(annotation: Dict[str, Any]) -> Tuple[bool, str, str]:
    """Return a key by which the annotation to take is the largest one."""
    when = annotation.get('updated_at') or annotation.get('created_at') or ''
    return bool(annotation.get('ground_truth')), str(when), f'{annotation.get("id")!s:>20}'


def _results_of_min(record: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the regions of a task of JSON-MIN in the form of results."""
    regions = [
        item for value in record.values() if isinstance(value, list) for item in value
        if isinstance(item, dict) and 'original_width' in item
    ]
    return [{
        **region, 'type': next((kind for kind in LABELLED if kind in region), 'region'),
        'value': region
    } for region in regions]


# --- images


def _path_of(url: str) -> str:
    """Return the path in the address of an image, without the folders of Label Studio's storage."""
    if '?d=' in url:  # local files
        return urllib.parse.unquote(url.split('?d=', 1)[1].split('&')[0])
    path = re.sub(r'^[a-zA-Z][a-zA-Z0-9+.-]*://[^/]*/', '', url)
    path = urllib.parse.unquote(re.split('[?#]', path)[0]).replace('\\', '/')
    return re.sub(r'^/?data/upload/(?:\d+/)?', '', path).lstrip('/')


def _find(url: str, prefix: str) -> Optional[str]:
    """Return the name of an image in the folder: its path, the last part of it, or that without the upload's key."""
    path = _path_of(url)
    last = osp.basename(path)
    tries = list(dict.fromkeys((path, last, UPLOADED.sub('', last))))
    for name in tries:
        if name and osp.isfile(osp.join(prefix, name)):
            return name
    found = (find_image(prefix or '.', name) for name in tries if name)
    return next((item.name for item in found if item is not None), None)


def _read_task(task: Task, name: Optional[str], prefix: str) -> ImageObjects:
    """Read the objects of an image; name: that of its file, None if there is none."""
    listed = _listed_size(task)
    changed: Dict[str, int] = Counter()
    size = listed
    if name is not None:
        path = osp.join(prefix, name)
        try:
            head = read_head(path)
        except OSError as error:
            raise DataError(f'cannot read the image {path}: {error.strerror or error}') from error
        size = head.size
        if listed is not None and listed != size:
            _refuse_other_shape(task, name, listed, size, head.orientation)
            changed[RESIZED] += 1
    if size is None:
        raise DataError(f'{task.where}: there is no image {task.url!r} in {prefix!r}, and the task '
                        f'has no original_width and original_height')
    return _read_objects(task, name or _path_of(task.url), size, changed)


def _refuse_other_shape(task: Task, name: str, listed: Size, size: Size, orientation: int) -> None:
    """Raise DataError for an image of another aspect ratio than the annotated one; rounding is allowed."""
    slack = max(*listed, *size)
    if abs(listed[0] * size[1] - listed[1] * size[0]) <= slack:
        return
    found = mismatch(listed, size, orientation)
    raise DataError(f'{task.where}: its image {name!r} was annotated as {listed[0]} x {listed[1]} '
                    f'(width x height), and it is {size[0]} x {size[1]}: {found.text}. '
                    f'To fix: {found.fix}')


def _listed_size(task: Task) -> Optional[Size]:
    """Return original_width and original_height of the results; None where they have none."""
    sizes = set()
    for index, result in enumerate(task.results, 1):
        try:
            size = read_size(result.get('original_width'), result.get('original_height'))
        except ValueError as error:
            raise DataError(f'{task.where}: result {index}: {error}') from None
        if size is not None:
            sizes.add(size)
    if len(sizes) > 1:
        raise DataError(f'{task.where}: its results are of images of several sizes: '
                        f'{sorted(sizes)[0]} and {sorted(sizes)[1]}; one image a task is read')
    return sizes.pop() if sizes else None


# --- objects


def _read_objects(task: Task, name: str, size: Size, changed: Dict[str, int]) -> ImageObjects:
    width, height = size
    left_out: Dict[str, int] = Counter()
    labelled = {
        repr(item.get('id'))
        for item in task.results if item.get('type') in LABELLED and 'id' in item
    }
    names, boxes, segmentations = [], [], []
    for index, result in enumerate(task.results, 1):
        reason = _why_left_out(result, labelled)
        if reason is not None:
            left_out.update([reason] if reason else [])
            continue
        try:
            label = _label_of(result)
            outline, has_mask = _outline(result, width, height, changed)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f'has no {error}' if isinstance(error, KeyError) else error
            raise DataError(f'{task.where}: result {index} ({format_value(result.get("type"), 40)})'
                            f' {what}; correct it there, or take it out') from error
        names.append(label)
        boxes.append(box_around([outline]))
        masks = outline if isinstance(outline, dict) else [outline]
        segmentations.append(masks if has_mask else None)
    return ImageObjects(name, width, height, names,
                        np.array(boxes).reshape(-1, 4), np.zeros(len(names), dtype=bool),
                        segmentations, left_out, None, changed)


def _why_left_out(result: Dict[str, Any], labelled: 'set[str]') -> Optional[str]:
    """Return the kind of a result that is no object, '' for the second result of a shape; None for an object."""
    kind = result.get('type')
    if not isinstance(kind, str) or kind in LABELLED:
        return None
    if kind in BARE:
        return '' if repr(result.get('id')) in labelled else None
    if kind in WITHOUT_AREA:
        return f'shapes without an area ({kind})'
    return f'results that are no shapes ({kind:.40})'


def _label_of(result: Dict[str, Any]) -> str:
    """Return the label of a result; raise ValueError if it has none or several."""
    value = result['value']
    if not isinstance(value, dict):
        raise ValueError(f'has the value {format_value(value)}, expected a dict')
    kind = next((key for key in LABELLED if isinstance(value.get(key), list)), None)
    labels = value[kind] if kind is not None else []
    if len(labels) != 1:
        found = f'{len(labels)} labels: {format_value(labels)}' if labels else 'no label'
        raise ValueError(f'has {found}; an object is of one class')
    try:
        return read_name(labels[0], 'the name of a class').strip()
    except ValueError as error:
        raise ValueError(f'has a label that {error}') from None


def _outline(result: Dict[str, Any], width: int, height: int,
             changed: Dict[str, int]) -> Tuple[Any, bool]:
    """Return the polygon or run lengths of a result, and whether they are a mask; otherwise a box."""
    value = result['value']
    if _number(result, 'image_rotation', 0) % 360:
        raise ValueError(
            'has an image_rotation: the picture was turned in Label Studio; turn the file, and '
            'annotate it upright')
    if 'rle' in value:
        crop = decode_brush(value['rle'], height, width)
        return runs_of_crop(crop, 0, 0, height, width), True
    if 'points' in value:
        outline, has_mask = _points(value['points'], width, height), True
    elif 'radiusX' in value:
        x, y, rx, ry = _in_pixels(value, ('x', 'y', 'radiusX', 'radiusY'), width, height)
        outline = ellipse(x, y, rx, ry, np.deg2rad(_number(value, 'rotation', 0)))
        has_mask = True
    else:
        outline, has_mask = _box(value, width, height, changed), False
    refuse_far(np.array(outline).reshape(-1, 2), height, width)
    return outline, has_mask


def _box(value: Dict[str, Any], width: int, height: int, changed: Dict[str, int]) -> List[float]:
    """Return the corners of a rectangle, which Label Studio turns around its upper left one."""
    x, y, w, h = _in_pixels(value, ('x', 'y', 'width', 'height'), width, height)
    if w < 0 or h < 0:
        raise ValueError(f'has width {w:g} and height {h:g} pixels, expected 0 or more')
    turn = _number(value, 'rotation', 0)
    if turn % 360 == 0:
        return [x, y, x + w, y, x + w, y + h, x, y + h]
    changed[ROTATED] += 1
    return turned_box([x, y, x + w, y + h], (x, y), turn)


def _points(points: object, width: int, height: int) -> List[float]:
    if not isinstance(points, list) or len(points) < 3:
        raise ValueError(f'has points {format_value(points)}, expected 3 or more [x, y]')
    outline = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueError(f'has the point {format_value(point)}, expected [x, y]')
        outline += _in_pixels(dict(zip('xy', point)), ('x', 'y'), width, height)
    return outline


def _in_pixels(value: Dict[str, Any], keys: Sequence[str], width: int, height: int) -> List[float]:
    """Return percentages of width (first, third ...) and height as pixels."""
    sides = (width, height)
    return [_number(value, key) * sides[index % 2] / 100 for index, key in enumerate(keys)]


def _number(value: Dict[str, Any], key: str, default: Optional[float] = None) -> float:
    found = value.get(key)
    if found is None and default is not None:
        return default
    try:
        return read_corner(value[key])
    except ValueError as error:
        raise ValueError(f'has a fault: {key} {error}') from None


@DATASETS.register_module()
class LabelStudioDataset(ConvertedDataset):
    """Shapes of an export of Label Studio, JSON or JSON-MIN; the metrics are COCO's.

    Read are rectangles, polygons, ellipses and brushes. Predictions, cancelled annotations and tasks without
    annotations are left out. Of several annotations of a task the one marked as ground truth is taken, or the newest.

    Args:
        ann_file: the json.
        img_prefix: folder of the images; default: that of the json. An uploaded image is found with or without the
            key that Label Studio puts before its name.
        image_key: the key of a task's `data` that has the image; default: `image`, or the only one with an image.
        classes: names.
        Others as CustomDataset.

    Raises DataError with file, task and result.
    """

    def __init__(self,
                 ann_file: str,
                 pipeline: Sequence[Any],
                 classes: Union[str, Sequence[str], None] = None,
                 data_root: Optional[str] = None,
                 img_prefix: Optional[str] = '',
                 seg_prefix: Optional[str] = None,
                 seg_suffix: str = '.png',
                 proposal_file: Optional[str] = None,
                 test_mode: bool = False,
                 filter_empty_gt: bool = True,
                 file_client_args: Dict[str, Any] = dict(backend='disk'),
                 image_key: Optional[str] = None):
        self.image_key = image_key
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)

    def read_source(self, ann_file: str) -> Source:
        """Read the export."""
        prefix = self.img_prefix or osp.dirname(ann_file)
        images, notes = read_label_studio(ann_file, prefix, image_key=self.image_key)
        if not images:
            raise DataError(f'{ann_file} has no annotated task: {"; ".join(notes)}')
        return Source(images, prefix, notes=notes)


def _names_in(path: str, prefix: str) -> List[str]:
    return sorted({name for image in read_label_studio(path, prefix)[0] for name in image.names})


@recognizes('label_studio', 'export of Label Studio')
def find_label_studio(tree: Tree) -> Dict[str, Part]:
    """Find a json of Label Studio: splits by the names of several files."""
    found = [
        path for path in tree.files('.json')
        if tree.begin(path).lstrip().startswith('[') and is_label_studio(tree.json(path))
    ]
    parts = {}
    for split, path in only_each(by_split(found), 'exports of Label Studio', tree).items():
        prefix = tree.largest_folder() if len(tree.images) == 1 else ''
        settings = dict(
            type='LabelStudioDataset',
            ann_file=tree.path(path),
            img_prefix=osp.join(tree.path(prefix), ''))
        parts[split] = Part(
            settings,
            path,
            classes=functools.partial(_names_in, tree.path(path), tree.path(prefix)))
    return parts
