"""Print and draw the confusion matrix of results that `test --out` wrote."""
from argparse import ArgumentParser

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument('prediction_path', help='results of `test CONFIG CHECKPOINT --out`')
    parser.add_argument('save_dir', help='folder for confusion_matrix.png and .csv')
    parser.add_argument('--show', action='store_true', help='also show the picture in a window')
    parser.add_argument('--color-theme', default='plasma', help="matplotlib's name of the colors")
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='leave out detections that score less')
    parser.add_argument(
        '--tp-iou-thr',
        type=float,
        default=0.5,
        help='IoU threshold of a match with a ground truth')
    parser.add_argument(
        '--nms-iou-thr',
        type=float,
        help='IoU threshold of NMS per class before counting; none by default')
