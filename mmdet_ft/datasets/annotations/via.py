"""Projects and exports of VGG Image Annotator (VIA 1 and 2)."""
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, Optional

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.bounds import read_corner, refuse_far
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects, changes_of, to_coco
from mmdet_ft.datasets.annotations.values import format_value, parse_json, read_name
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.found import Content, Part, recognizes
from mmdet_ft.datasets.layouts.tree import Tree, by_split, only_each

CORNERS_OF_AN_ELLIPSE = 36
WITHOUT_AREA = ('point', 'polyline')
NOT_CHOSEN = 'undefined'  # VIA's value for a class that was not chosen


def read_via(path: str) -> List[Dict[str, Any]]:
    """Read the files of a project or an export; `regions` is a list of dicts in each.

    Raises DataError that names the location for anything else.
    """
    try:
        with open(path, 'rb') as file:
            content = parse_json(file.read(), path)
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error
    if isinstance(content, dict):
        content = content.get('_via_img_metadata', content)
    if not isinstance(content, dict) or not all(
            isinstance(item, dict) and 'filename' in item for item in content.values()):
        raise DataError(f'{path} is neither a project nor an annotation export of VIA')
    files = []
    for item in content.values():
        try:
            name = read_name(item['filename'], 'the name of an image')
        except ValueError as error:
            raise DataError(f'{path}: a filename {error}') from None
        regions = item.get('regions') or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1
        if not isinstance(regions, list):
            raise DataError(
                f'{path}: regions of {name!r} are {format_value(regions)}, expected a list')
        for index, region in enumerate(regions, 1):
            parts = [region, *(region.get(key) or {} for key in ('shape_attributes', 'region_attributes'))] \
                if isinstance(region, dict) else [region]
            wrong = [part for part in parts if not isinstance(part, dict)]
            if wrong:
                raise DataError(f'{path}: region {index} of {name!r} cannot be read: it has '
                                f'{format_value(wrong[0])}, expected a dict')
        files.append({**item, 'filename': name, 'regions': regions})
    return files


def class_attribute(files: List[Dict[str, Any]], path: str) -> Optional[str]:
    """Return the only region attribute in the files; None if there is none. Raises DataError for several."""
    names = {
        name
        for item in files
        for region in item['regions']
        for name in region.get('region_attributes') or {}
    }
    if len(names) > 1:
        raise DataError(
            f'{path} has the region attributes {", ".join(sorted(names))}; say with --attribute which '
            f'of them holds the class')
    return names.pop() if names else None


def outline(shape: Dict[str, Any]) -> List[float]:
    """Convert a region to a polygon [x0, y0, x1, ...]."""
    kind = shape['name']

    def number(key: str) -> float:
        try:
            return read_corner(shape[key])
        except ValueError as error:
            raise ValueError(f'{key} {error}') from None

    if kind == 'rect':
        x, y, width, height = map(number, ('x', 'y', 'width', 'height'))
        return [x, y, x + width, y, x + width, y + height, x, y + height]
    if kind == 'polygon':
        xs, ys = shape['all_points_x'], shape['all_points_y']
        if len(xs) != len(ys):
            raise ValueError(f'a polygon with {len(xs)} x and {len(ys)} y')
        points = np.array([xs, ys], dtype=float).T
        if len(points) < 3:
            raise ValueError(f'a polygon of {len(points)} points')
        return points.reshape(-1).tolist()
    if kind in ('circle', 'ellipse'):
        radii = np.array(
            [number(key) for key in (('r', 'r') if kind == 'circle' else ('rx', 'ry'))])
        angle = np.linspace(0, 2 * np.pi, CORNERS_OF_AN_ELLIPSE, endpoint=False)
        turn = number('theta') if shape.get('theta') else 0
        x, y = radii[:, None] * [np.cos(angle), np.sin(angle)]
        turned = [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)]
        return (np.array([[number('cx'), number('cy')]]) +
                np.transpose(turned)).reshape(-1).tolist()
    raise ValueError('there are rect, polygon, circle and ellipse')


def class_of(region: Dict[str, Any], attribute: Optional[str], default: Optional[str]) -> str:
    """Read the class of a region. Raises ValueError if it has none and there is no `default`."""
    value = (region.get('region_attributes') or {}).get(attribute) if attribute else None
    if isinstance(value, dict):  # a checkbox: {name: true}
        chosen = [name for name, is_chosen in value.items() if is_chosen]
        value = chosen[0] if len(chosen) == 1 else None
    name = str(value).strip() if isinstance(value, (str, int, float)) else ''
    if name in ('', NOT_CHOSEN):
        if default is None:
            text = f' ({attribute} is {format_value(value)})' if attribute else ''
            raise ValueError(f'it has no class{text}; give one with --class-name')
        return default
    return name


def convert(item: Dict[str, Any], folder: ImageFolder, attribute: Optional[str],
            default: Optional[str], path: str) -> Optional[ImageObjects]:
    """Convert the regions of an image; None if the image is not in the folder."""
    file_name = folder.find(item['filename'])
    if file_name is None:
        return None
    width, height = folder.size(file_name)
    names, boxes, segmentations = [], [], []
    left_out: Dict[str, int] = Counter()
    for index, region in enumerate(item['regions'], 1):
        shape = region.get('shape_attributes') or {}
        if isinstance(shape.get('name'), str) and shape['name'] in WITHOUT_AREA:
            left_out[f'regions without an area ({shape["name"]})'] += 1
            continue
        try:
            polygon = outline(shape)
            refuse_far(np.array(polygon).reshape(-1, 2), height, width)
            names.append(class_of(region, attribute, default))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f'it has no {error}' if isinstance(error, KeyError) else error
            raise DataError(
                f'{path}: region {index} ({format_value(shape.get("name"))}) of {item["filename"]!r} cannot be read: '
                f'{what}{"" if "--class-name" in str(what) else "; correct it there, or take the region out"}'
            ) from error
        points = np.array(polygon).reshape(-1, 2)
        boxes.append([*points.min(axis=0), *points.max(axis=0)])
        segmentations.append([polygon])
    return ImageObjects(file_name, width, height, names,
                        np.array(boxes, dtype=float).reshape(-1, 4), np.zeros(len(names), bool),
                        segmentations, left_out)


@recognizes('via', 'json of VGG Image Annotator')
def find_via(tree: Tree) -> Dict[str, Part]:
    """Find a project or an export of VIA: splits by the names or folders of several files."""
    found = [path for path in tree.files('.json') if _is_via(tree.begin(path))]
    return {
        split: _part(tree, path)
        for split, path in only_each(by_split(found), 'jsons of VIA', tree).items()
    }


def _options() -> str:
    return f'options are those of `{how_to_run("convert via")}`, which writes a COCO json'


def _is_via(text: str) -> bool:
    return '"_via_img_metadata"' in text or all(
        key in text for key in ('"filename"', '"regions"', '"file_attributes"'))


def _part(tree: Tree, path: str) -> Part:
    files = read_via(tree.path(path))
    prefix = tree.path(tree.prefix_of([item['filename'] for item in files], path).folder)

    def content() -> Content:
        try:
            attribute = class_attribute(files, tree.path(path))
        except DataError as error:
            raise DataError(f'{error} ({_options()})') from None
        default = 'object' if attribute is None else None
        folder = ImageFolder(prefix)
        try:
            images = [convert(item, folder, attribute, default, tree.path(path)) for item in files]
        except DataError as error:
            raise DataError(f'{error} ({_options()})') from None
        converted = to_coco([image for image in images if image is not None])
        folder.refuse_nothing(len(converted.content['images']))
        return Content(converted.content, [*changes_of(converted), *folder.report()])

    return Part(dict(type='CocoDataset', img_prefix=osp.join(prefix, '')), path, content=content)
