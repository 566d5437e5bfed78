"""From other annotations to the content of a COCO json."""
import json
import os
import os.path as osp
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy as np

from mmdet_ft.datasets.coco_file import area_of
from mmdet_ft.datasets.errors import DataError


class ImageObjects(NamedTuple):
    """An image and its n objects."""
    file_name: str  # under img_prefix
    width: int
    height: int
    names: List[str]  # [n]
    boxes: np.ndarray  # float [n, 4], x1 y1 x2 y2
    crowd: np.ndarray  # bool [n]; becomes iscrowd: neither right nor wrong to find
    segmentations: Optional[List[Any]] = None  # [n], in COCO's forms


class Converted(NamedTuple):
    content: Dict[str, Any]  # images, annotations, categories
    num_flat: int  # boxes without area, left out
    other_names: List[str]  # of objects that `classes` does not name, left out


def to_coco(images: Iterable[ImageObjects], classes: Optional[Sequence[str]] = None) -> Converted:
    """COCO's dicts of the images, with ids from 1 on.

    classes: the categories in their order; by default all names that occur, sorted.
    """
    records, annotations, num_flat, others = [], [], 0, set()
    for image in images:
        image_id = len(records) + 1
        records.append(
            dict(id=image_id, file_name=image.file_name, width=image.width, height=image.height))
        for place, (name, box) in enumerate(zip(image.names, image.boxes.tolist())):
            if classes is not None and name not in classes:
                others.add(name)
                continue
            x1, y1, x2, y2 = box
            if not (x2 > x1 and y2 > y1):
                num_flat += 1
                continue
            annotation: Dict[str, Any] = dict(
                id=len(annotations) + 1,  # from 1: pycocotools takes an instance with id 0 for none
                image_id=image_id,
                category_id=name,  # its number follows
                bbox=[x1, y1, x2 - x1, y2 - y1],
                iscrowd=int(image.crowd[place]))
            if image.segmentations is not None:
                annotation['segmentation'] = image.segmentations[place]
            annotation['area'] = area_of(annotation, image.height, image.width)
            annotations.append(annotation)
    if classes is None:
        classes = sorted({annotation['category_id'] for annotation in annotations})
    id_of = {name: place for place, name in enumerate(classes, 1)}
    for annotation in annotations:
        annotation['category_id'] = id_of[annotation['category_id']]
    categories = [dict(id=place, name=name) for name, place in id_of.items()]
    return Converted(
        dict(images=records, annotations=annotations, categories=categories), num_flat,
        sorted(others))


def refuse_existing(path: str, force: bool) -> None:
    """DataError for a file that is there already, unless `force`."""
    if osp.exists(path) and not force:
        raise DataError(f'{path} is there already; name another file, or add --force to replace it')


def write_coco(path: str, images: Iterable[ImageObjects], classes: Optional[Sequence[str]],
               force: bool) -> str:
    """Write the json of the images; returns a sentence about it. The file is whole or not there."""
    refuse_existing(path, force)
    converted = to_coco(images, classes)
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    with open(f'{path}.tmp', 'w', encoding='utf-8') as file:
        json.dump(converted.content, file)
    os.replace(f'{path}.tmp', path)
    content = converted.content
    crowds = sum(annotation['iscrowd'] for annotation in content['annotations'])
    names = tuple(category['name'] for category in content['categories'])
    text = (
        f'{len(content["images"])} images, {len(content["annotations"])} objects ({crowds} to ignore) -> {path}\n'
        f'classes = {names!r}')
    if converted.num_flat:
        text += f'\nleft out, because they have no area: {converted.num_flat} boxes'
    if converted.other_names:
        text += f'\nnot among the classes, left out: {", ".join(map(repr, converted.other_names))}'
    return text
