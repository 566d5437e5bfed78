"""Turn annotations of VGG Image Annotator (VIA 1 and 2) into a COCO json."""
import os.path as osp
from argparse import Namespace

from mmdet_ft.datasets.annotations.to_coco import ImageFolder, refuse_existing, write_coco
from mmdet_ft.datasets.annotations.via import class_attribute, convert, read_via
from mmdet_ft.engine.reporting.progress import track


def main(args: Namespace) -> None:
    refuse_existing(args.out, args.force, [args.source])
    files = read_via(args.source)
    attribute = args.attribute or class_attribute(files, args.source)
    folder = ImageFolder(args.img_dir or osp.dirname(args.source) or '.')
    images = (
        image for item in track(files, 'reading', len(files))
        if (image := convert(item, folder, attribute, args.class_name, args.source)) is not None)
    print(write_coco(args.out, images, args.classes, args.force, folder, [args.source]))
