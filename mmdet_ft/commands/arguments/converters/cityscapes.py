"""Turn Cityscapes' folders into the files that CityscapesDataset reads.

    %(prog)s data/cityscapes --nproc 8 --out-dir data/cityscapes/annotations

reads leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_instanceIds.png (and names
*_labelIds.png as segmentation maps) and writes instancesonly_filtered_gtFine_<split>.json.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('cityscapes_path', help='the folder with leftImg8bit and gtFine')
    parser.add_argument('--img-dir', default='leftImg8bit', help='folder of the images in it')
    parser.add_argument('--gt-dir', default='gtFine', help='folder of the truth in it')
    parser.add_argument('-o', '--out-dir', help='where to write; default: the data folder itself')
    parser.add_argument('--nproc', default=1, type=int, help='number of processes')
    shared.add_force(parser)
