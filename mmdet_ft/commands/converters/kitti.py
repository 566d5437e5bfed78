"""Turn KITTI's label files into a COCO json."""
import os.path as osp
from argparse import Namespace
from typing import Optional, Sequence

import numpy as np

from mmdet_ft.datasets.annotations.to_coco import (ImageFolder, ImageObjects, folder_of_images,
                                                   listed_or_all, refuse_existing, write_coco)
from mmdet_ft.datasets.detection.kitti import image_name, read_kitti_label
from mmdet_ft.datasets.images.names import find_on_disk, nearest_name, plain_name_hint
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError
from mmdet_ft.evaluation.kitti import DONT_CARE


def read(folder: ImageFolder, img_subdir: str, ann_subdir: str, name: str,
         classes: Sequence[str]) -> Optional[ImageObjects]:
    """Read the objects of an image; None if it is not in the folder."""
    path = find_on_disk(osp.join(folder.root, ann_subdir, f'{name}.txt'))
    try:
        objects = read_kitti_label(path)
    except FileNotFoundError:
        raise DataError(f'there is no {path}, which the list names as {name!r}'
                        f'{plain_name_hint(name) or nearest_name(path)}') from None
    try:
        stem = image_name(osp.join(folder.root, img_subdir), name)
    except FileNotFoundError:
        stem = f'{name}.png'
    file_name = folder.find(osp.normpath(osp.join(img_subdir, stem)).replace(osp.sep, '/'))
    if file_name is None:
        return None
    width, height = folder.size(file_name)
    free = objects.names == DONT_CARE
    regions = np.tile(objects.boxes[free], (len(classes), 1))
    return ImageObjects(
        file_name,
        width,
        height,
        names=objects.names[~free].tolist() + np.repeat(classes, free.sum()).tolist(),
        boxes=np.concatenate([objects.boxes[~free], regions]),
        crowd=np.arange(len(objects.boxes) - free.sum() + len(regions)) >= (~free).sum())


def main(args: Namespace) -> None:
    names = listed_or_all(args.root, args.ann_subdir, args.img_subdir, '.txt', args.list)
    folder_of_images(args.root, args.img_subdir, args.ann_subdir)
    inputs = [osp.join(args.root, args.ann_subdir, f'{name}.txt') for name in names]
    inputs += [args.list] if args.list else []
    refuse_existing(args.out, args.force, inputs)
    folder = ImageFolder(args.root)
    images = (
        image for name in track(names, 'reading', len(names))
        if (image := read(folder, args.img_subdir, args.ann_subdir, name, args.classes)) is not None
    )
    print(write_coco(args.out, images, args.classes, args.force, folder, inputs))
