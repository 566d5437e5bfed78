"""Turn WIDER FACE's lists into a COCO json, or into xml files.

    %(prog)s data/WIDERFace/wider_face_split/wider_face_val_bbx_gt.txt \\
        data/WIDERFace/WIDER_val/images --out data/WIDERFace/val.json
    %(prog)s data/WIDERFace/wider_face_split/wider_face_val_bbx_gt.txt \\
        data/WIDERFace/WIDER_val/images --out data/WIDERFace/val.txt --voc data/WIDERFace/WIDER_val

Faces marked as invalid become iscrowd, or difficult: neither right nor wrong to find. With --voc the xml files go to
Annotations/ of that folder, the img_prefix of WIDERFaceDataset, and --out is the list of names.
"""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('list', help='wider_face_*_bbx_gt.txt')
    parser.add_argument('images', help='folder of the images, with one folder an event')
    parser.add_argument(
        '--out', required=True, help='the json to write; with --voc the list of names')
    parser.add_argument('--voc', help='write xml files to Annotations/ of this folder instead')
    shared.add_force(parser)
