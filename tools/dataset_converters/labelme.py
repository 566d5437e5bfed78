"""Turn a folder of labelme's json files into a COCO json.

    python tools/dataset_converters/labelme.py data/pets/train --out data/pets/train.json --classes cat dog

LabelmeDataset reads such a folder as it is; the json starts faster, and other tools know it. Images lie where the files
say, relative to the folder given: that is img_prefix.
"""
import argparse
import os.path as osp
import sys

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import DataError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='folder of json files, or a text file that lists some')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.datasets.annotations.to_coco import refuse_existing  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, write_coco
from mmdet_ft.datasets.detection.labelme import labelme_files  # noqa: E402
from mmdet_ft.datasets.detection.labelme import files_below, read_labelme
from mmdet_ft.engine.reporting.progress import track  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
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


if __name__ == '__main__':
    main()
