"""Print a config as the commands see it, or which line sets a value.

Bases are merged, references replaced, and options are on top.
"""
from argparse import SUPPRESS, ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared
from mmdet_ft.config.options import add_options, take_older_options


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    add_options(parser, '--options', SUPPRESS)
    parser.add_argument(
        '--explain',
        nargs='+',
        metavar='KEY',
        help='print which file and line set a value: model.backbone.depth')
    parser.add_argument(
        '--origins',
        action='store_true',
        help='print each value with the file and line that set it')
    parser.add_argument(
        '--save-path', metavar='FILE', help='write it too, as .py, .json, .yaml or .yml')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Read the older spelling of `--cfg-options`."""
    take_older_options(parser, args, 'cfg_options')
