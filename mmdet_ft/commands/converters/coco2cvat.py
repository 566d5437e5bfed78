"""Turn a COCO json into CVAT's own xml ('CVAT for images 1.1'), which CVAT imports."""
import os.path as osp
from argparse import Namespace
from typing import Any, Dict, Iterator, List, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from mmdet_ft.datasets.annotations.from_coco import bitmap_of, read_coco
from mmdet_ft.datasets.annotations.to_coco import ImageObjects, refuse_existing, write_text
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def tag(name: str, inside: Sequence[str] = (), /, **attributes: Any) -> str:
    """Return an element with its attributes, and the lines in it."""
    words = ''.join(f' {key}={quoteattr(str(value))}' for key, value in attributes.items())
    return '\n'.join([f'<{name}{words}>', *inside, f'</{name}>']) if inside else f'<{name}{words}/>'


def number(value: float) -> str:
    """Return a coordinate: all its digits, without needless ones."""
    return f'{value:.10g}'


def meta(classes: Sequence[str]) -> str:
    """Return the list of labels."""
    labels = [tag('label', [f'<name>{escape(name)}</name>']) for name in classes]
    return tag('meta', [tag('task', [tag('labels', labels)])])


def shapes_of(image: ImageObjects, index: int, group: int) -> Iterator[str]:
    """Yield the elements of an object: a box, or its polygons or mask."""
    segmentation: Any = image.segmentations[index]
    attributes: Dict[str, Any] = dict(image.attributes[index])
    if image.crowd[index]:
        attributes['is_crowd'] = 'true'
    inside = [
        f'<attribute name={quoteattr(str(name))}>{escape(str(value))}</attribute>'
        for name, value in attributes.items()
    ]
    facts = dict(label=image.names[index], source='manual', occluded='0', z_order='0')
    if segmentation is None:
        sides = dict(zip(('xtl', 'ytl', 'xbr', 'ybr'), map(number, image.boxes[index].tolist())))
        yield tag('box', inside, **facts, **sides)
    elif isinstance(segmentation, dict):
        yield tag('mask', inside, **facts, **mask_of(segmentation, image.height, image.width))
    else:
        together = dict(group_id=group) if len(segmentation) > 1 else {}
        for part in segmentation:
            points = ';'.join(f'{number(x)},{number(y)}' for x, y in zip(part[::2], part[1::2]))
            yield tag('polygon', inside, **facts, points=points, **together)


def mask_of(runs: Dict[str, Any], height: int, width: int) -> Dict[str, Any]:
    """Return the attributes of a mask: run lengths in its box row by row, zeros first."""
    mask = bitmap_of(runs, height, width)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return dict(rle='1', left=0, top=0, width=1, height=1)
    crop = mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    breaks = np.flatnonzero(np.diff(crop.reshape(-1))) + 1
    bounds = [0, *breaks.tolist(), crop.size]
    counts = np.diff(bounds).tolist()
    counts = [0, *counts] if crop.flat[0] else counts
    return dict(
        rle=', '.join(map(str, counts)),
        left=int(columns[0]),
        top=int(rows[0]),
        width=crop.shape[1],
        height=crop.shape[0])


def elements(images: Sequence[ImageObjects], more: Dict[str, str]) -> Iterator[str]:
    """Yield the element of each image; more: further attributes of all."""
    group = 0
    for index, image in enumerate(track(images, 'writing', len(images))):
        shapes: List[str] = []
        for position in range(len(image.names)):
            group += 1
            shapes += shapes_of(image, position, group)
        yield tag(
            'image',
            shapes,
            id=index,
            name=image.file_name,
            **more,
            width=image.width,
            height=image.height)


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    refuse_existing(args.out, args.force, [args.source])
    content = read_coco(args.source)
    more = {'subset': args.subset} if args.subset else {}
    images = list(elements(content.images, more))
    text = tag('annotations', ['<version>1.1</version>', meta(content.classes), *images])
    write_text(args.out, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')
    number_of_objects = sum(len(image.names) for image in content.images)
    print(f'{len(images)} images, {number_of_objects} objects -> {args.out}')
    for note in content.notes:
        print(note)
