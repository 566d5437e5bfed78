"""Turn KITTI's label files into a COCO json.

    %(prog)s data/kitti/training --out data/kitti/train.json \\
        --classes Car Pedestrian Cyclist

DontCare regions become an iscrowd annotation of each class, which COCO's training and metric ignore. Images lie under
the folder given: that is img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
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
    shared.add_force(parser)
