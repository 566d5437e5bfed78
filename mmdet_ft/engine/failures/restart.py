"""torchrun starts all processes anew when one dies (`--max-restarts`) or a machine comes or goes: the
run then goes on from its last checkpoint, without being asked to."""
import json
import os
import socket
from typing import Any, List

from mmdet_ft.engine.distributed import dist

# What a launch leaves in the work_dir: by whom it was started, and what lay there before.
MARK = '.torchrun.json'


def go_on_after_restart(cfg: Any, logger: Any) -> None:
    """Set `cfg.auto_resume` if these processes follow others of the same launch which have saved a
    checkpoint.

    What lay in the work_dir before the launch is not taken for theirs: without --auto-resume such a
    run began anew, and does so again.
    """
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        return
    agents = dist.gather_objects(_agent())
    if dist.get_dist_info()[0] == 0:
        began = _read(cfg.work_dir)
        followed = int(os.environ.get('TORCHELASTIC_RESTART_COUNT',
                                      0)) > 0 or bool(set(agents) & set(began.get('agents', ())))
        before = began.get('before', []) if followed else _checkpoints(cfg.work_dir)
        told = [followed, any(item not in before for item in _checkpoints(cfg.work_dir))]
        with open(os.path.join(cfg.work_dir, MARK), 'w') as file:
            json.dump(dict(agents=agents, before=before), file)
    followed, has_saved = dist.broadcast_object(told if dist.get_dist_info()[0] == 0 else None)
    if followed and has_saved:
        cfg.auto_resume, cfg.resume_from = True, None
        logger.warning('Restarted by torchrun: going on from the last checkpoint')
    elif followed:
        logger.warning('Restarted by torchrun before any checkpoint was saved: beginning anew')


def _agent() -> str:
    """The torchrun process that has started this one, which stays over its restarts."""
    agent = os.getppid()
    try:
        with open(f'/proc/{agent}/stat', encoding='utf-8') as file:
            began = file.read().rpartition(')')[2].split()[19]  # ticks from boot
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
    """Name and time of each checkpoint, so that one that was written over counts as new."""
    names = sorted(name for name in os.listdir(work_dir) if name.endswith('.pth'))
    return [[name, os.lstat(os.path.join(work_dir, name)).st_mtime_ns] for name in names]
