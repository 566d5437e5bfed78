"""Turn PASCAL VOC's xml files into a COCO json.

    %(prog)s data/VOCdevkit/VOC2007 --list ImageSets/Main/trainval.txt --out voc07.json

Boxes are those of VOCDataset (whole pixels from 0); difficult objects become iscrowd, which COCO's training and metric
ignore. Images lie under the folder given: that is img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('root', help='the folder that holds images and xml files')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--list', help='text file in root, a name a line; default: all xml files')
    parser.add_argument('--img-subdir', default='JPEGImages', help='folder of the images in root')
    parser.add_argument(
        '--ann-subdir', default='Annotations', help='folder of the xml files in root')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    shared.add_force(parser)
