"""Turn CVAT's own xml (of images or of video, version 1.1) into a COCO json.

    %(prog)s data/pets/annotations.xml --out data/pets/all.json

Boxes, polygons, masks and ellipses become objects; those with an attribute is_crowd, ignore or difficult of true become
iscrowd. Images are in `images` beside the file, beside it, or in --img-dir: that is img_prefix. Of a video the frames
have to be there as images.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='annotations.xml')
    parser.add_argument(
        '--img-dir', help='folder of the images; default: images beside the source, or its own')
    parser.add_argument(
        '--subset', help='only the images of this subset of a project, such as Train')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument(
        '--classes', nargs='+', help='names in order; default: the labels that the file lists')
    shared.add_force(parser)
