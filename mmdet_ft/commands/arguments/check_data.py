"""Check the annotations and images of a config, and name each defect with its fix."""
import os
from argparse import ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared

SPLITS = ('train', 'val', 'test')
EPILOG = 'Exit code: 0 no defect; 1 defects; 2 the config cannot be read.'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument(
        '--splits',
        nargs='+',
        default=list(SPLITS),
        choices=SPLITS,
        metavar='SPLIT',
        help='train, val, test; all by default')
    parser.add_argument(
        '--no-images', action='store_true', help='read annotations only, open no image')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8,
                    os.cpu_count() or 1),
        help='processes that open images')
    parser.add_argument('--html', metavar='FILE', help='write a report with pictures')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a report of another kind."""
    if args.html and not args.html.lower().endswith(('.html', '.htm')):
        parser.error(f'--html {args.html}: the name of the report ends in .html')
