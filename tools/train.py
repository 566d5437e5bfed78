"""Command to train a detector from a config."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))  # the package beside this folder
# libgomp reads it when torch starts its threads: waiting threads release their core soon. On shared cores, steps took
# up to eight times longer without it.
os.environ.setdefault('GOMP_SPINCOUNT', '2000')

from mmdet_ft.config import Config, load_config  # noqa: E402
from mmdet_ft.config.options import add_options, take_older_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import UsageError  # noqa: E402

EXIT_CODES = (
    'Exit code: 0 trained to the end; 1 an error (with --dry-run: any failure); 2 a mistake in the config or '
    'on the command line, seen before data and weights are read; '
    '75 stopped by SIGTERM, SIGUSR1 or Ctrl-C and saved, --auto-resume continues (a second Ctrl-C leaves at once).'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a detector or a classifier', epilog=EXIT_CODES)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; work_dirs/<config name> by default')
    parser.add_argument('--resume-from', help='checkpoint of a run to continue')
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
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument('--gpus', type=int, help='older spelling: a run of one process uses one GPU')
    gpus.add_argument(
        '--gpu-ids', type=int, nargs='+', help='older spelling of --gpu-id: the first counts')
    gpus.add_argument('--gpu-id', type=int, default=0, help='GPU of a run of one process')
    parser.add_argument('--device', help='cpu, cuda or cuda:1; the first GPU by default')
    parser.add_argument(
        '--seed', type=int, help='random seed; a resumed run keeps its own; else random')
    parser.add_argument('--diff-seed', action='store_true', help='another seed for each process')
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='reproducible forms of operations, where there are')
    add_options(parser, '--options', 'older spelling of --cfg-options')
    add_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started; none: one process')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by older launchers')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    take_older_options(parser, args, 'cfg_options')
    if args.gpus is not None or args.gpu_ids is not None:
        args.gpu_id = args.gpu_ids[0] if args.gpu_ids else 0
        print(
            f'--gpus and --gpu-ids are now --gpu-id: GPU {args.gpu_id} is used; for several, tools/dist_train.sh',
            file=sys.stderr)
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.engine.build import train  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.distributed.dist import init_dist, require_alone, shutdown  # noqa: E402
from mmdet_ft.engine.dry_run import dry_run  # noqa: E402
from mmdet_ft.engine.speed.devices import take_device_option  # noqa: E402


def read_config(args: argparse.Namespace) -> Config:
    """Load the config, and override it by the command line."""
    cfg = load_config(args.config, args.cfg_options)
    if args.work_dir is not None:
        cfg.override('work_dir', args.work_dir, '--work-dir')
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    if args.resume_from is not None:
        cfg.override('resume_from', args.resume_from, '--resume-from')
    cfg.auto_resume = args.auto_resume
    if args.auto_scale_lr:
        if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
            raise UsageError('--auto-scale-lr needs to know what optimizer.lr is meant for: write '
                             'auto_scale_lr = dict(enable=True, base_batch_size=16) in the config')
        cfg.override('auto_scale_lr', dict(cfg.auto_scale_lr, enable=True), '--auto-scale-lr')
    return cfg


@command
def main() -> None:
    args = ARGS or parse_args()
    gpu_id = take_device_option(args.device)
    args.gpu_id = args.gpu_id if gpu_id is None else gpu_id
    cfg = read_config(args)
    if args.dry_run:
        if args.launcher != 'none':
            raise UsageError('--dry-run is for one process: leave --launcher out')
        return dry_run(cfg, validate=not args.no_validate, seed=args.seed or 0, gpu_id=args.gpu_id)
    # Check the config before processes connect and data is read; train() repeats this and logs the notes.
    prepare(cfg)
    if args.launcher != 'none':
        init_dist(args.launcher, **cfg.get('dist_params', {}))
    else:
        require_alone()
    train(
        cfg,
        validate=not args.no_validate,
        seed=args.seed,
        diff_seed=args.diff_seed,
        deterministic=args.deterministic,
        gpu_id=args.gpu_id)
    shutdown()


if __name__ == '__main__':
    main()
