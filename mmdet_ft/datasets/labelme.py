"""Folders of labelme's json files, one an image."""
import base64
import glob
import io
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pycocotools.mask as mask_api
from PIL import Image

from mmdet_ft.datasets.coco import CocoDataset
from mmdet_ft.datasets.coco_file import CocoFile
from mmdet_ft.datasets.custom import read_json
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.kitti import image_size
from mmdet_ft.datasets.names import check_names, read_ids
from mmdet_ft.datasets.to_coco import ImageObjects, to_coco
from mmdet_ft.registry import DATASETS

WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
CORNERS_OF_A_CIRCLE = 36


def read_labelme(path: str) -> ImageObjects:
    """Read a file; DataError names path and shape of what is wrong.

    Polygons, rectangles, circles and masks become objects; shapes of one label and one group_id are
    one object. Points and lines have no area and are left out. The image's name is relative to the
    folder of `path`.
    """
    with open(path, 'rb') as file:
        content = read_json(file.read(), path)
    if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
        raise DataError(f"{path} is not a labelme file: it has no list 'shapes'")
    name = (content.get('imagePath') or '').replace('\\', '/')  # labelme on Windows
    if not name:
        raise DataError(f'{path} has no imagePath')
    width, height = content.get('imageWidth'), content.get('imageHeight')
    if not (width and height):
        width, height = image_size(osp.join(osp.dirname(path), name))
    shapes: Dict[Any, List[Any]] = {}
    for place, shape in enumerate(content['shapes']):
        if shape.get('shape_type') in WITHOUT_AREA:
            continue
        group = shape.get('group_id')
        key = (shape.get('label'), 'alone', place) if group is None else (shape.get('label'), group)
        try:
            shapes.setdefault(key, []).append(_outline(shape, height, width))
        except (TypeError, ValueError, KeyError, IndexError, OSError) as error:
            raise DataError(f'{path}: shape {place + 1} ({shape.get("label")!r}, '
                            f'{shape.get("shape_type")!r}) cannot be read: {error}') from error
        if not isinstance(shape.get('label'), str):
            raise DataError(f'{path}: shape {place + 1} has no label')
    segmentations, boxes = [], []
    for parts in shapes.values():
        segmentations.append(_joined(parts, height, width))
        boxes.append(_box_around(parts))
    return ImageObjects(
        file_name=name,
        width=width,
        height=height,
        names=[key[0] for key in shapes],
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        crowd=np.zeros(len(shapes), dtype=bool),
        segmentations=segmentations)


def _outline(shape: Dict[str, Any], height: int, width: int) -> Any:
    """A polygon [x0, y0, x1, ...], or the run lengths of a mask."""
    kind = shape.get('shape_type') or 'polygon'
    points = np.array(shape['points'], dtype=np.float64).reshape(-1, 2)
    if kind == 'rectangle' and len(points) == 2:
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == 'circle':
        center, edge = points
        angles = np.arange(CORNERS_OF_A_CIRCLE) * (2 * np.pi / CORNERS_OF_A_CIRCLE)
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return (center + np.linalg.norm(edge - center) * corners).reshape(-1).tolist()
    if kind == 'mask':
        with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as image:
            crop = np.asarray(image) > 0
        x, y = np.floor(points[0]).astype(int).tolist()
        bitmap = np.zeros((height, width), dtype=np.uint8, order='F')
        bitmap[y:y + crop.shape[0], x:x + crop.shape[1]] = crop[:height - y, :width - x]
        runs = mask_api.encode(bitmap)
        return dict(size=runs['size'], counts=runs['counts'].decode())
    if kind not in ('polygon', 'rectangle', 'oriented_rectangle'):
        raise ValueError('there are polygon, rectangle, circle and mask')
    if len(points) < 3:
        raise ValueError(f'a polygon of {len(points)} points')
    return points.reshape(-1).tolist()


def _joined(parts: List[Any], height: int, width: int) -> Any:
    if not any(isinstance(part, dict) for part in parts):
        return parts
    if len(parts) == 1:
        return parts[0]
    runs = [
        part if isinstance(part, dict) else mask_api.frPyObjects([part], height, width)[0]
        for part in parts
    ]
    joined = mask_api.merge(runs)
    return dict(size=joined['size'], counts=joined['counts'].decode())


def _box_around(parts: List[Any]) -> List[float]:
    corners: List[Tuple[float, float]] = []
    for part in parts:
        if isinstance(part, dict):
            x, y, width, height = mask_api.toBbox(part).tolist()
            corners += [(x, y), (x + width, y + height)]
        else:
            corners += zip(part[::2], part[1::2])
    points = np.array(corners)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def labelme_files(path: str) -> List[str]:
    """The json files of a folder, sorted; or those that a text file lists, relative to its own folder."""
    if osp.isdir(path):
        files = sorted(glob.glob(osp.join(glob.escape(path), '*.json')))
    else:
        files = [osp.join(osp.dirname(path), name) for name in read_ids(path)]
    if not files:
        raise DataError(f'there is no json file in {path}')
    return files


@DATASETS.register_module()
class LabelmeDataset(CocoDataset):
    """Objects that were outlined with labelme: boxes and masks; arguments as CocoDataset.

    `ann_file` is the folder of the json files, or a text file that lists some of them, one a line.
    Images lie where the files say, relative to them; or under img_prefix, if that is given.
    `classes` has to be given; the metrics are COCO's.
    """

    CLASSES: Optional[Sequence[str]] = None
    PALETTE = None

    def _local(self, path: str, key: str) -> str:
        return path if key == 'ann_file' and osp.isdir(path) else super()._local(path, key)

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read all files; sets `name_counts`, the objects of each name in them."""
        images = [read_labelme(path) for path in labelme_files(ann_file)]
        self.name_counts: Dict[str, int] = Counter(name for image in images for name in image.names)
        if not self.CLASSES:
            names = ', '.join(map(repr, sorted(self.name_counts)))
            raise DataError(
                f'{type(self).__name__} needs classes=(...); the files in {ann_file} have '
                f'classes=({names}, )')
        check_names(self, self.name_counts)
        if not self.img_prefix:
            self.img_prefix = ann_file if osp.isdir(ann_file) else osp.dirname(ann_file)
        self._read_file = CocoFile(ann_file, to_coco(images, list(self.CLASSES)).content)
        return self._use_file()
