"""Turn a folder of labelme's json files into a COCO json."""
import os.path as osp
from argparse import Namespace

from mmdet_ft.datasets.annotations.to_coco import ImageFolder, refuse_existing, write_coco
from mmdet_ft.datasets.detection.labelme import files_below, labelme_files, read_labelme
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def main(args: Namespace) -> None:
    if not osp.exists(args.source):
        raise DataError(f'there is no {args.source!r}')
    files = labelme_files(args.source)
    refuse_existing(args.out, args.force, [args.source, *files])
    folder = ImageFolder(args.source if osp.isdir(args.source) else osp.dirname(args.source) or '.')
    images = (
        image for path in track(files, 'reading', len(files))
        if (image := read_labelme(path, folder)) is not None)
    print(write_coco(args.out, images, args.classes, args.force, folder, files))
    others = files_below(args.source) if osp.isdir(args.source) else []
    if others and osp.dirname(files[0]) == osp.normpath(args.source):
        print(
            f'not read: {len(others)} json files in subfolders, such as {others[0]!r}; a text file as source can '
            f'list those of several folders')
