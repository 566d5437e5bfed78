"""A COCO json as images and objects, for the writers of other formats."""
from typing import Any, Dict, List, NamedTuple

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.annotations.coco_file import CocoFile, read_json_file
from mmdet_ft.datasets.annotations.to_coco import ImageObjects
from mmdet_ft.datasets.errors import DataError


class FromCoco(NamedTuple):
    """The content of a COCO json."""
    images: List[ImageObjects]  # segmentations: lists of polygons, run lengths, or None
    classes: List[str]  # in the order of their ids
    notes: List[str]  # messages about records that are left out


def read_coco(path: str) -> FromCoco:
    """Read a COCO json; DataError for one that training would refuse.

    Crowds and ignored objects are `crowd` of their image. Objects of a category that the file does not list are left
    out and counted.
    """
    content = read_json_file(path)
    file = CocoFile(path, content)
    names = {category['id']: category['name'] for category in file.categories}
    attributes = _attributes(content)
    images, num_unknown = [], 0
    for index, record in enumerate(file.images):
        found = file.annotations_of(index)
        known = [item for item in found if item['category_id'] in names]
        num_unknown += len(found) - len(known)
        images.append(_image(record, known, names, attributes))
    classes = [names[id_] for id_ in sorted(names)]
    if not images:
        raise DataError(f'{path} lists no image')
    notes = [f'{file.num_orphans} annotations of images that the file does not list: left out'
             ] if file.num_orphans else []
    if num_unknown:
        notes.append(f'{num_unknown} annotations of categories that the file does not list: '
                     f'left out')
    return FromCoco(images, list(dict.fromkeys(classes)), [*file.notes, *notes])


def _image(record: Dict[str, Any], found: List[Dict[str, Any]], names: Dict[int, str],
           attributes: Dict[Any, Dict[str, Any]]) -> ImageObjects:
    boxes = np.array([item['bbox'] for item in found], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return ImageObjects(
        file_name=record['file_name'],
        width=record['width'],
        height=record['height'],
        names=[names[item['category_id']] for item in found],
        boxes=boxes,
        crowd=np.array([bool(item['iscrowd'] or item['ignore']) for item in found], dtype=bool),
        segmentations=[_plain(item['segmentation']) for item in found],
        attributes=[attributes.get(item['id'], {}) for item in found])


def _plain(segmentation: Any) -> Any:
    """Return polygons as lists of numbers, without parts of under three points; run lengths as they are."""
    if segmentation is None or isinstance(segmentation, dict):
        return segmentation
    parts = [part.tolist() for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
    return parts or None


def _attributes(content: Any) -> Dict[Any, Dict[str, Any]]:
    """Return the attributes of annotations, as CVAT writes them, by their ids."""
    records = content.get('annotations') if isinstance(content, dict) else None
    return {
        item['id']: item['attributes']
        for item in records or () if isinstance(item, dict)
        and isinstance(item.get('attributes'), dict) and isinstance(item.get('id'), (int, str))
    }


def bitmap_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of an object, bool [height, width]."""
    if isinstance(segmentation, list):
        runs = mask_api.merge(mask_api.frPyObjects(segmentation, height, width))
    else:
        runs = segmentation
    return mask_api.decode(runs).astype(bool)
