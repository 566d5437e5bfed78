"""Turn an export of Label Studio (JSON or JSON-MIN) into a COCO json.

    %(prog)s data/pets/export.json --img-dir data/pets/images \\
        --out data/pets/all.json

Rectangles, polygons, ellipses and brushes become objects. Predictions, cancelled annotations and tasks without
annotations are left out. Of several annotations of a task the one marked as ground truth is taken, or the newest.
Images are beside the file, or in --img-dir: that is img_prefix.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='the json')
    parser.add_argument('--img-dir', help='folder of the images; default: that of the source')
    parser.add_argument(
        '--image-key', help='key of a task that has the image; default: the only one')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    shared.add_force(parser)
