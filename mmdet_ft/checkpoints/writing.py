"""Atomic writing of checkpoints, and search for the latest one."""
import contextlib
import errno
import os
import re
import shutil
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import StateDict, read
from mmdet_ft.outputs import atomic_file

INTERRUPTED = 'interrupted.pth'  # written by a run that a signal stopped


def plain(value: object) -> Any:
    """Convert a value to types that `weights_only` reads, on the CPU: no numpy, no config classes,
    no paths."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):  # so that torch.load needs no GPU and no map_location
        return value.detach().cpu()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def save(path: str, state_dict: StateDict, meta: Dict[str, Any], **others: Any) -> None:
    """Write V2's checkpoint {meta, state_dict, optimizer, ...} atomically; readable with
    `weights_only`.

    Raises CheckpointError if the disk is full or the file cannot be written; an existing file is kept.
    """
    content = dict(meta=plain(meta), state_dict=plain(dict(state_dict)))
    content.update({key: plain(value) for key, value in others.items() if value is not None})
    needed, folder = count_bytes(content), os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        _require_room(path, needed)
        with atomic_file(path) as file:
            torch.save(content, file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _require_room(path, needed, is_full=True)
        raise CheckpointError(f'cannot write the checkpoint {path}: {error.strerror or error}. '
                              'What was saved before is still there') from None
    except RuntimeError:
        _require_room(path, needed)  # torch raises its own error if the disk fills up
        raise


def count_bytes(value: object) -> int:
    """Estimate the bytes of a checkpoint's content on disk, rounding up."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() + 512
    if isinstance(value, (dict, list, tuple)):
        items = value.values() if isinstance(value, dict) else value
        return 128 + sum(map(count_bytes, items))
    return 64 + len(value) if isinstance(value, str) else 64


def _require_room(path: str, needed: int, is_full: bool = False) -> None:
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if is_full or free < needed:
        raise CheckpointError(
            f'no room for the checkpoint {path}: it takes {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free. '
            'What was saved before is still there. Make room and continue with --auto-resume; '
            'checkpoint_config = dict(interval=1, max_keep_ckpts=3) keeps the last three only')


def remove_leftovers(folder: str) -> None:
    """Remove temporary files of killed processes; call it only while nothing is being written."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if re.fullmatch(r'\..+\.pth(\..+)?\.tmp', name):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))


def link_latest(folder: str, name: str, link: str = 'latest.pth') -> None:
    """Point `latest.pth` to `name` atomically, so that the link always exists."""
    temporary = os.path.join(folder, f'.{link}.tmp')
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    try:
        os.symlink(name, temporary)
    except OSError:  # a file system without links: copy, as V2 does on Windows
        shutil.copyfile(os.path.join(folder, name), temporary)
    os.replace(temporary, os.path.join(folder, link))


def is_latest_of(folder: str, run_id: str) -> bool:
    """Check whether `latest.pth` of a folder is of this run and not an interrupted state."""
    path = os.path.join(folder, 'latest.pth')
    if not os.path.exists(path) or os.path.basename(os.path.realpath(path)) == INTERRUPTED:
        return False
    try:
        return read(path).meta.get('run_id') == run_id
    except CheckpointError:
        return False


def remove_interrupted(folder: str, run_id: str) -> None:
    """Remove the checkpoint of an interruption once the run has finished."""
    path = os.path.join(folder, INTERRUPTED)
    if is_latest_of(folder, run_id) and os.path.exists(path):
        with contextlib.suppress(OSError, CheckpointError):
            if read(path).meta.get('run_id') == run_id:
                os.remove(path)


def find_latest_checkpoint(folder: str,
                           warn: Callable[[str], None] = lambda message: None) -> Optional[str]:
    """Return the readable checkpoint of a folder at which training was furthest; None without one.

    If several runs have used the folder, only the run of `latest.pth` counts. `warn` is called with
    a sentence about each skipped file.
    """

    def is_latest(path: str) -> bool:
        return os.path.realpath(path) == os.path.realpath(os.path.join(folder, 'latest.pth'))

    found: List[Tuple[str, Dict[str, Any]]] = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if os.path.islink(path):
            continue
        if is_latest(path) or name == INTERRUPTED or re.fullmatch(r'(epoch|iter)_\d+\.pth', name):
            try:
                found.append((path, read(path).meta))
            except CheckpointError as error:
                warn(f'skipped: {error}')

    def progress_of(item: Tuple[str, Dict[str, Any]]) -> Tuple[int, int, bool]:
        path, meta = item
        number = re.search(r'_(\d+)\.pth$', path)
        return meta.get('iter', -1), int(number.group(1)) if number else -1, is_latest(path)

    run = next((meta.get('run_id') for path, meta in found if is_latest(path)), None)
    own = [(path, meta) for path, meta in found if run in (None, meta.get('run_id'))]
    return max(own, key=progress_of)[0] if own else None
