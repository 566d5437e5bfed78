"""Write a checkpoint of any kind under MMDetection 2's names.

    %(prog)s old.pth new.pth

MMDetection 1 to 3, MMClassification, torchvision and Detectron2 are recognized. Not needed before training
or testing, which convert what they read: for tools that expect V2's files.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('in_file', help='checkpoint to read: path, URL or torchvision://NAME')
    parser.add_argument('out_file', help='checkpoint to write')
    parser.add_argument(
        '--num-classes',
        type=int,
        help='classes of the old model, the background too; only checked, the file has it')
