"""Turn annotations of VGG Image Annotator (VIA 1 and 2) into a COCO json.

    %(prog)s data/balloon/train/via_region_data.json --out data/balloon/train.json

Rectangles, circles, ellipses and polygons become objects. Images lie beside the file, or in --img-dir: that is
img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='json of VIA: a project, or exported annotations')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--img-dir', help='folder of the images; default: that of the source')
    parser.add_argument(
        '--attribute', help='region attribute that holds the class; default: the only one')
    parser.add_argument(
        '--class-name', help='the class of all regions, where they have no attribute')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    shared.add_force(parser)
