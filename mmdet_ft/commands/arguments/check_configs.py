"""Check all configs of a folder: which run, and what the others name.

Nothing is trained and no data are read. Folders `_base_` and files without a model are left out: they are parts of
configs.
"""
from argparse import ArgumentParser

EPILOG = 'Exit code: 0 if every config is right or only names types that are not supported, else 1.'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('folder', help='folder of .py configs, such as configs/ of MMDetection')
    parser.add_argument('--list', action='store_true', help='print every config with its answer')
