"""Checkpoints: where they come from, how they are read and fitted to a model, how they are written.

A file is always read with `weights_only`: it may not run code.
"""
import contextlib
import json
import os
import pickle
import re
import tempfile
import urllib.error
from importlib.util import find_spec
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from mmdet_ft.engine.errors import CheckpointError

StateDict = Dict[str, Tensor]


class Checkpoint(NamedTuple):
    """A file's content: `state_dict` with bare names, V2's `meta`, and the whole for what else is
    in it."""
    source: str
    state_dict: StateDict
    meta: Dict[str, Any]
    content: Dict[str, Any]


# --------------------------------------------------------------------------------------- where from


def resolve(source: str) -> str:
    """A local path for a path, `http(s)://` URL, `torchvision://NAME` or `open-mmlab://NAME`.

    A download goes to `$TORCH_HOME/hub/checkpoints`, appears there only when complete, and must
    agree with the sha256 prefix in its name (`-d4b0c5d6.pth`) if there is one. Raises
    CheckpointError.
    """
    source = os.path.expanduser(str(source))
    if source.startswith('torchvision://'):
        source = _torchvision_url(source[len('torchvision://'):])
    elif source.startswith('open-mmlab://'):
        source = _openmmlab_url(source[len('open-mmlab://'):])
    elif source.startswith('file://'):
        source = source[len('file://'):]
    if source.startswith(('http://', 'https://')):
        return _download(source)
    if not os.path.isfile(source):
        what = 'is a folder' if os.path.isdir(source) else 'does not exist'
        raise CheckpointError(f'checkpoint {source} {what} (looked from {os.getcwd()})')
    return source


def _download(url: str) -> str:
    name = os.path.basename(url.split('?')[0])
    path = os.path.join(torch.hub.get_dir(), 'checkpoints', name)
    if os.path.isfile(path):
        return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = re.search(r'-([0-9a-f]{8,64})\.[^.]+$', name)
    try:
        torch.hub.download_url_to_file(url, path, hash_prefix=digest and digest.group(1))
    except (OSError, RuntimeError,
            ValueError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CheckpointError(
            f'cannot download {url}: {cause}. A copy fetched by other means is found at {path}'
        ) from None
    return path


def _torchvision_url(name: str) -> str:
    import torchvision
    try:
        weights = torchvision.models.get_model_weights(name)
    except ValueError:
        raise CheckpointError(
            f'torchvision has no model {name!r}; torchvision.models.list_models() lists them'
        ) from None
    members = {
        weight.name: weight
        for weight in weights
    }  # V1 are the weights that V2's figures were made with
    first = next((member for key, member in members.items() if key.endswith('_V1')),
                 next(iter(members.values())))
    return first.url


def _openmmlab_url(name: str) -> str:
    spec = find_spec(
        'mmengine')  # its hub folder carries the table of names; nothing of it is imported
    if spec is None:
        raise CheckpointError(
            f'open-mmlab://{name} is looked up in a table of mmengine, which is not installed; '
            'pip install mmengine, or write the URL')
    folder = os.path.join(os.path.dirname(spec.origin), 'hub')
    tables = {}
    for table in ('deprecated', 'openmmlab'):
        with open(os.path.join(folder, f'{table}.json'), encoding='utf-8') as file:
            tables[table] = json.load(file)
    url = tables['openmmlab'].get(tables['deprecated'].get(name, name))
    if url is None:
        raise CheckpointError(
            f'unknown name open-mmlab://{name}; known: {", ".join(sorted(tables["openmmlab"]))}')
    return url if url.startswith('http') else f'https://download.openmmlab.com/{url}'


# ------------------------------------------------------------------------------------------ reading


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


def read(source: str) -> Checkpoint:
    """Read a checkpoint on the CPU, wherever it is.

    Accepts {'state_dict': ...} (V2), {'model': ...} (torchvision, Detectron2) and a bare dict of
    tensors; a leading `module.` of every name is dropped. Raises CheckpointError.
    """
    path = resolve(source)
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_unreadable(path, error)) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError,
            UnicodeDecodeError) as error:
        raise CheckpointError(
            f'{path} is not a readable checkpoint (truncated, or of another kind): '
            f'{str(error).splitlines()[0] if str(error) else type(error).__name__}') from None
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, not a state_dict')
    state_dict = next(
        (content[key] for key in ('state_dict', 'model') if isinstance(content.get(key), dict)),
        content)
    state_dict = {str(key): value for key, value in state_dict.items() if isinstance(value, Tensor)}
    if not state_dict:
        raise CheckpointError(
            f'{path} holds no tensors by name; its keys are {", ".join(map(str, list(content)[:8]))}'
        )
    if all(key.startswith('module.') for key in state_dict):
        state_dict = {key[len('module.'):]: value for key, value in state_dict.items()}
    meta = content.get('meta')
    return Checkpoint(str(source), state_dict, meta if isinstance(meta, dict) else {}, content)


def read_state_dict(source: str) -> StateDict:
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


# ------------------------------------------------------------------------------- fitting to a model


class Report(NamedTuple):
    """What became of each weight; counted without num_batches_tracked, which old files lack."""
    source: str
    total: int
    loaded: List[str]
    reinitialised: List[Tuple[str, Tuple[int, ...],
                              Tuple[int, ...]]]  # name, shape in the file, shape in the model
    mismatched: List[Tuple[str, Tuple[int, ...],
                           Tuple[int, ...]]]  # dropped though not in a prediction layer
    missing: List[str]
    unexpected: List[str]
    classes: Tuple[Optional[int], Optional[int]]  # of the file, of the model

    def __str__(self) -> str:
        share = round(100 * len(self.loaded) / max(self.total, 1))
        lines = [f'{self.source}: loaded {len(self.loaded)} of {self.total} ({share} %)']
        if self.reinitialised:
            old, new = self.classes
            if old is not None and new is not None and old != new:
                reason = f'classes changed {old} -> {new}'
            else:
                reason = 'the shapes of the prediction layers differ'
            lines.append(f're-initialised because {reason}: ' +
                         '; '.join(map(_shapes, self.reinitialised)))
        if self.mismatched:
            lines.append('dropped because the shape differs: ' +
                         '; '.join(map(_shapes, self.mismatched)))
        lines.append('missing in the file, left as initialised: ' + _some(self.missing))
        lines.append('unexpected in the file, ignored: ' + _some(self.unexpected))
        return '\n  '.join(lines)


def _shapes(item: Tuple[str, Tuple[int, ...], Tuple[int, ...]]) -> str:
    name, old, new = item
    return f'{name} {tuple(old)} -> {tuple(new)}'


def _some(names: Sequence[str], limit: int = 12) -> str:
    if not names:
        return 'none'
    rest = f' and {len(names) - limit} more' if len(names) > limit else ''
    return f'{len(names)}: {", ".join(names[:limit])}{rest}'


def _counts(name: str) -> bool:
    return not name.endswith('num_batches_tracked')


def fit(model: nn.Module, checkpoint: Checkpoint, strict: bool = True) -> Report:
    """Load what fits, and say what did not.

    A weight of another shape is left at its fresh initialisation if it belongs to one of
    `model.prediction_layers()`: classes and anchors are legitimate edits. Elsewhere it is an error,
    as is a file that fills less than half of the model or nothing but its backbone; `strict=False`
    loads what there is of such a file.

    Raises CheckpointError with the way out.
    """
    model = getattr(model, 'module', model)
    own = model.state_dict()
    layers = tuple(model.prediction_layers()) if hasattr(model, 'prediction_layers') else ()
    given = checkpoint.state_dict
    common = [name for name in own if name in given]
    differing = [(name, tuple(given[name].shape), tuple(own[name].shape)) for name in common
                 if given[name].shape != own[name].shape]
    reinitialised = [item for item in differing if item[0].startswith(layers)] if layers else []
    mismatched = [item for item in differing if item not in reinitialised]
    refused = {item[0] for item in differing}
    fitting = {name: given[name] for name in common if name not in refused}
    report = Report(
        source=checkpoint.source,
        total=sum(map(_counts, own)),
        loaded=list(filter(_counts, fitting)),
        reinitialised=reinitialised,
        mismatched=mismatched,
        missing=[name for name in own if name not in given and _counts(name)],
        unexpected=[name for name in given if name not in own and _counts(name)],
        classes=(_num_classes(checkpoint.meta.get('CLASSES')),
                 _num_classes(getattr(model, 'CLASSES', None))))
    if strict:
        _refuse_misfits(model, report, given)
    model.load_state_dict(fitting, strict=False)
    return report


def _num_classes(classes: Any) -> Optional[int]:
    return len(classes) if isinstance(classes, (list, tuple)) else None


def _refuse_misfits(model: nn.Module, report: Report, given: StateDict) -> None:
    allow = f"To load what fits all the same, write load_from=dict(checkpoint={report.source!r}, strict=False)"
    backbone_only = _init_cfg_line(model, report, given)
    if backbone_only is not None:
        raise CheckpointError(
            f'{report.source} holds a backbone, and load_from is for a whole model. Write\n'
            f'    {backbone_only}\n  instead of load_from. {allow}.')
    if report.mismatched:
        raise CheckpointError(
            f'{report}\n  These weights belong to another model: only prediction layers '
            f'may differ in shape. {allow}.')
    if 2 * len(report.loaded) < report.total:
        raise CheckpointError(
            f'{report}\n  Less than half of the model was found in the file. {allow}.')


def _init_cfg_line(model: nn.Module, report: Report, given: StateDict) -> Optional[str]:
    """The config line for a file that holds the backbone of the model and nothing else of it."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return None
    names = [name for name in backbone.state_dict() if _counts(name)]
    beyond = [name for name in report.loaded if not name.startswith('backbone.')]
    for prefix in ('', 'backbone.'):
        found = sum(prefix + name in given for name in names)
        if 2 * found >= len(names) > 0 and not beyond and not report.reinitialised and len(
                names) < report.total:
            entry = f", prefix='{prefix}'" if prefix else ''
            return (
                f"model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={report.source!r}{entry})))"
            )
    return None


def covers(checkpoint: Optional[Checkpoint], model: nn.Module, part: str = 'backbone') -> bool:
    """Whether the file holds every weight of `model.<part>` in its shape, so that nothing else need
    be loaded there."""
    module = getattr(model, part, None)
    if checkpoint is None or not isinstance(module, nn.Module):
        return False
    given = checkpoint.state_dict
    names = {name: value for name, value in module.state_dict().items() if _counts(name)}
    return bool(names) and all(
        f'{part}.{name}' in given and given[f'{part}.{name}'].shape == value.shape
        for name, value in names.items())


def parse_load_from(load_from: Union[str, Dict[str, Any]]) -> Tuple[str, bool]:
    """`load_from='path'` or `load_from=dict(checkpoint='path', strict=False)` -> (source,
    strict)."""
    if not isinstance(load_from, dict):
        return str(load_from), True
    unknown = sorted(set(load_from) - {'checkpoint', 'strict'})
    if unknown or 'checkpoint' not in load_from:
        raise CheckpointError(
            f'load_from is a path, a URL or dict(checkpoint=..., strict=True); got {dict(load_from)!r}'
        )
    return str(load_from['checkpoint']), bool(load_from.get('strict', True))


def load_checkpoint(model: nn.Module, source: str, strict: bool = True) -> Checkpoint:
    """Read a file and load it into a model by the contract of `fit`."""
    checkpoint = read(source)
    fit(model, checkpoint, strict)
    return checkpoint


def load_trained(model: nn.Module, source: str) -> Checkpoint:
    """Load a model's own checkpoint, as for a test: every weight must be there in its shape.

    Raises CheckpointError that names what differs.
    """
    checkpoint = read(source)
    own = getattr(model, 'module', model)
    if checkpoint.meta.get('CLASSES') is not None and getattr(own, 'CLASSES', None) is None:
        own.CLASSES = checkpoint.meta['CLASSES']
    report = fit(own, checkpoint, strict=False)
    if report.missing or report.mismatched or report.reinitialised:
        raise CheckpointError(f'{report}\n  This is not a checkpoint of the model in the config')
    return checkpoint


# ------------------------------------------------------------------------------------------ writing


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
