"""Restarts by torchrun, which starts all processes again when one dies (`--max-restarts`) or a
machine joins or leaves: the run then resumes its last checkpoint automatically."""
import json
import logging
import os
import socket
from typing import Any, List

from mmdet_ft.engine.distributed import dist

# File of a launch in the work_dir: its torchrun process, and the checkpoints before it.
MARK = '.torchrun.json'


def resumes_after_restart(work_dir: str, logger: logging.Logger) -> bool:
    """Return whether earlier processes of the same launch have saved a checkpoint, to be resumed now.

    Older checkpoints of the work_dir do not count: without --auto-resume the launch started from
    scratch, and does so again.
    """
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        return False
    agents = dist.gather_objects(_agent())
    if dist.get_dist_info()[0] == 0:
        began = _read(work_dir)
        followed = int(os.environ.get('TORCHELASTIC_RESTART_COUNT',
                                      0)) > 0 or bool(set(agents) & set(began.get('agents', ())))
        before = began.get('before', []) if followed else _checkpoints(work_dir)
        found = (followed, any(item not in before for item in _checkpoints(work_dir)))
        with open(os.path.join(work_dir, MARK), 'w') as file:
            json.dump(dict(agents=agents, before=before), file)
    followed, has_saved = dist.broadcast_object(found if dist.get_dist_info()[0] == 0 else None)
    if followed and has_saved:
        logger.warning('Restarted by torchrun: resuming the last checkpoint')
    elif followed:
        logger.warning(
            'Restarted by torchrun before any checkpoint was saved: starting from the beginning')
    return followed and has_saved


def _agent() -> str:
    """Identify the torchrun process that has started this one and outlives its restarts."""
    agent = os.getppid()
    try:
        with open(f'/proc/{agent}/stat', encoding='utf-8') as file:
            began = file.read().rpartition(')')[2].split()[19]  # ticks since boot
    except OSError:  # not Linux
        began = ''
    return f'{socket.gethostname()}:{agent}:{began}'


def _read(work_dir: str) -> Any:
    try:
        with open(os.path.join(work_dir, MARK)) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def _checkpoints(work_dir: str) -> List[List[Any]]:
    """Return name and time of each checkpoint, so that an overwritten one counts as new."""
    names = sorted(name for name in os.listdir(work_dir) if name.endswith('.pth'))
    return [[name, os.lstat(os.path.join(work_dir, name)).st_mtime_ns] for name in names]
