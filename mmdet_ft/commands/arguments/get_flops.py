"""Count the multiply-additions and weights of a model, part by part.

Counted are convolutions and matrix products of a test: a detector's heads run on as many proposals as its test_cfg
lets through. As in MMDetection, one multiplication with its addition is one operation.
"""
from argparse import ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='height and width, or one side of a square; 1280 800, for a classifier 224 by default')
    parser.add_argument(
        '--size-divisor',
        type=int,
        default=32,
        help='round both sides up to a multiple; -1: do not')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse more than two sides."""
    if args.shape and len(args.shape) > 2:
        parser.error('--shape takes one or two numbers')
