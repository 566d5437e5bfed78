"""Turn an export of Label Studio (JSON or JSON-MIN) into a COCO json."""
import os.path as osp
from argparse import Namespace

from mmdet_ft.datasets.annotations.to_coco import ImageFolder, refuse_existing, write_coco
from mmdet_ft.datasets.detection.label_studio import read_label_studio
from mmdet_ft.errors import DataError


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    refuse_existing(args.out, args.force, [args.source])
    folder = ImageFolder(args.img_dir or osp.dirname(args.source) or '.')
    images, notes = read_label_studio(args.source, folder.root, folder, args.image_key)
    print(write_coco(args.out, images, args.classes, args.force, folder, [args.source]))
    for note in notes:
        print(note)
