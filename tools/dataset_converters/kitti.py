"""Turn KITTI's label files into a COCO json.

    python tools/dataset_converters/kitti.py data/kitti/training --out data/kitti/train.json \\
        --classes Car Pedestrian Cyclist

DontCare regions become an iscrowd annotation of each class, which COCO's training and metric ignore. Images lie under
the folder given: that is img_prefix.
"""
import argparse
import os.path as osp
import sys
from typing import Optional, Sequence

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import DataError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

import numpy as np  # noqa: E402

from mmdet_ft.datasets.annotations.to_coco import ImageFolder  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import ImageObjects  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import folder_of_images  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import listed_or_all  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import refuse_existing  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import write_coco  # noqa: E402
from mmdet_ft.datasets.detection.kitti import image_name, read_kitti_label  # noqa: E402
from mmdet_ft.datasets.images.names import plain_name_hint  # noqa: E402
from mmdet_ft.datasets.images.names import find_on_disk, nearest_name  # noqa: E402
from mmdet_ft.engine.reporting.progress import track  # noqa: E402
from mmdet_ft.evaluation.kitti import DONT_CARE  # noqa: E402


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


@command
def main() -> None:
    args = ARGS or parse_args()
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


if __name__ == '__main__':
    main()
