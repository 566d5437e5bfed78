"""The run's log: one logger for the terminal and `<time>.log`, and the environment info at its head."""
import logging
import os
import platform
import subprocess
import sys
import time
from collections import OrderedDict
from typing import Any, Dict, Optional, Union

import torch

from mmdet_ft import __version__
from mmdet_ft.engine.distributed.dist import get_dist_info
from mmdet_ft.errors import UserError

NAME = 'mmdet_ft'
FILE_ONLY = dict(file_only=True)  # `extra` of a record that is too long for the terminal


class Terminal(logging.StreamHandler):
    """Writes to the current sys.stderr, and while a progress bar is up through its console, which
    keeps the bar below the lines."""
    console: Any = None  # of the active progress bar

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, 'file_only', False):
            return
        if Terminal.console is None:
            super().emit(record)
        else:
            Terminal.console.print(
                self.format(record), soft_wrap=True, markup=False, highlight=False, emoji=False)


def _level_of(name: Union[str, int]) -> int:
    """Read a level, its name in any case or its number. Raises UserError."""
    level = name if isinstance(name, int) else logging.getLevelName(str(name).upper())
    if not isinstance(level, int):
        raise UserError(f"log_level {name!r}: write 'DEBUG', 'INFO', 'WARNING' or 'ERROR'")
    return level


def get_root_logger(log_file: Optional[str] = None, log_level: str = 'INFO') -> logging.Logger:
    """Return the engine's logger. Rank 0 writes to the terminal and to `log_file`; other ranks log errors only."""
    logger = logging.getLogger(NAME)
    rank, _ = get_dist_info()
    level = _level_of(log_level) if rank == 0 else logging.ERROR
    formatter = logging.Formatter('%(asctime)s - %(name)s - %(levelname)s - %(message)s')
    if not any(isinstance(handler, Terminal) for handler in logger.handlers):
        logger.addHandler(Terminal())
    if log_file is not None and rank == 0:
        for handler in [
                handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)
        ]:
            logger.removeHandler(
                handler)  # a second run in the same process (a notebook) has its own file
            handler.close()
        logger.addHandler(logging.FileHandler(log_file))
    for handler in logger.handlers:
        handler.setFormatter(formatter)
    logger.setLevel(level)
    logger.propagate = False
    return logger


def time_string() -> str:
    return time.strftime('%Y%m%d_%H%M%S', time.localtime())


def on_terminal() -> bool:
    """Return whether stderr is a terminal, where a progress bar helps; it would clutter a file."""
    return sys.stderr.isatty()


def git_hash() -> Optional[str]:
    """Return the first 7 digits of the commit of this source tree, if it is one."""
    try:
        return subprocess.check_output(['git', 'rev-parse', '--short=7', 'HEAD'],
                                       text=True,
                                       cwd=os.path.dirname(os.path.abspath(__file__)),
                                       stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def collect_env() -> Dict[str, str]:
    """Collect the environment info for a bug report, with V2's keys."""
    info = OrderedDict()
    info['sys.platform'] = sys.platform
    info['Python'] = sys.version.replace('\n', '')
    info['CUDA available'] = str(torch.cuda.is_available())
    if torch.cuda.is_available():
        devices: Dict[str, list] = {}
        for index in range(torch.cuda.device_count()):
            devices.setdefault(torch.cuda.get_device_name(index), []).append(str(index))
        for name, indices in devices.items():
            info['GPU ' + ','.join(indices)] = name
        info['CUDA'] = str(torch.version.cuda)
        info['cuDNN'] = str(torch.backends.cudnn.version())
    info['CPU'] = f'{platform.processor() or platform.machine()}, {os.cpu_count()} cores'
    info['PyTorch'] = torch.__version__
    for title, module in (('TorchVision', 'torchvision'), ('OpenCV', 'cv2'), ('MMCV', 'mmcv'),
                          ('NumPy', 'numpy')):
        info[title] = _version(module)
    commit = git_hash()
    info['mmdet_ft'] = __version__ + (f'+{commit}' if commit else '')
    return info


def _version(module: str) -> str:
    try:
        return __import__(module).__version__
    except ImportError as error:
        return f'missing ({error})'
