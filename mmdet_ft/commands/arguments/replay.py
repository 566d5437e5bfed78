"""Repeat the step in which a run has failed.

Batch, weights and random numbers are the same. Prints each loss then and now, or ends with the error again.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('failure', help='failure_<rank>.pt of a work_dir')
    parser.add_argument(
        '--checkpoint', metavar='FILE', help='weights to use instead of those before the step')
    parser.add_argument('--device', default='cpu', help="'cpu' (default), 'cuda', 'cuda:1'")
