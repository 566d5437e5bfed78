"""Recognition of COCO jsons with their images: COCO's own folders, and those of Roboflow and CVAT."""
import functools
import os.path as osp
from typing import Any, Dict, List

from mmdet_ft.datasets.annotations.coco_records import name_by_url
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.found import Part, recognizes
from mmdet_ft.datasets.layouts.tree import MOST_NAMES, Tree, by_split, only_each

KEYS = ('"images"', '"annotations"', '"categories"')


@recognizes('coco', 'COCO json')
def find_coco(tree: Tree) -> Dict[str, Part]:
    """Find COCO jsons with objects: splits by their names or folders."""
    found = [path for path in tree.files('.json') if _is_coco(tree, path)]
    parts = {}
    groups = {split: _instances(paths) for split, paths in by_split(found).items()}
    for split, path in only_each(groups, 'COCO jsons', tree).items():
        names = _names(tree.json(path)['images'])
        prefix = tree.prefix_of(names, path)
        if names and not prefix.hits:
            raise DataError(f'{tree.path(path)} lists {len(names)} images or more, such as '
                            f'{names[0]!r}, and none is in {tree.root}')
        settings = dict(
            type='CocoDataset',
            ann_file=tree.path(path),
            img_prefix=osp.join(tree.path(prefix.folder), ''))
        parts[split] = Part(settings, path, classes=functools.partial(_classes, tree.json(path)))
    return parts


def _is_coco(tree: Tree, path: str) -> bool:
    """Check for a dict of images and annotations of objects: not captions, results or a list of images."""
    ends = tree.begin(path) + tree.end(path)
    if not ends.lstrip().startswith('{') or sum(key in ends for key in KEYS) < 2:
        return False
    content = tree.json(path)
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        return False
    records = content.get('annotations')
    return isinstance(records, list) and bool(records) and isinstance(
        content.get('categories'),
        list) and not (isinstance(records[0], dict) and 'caption' in records[0])


def _instances(paths: List[str]) -> List[str]:
    """Return the files of instances, where others, such as keypoints, are of the same images."""
    found = [path for path in paths if osp.basename(path).startswith('instances_')]
    return found if len(found) == 1 else paths


def _classes(content: Dict[str, Any]) -> List[str]:
    """Return the names of the categories with objects, in the order of their ids."""
    used = {
        str(item.get('category_id'))
        for item in content['annotations'] if isinstance(item, dict)
    }
    found = [
        item for item in content['categories']
        if isinstance(item, dict) and 'name' in item and str(item.get('id')) in used
    ]
    ordered = sorted(found, key=lambda item: f'{item["id"]!s:0>20}')
    return list(dict.fromkeys(str(item['name']) for item in ordered))


def _names(records: List[Any]) -> List[str]:
    """Return the names of the first images."""
    names = []
    for record in records[:MOST_NAMES]:
        record = dict(record) if isinstance(record, dict) else {}
        name_by_url(record)
        if isinstance(record.get('file_name'), str):
            names.append(record['file_name'])
    return names
