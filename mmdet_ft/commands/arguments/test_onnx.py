"""Test an ONNX file: write, evaluate, format or draw its results.

    %(prog)s config.py pets.onnx --eval bbox segm
"""
from argparse import ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared
from mmdet_ft.commands.arguments.test import require_use


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser, 'config file, whose data.test is run')
    parser.add_argument('model', help='the exported file')
    shared.add_evaluation(parser)
    parser.add_argument('--out', help='file for the results: .pkl')
    parser.add_argument('--show-dir', help='folder for images with drawn results')
    parser.add_argument('--show', action='store_true', help='show the results in a window')
    parser.add_argument('--show-score-thr', type=float, default=0.3, help='minimum score to draw')
    parser.add_argument(
        '--backend', choices=['onnxruntime'], default='onnxruntime', help='what runs the file')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of one size')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse arguments that do not fit together."""
    require_use(parser, args)
    shared.check_evaluation(parser, args)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end in .pkl or .pickle')
    if args.batch_size < 1:
        parser.error('--batch-size is at least 1')
