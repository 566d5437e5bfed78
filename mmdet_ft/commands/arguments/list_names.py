"""List what can be named in a config and after a command, a line each.

    %(prog)s                        the kinds, and how many there are
    %(prog)s backbones              all types of a kind
    %(prog)s configs mask_rcnn 1x   shipped configs whose names contain these words
    %(prog)s '*FPN'                 everything of this name

Types are named by type='...' in a config, shipped configs by `train NAME` and by _base_ = 'mmdet_ft::NAME'.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'words',
        nargs='*',
        metavar='KIND | PATTERN',
        help='a kind, and words or patterns (* ?) that all are in a name; capitals do not matter')
