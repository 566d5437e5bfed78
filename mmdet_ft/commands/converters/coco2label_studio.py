"""Turn a COCO json into tasks of Label Studio, and a labeling config for them."""
import os.path as osp
from argparse import Namespace
from collections import Counter
from typing import Any, Dict, List, Sequence, Tuple
from xml.sax.saxutils import quoteattr

import numpy as np

from mmdet_ft.datasets.annotations.brush import encode_brush
from mmdet_ft.datasets.annotations.from_coco import bitmap_of, read_coco
from mmdet_ft.datasets.annotations.to_coco import (ImageObjects, refuse_existing, write_json,
                                                   write_text)
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError

KINDS = dict(
    rectanglelabels='RectangleLabels', polygonlabels='PolygonLabels', brushlabels='BrushLabels')


def value_of(image: ImageObjects, index: int) -> Tuple[str, Dict[str, Any]]:
    """Return the kind of the shape of an object, and its values: percentages of the image."""
    segmentation: Any = image.segmentations[index]
    size = np.array([image.width, image.height], dtype=np.float64)
    if segmentation is None:
        x1, y1, x2, y2 = (image.boxes[index] * 100 / np.tile(size, 2)).tolist()
        return 'rectanglelabels', dict(x=x1, y=y1, width=x2 - x1, height=y2 - y1, rotation=0)
    if isinstance(segmentation, list) and len(segmentation) == 1:
        points = np.array(segmentation[0]).reshape(-1, 2) * 100 / size
        return 'polygonlabels', dict(points=points.tolist(), closed=True)
    mask = bitmap_of(segmentation, image.height, image.width)
    return 'brushlabels', dict(format='rle', rle=encode_brush(mask))


def results_of(image: ImageObjects, counts: Dict[str, int]) -> List[Dict[str, Any]]:
    """Return the results of a task; count the kinds, and the crowds that are left out."""
    results = []
    for index, name in enumerate(image.names):
        if image.crowd[index]:
            counts['crowds are left out'] += 1
            continue
        kind, value = value_of(image, index)
        counts[kind] += 1
        results.append(
            dict(
                id=f'object{index + 1}',
                type=kind,
                from_name=kind,
                to_name='image',
                original_width=image.width,
                original_height=image.height,
                image_rotation=0,
                value={
                    **value, kind: [name]
                }))
    return results


def task_of(number: int, image: ImageObjects, root: str, key: str,
            counts: Dict[str, int]) -> Dict[str, Any]:
    """Return the task of an image; key: annotations or predictions."""
    own = dict(result=results_of(image, counts))
    own.update(dict(was_cancelled=False) if key == 'annotations' else {})
    return {'id': number, 'data': dict(image=root + image.file_name), key: [{'id': number, **own}]}


def labeling_config(classes: Sequence[str], kinds: Sequence[str]) -> str:
    """Return the xml of a project that can show the tasks."""
    labels = ''.join(f'    <Label value={quoteattr(name)}/>\n' for name in classes)
    tools = ''.join(f'  <{KINDS[kind]} name="{kind}" toName="image">\n{labels}  </{KINDS[kind]}>\n'
                    for kind in kinds)
    return f'<View>\n  <Image name="image" value="$image"/>\n{tools}</View>\n'


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    config = osp.splitext(args.out)[0] + '.config.xml'
    for path in (args.out, config):
        refuse_existing(path, args.force, [args.source])
    content = read_coco(args.source)
    counts: Dict[str, int] = Counter()
    key = 'predictions' if args.predictions else 'annotations'
    tasks = [
        task_of(number, image, args.image_root, key, counts)
        for number, image in enumerate(track(content.images, 'writing', len(content.images)), 1)
    ]
    kinds = [kind for kind in KINDS if counts.pop(kind, 0)] or list(KINDS)[:1]
    write_json(args.out, tasks)
    write_text(config, labeling_config(content.classes, kinds))
    number = sum(len(task[key][0]['result']) for task in tasks)
    print(f'{len(tasks)} tasks, {number} objects -> {args.out}; the labeling config: {config}')
    for line in (*content.notes, *(f'{count} {what}' for what, count in counts.items())):
        print(line)
