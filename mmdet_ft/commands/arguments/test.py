"""Test a trained model: evaluate, write, format or draw its results."""
from argparse import SUPPRESS, ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared
from mmdet_ft.config.options import DictAction, add_options, take_older_options
from mmdet_ft.outputs import add_drawing_options

# Only wait_time is used; the others are MMClassification's, and the caption style here depends on the picture.
SHOW_OPTIONS = ('wait_time', 'text_color', 'font_scale', 'row_width', 'win_name', 'fig_size')
ITEMS = ('class_scores', 'pred_score', 'pred_label', 'pred_class', 'none', 'all')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint of the model in it')
    shared.add_evaluation(parser)
    add_options(parser, '--options', SUPPRESS)
    parser.add_argument(
        '--out', help='file for the results: .pkl, or .json for those of a classifier')
    parser.add_argument(
        '--out-items',
        nargs='+',
        default=['all'],
        choices=ITEMS,
        metavar='ITEM',
        help=f"which of a classifier's results: {' '.join(ITEMS)}")
    parser.add_argument('--work-dir', help='folder for a json file with the metrics')
    _add_pictures(parser)
    shared.add_processes(parser)
    parser.add_argument(
        '--gpu-collect',
        action='store_true',
        help='collect results of several processes over the network')
    parser.add_argument('--tmpdir', help='shared folder for collecting them otherwise')
    parser.add_argument(
        '--fuse-conv-bn',
        action='store_true',
        help='fold norm layers into convolutions: a little faster')


def _add_pictures(parser: ArgumentParser) -> None:
    parser.add_argument('--show', action='store_true', help='show the results in a window')
    parser.add_argument('--show-dir', help='folder for images with drawn results')
    parser.add_argument('--show-score-thr', type=float, default=0.3, help='minimum score to draw')
    add_drawing_options(parser)
    parser.add_argument(
        '--show-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='of --show: wait_time=SECONDS that a picture stays, 0 until a key is pressed')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse arguments that do not fit together; read older spellings."""
    take_older_options(parser, args, 'eval_options')
    require_use(parser, args)
    shared.check_evaluation(parser, args)
    if args.out and not args.out.endswith(('.pkl', '.pickle', '.json')):
        parser.error('--out must end in .pkl, .pickle or .json')
    unknown = sorted(set(args.show_options or {}) - set(SHOW_OPTIONS))
    if unknown:
        parser.error(f'--show-options {", ".join(unknown)}: there is {", ".join(SHOW_OPTIONS)}')
    shared.take_processes(args)


def require_use(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a test whose results go nowhere."""
    if not (args.out or args.eval or args.format_only or args.show or args.show_dir):
        parser.error(
            'nothing to do with the results: give --out, --eval, --format-only, --show or --show-dir'
        )
