"""Show the samples of data.train as the network sees them, after their pipeline."""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared
from mmdet_ft.outputs import add_drawing_options


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument(
        '--skip-type',
        nargs='+',
        default=[],
        help='types of transforms to leave out; none by default: the sample is as it is trained on')
    parser.add_argument('--output-dir', help='folder for the pictures')
    parser.add_argument('--not-show', action='store_true', help='open no window')
    parser.add_argument(
        '--show-interval',
        type=float,
        default=2,
        help='seconds that a picture is shown; 0 waits for a key')
    parser.add_argument('--number', type=int, help='end after so many samples')
    add_drawing_options(parser)
    parser.add_argument('--seed', type=int, default=0, help='of the random transforms')
