"""Turn a folder of labelme's json files into a COCO json.

    python tools/dataset_converters/labelme.py data/pets/train --out data/pets/train.json --classes cat dog

LabelmeDataset reads such a folder as it is; the json starts faster, and other tools know it. Images lie where the files
say, relative to the folder given: that is img_prefix.
"""
import argparse
import os.path as osp
import sys

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.datasets.labelme import labelme_files, read_labelme  # noqa: E402
from mmdet_ft.datasets.to_coco import refuse_existing, write_coco  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.engine.progress import track  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='labelme to COCO json')
    parser.add_argument('source', help='folder of json files, or a text file that lists some')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    refuse_existing(args.out, args.force)
    files = labelme_files(args.source)
    images = map(read_labelme, files)
    print(write_coco(args.out, track(images, 'reading', len(files)), args.classes, args.force))


if __name__ == '__main__':
    main()
