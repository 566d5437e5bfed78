"""Turn a COCO json into CVAT's own xml ('CVAT for images 1.1'), which CVAT imports.

    %(prog)s data/pets/train.json --out data/pets/annotations.xml

Boxes, polygons and masks are written as such; the parts of an object share a group_id. Crowds get the attribute
is_crowd. Values that CVAT has written into "attributes" of a COCO json are kept.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='the json')
    parser.add_argument('--out', required=True, help='the xml to write')
    parser.add_argument('--subset', help='subset of the images, such as Train')
    shared.add_force(parser)
