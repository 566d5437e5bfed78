"""Turn a folder of labelme's json files into a COCO json.

    %(prog)s data/pets/train --out data/pets/train.json --classes cat dog

LabelmeDataset reads such a folder as it is; the json starts faster, and other tools know it. Images lie where the files
say, relative to the folder given: that is img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='folder of json files, or a text file that lists some')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    shared.add_force(parser)
