"""Turn WIDER FACE's lists into a COCO json, or into xml files."""
import os
import os.path as osp
from argparse import Namespace
from typing import Iterable
from xml.sax.saxutils import escape

from mmdet_ft.datasets.annotations.to_coco import (ImageFolder, ImageObjects, refuse_existing,
                                                   write_coco, write_text)
from mmdet_ft.datasets.annotations.wider_lists import read_list, to_objects
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


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
