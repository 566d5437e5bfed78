"""Checkpoint reading that never runs code from a file; see safe_pickle.py."""
import pickle
import shlex
from typing import Any, Dict, NamedTuple, Tuple

import torch
from torch import Tensor

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.files import choose_reader, read_pickle, read_with_shards
from mmdet_ft.checkpoints.formats.layout import weights_in
from mmdet_ft.checkpoints.formats.origin import Origin
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.mapped_file import MappedFile
from mmdet_ft.checkpoints.sanity import find_faults
from mmdet_ft.checkpoints.sources import Source, first_available
from mmdet_ft.checkpoints.whole_modules import weights_of_modules
from mmdet_ft.command_names import how_to_run
from mmdet_ft.pickle_values import Record, Refused, UnknownName

StateDict = Dict[str, Tensor]


class Checkpoint(NamedTuple):
    """A file's content: `state_dict` with V2's names, V2's `meta`, everything else in `content`, and
    the origin of the weights."""
    source: str
    state_dict: StateDict
    meta: Dict[str, Any]
    content: Dict[str, Any]
    origin: Origin = Origin()


def read(source: Source, trust: bool = False) -> Checkpoint:
    """Read a checkpoint from any source on the CPU; of several alternatives the first available one.

    Its tensors are views of the file where possible: they cost nothing before they are used, and
    writing to them does not change the file. Instances of harmless classes, such as mmengine's
    HistoryBuffer, become placeholders (pickle_values.Record). `trust`: build unknown objects if the
    file has any, which may run any code that its author chose.

    Accepts and converts every kind of formats/table.py, under any key of formats/layout.py or as a
    bare dict of tensors. Raises CheckpointError.
    """
    name, content = read_content(source, trust)
    state_dict, notes = weights_in(content)
    meta = content.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    try:
        state_dict, origin = convert(state_dict, meta, content)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f'{name} has the names of a known kind of checkpoint, but its weights do not fit '
            f'them: {type(error).__name__}: {error}') from error
    origin = origin._replace(changes=(*notes, *origin.changes))
    return Checkpoint(name, state_dict, meta, content, origin)


def read_state_dict(source: Source) -> StateDict:
    """Read weights for `init_weights(load=...)` of a model.

    Raises CheckpointError, also for NaN or infinite weights.
    """
    checkpoint = read(source)
    require_sound(checkpoint)
    return checkpoint.state_dict


def require_sound(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for weights that are invalid for any model, such as NaN."""
    faults = find_faults(checkpoint.state_dict)
    if faults:
        raise CheckpointError(f'{checkpoint.source} cannot be used: {"; ".join(faults)}')


def read_content(source: Source, trust: bool = False) -> Tuple[str, Dict[str, Any]]:
    """Return (the alternative that was used, its content before conversion).

    Raises CheckpointError, also if it contains no weights.
    """
    name, path = first_available(source)
    content = _content(path, name, trust)
    if not isinstance(content, dict):
        kind = 'an object' if isinstance(content, Record) else f'a {type(content).__name__}'
        raise CheckpointError(
            f'{path} holds {kind}, not a state_dict: save one with torch.save(model.state_dict(), path)'
        )
    if not weights_in(content)[0]:
        keys = ', '.join(map(str, list(content)[:8])) or 'none'
        raise CheckpointError(f'{path} holds no tensors by name; its keys are {keys:.500}')
    return name, content


def _content(path: str, name: str, trust: bool) -> Any:
    try:
        return read_with_shards(path)
    except UnknownName as refused:
        if trust:
            return _trusted(path)
        raise CheckpointError(
            f'{path} {refused}, which could run code and is not known as harmless; nothing of the file was run. If '
            f'you trust its author as you would trust their program, write the file once without its objects: '
            f'{how_to_run("publish_model")} {shlex.quote(str(path))} plain.pth --trust; or, if it is '
            f'load_from, load_from=dict(checkpoint={name!r}, trust=True)') from None
    except Refused as refused:
        raise CheckpointError(f'{path} {refused}') from refused.__cause__
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {error.strerror or error}') from None


def _trusted(path: str) -> Any:
    try:
        with open(path, 'rb') as file:
            if choose_reader(MappedFile(path)) is read_pickle:
                content = pickle.load(file, encoding='latin1')
            else:
                content = torch.load(file, map_location='cpu', weights_only=False)
    except Exception as error:  # its objects may raise anything
        raise CheckpointError(
            f'{path} cannot be read although it is trusted: {type(error).__name__}: {error}. The '
            'packages whose objects it holds must be installed') from error
    return weights_of_modules(content) or content
