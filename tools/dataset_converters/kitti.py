"""Turn KITTI's label files into a COCO json.

    python tools/dataset_converters/kitti.py data/kitti/training --out data/kitti/train.json \
        --classes Car Pedestrian Cyclist

DontCare regions become an iscrowd annotation of each class, which COCO's training and metric ignore. Images lie under
the folder given: that is img_prefix.
"""
import argparse
import glob
import os.path as osp
import sys
from typing import Optional, Sequence

import numpy as np

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.datasets.errors import DataError  # noqa: E402
from mmdet_ft.datasets.kitti import image_name, image_size, read_kitti_label  # noqa: E402
from mmdet_ft.datasets.names import read_ids  # noqa: E402
from mmdet_ft.datasets.to_coco import ImageObjects, refuse_existing, write_coco  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.engine.progress import track  # noqa: E402
from mmdet_ft.evaluation.kitti import DONT_CARE  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='KITTI label_2 to COCO json')
    parser.add_argument('root', help='the folder that holds images and labels: training')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--list', help='text file with a name a line; default: all label files')
    parser.add_argument('--img-subdir', default='image_2', help='folder of the images in root')
    parser.add_argument('--ann-subdir', default='label_2', help='folder of the labels in root')
    parser.add_argument(
        '--classes',
        nargs='+',
        default=['Car', 'Pedestrian', 'Cyclist'],
        help='names in order; others are left out')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


def read(root: str, img_subdir: str, ann_subdir: str, name: str,
         classes: Sequence[str]) -> ImageObjects:
    objects = read_kitti_label(osp.join(root, ann_subdir, f'{name}.txt'))
    folder = osp.join(root, img_subdir)
    file_name = image_name(folder, name)
    width, height = image_size(osp.join(folder, file_name))
    free = objects.names == DONT_CARE
    regions = np.tile(objects.boxes[free], (len(classes), 1))
    return ImageObjects(
        osp.join(img_subdir, file_name),
        width,
        height,
        names=objects.names[~free].tolist() + np.repeat(classes, free.sum()).tolist(),
        boxes=np.concatenate([objects.boxes[~free], regions]),
        crowd=np.arange(len(objects.boxes) - free.sum() + len(regions)) >= (~free).sum())


@command
def main() -> None:
    args = parse_args()
    refuse_existing(args.out, args.force)
    names = names_of(osp.join(args.root, args.ann_subdir), args.list)
    images = (
        read(args.root, args.img_subdir, args.ann_subdir, name, args.classes) for name in names)
    print(write_coco(args.out, track(images, 'reading', len(names)), args.classes, args.force))


def names_of(folder: str, listed: Optional[str]) -> Sequence[str]:
    if listed:
        return read_ids(listed)
    files = glob.glob(osp.join(glob.escape(folder), '*.txt'))
    if not files:
        raise DataError(f'there is no label file in {folder}')
    return sorted(osp.splitext(osp.basename(path))[0] for path in files)


if __name__ == '__main__':
    main()
