"""Run a trained detector or classifier over images.

    %(prog)s work_dirs/mask_rcnn_ft/latest.pth photos/ more/*.jpg --out predictions

draws the predictions into --out and writes predictions.json there, in COCO's format with file names, class
names, boxes, scores and masks as RLE; category_id is the label plus 1. The checkpoint contains its config and
classes; nothing else is needed.
With a classifier, each image gets its best class, and `scores` of all classes.
"""
from argparse import ArgumentParser, Namespace

from mmdet_ft.config.options import add_options
from mmdet_ft.outputs import add_drawing_options


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('checkpoint', help='checkpoint of a training run (path or URL)')
    parser.add_argument(
        'images',
        nargs='+',
        help='image files, folders (searched to the bottom) and patterns such as "photos/*.jpg"')
    parser.add_argument('--out', required=True, help='folder for the pictures and predictions.json')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='minimum score, 0 to 1 (default 0.3)')
    parser.add_argument(
        '--device',
        default='cuda:0',
        help='cpu, cuda:1 ...; the first GPU by default, the CPU where there is none')
    parser.add_argument(
        '--config', help='config, where the checkpoint does not carry the right one')
    add_options(parser)
    parser.add_argument(
        '--json', metavar='FILE', help='file for the results instead of OUT/predictions.json')
    add_drawing_options(parser)
    parser.add_argument('--no-pictures', action='store_true', help='write the results only')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse numbers outside their ranges."""
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr is between 0 and 1, not {args.score_thr}')
    if args.batch_size < 1:
        parser.error(f'--batch-size is at least 1, not {args.batch_size}')
