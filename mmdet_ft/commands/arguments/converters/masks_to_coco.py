"""Turn images and masks in PNG files into a COCO json.

    %(prog)s data/nuclei --out data/nuclei.json --class-name nucleus

A mask file holds one object, or all of an image. Known layouts, recognized by themselves:

    ROOT/NAME/images/NAME.png, ROOT/NAME/masks/*.png    a folder an image, a file an object
    ROOT/images/NAME.jpg, ROOT/masks/NAME/*.png         a folder of masks an image
    ROOT/images/NAME.jpg, ROOT/masks/NAME_*.png         mask files that begin with the image's name
    ROOT/images/NAME.jpg, ROOT/masks/NAME.png           one file an image: its values are the objects

Images and masks of the last three may lie anywhere: give the folder of the images, and --masks. In a file for all
objects of an image each value but 0 is an object. With --classes cat=1 dog=2 values are classes, and each connected
region is an object; so it is where all masks have one and the same value.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared

DEFAULT_CLASS = 'object'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('root', help='folder of the images, or of both; it is img_prefix')
    parser.add_argument('--masks', help='folder of the masks, where it is not found by itself')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--class-name', default=DEFAULT_CLASS, help='the class of all objects')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME=VALUE',
        help='values of the masks are classes; each connected region is an object')
    parser.add_argument(
        '--polygons',
        action='store_true',
        help='write outlines instead of run lengths; holes are filled')
    shared.add_force(parser)
