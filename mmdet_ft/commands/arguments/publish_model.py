"""Strip a checkpoint of what only resuming needs, and add its hash to its name.

    %(prog)s work_dirs/my/epoch_12.pth my_model.pth

writes my_model-<first 8 digits of its sha256>.pth, which a download is checked against.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('in_file', help='checkpoint to read: path or URL')
    parser.add_argument('out_file', help='checkpoint to write; the hash is added to its name')
    parser.add_argument(
        '--trust',
        action='store_true',
        help='build the objects in in_file, which may run any code that its author chose; the file '
        'that is written holds none')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='other names for the classes, in the order of the checkpoint')
