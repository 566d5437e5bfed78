"""Turn CVAT's own xml (of images or of video, version 1.1) into a COCO json."""
import os.path as osp
from argparse import Namespace

from mmdet_ft.datasets.annotations.to_coco import ImageFolder, refuse_existing, write_coco
from mmdet_ft.datasets.detection.cvat import default_folder, read_cvat
from mmdet_ft.errors import DataError


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    refuse_existing(args.out, args.force, [args.source])
    folder = ImageFolder(args.img_dir or default_folder(args.source) or '.')
    images, labels = read_cvat(args.source, folder.root, folder, args.subset)
    print(
        write_coco(args.out, images, args.classes or labels or None, args.force, folder,
                   [args.source]))
