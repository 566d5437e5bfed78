"""Environment of a run before its models: process settings, a work_dir with a log, a device."""
import logging
import os
import platform
import re
import shlex
from typing import Any, Dict, Mapping, Optional, Tuple

import torch

from mmdet_ft import __version__
from mmdet_ft.checkpoints import reading
from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.config import Config
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.log import FILE_ONLY, collect_env, get_root_logger, time_string
from mmdet_ft.engine.runner.seeds import require_seed
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.records import ProcessSettings
from mmdet_ft.errors import UsageError
from mmdet_ft.outputs import Inputs
from mmdet_ft.processes import keep_freed_memory_of_steps

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def set_up_processes(settings: ProcessSettings) -> None:
    """Set the start method of loader processes, and limit their threads."""
    import cv2
    cv2.setNumThreads(settings.opencv_num_threads)
    if platform.system() != 'Windows' and settings.mp_start_method:
        torch.multiprocessing.set_start_method(settings.mp_start_method, force=True)
    if settings.cudnn_benchmark:
        torch.backends.cudnn.benchmark = True


# Folders that runs of this process write to -> their descriptors, which hold the locks.
_claims: Dict[str, int] = {}


def _leave_claims_to_parent() -> None:
    """Close the locks in a forked loader process: they must end with the run, not with its last worker."""
    for folder in _claims.values():
        os.close(folder)
    _claims.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_leave_claims_to_parent)


def claim(work_dir: str) -> bool:
    """Lock a work_dir against runs of other processes until `release`, or until this process ends
    in any way.

    Returns whether no other run uses it. If folders cannot be locked (Windows, some network file
    systems) the answer is always True.
    """
    path = os.path.realpath(work_dir)
    if fcntl is None or path in _claims:
        return True
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        return not isinstance(error, BlockingIOError)
    _claims[path] = folder
    return True


def release(work_dir: str) -> None:
    """Release the lock of a work_dir."""
    folder = _claims.pop(os.path.realpath(work_dir), None)
    if folder is not None:
        os.close(folder)


def _require_sole_use(work_dir: str) -> None:
    """Refuse a work_dir that another run writes to: each would overwrite the other's checkpoints.

    With several processes it only warns: the lock of a crashed machine may persist for a minute.
    """
    if claim(work_dir):
        return
    message = (
        f'another run is writing to {work_dir} at this moment, and each would write over the checkpoints of the '
        f'other; give this one a --work-dir of its own')
    if not dist.is_distributed():
        raise UserError(f'{message}, or stop the other one first')
    get_root_logger().warning(message)


def open_log(cfg: Config) -> Tuple[logging.Logger, str, Dict[str, Any]]:
    """Create the work_dir with the final config; returns the logger, the run's timestamp and V2's `meta`."""
    rank, world_size = dist.get_dist_info()
    name = os.path.basename(cfg.filename or 'config.py')
    timestamp = dist.broadcast_object(time_string())
    if Inputs(layer.path for layer in cfg.layers).find_same(os.path.join(cfg.work_dir, name)):
        stem, ending = os.path.splitext(name)  # a config in its own work_dir is not overwritten
        name = f'{stem}_{timestamp}{ending}'
    try:
        os.makedirs(cfg.work_dir, exist_ok=True)
        if rank == 0:
            _require_sole_use(cfg.work_dir)
        logger = get_root_logger(
            os.path.join(cfg.work_dir, f'{timestamp}.log'), cfg.get('log_level', 'INFO'))
        if rank == 0:
            cfg.dump(os.path.join(cfg.work_dir, name))
    except OSError as error:
        raise UserError(f'cannot write to work_dir {cfg.work_dir!r}: {error.strerror or error} '
                        f'({error.filename}); name another with --work-dir') from None
    env_info = '\n'.join(f'{key}: {value}' for key, value in collect_env().items())
    text = cfg.pretty_text if rank == 0 else ''  # yapf is slow; only rank 0 writes
    # Hundreds of lines: V2's log starts with them, and on the terminal they would hide later lines.
    logger.info('Environment info:\n%s', env_info, extra=FILE_ONLY)
    logger.info('Distributed training: %s (%d processes)', world_size > 1, world_size)
    logger.info('Config:\n%s', text, extra=FILE_ONLY)
    path = os.path.join(cfg.work_dir, name)
    logger.info('Config: %s (print it with %s %s)', path, how_to_run('config'), shlex.quote(path))
    return logger, timestamp, dict(
        env_info=env_info, config=text, exp_name=name, mmdet_version=f'mmdet_ft {__version__}')


def dump_config(cfg: Config, name: str) -> str:
    """Overwrite the config that `open_log` has written under `name`; returns its text, on rank 0."""
    if dist.get_dist_info()[0] != 0:
        return ''
    cfg.dump(os.path.join(cfg.work_dir, name))
    return cfg.pretty_text


def choose_device(gpu_id: int = 0) -> torch.device:
    """Choose this process's GPU, or the CPU without one, which then keeps the memory of its steps.

    Raises UserError for a GPU that does not exist.
    """
    if not torch.cuda.is_available():
        keep_freed_memory_of_steps()
        return torch.device('cpu')
    num_gpus = torch.cuda.device_count()
    if not 0 <= gpu_id < num_gpus:
        raise UsageError(f'--gpu-id {gpu_id}: there are {num_gpus} GPUs here, counted from 0')
    torch.cuda.set_device(dist.local_rank() % num_gpus if dist.is_distributed() else gpu_id)
    return torch.device('cuda', torch.cuda.current_device())


def warn_of_missing_gpu(requested: Mapping[str, Any], keys: ConfigKeys,
                        logger: logging.Logger) -> None:
    """Warn if the config asks for a GPU and the run is on the CPU.

    requested: keys that ask for one -> their values.
    """
    if requested:
        found = []
        for name, value in requested.items():
            where = keys.where(name)  # None for values set by a script
            found.append(f'{name}={value!r}' + (f' ({where})' if where else ''))
        logger.warning('%s: torch finds no GPU here, so the run is on the CPU', ', '.join(found))


def warn_of_earlier_run(work_dir: str, logger: logging.Logger) -> None:
    """Warn if a run that starts from scratch will overwrite the checkpoints of an earlier one."""
    names = sorted(
        name for name in os.listdir(work_dir) if re.fullmatch(r'(epoch|iter)_\d+\.pth', name))
    if names:
        shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
        logger.warning(
            '%s holds checkpoints of an earlier run (%s), and this one starts from the beginning: it writes over '
            'those of the same names. --auto-resume continues instead; another --work-dir keeps both',
            work_dir, shown)


def choose_seed(resume_from: Optional[str], seed: Optional[int], logger: logging.Logger) -> int:
    """Return the given seed, else that of the resumed checkpoint, else a random one; the same on
    all ranks. Samples and random numbers depend on it, so a resumed run needs the seed of the
    stopped run. Raises UserError for an invalid seed."""
    if seed is not None:
        require_seed(seed)
    if not resume_from:
        return dist.sync_random_seed(seed)
    kept = dist.first_on_main(lambda: reading.read(resume_from)).meta.get('seed')
    if not isinstance(kept, int):
        return dist.sync_random_seed(seed)
    if seed is None:
        logger.info('Seed %d of the resumed checkpoint is used', kept)
        return kept
    if seed != kept:
        logger.warning(
            '--seed %d instead of the %d of the resumed checkpoint: samples come in another order from here on',
            seed, kept)
    return seed
