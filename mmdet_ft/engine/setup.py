"""What a run needs before its models: processes that get along, a work_dir with a log, a device."""
import os
import platform
from typing import Any, Dict, Tuple

import torch

from mmdet_ft import __version__
from mmdet_ft.config.config import Config
from mmdet_ft.engine import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.log import collect_env, get_root_logger, time_string


def set_up_processes(cfg: Config) -> None:
    """How loader processes start, and that they do not fight for cores."""
    import cv2
    cv2.setNumThreads(cfg.get('opencv_num_threads', 0))
    if platform.system() != 'Windows' and cfg.get('mp_start_method'):
        torch.multiprocessing.set_start_method(cfg.mp_start_method, force=True)
    if cfg.get('cudnn_benchmark'):
        torch.backends.cudnn.benchmark = True


def open_log(cfg: Config) -> Tuple[Any, str, Dict[str, Any]]:
    """Make the work_dir with the config as it runs; returns the logger, the run's time and V2's
    `meta`."""
    rank, world_size = dist.get_dist_info()
    name = os.path.basename(cfg.filename or 'config.py')
    timestamp = dist.broadcast_object(time_string())
    try:
        os.makedirs(cfg.work_dir, exist_ok=True)
        logger = get_root_logger(
            os.path.join(cfg.work_dir, f'{timestamp}.log'), cfg.get('log_level', 'INFO'))
        if rank == 0:
            cfg.dump(os.path.join(cfg.work_dir, name))
    except OSError as error:
        raise UserError(f'cannot write to work_dir {cfg.work_dir!r}: {error.strerror or error} '
                        f'({error.filename}); name another with --work-dir') from None
    env_info = '\n'.join(f'{key}: {value}' for key, value in collect_env().items())
    text = cfg.pretty_text if rank == 0 else ''  # yapf takes its time; only rank 0 writes
    logger.info('Environment info:\n%s', env_info)
    logger.info('Distributed training: %s (%d processes)', world_size > 1, world_size)
    logger.info('Config:\n%s', text)
    return logger, timestamp, dict(
        env_info=env_info, config=text, exp_name=name, mmdet_version=f'mmdet_ft {__version__}')


def choose_device(gpu_id: int = 0) -> torch.device:
    """This process's GPU, or the CPU where there is none. Raises UserError for a GPU that is not
    there."""
    if not torch.cuda.is_available():
        return torch.device('cpu')
    num_gpus = torch.cuda.device_count()
    if not 0 <= gpu_id < num_gpus:
        raise UserError(f'--gpu-id {gpu_id}: there are {num_gpus} GPUs here, counted from 0')
    torch.cuda.set_device(dist.local_rank() % num_gpus if dist.is_distributed() else gpu_id)
    return torch.device('cuda', torch.cuda.current_device())
