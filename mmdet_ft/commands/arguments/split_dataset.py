"""Split a COCO json, or a folder of class folders, into train and val.

    %(prog)s data/pets/all.json --val 0.2
    %(prog)s data/pets/all.json --folds 5 --img-prefix data/pets/images
    %(prog)s data/flowers --val 0.2 --group-by '(\\w+)_\\d+'

Classes have the same share in every part, as far as whole images allow it. Images of equal content stay together, as
do those of which --group-by, a regular expression, finds the same in their names (its groups, or all that it matches):
frames of one film, slices of one patient. A json keeps all its keys, and its categories whole: NAME_train.json and
NAME_val.json, or NAME_fold0_train.json and so on. For class folders label files are written, and classes.txt.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='a COCO json, or the folder of class folders')
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument('--val', type=float, help='share of the images for val; default: 0.2')
    parts.add_argument('--folds', type=int, help='so many times another part is val')
    parser.add_argument('--seed', type=int, default=0, help='another one gives another split')
    parser.add_argument('--group-by', metavar='PATTERN', help='regular expression on image names')
    parser.add_argument('--img-prefix', metavar='DIR', help='folder of the images of a json')
    parser.add_argument('--out-dir', help='folder to write to; default: that of the source')
    shared.add_force(parser)
