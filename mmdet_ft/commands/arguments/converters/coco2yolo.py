"""Turn COCO jsons into a YOLO dataset: images, labels and data.yaml.

    %(prog)s --split train data/train.json data/train \\
        --split val data/val.json data/val --out data/yolo

Objects are written as outlines where all have polygons or masks, and otherwise as boxes. Crowds are left out, as YOLO
has none. Images are copied, or with --link linked.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        '--split',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'JSON', 'IMAGES'),
        help='train, val or test, its json, and the folder of its images; once for each')
    parser.add_argument('--out', required=True, help='the folder to write')
    parser.add_argument('--boxes', action='store_true', help='write boxes, not outlines')
    parser.add_argument(
        '--link', action='store_true', help='link the images instead of copying them')
