"""List the images of a folder in a COCO json without annotations.

    %(prog)s data/photos data/classes.txt photos.json -e tif

writes data/annotations/photos.json, beside the folder of the images as MMDetection 2.x does. The second argument is a
text file with one class a line. `test --format-only` runs on such a file; `predict` needs none.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('img_path', help='folder of the images')
    parser.add_argument('classes', help='text file with one class a line')
    parser.add_argument(
        'out', help='name of the json; it goes to annotations/ beside the folder of the images')
    parser.add_argument(
        '-e', '--exclude-extensions', nargs='+', help='endings of files to leave out, such as png')
    shared.add_force(parser)
