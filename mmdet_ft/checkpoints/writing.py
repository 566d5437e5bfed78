"""Writing checkpoints so that none is ever half there, and finding the newest."""
import contextlib
import os
import re
import tempfile
from typing import Any, Dict, Iterator, Optional

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.checkpoints.reading import StateDict


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[Any]:
    """A binary file that appears under `path` only when it is complete and on the disk."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix=f'.{os.path.basename(path)}.', suffix='.tmp')
    try:
        with os.fdopen(handle, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    with contextlib.suppress(OSError):  # the rename itself, where a folder can be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def plain(value: Any) -> Any:
    """The same value in types that `weights_only` reads: no numpy, no config classes, no paths."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if value is None or isinstance(value, (bool, int, float, Tensor)):
        return value
    return str(value)


def save(path: str, state_dict: StateDict, meta: Dict[str, Any], **others: Any) -> None:
    """Write V2's checkpoint {meta, state_dict, optimizer, ...} atomically; readable with
    `weights_only`."""
    content = dict(
        meta=plain(meta),
        state_dict={
            name: value.detach().cpu()
            for name, value in state_dict.items()
        })
    content.update({key: plain(value) for key, value in others.items() if value is not None})
    with atomic_file(path) as file:
        torch.save(content, file)


def link_latest(folder: str, name: str, link: str = 'latest.pth') -> None:
    """Make `latest.pth` mean `name`, without a moment in which it means nothing."""
    temporary = os.path.join(folder, f'.{link}.tmp')
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    try:
        os.symlink(name, temporary)
    except OSError:  # a file system without links: a copy, as V2 makes on Windows
        import shutil
        shutil.copyfile(os.path.join(folder, name), temporary)
    os.replace(temporary, os.path.join(folder, link))


def find_latest_checkpoint(folder: str) -> Optional[str]:
    """`latest.pth`, or the checkpoint of the highest epoch or iteration; None where there is
    none."""
    latest = os.path.join(folder, 'latest.pth')
    if os.path.exists(latest):
        return latest
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        number = re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', name)
        if number:
            found.append((int(number.group(1)), name))
    return os.path.join(folder, max(found)[1]) if found else None
