"""Draw curves of losses and metrics from logs, or time the iterations.

    %(prog)s plot_curve work_dirs/pets --keys loss bbox_mAP --out curves.png
    %(prog)s cal_train_time work_dirs/pets
"""
import re
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from typing import Tuple


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='draw losses and metrics')
    time = tasks.add_parser('cal_train_time', help='the time of an iteration, epoch by epoch')
    for task in (plot, time):
        task.add_argument(
            'json_logs',
            nargs='+',
            help='*.log.json, or work_dirs: their logs, resumed ones joined')
    plot.add_argument(
        '--keys',
        nargs='+',
        default=['bbox_mAP'],
        metavar='KEY',
        help='names in the log: loss, loss_cls, bbox_mAP')
    plot.add_argument('--title', help='title of the figure')
    plot.add_argument(
        '--legend', nargs='+', metavar='NAME', help='a name for each curve: log by log, key by key')
    plot.add_argument('--backend', help="matplotlib's backend")
    plot.add_argument('--style', default='dark', help="matplotlib's style")
    plot.add_argument('--out', help='file for the figure; a window is opened without')
    plot.add_argument(
        '--window-size', type=_sides, metavar='W*H', help='of the figure, in inches: 12*7')
    for name in ('--start-epoch', '--eval-interval'):  # of V2: each line of a log has its epoch
        plot.add_argument(name, help=SUPPRESS)
    time.add_argument(
        '--include-outliers', action='store_true', help="count the first line of each epoch too")


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a legend that does not fit the curves."""
    if args.task == 'plot_curve' and args.legend and len(
            args.legend) != len(args.keys) * len(args.json_logs):
        parser.error(f'--legend needs {len(args.keys) * len(args.json_logs)} names: '
                     f'{len(args.json_logs)} logs by {len(args.keys)} keys')


def _sides(text: str) -> Tuple[float, float]:
    match = re.fullmatch(r'(\d+(?:\.\d+)?)[*x,](\d+(?:\.\d+)?)', text)
    if match is None:
        raise ArgumentTypeError(f'width*height in inches, such as 12*7, not {text!r}')
    return float(match[1]), float(match[2])
