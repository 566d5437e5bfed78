"""Turn PASCAL VOC's xml files into a COCO json."""
import os.path as osp
from argparse import Namespace
from typing import Optional

from mmdet_ft.datasets.annotations.to_coco import (ImageFolder, ImageObjects, folder_of_images,
                                                   listed_or_all, refuse_existing, write_coco)
from mmdet_ft.datasets.detection.xml_style import image_beside, read_voc_xml
from mmdet_ft.datasets.images.names import find_on_disk, nearest_name, plain_name_hint
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def read(folder: ImageFolder, img_subdir: str, ann_subdir: str,
         name: str) -> Optional[ImageObjects]:
    """Read the objects of an image; None if it is not in the folder."""
    path = find_on_disk(osp.join(folder.root, ann_subdir, f'{name}.xml'))
    try:
        content = read_voc_xml(path)
    except FileNotFoundError:
        raise DataError(f'there is no {path}, which the list names as {name!r}'
                        f'{plain_name_hint(name) or nearest_name(path)}') from None
    beside = image_beside(osp.join(folder.root, img_subdir), name, content.filename)
    file_name = folder.find(osp.normpath(osp.join(img_subdir, beside)).replace(osp.sep, '/'))
    if file_name is None:
        return None
    listed = None if content.width is None else (content.width, content.height)
    width, height = folder.settled_size(file_name, listed, content.boxes, path)
    return ImageObjects(file_name, width, height, content.names, content.boxes.astype(float),
                        content.difficult)


def main(args: Namespace) -> None:
    listed = osp.join(args.root, args.list) if args.list else None
    names = listed_or_all(args.root, args.ann_subdir, args.img_subdir, '.xml', listed)
    folder_of_images(args.root, args.img_subdir, args.ann_subdir)
    inputs = [osp.join(args.root, args.ann_subdir, f'{name}.xml') for name in names]
    inputs += [listed] if listed else []
    refuse_existing(args.out, args.force, inputs)
    folder = ImageFolder(args.root)
    images = (
        image for name in track(names, 'reading', len(names))
        if (image := read(folder, args.img_subdir, args.ann_subdir, name)) is not None)
    print(write_coco(args.out, images, args.classes, args.force, folder, inputs))
