"""Turn a COCO json into tasks of Label Studio, and a labeling config for them.

    %(prog)s data/pets/train.json --out data/pets/tasks.json \\
        --image-root /data/local-files/?d=pets/images/

Boxes become rectangles, single polygons polygons, and other masks brushes. Crowds are left out, as Label Studio has
none. The labeling config is written beside the tasks, with the ending .config.xml.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='the json')
    parser.add_argument('--out', required=True, help='the json of tasks to write')
    parser.add_argument(
        '--image-root', default='', help='what Label Studio needs before the names of the images')
    parser.add_argument(
        '--predictions', action='store_true', help='write predictions to correct, not annotations')
    shared.add_force(parser)
