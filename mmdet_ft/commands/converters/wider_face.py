"""Turn WIDER FACE's lists into a COCO json, or into xml files."""
import os
import os.path as osp
from argparse import Namespace
from typing import Iterable, Iterator, List, Tuple
from xml.sax.saxutils import escape

import numpy as np

from mmdet_ft.datasets.annotations.bounds import read_corner
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.annotations.to_coco import (ImageFolder, ImageObjects, refuse_existing,
                                                   write_coco, write_text)
from mmdet_ft.datasets.annotations.values import read_whole
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError

Faces = Tuple[str, np.ndarray, np.ndarray]  # image, boxes x1 y1 x2 y2, invalid


def read_list(path: str) -> List[Faces]:
    """Read the images of a list. Raises DataError that names path and line.

    An image has a line with its name, one with the number of faces, and one per face: x y width height and six flags.
    The fourth flag marks an invalid face. Images without a face have one line of zeros.
    """
    try:
        lines = [line.strip() for line in read_lines(path)]
    except FileNotFoundError:
        raise DataError(f'there is no {path!r}') from None
    images, folder = [], 0
    while folder < len(lines):
        if not lines[folder]:
            folder += 1
            continue
        name = lines[folder]
        try:
            number = read_whole(lines[folder + 1], 'a number of faces', 0, 10**9)
        except (ValueError, IndexError):
            raise DataError(
                f'{path}:{folder + 2}: expected the number of faces of {name!r}') from None
        rows = []
        for line in range(folder + 2, folder + 2 + max(number, 1)):
            try:
                rows.append([read_corner(word) for word in lines[line].split()])
                if len(rows[-1]) < 4:
                    raise ValueError
            except (ValueError, IndexError):
                raise DataError(
                    f'{path}:{line + 1}: expected a face of {name!r}: x y width height and six '
                    f'flags{"" if number else ", all 0: an image without a face has this line too"}'
                ) from None
        table = np.array([(row + [0.] * 10)[:10] for row in rows[:number]]).reshape(-1, 10)
        boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        images.append((name, boxes, table[:, 7] != 0))
        folder += 2 + max(number, 1)
    return images


def to_objects(images: List[Faces], folder: ImageFolder) -> Iterator[ImageObjects]:
    """Yield the images that exist, with their faces."""
    for name, boxes, invalid in images:
        found = folder.find(name)
        if found is not None:
            width, height = folder.size(found)
            yield ImageObjects(found, width, height, ['face'] * len(boxes), boxes, invalid)


def voc_xml(image: ImageObjects, folder: str) -> str:
    """Format the xml of an image, with coordinates from 1; `folder` is its folder under img_prefix."""
    lines = [
        '<annotation>', f'  <folder>{escape(folder)}</folder>',
        f'  <filename>{escape(osp.basename(image.file_name))}</filename>',
        f'  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>'
    ]
    for box, invalid in zip(image.boxes, image.crowd):
        sides = ''.join(f'<{side}>{int(value) + 1}</{side}>'
                        for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
        lines.append(
            f'  <object><name>face</name><difficult>{int(invalid)}</difficult><bndbox>{sides}</bndbox></object>'
        )
    return '\n'.join([*lines, '</annotation>', ''])


def write_voc(images: Iterable[ImageObjects], image_folder: ImageFolder, root: str, out: str,
              force: bool, listed: str) -> str:
    """Write an xml file per image and the list of names; return a report. `listed`: path of the input list."""
    folder = osp.join(root, 'Annotations')
    names, num_faces = [], 0
    seen = set()
    for image in images:
        stem = osp.splitext(osp.basename(image.file_name))[0]
        if stem in seen:
            raise DataError(f'two images are called {stem!r}, and their xml files would be one')
        seen.add(stem)
        names.append(stem)
        num_faces += len(image.boxes)
        index = osp.relpath(osp.join(image_folder.root, osp.dirname(image.file_name)), root)
        path = osp.join(folder, f'{stem}.xml')
        inputs = [listed, osp.join(image_folder.root, image.file_name)]
        refuse_existing(path, force, inputs)
        refuse_existing(out, force, inputs)
        write_text(path, voc_xml(image, index.replace(os.sep, '/')))
    image_folder.refuse_nothing(len(names))
    if not names:
        raise DataError('there is no image to write: nothing was converted')
    write_text(out, '\n'.join(names) + '\n')
    return '\n'.join([
        f'{len(names)} images, {num_faces} faces -> {folder}, listed in {out}',
        *image_folder.report()
    ])


def main(args: Namespace) -> None:
    refuse_existing(args.out, args.force, [args.list])
    listed = read_list(args.list)
    folder = ImageFolder(args.images)
    images = track(to_objects(listed, folder), 'reading', len(listed))
    if args.voc:
        print(write_voc(images, folder, args.voc, args.out, args.force, args.list))
    else:
        print(write_coco(args.out, images, ['face'], args.force, folder, [args.list]))
