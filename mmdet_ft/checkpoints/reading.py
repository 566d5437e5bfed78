"""Reading a checkpoint: always with `weights_only`, so that no file runs code."""
import pickle
import re
from typing import Any, Dict, List, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.kinds.layout import weights_in
from mmdet_ft.checkpoints.kinds.origin import Origin
from mmdet_ft.checkpoints.kinds.table import convert
from mmdet_ft.checkpoints.sources import Source, resolve

StateDict = Dict[str, Tensor]


class Checkpoint(NamedTuple):
    """A file's content: `state_dict` with V2's names, V2's `meta`, the whole for what else is in
    it, and whose weights they were."""
    source: str
    state_dict: StateDict
    meta: Dict[str, Any]
    content: Dict[str, Any]
    origin: Origin = Origin()


def _harmless_globals() -> List[Any]:
    """numpy scalars, which old checkpoints keep as best scores: they hold a number and run
    nothing."""
    core = getattr(np, '_core', None) or np.core
    names = [
        np.dtype, core.multiarray.scalar, (core.multiarray.scalar, 'numpy.core.multiarray.scalar')
    ]
    kinds = [
        getattr(np.dtypes, kind)
        for kind in ('Float64DType', 'Float32DType', 'Int64DType', 'Int32DType', 'BoolDType')
    ] if hasattr(np, 'dtypes') else []
    return names + kinds


def read(source: Source, trust: bool = False) -> Checkpoint:
    """Read a checkpoint on the CPU, wherever it is.

    `trust`: build whatever objects the file asks for, which may run any code its author chose.
    Accepts every kind of kinds/table.py, under any key of kinds/layout.py or as a bare dict of
    tensors, and converts it. Raises CheckpointError.
    """
    path = resolve(source)
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = torch.load(path, map_location='cpu', weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_unreadable(path, error)) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError,
            UnicodeDecodeError) as error:
        raise CheckpointError(
            f'{path} is not a readable checkpoint (truncated, or of another kind): '
            f'{str(error).splitlines()[0] if str(error) else type(error).__name__}') from None
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a state_dict')
    state_dict, notes = weights_in(content)
    if not state_dict:
        raise CheckpointError(
            f'{path} holds no tensors by name; its keys are {", ".join(map(str, list(content)[:8]))}'
        )
    meta = content.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    state_dict, origin = convert(state_dict, meta, content)
    origin = origin._replace(changes=(*notes, *origin.changes))
    return Checkpoint(
        source if isinstance(source, str) else path, state_dict, meta, content, origin)


def read_state_dict(source: Source) -> StateDict:
    """What `init_weights(load=...)` of a model asks for."""
    return read(source).state_dict


def _why_unreadable(path: str, error: Exception) -> str:
    named = re.search(r'GLOBAL ([\w.]+)', str(error)) or re.search(r'`([\w.]+)`', str(error))
    if named is None:
        return f'{path} is not a readable checkpoint: {str(error).splitlines()[0]}'
    return (
        f'{path} asks to run {named.group(1)}, which reading weights safely does not do. If you trust the file, rewrite '
        f'it once: python -c "import torch; c = torch.load({path!r}, map_location=\'cpu\', weights_only=False); '
        f"torch.save(dict(state_dict=c.get('state_dict', c)), 'weights.pth')\"")
