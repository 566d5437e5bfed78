"""Report what a checkpoint holds, and what training from it would load.

    %(prog)s maskrcnn_resnet50_fpn_coco.pth
    %(prog)s coco.pth configs/cityscapes/mask_rcnn_ft.py
"""
from argparse import ArgumentParser, Namespace

from mmdet_ft.config.options import add_options


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('checkpoint', help='path, URL or torchvision://NAME')
    parser.add_argument(
        'config', nargs='?', help='config of the model that it would be loaded into')
    add_options(parser)
    parser.add_argument('--names', action='store_true', help='list every weight with its shape')
    parser.add_argument('--json', metavar='FILE', help='write the report with the config as json')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a report of loading without a model."""
    if args.json and not args.config:
        parser.error('--json is the report of loading into a model: give a config')
