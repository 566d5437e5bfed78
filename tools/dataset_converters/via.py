"""Turn a project or an export of VGG Image Annotator (VIA 1 and 2) into a COCO json.

    python tools/dataset_converters/via.py data/balloon/train/via_region_data.json --out data/balloon/train.json

Rectangles, circles, ellipses and polygons become objects. Images lie beside the file, or in --img-dir: that is
img_prefix.
"""
import argparse
import os.path as osp
import sys
from typing import Any, Dict, List, Optional

import numpy as np

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.datasets.custom import read_json  # noqa: E402
from mmdet_ft.datasets.errors import DataError  # noqa: E402
from mmdet_ft.datasets.kitti import image_size  # noqa: E402
from mmdet_ft.datasets.to_coco import ImageObjects, refuse_existing, write_coco  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.engine.progress import track  # noqa: E402

CORNERS_OF_AN_ELLIPSE = 36
WITHOUT_AREA = ('point', 'polyline')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='VIA to COCO json')
    parser.add_argument('source', help='json of VIA: a project, or exported annotations')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--img-dir', help='folder of the images; default: that of the source')
    parser.add_argument(
        '--attribute', help='region attribute that holds the class; default: the only one')
    parser.add_argument(
        '--class-name', help='the class of all regions, where they have no attribute')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


def read_via(path: str) -> List[Dict[str, Any]]:
    """The files of a project or an export; `regions` is a list in each."""
    with open(path, 'rb') as file:
        content = read_json(file.read(), path)
    if isinstance(content, dict):
        content = content.get('_via_img_metadata', content)
    if not isinstance(content, dict) or not all(
            isinstance(item, dict) and 'filename' in item for item in content.values()):
        raise DataError(f'{path} is neither a project nor an annotation export of VIA')
    files = []
    for item in content.values():
        regions = item.get('regions') or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1
        files.append({**item, 'regions': regions})
    return files


def class_attribute(files: List[Dict[str, Any]], path: str) -> Optional[str]:
    """The one region attribute that all files use; None where there is none."""
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
    """A polygon [x0, y0, x1, ...] of a region."""
    kind = shape['name']
    if kind == 'rect':
        x, y, width, height = (shape[key] for key in ('x', 'y', 'width', 'height'))
        return [x, y, x + width, y, x + width, y + height, x, y + height]
    if kind == 'polygon':
        points = np.array([shape['all_points_x'], shape['all_points_y']], dtype=float).T
        if len(points) < 3:
            raise ValueError(f'a polygon of {len(points)} points')
        return points.reshape(-1).tolist()
    if kind in ('circle', 'ellipse'):
        radii = np.array([shape['r'], shape['r']] if kind ==
                         'circle' else [shape['rx'], shape['ry']])
        angle, turn = np.linspace(
            0, 2 * np.pi, CORNERS_OF_AN_ELLIPSE, endpoint=False), shape.get('theta') or 0
        x, y = radii[:, None] * [np.cos(angle), np.sin(angle)]
        turned = [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)]
        return (np.array([[shape['cx'], shape['cy']]]) + np.transpose(turned)).reshape(-1).tolist()
    raise ValueError('there are rect, polygon, circle and ellipse')


def class_of(region: Dict[str, Any], attribute: Optional[str], default: Optional[str]) -> str:
    value = (region.get('region_attributes') or {}).get(attribute) if attribute else None
    if isinstance(value, dict):  # a check box: {name: true}
        chosen = [name for name, is_chosen in value.items() if is_chosen]
        value = chosen[0] if len(chosen) == 1 else None
    if not value and default is None:
        raise ValueError('it has no class; give one with --class-name')
    return str(value or default)


def convert(item: Dict[str, Any], folder: str, attribute: Optional[str], default: Optional[str],
            path: str) -> ImageObjects:
    width, height = image_size(osp.join(folder, item['filename']))
    names, boxes, segmentations = [], [], []
    for place, region in enumerate(item['regions'], 1):
        shape = region.get('shape_attributes') or {}
        if shape.get('name') in WITHOUT_AREA:
            continue
        try:
            polygon = outline(shape)
            names.append(class_of(region, attribute, default))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f'{path}: region {place} ({shape.get("name")!r}) of {item["filename"]!r} cannot be read: '
                f'{error}') from error
        points = np.array(polygon).reshape(-1, 2)
        boxes.append([*points.min(axis=0), *points.max(axis=0)])
        segmentations.append([polygon])
    return ImageObjects(item['filename'], width, height, names,
                        np.array(boxes, dtype=float).reshape(-1, 4), np.zeros(len(names), bool),
                        segmentations)


@command
def main() -> None:
    args = parse_args()
    refuse_existing(args.out, args.force)
    files = read_via(args.source)
    attribute = args.attribute or class_attribute(files, args.source)
    folder = args.img_dir or osp.dirname(args.source)
    images = (convert(item, folder, attribute, args.class_name, args.source) for item in files)
    print(write_coco(args.out, track(images, 'reading', len(files)), args.classes, args.force))


if __name__ == '__main__':
    main()
