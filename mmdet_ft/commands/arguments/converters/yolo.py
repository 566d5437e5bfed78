"""Turn the text files of a YOLO dataset into a COCO json.

    %(prog)s data/pets/data.yaml --split train --out data/pets/train.json
    %(prog)s data/pets/images/val --classes cat dog --out data/pets/val.json

Boxes and outlines become objects; an image without a label file, or with an empty one, has none. Images are below the
folder of data.yaml, or the folder given: that is img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'source', help='data.yaml, a folder of images, or a text file that lists images')
    parser.add_argument(
        '--split', default='train', help='of data.yaml: train (default), val or test')
    parser.add_argument(
        '--img-prefix', help='folder that the paths of data.yaml or of a list start from')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument(
        '--classes', nargs='+', help='names of the numbers 0, 1, ...; default: those of data.yaml')
    shared.add_force(parser)
