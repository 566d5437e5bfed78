"""The reader of COCO annotation files."""
import gc
import json
from typing import Any, Dict, List, Optional

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.packed import PackedList, PackedSegmentations, SharesArrays


class CocoFile(SharesArrays):
    """A COCO json, checked and packed; images and, inside an image, annotations keep the file's order.

    Missing `info`, `annotations`, `iscrowd`, `ignore`, `area` and annotation ids are filled in; annotations of
    images that are not listed are left out, as pycocotools would never find them (`num_orphans` counts them). LVIS v1
    names its images by `coco_url` alone: file_name is the last two parts of it.

    Attributes:
        categories: the dicts of the file, at least id and name.
        images: the dicts of the file, at least id, file_name, width, height, and V2's filename.
        image_ids: list of I ids.
        sizes: int64 [I, 2], width and height.
        starts: int64 [I + 1]; the annotations of image i are starts[i] to starts[i + 1].
        boxes: float64 [N, 4], x y w h; areas float64, category_ids int64, ids int64, crowd and ignore bool, all [N].
        segmentations: N items, see PackedSegmentations.
    """

    def __init__(self, path: str, content: Any = None):
        """Read `path`; with `content`, what such a file would hold, the path is for messages only."""
        self.path = path
        data = _read_json(path) if content is None else content
        if not isinstance(data, dict) or 'images' not in data:
            found = f'the keys {", ".join(list(data)[:8])}' if isinstance(
                data, dict) else f'a {type(data).__name__}'
            raise DataError(
                f'{path} is not a COCO annotation file: it needs a dict with images, annotations and '
                f'categories, found {found}')
        self.categories: List[Dict[str, Any]] = data.get('categories') or []
        for category in self.categories:
            if 'id' not in category or 'name' not in category:
                raise DataError(f'{path}: a category needs id and name, found {category}')
        self._read_annotations(data.get('annotations') or [], self._read_images(data['images']))

    def _read_images(self, images: List[Dict[str, Any]]) -> Dict[Any, int]:
        """Returns the place of each image id."""
        index_of_id: Dict[Any, int] = {}
        for index, image in enumerate(images):
            name_by_url(image)
            missing = [key for key in ('id', 'file_name', 'width', 'height') if key not in image]
            if missing:
                raise DataError(
                    f'{self.path}: image {image.get("file_name", image.get("id", index))!r} has no '
                    f'{" and no ".join(missing)}')
            if image['id'] in index_of_id:
                other = images[index_of_id[image['id']]]
                raise DataError(
                    f'{self.path}: image id {image["id"]!r} stands for both {other["file_name"]!r} and '
                    f'{image["file_name"]!r}; give each image an id of its own')
            index_of_id[image['id']] = index
        self.image_ids = list(index_of_id)
        # A dict would be copied by every worker, page by page, as they look images up in it.
        self._index_of_id: Optional[Dict[Any, int]] = index_of_id
        if all(type(image_id) is int and abs(image_id) < 2**63 for image_id in self.image_ids):
            self._index_of_id = None
            self._sorted_places = np.argsort(np.array(self.image_ids, dtype=np.int64))
            self._sorted_ids = np.array(self.image_ids, dtype=np.int64)[self._sorted_places]
        self.sizes = np.array([(image['width'], image['height']) for image in images],
                              dtype=np.int64).reshape(-1, 2)
        self.images = PackedList({**image, 'filename': image['file_name']} for image in images)
        return index_of_id

    def _read_annotations(self, annotations: List[Dict[str, Any]], index_of_id: Dict[Any,
                                                                                     int]) -> None:
        for annotation in annotations:
            missing = [
                key for key in ('image_id', 'category_id', 'bbox') if annotation.get(key) is None
            ]
            if missing or len(annotation['bbox']) != 4:
                problem = f'has no {" and no ".join(missing)}' if missing else f'has a bbox of {annotation["bbox"]}'
                raise DataError(f'{self.path}: annotation {annotation.get("id")!r} of image '
                                f'{annotation.get("image_id")!r} {problem}')
        ids = [annotation['id'] for annotation in annotations if 'id' in annotation]
        if len(set(ids)) < len(ids):
            seen: set = set()
            twice = next(i for i in ids if i in seen or seen.add(i))
            raise DataError(
                f'{self.path}: annotation ids are not unique (id {twice!r} stands twice), as after joining '
                f'two files; number them anew')
        # the pairing of annotation and image is by place from here on
        places = [index_of_id.get(annotation['image_id'], -1) for annotation in annotations]
        places = np.array(places, dtype=np.int64)
        order = np.argsort(places, kind='stable')
        self.num_orphans = int((places < 0).sum())
        order = order[self.num_orphans:]
        kept = [annotations[i] for i in order.tolist()]
        self.starts = np.searchsorted(places[order], np.arange(len(self.image_ids) + 1))
        self.boxes = np.array([item['bbox'] for item in kept], dtype=np.float64).reshape(-1, 4)
        self.category_ids = np.array([item['category_id'] for item in kept], dtype=np.int64)
        self.crowd = np.array([bool(item.get('iscrowd', False)) for item in kept], dtype=bool)
        self.ignore = np.array([bool(item.get('ignore', False)) for item in kept], dtype=bool)
        numbered = all(isinstance(item.get('id'), int) for item in kept)
        self.ids = np.array(
            [item['id'] for item in kept] if numbered else order + 1, dtype=np.int64)
        self.segmentations = PackedSegmentations()
        areas = []
        for place, item in zip(places[order].tolist(), kept):
            width, height = self.sizes[place].tolist()
            try:
                self.segmentations.append(item.get('segmentation'), height, width)
                area = item.get('area')
                areas.append(area_of(item, height, width) if area is None else area)
            except (ValueError, TypeError) as error:
                raise DataError(
                    f'{self.path}: annotation {item.get("id")!r} of image {item["image_id"]!r}: '
                    f'{error}') from error
        self.segmentations.finish()
        self.areas = np.array(areas, dtype=np.float64)

    def index_of(self, image_id: Any) -> int:
        """The place of an image in the file; KeyError for an id that it does not have."""
        if self._index_of_id is not None:
            return self._index_of_id[image_id]
        place = int(np.searchsorted(self._sorted_ids, image_id))
        if place == len(self._sorted_ids) or self._sorted_ids[place] != image_id:
            raise KeyError(image_id)
        return int(self._sorted_places[place])

    def annotations_of(self, index: int) -> List[Dict[str, Any]]:
        """The annotations of the image at place `index` as dicts in COCO's form."""
        begin, end = int(self.starts[index]), int(self.starts[index + 1])
        image_id = self.image_ids[index]
        return [
            dict(
                id=id_,
                image_id=image_id,
                category_id=category_id,
                bbox=box,
                area=area,
                iscrowd=int(crowd),
                ignore=ignore,
                segmentation=self.segmentations[begin + offset])
            for offset, (id_, category_id, box, area, crowd, ignore) in enumerate(
                zip(self.ids[begin:end].tolist(), self.category_ids[begin:end].tolist(),
                    self.boxes[begin:end].tolist(), self.areas[begin:end].tolist(),
                    self.crowd[begin:end].tolist(), self.ignore[begin:end].tolist()))
        ]


def _read_json(path: str) -> Any:
    with open(path, 'rb') as file:
        text = file.read()
    enabled = gc.isenabled()
    gc.disable(
    )  # millions of new containers, none of them garbage: the collector would double the time
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f'{path} is not a complete json file: {error}') from error
    finally:
        if enabled:
            gc.enable()


def name_by_url(image: Dict[str, Any]) -> None:
    """Give a record of LVIS v1 its file_name: the last two parts of its coco_url."""
    if 'coco_url' in image:
        image.setdefault('file_name', '/'.join(image['coco_url'].split('/')[-2:]))


def area_of(annotation: Dict[str, Any], height: int, width: int) -> float:
    """The pixels of an annotation's segmentation, or of its box where there is none."""
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, dict):
        if isinstance(segmentation['counts'], list):
            return float(sum(segmentation['counts'][1::2]))
        return float(mask_api.area(segmentation))
    parts = [part for part in segmentation or [] if len(part) >= 6]
    if parts:
        return float(mask_api.area(mask_api.merge(mask_api.frPyObjects(parts, height, width))))
    return float(annotation['bbox'][2] * annotation['bbox'][3])
