"""Train a detector or a classifier."""
from argparse import SUPPRESS, ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared
from mmdet_ft.config.options import add_options, take_older_options

EPILOG = """Exit code: 0 trained to the end; 1 an error (with --dry-run: any failure); 2 a mistake in the config or on
the command line, seen before data and weights are read; 75 stopped by SIGTERM, SIGUSR1 or Ctrl-C and saved,
--auto-resume continues (a second Ctrl-C leaves at once)."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', nargs='?', help=shared.CONFIG)
    add_options(parser)
    add_options(parser, '--options', SUPPRESS)
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='instead of a config: a folder of images and annotations, whose config is written')
    parser.add_argument(
        '--data-format', metavar='NAME', help='format of the folder, where it has several')
    parser.add_argument(
        '--offline',
        action='store_true',
        help='download nothing; with --data: choose weights that are on this machine')
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; work_dirs/<config name> by default')
    parser.add_argument('--resume-from', metavar='FILE', help='checkpoint of a run to continue')
    parser.add_argument(
        '--auto-resume',
        action='store_true',
        help='continue from the newest readable checkpoint of the work_dir')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='try two steps, two validation images and a checkpoint, and leave nothing')
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument(
        '--seed', type=int, help='random seed; a resumed run keeps its own; else random')
    parser.add_argument('--diff-seed', action='store_true', help='another seed for each process')
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='reproducible forms of operations, where there are')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')
    shared.add_processes(parser)


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse a config beside a folder of data, and read the older spellings of arguments."""
    if (args.config is None) == (args.data is None):
        parser.error('name a config, or a folder with --data')
    if args.data is None and args.data_format:
        parser.error('--data-format is for --data')
    take_older_options(parser, args, 'cfg_options')
    shared.take_processes(args)
