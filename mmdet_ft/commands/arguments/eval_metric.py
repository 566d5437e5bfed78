"""Evaluate or format results that `test --out` wrote, without running the model."""
from argparse import ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument(
        'pkl_results', help='results of `test CONFIG CHECKPOINT --out`; .json of a classifier')
    shared.add_evaluation(parser)


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a command without a task, or with two."""
    shared.check_evaluation(parser, args)
    if not args.eval and not args.format_only:
        parser.error('give --eval METRIC ... or --format-only')
