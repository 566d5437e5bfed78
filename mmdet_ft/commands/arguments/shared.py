"""Arguments that several commands have."""
import argparse
import os
import sys
from argparse import ArgumentParser, Namespace

from mmdet_ft.config.options import DictAction, add_options
from mmdet_ft.engine.speed.device_option import take_device_option

CONFIG = 'config file, or the name of a shipped one'
DEVICE = 'cpu, cuda or cuda:1; the first GPU by default'
METRICS = 'metrics of the dataset: bbox segm, mAP, accuracy f1_score (classifiers), ...'
FORMAT_ONLY = 'write the results as a test server wants them'


def add_config(parser: ArgumentParser, help: str = CONFIG) -> None:
    """Add the config, and the options over its values."""
    parser.add_argument('config', help=help)
    add_options(parser)


def add_processes(parser: ArgumentParser) -> None:
    """Add the GPU of a run of one process, and how several processes were started."""
    parser.add_argument('--device', help=DEVICE)
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument('--gpus', type=int, help=argparse.SUPPRESS)  # V2's older spellings
    gpus.add_argument('--gpu-ids', type=int, nargs='+', help=argparse.SUPPRESS)
    gpus.add_argument('--gpu-id', type=int, default=0, help='GPU of a run of one process')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started; none: one process')
    parser.add_argument(  # set by older launchers
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS)


def take_processes(args: Namespace) -> None:
    """Read `--device`, the older spellings of `--gpu-id`, and the rank that older launchers give."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.gpus is not None or args.gpu_ids is not None:
        args.gpu_id = args.gpu_ids[0] if args.gpu_ids else 0
        print(
            f'--gpus and --gpu-ids are now --gpu-id: GPU {args.gpu_id} is used; '
            f'for several, tools/dist_train.sh or torchrun',
            file=sys.stderr)
    gpu_id = take_device_option(args.device)
    args.gpu_id = args.gpu_id if gpu_id is None else gpu_id


def add_evaluation(parser: ArgumentParser) -> None:
    """Add what to do with the results of a dataset."""
    parser.add_argument('--eval', '--metrics', nargs='+', metavar='METRIC', help=METRICS)
    parser.add_argument('--format-only', action='store_true', help=FORMAT_ONLY)
    add_options(parser, '--eval-options', 'arguments of evaluate or format_results')
    parser.add_argument(
        '--metric-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help="of a classifier's metrics: topk=1,5 thrs=0.5 average_mode=none")


def check_evaluation(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse metrics in two arguments, and evaluation with formatting."""
    if args.eval and 'metric' in (args.eval_options or {}):
        parser.error('--eval-options metric: the metrics are those after --eval')
    if args.eval and args.format_only:
        parser.error('--eval and --format-only exclude each other')


def add_force(parser: ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument('--force', action='store_true', help='replace existing files')
