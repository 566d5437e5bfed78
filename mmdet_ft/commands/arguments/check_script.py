"""List what a Python script takes from V2's packages, and what to write instead.

The script is read, not run.
"""
from argparse import ArgumentParser

EPILOG = 'Exit code: 0 where there is nothing to change, else 1.'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('scripts', nargs='+', help='.py files')
