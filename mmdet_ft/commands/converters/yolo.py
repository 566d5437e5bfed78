"""Turn the text files of a YOLO dataset into a COCO json."""
import os.path as osp
from argparse import Namespace

from mmdet_ft.datasets.annotations.to_coco import ImageFolder, refuse_existing, write_coco
from mmdet_ft.datasets.detection.yolo import YoloReader, find_labels, images_of, open_source
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    opened = open_source(args.source, args.split, args.img_prefix, args.classes)
    images = images_of(opened.sources, opened.root)
    labels = [path for path in find_labels(images) if path is not None]
    refuse_existing(args.out, args.force, [args.source, *images, *labels])
    reader = YoloReader(opened.names, opened.num_keypoints)
    read = track(reader.read(images, opened.root), 'reading', len(images))
    folder = ImageFolder(opened.root or '.')
    print(
        write_coco(args.out, read, args.classes or opened.names, args.force, folder,
                   [args.source, *labels]))
    for note in reader.notes:
        print(note)
