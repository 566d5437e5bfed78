"""Train a detector or a classifier."""
import os
from argparse import Namespace

import torch

from mmdet_ft.config.config import Config
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.build import train
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.distributed.dist import init_dist, require_alone, shutdown
from mmdet_ft.engine.dry_run import dry_run
from mmdet_ft.errors import UsageError
from mmdet_ft.folders.choosing import Machine
from mmdet_ft.folders.run import write_config
from mmdet_ft.offline import forbid_downloads, is_offline


def read_config(args: Namespace) -> Config:
    """Load the config, and override it by the command line."""
    cfg = load_config(args.config, args.cfg_options)
    if args.work_dir is not None:
        cfg.override('work_dir', args.work_dir, '--work-dir')
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    if args.resume_from is not None:
        cfg.override('resume_from', args.resume_from, '--resume-from')
    if args.auto_resume:
        cfg.override('auto_resume', True, '--auto-resume')
    if args.auto_scale_lr:
        if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
            raise UsageError('--auto-scale-lr needs to know what optimizer.lr is meant for: write '
                             'auto_scale_lr = dict(enable=True, base_batch_size=16) in the config')
        cfg.override('auto_scale_lr', dict(cfg.auto_scale_lr, enable=True), '--auto-scale-lr')
    return cfg


def config_of_folder(args: Namespace) -> str:
    """Write the config of the folder of data into the work_dir, print what was found, and return its path."""
    name = os.path.basename(os.path.abspath(args.data))
    args.work_dir = args.work_dir or os.path.join('work_dirs', os.path.splitext(name)[0])
    machine = Machine(has_gpu=torch.cuda.is_available(), is_offline=is_offline())
    prepared = write_config(args.data, args.work_dir, machine, args.data_format, args.seed or 0)
    if int(os.environ.get('RANK', 0)) == 0:
        print('\n'.join(prepared.lines), flush=True)
    return prepared.path


def main(args: Namespace) -> None:
    if args.offline:
        forbid_downloads()
    if args.data is not None:
        args.config = config_of_folder(args)
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
