"""Folders of labelme's json files, one per image."""
import base64
import functools
import io
import os
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from mmdet_ft.datasets.annotations.bounds import read_size, refuse_far
from mmdet_ft.datasets.annotations.image_lists import read_ids
from mmdet_ft.datasets.annotations.outlines import box_around, ellipse, join_parts, runs_of_crop
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects, files_by_folder
from mmdet_ft.datasets.annotations.values import format_value, parse_json, read_name
from mmdet_ft.datasets.detection.converted import ConvertedDataset, Source
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import IMAGE_ENDINGS, image_size
from mmdet_ft.datasets.images.names import find_on_disk, nearest_name
from mmdet_ft.datasets.layouts.found import Part, PartFile, recognizes
from mmdet_ft.datasets.layouts.pairs import folders_like
from mmdet_ft.datasets.layouts.tree import Tree, by_split, joined
from mmdet_ft.registry import DATASETS

WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
POLYGONS = ('polygon', 'rectangle', 'oriented_rectangle', 'rotation', 'quadrilateral')
NO_CLASS = ('__ignore__', '_background_')  # labelme's own labels for non-objects


def read_labelme(path: str, folder: Optional[ImageFolder] = None) -> Optional[ImageObjects]:
    """Read a file; DataError names the path and the faulty shape.

    Polygons, rectangles, circles and masks become objects; shapes of one label and one group_id are
    one object. Points and lines have no area and are counted in `left_out`, as are reserved labels
    (`__ignore__`).

    folder: where to look for the image. With it the image name is relative to that folder, and None
    is returned if there is no such image. Otherwise the name is relative to the folder of `path`.
    """
    content = _read_file(path)
    name = _image_of(content, path)
    if folder is not None:
        below = osp.relpath(osp.join(osp.dirname(path), name), folder.root).replace(os.sep, '/')
        found = folder.find(below)
        if found is None:
            return None
        name = found
    listed = _listed_size(content, path)
    if folder is None:  # training reports a size that is not the image's, and does not start
        width, height = listed or image_size(osp.join(osp.dirname(path), name))
        return _read_objects(content, path, name, width, height)
    width, height = size = folder.size(name)
    if listed not in (None, size):
        larger = (max(width, listed[0]), max(height, listed[1]))
        boxes = _read_objects(content, path, name, *larger).boxes
        width, height = folder.settled_size(name, listed, boxes, path)
    return _read_objects(content, path, name, width, height)


def _read_objects(content: Dict[str, Any], path: str, name: str, width: int,
                  height: int) -> ImageObjects:
    """Read the objects of an image of this size."""
    names, segmentations, boxes = [], [], []
    left_out: Dict[str, int] = Counter()
    for label, parts in _outlines(content, path, height, width, left_out).items():
        names.append(label[0])
        segmentations.append(join_parts(parts, height, width))
        boxes.append(box_around(parts))
    return ImageObjects(
        file_name=name,
        width=width,
        height=height,
        names=names,
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        crowd=np.zeros(len(names), dtype=bool),
        segmentations=segmentations,
        left_out=left_out)


def _read_file(path: str) -> Dict[str, Any]:
    try:
        with open(path, 'rb') as file:
            content = parse_json(file.read(), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
        what = ', it is a COCO json' if isinstance(content,
                                                   dict) and 'annotations' in content else ''
        raise DataError(f"{path} is not a labelme file: it has no list 'shapes'{what}")
    return content


def _image_of(content: Dict[str, Any], path: str) -> str:
    """Return the name of the image, relative to the folder of the json."""
    name = content.get('imagePath')
    if not name:  # then it has the name of the json
        stem = osp.splitext(path)[0]
        beside = [stem + ending for ending in IMAGE_ENDINGS if osp.isfile(stem + ending)]
        if len(beside) != 1:
            raise DataError(
                f'{path} has no imagePath, and there is no image of that name beside it')
        return osp.basename(beside[0])
    try:
        return read_name(name).replace('\\', '/')  # labelme on Windows
    except ValueError as error:
        raise DataError(f'{path}: imagePath {error}') from None


def _listed_size(content: Dict[str, Any], path: str) -> Optional[Tuple[int, int]]:
    """Return width and height; None where the file does not have them."""
    try:
        return read_size(content.get('imageWidth'), content.get('imageHeight'))
    except ValueError as error:
        raise DataError(f'{path}: {error}') from None


def _outlines(content: Dict[str, Any], path: str, height: int, width: int,
              left_out: Dict[str, int]) -> Dict[Any, List[Any]]:
    """Return the outlines of each object, by a key that begins with its label; non-objects are counted."""
    shapes: Dict[Any, List[Any]] = {}
    for index, shape in enumerate(content['shapes'], 1):
        if not isinstance(shape, dict):
            raise DataError(f'{path}: shape {index} is {format_value(shape)}, expected a dict')
        kind, label = shape.get('shape_type'), shape.get('label')
        if isinstance(kind, str) and kind in WITHOUT_AREA:
            left_out[f'shapes without an area ({kind})'] += 1
            continue
        if isinstance(label, str) and label.strip() in NO_CLASS:
            left_out[f'shapes of {label.strip()}'] += 1
            continue
        try:
            label = read_name(label, 'a label in a text').strip()
        except ValueError as error:
            raise DataError(f'{path}: shape {index} has no label: it {error}; '
                            'write the name of its class, or take the shape out') from None
        group = shape.get('group_id')
        key = (label, 'alone', index) if group is None else (label, repr(group))
        try:
            shapes.setdefault(key, []).append(_outline(shape, height, width))
        except (TypeError, ValueError, KeyError, IndexError, OSError, SyntaxError) as error:
            what = f'it has no {error}' if isinstance(error, KeyError) else error
            raise DataError(
                f'{path}: shape {index} ({label!r:.60}, {kind!r:.60}) cannot be read: {what}; '
                'correct it there, or take the shape out') from error
    return shapes


def _outline(shape: Dict[str, Any], height: int, width: int) -> Any:
    """Return a polygon [x0, y0, x1, ...], or the run lengths of a mask."""
    kind = shape.get('shape_type') or 'polygon'
    points = np.array(shape['points'], dtype=np.float64).reshape(-1, 2)
    refuse_far(points, height, width)
    if kind == 'rectangle' and len(points) == 2:
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == 'circle':
        if len(points) != 2:
            raise ValueError(
                f'a circle of {len(points)} points, expected its center and a point on it')
        center, edge = points
        radius = float(np.linalg.norm(edge - center))
        return ellipse(center[0], center[1], radius, radius)
    if kind == 'mask':
        x, y = np.floor(points[0]).astype(int).tolist()
        return runs_of_crop(_crop_of(shape), x, y, height, width)
    if kind not in POLYGONS:
        raise ValueError('there are polygon, rectangle, circle and mask')
    if len(points) < 3:
        raise ValueError(f'a polygon of {len(points)} points')
    return points.reshape(-1).tolist()


def _crop_of(shape: Dict[str, Any]) -> np.ndarray:
    """Return the bitmap of a mask, bool [h, w]."""
    text = shape.get('mask')
    if not isinstance(text, str):
        raise ValueError(f'its mask is {format_value(text)}, expected a PNG in base64')
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        crop = np.asarray(image) > 0
    return crop if crop.ndim == 2 else crop.any(-1)


def labelme_files(path: str) -> List[str]:
    """Return the json files of a folder, sorted, or those that a text file lists, relative to its own folder.

    For a folder that has json files only in its subfolders, return those.
    """
    if not osp.isdir(path):
        files = [find_on_disk(osp.join(osp.dirname(path), name)) for name in read_ids(path)]
        if not files:
            raise DataError(f'{path} lists no json file')
        for file in files:
            if not osp.exists(file):
                raise FileNotFoundError(
                    f'there is no {file!r}, which {path} lists{nearest_name(file)}')
        return files
    files = [osp.join(path, name) for name in sorted(os.listdir(path)) if _is_json(name)]
    files = files or [osp.join(path, name) for name in files_below(path)]
    if not files:
        raise DataError(f'there is no json file in {path}')
    return files


def files_below(folder: str) -> List[str]:
    """Return the json files in the subfolders of a folder, relative to it, without hidden ones."""
    found = [
        osp.normpath(osp.join(below, name)) for below in files_by_folder(folder, _is_json)
        for name in os.listdir(osp.join(folder, below)) if below != '.' and _is_json(name)
    ]
    return sorted(found)


def _is_json(name: str) -> bool:
    return name.lower().endswith('.json') and not name.startswith('.')


@DATASETS.register_module()
class LabelmeDataset(ConvertedDataset):
    """Objects annotated with labelme: boxes and masks; arguments as CocoDataset.

    `ann_file` is the folder of the json files, or a text file that lists some of them, one per
    line. Image paths in the files are relative to them, or to img_prefix, if that is given.
    `classes` is required; the metrics are COCO's.
    """

    def _local(self, path: str, key: str) -> str:
        return path if key == 'ann_file' and osp.isdir(path) else super()._local(path, key)

    def read_source(self, ann_file: str) -> Source:
        """Read all files of the folder or of the list."""
        self.files = files = labelme_files(ann_file)  # of the images in their order
        root = ann_file if osp.isdir(ann_file) else osp.dirname(ann_file)
        images = []
        for path in files:
            image = read_labelme(path)
            if not self.img_prefix:  # then names are relative to the folder of all files
                name = osp.relpath(osp.join(osp.dirname(path), image.file_name), root or '.')
                image = image._replace(file_name=name.replace(os.sep, '/'))
            images.append(image)
        return Source(images, root, notes=_not_read(ann_file, root, files))

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the list of some json files."""
        paths = [osp.abspath(self.files[index]) for index in indices]
        return PartFile('.txt', ''.join(f'{path}\n' for path in paths), {})


def _names_in(paths: Sequence[str]) -> List[str]:
    return sorted({name for path in paths for name in read_labelme(path).names})


def _not_read(ann_file: str, root: str, files: List[str]) -> List[str]:
    """Return a message about json files in subfolders of a folder that are not read."""
    others = files_below(root) if osp.isdir(ann_file) else []
    if not others or osp.normpath(osp.join(root, others[0])) in map(osp.normpath, files):
        return []
    return [
        f'{len(others)} json files in subfolders are not read, such as {others[0]!r}; a text file as ann_file can '
        f'list those of several folders'
    ]


@recognizes('labelme', 'labelme json')
def find_labelme(tree: Tree) -> Dict[str, Part]:
    """Find folders of labelme's json files: splits by folders."""
    folders = folders_like(tree, '.json', lambda text: '"shapes"' in text and '"imagePath"' in text)
    parts = {}
    for split, found in by_split(folders).items():
        source = ', '.join(folder or '.' for folder in found)
        names = [tree.path(joined(folder, name)) for folder in found for name in folders[folder]]
        settings: Dict[str, Any] = dict(type='LabelmeDataset')
        if len(found) == 1:
            settings['ann_file'] = tree.path(found[0])
        parts[split] = Part(
            settings,
            source,
            names=names if len(found) > 1 else None,
            classes=functools.partial(_names_in, names))
    return parts
