"""Sources of checkpoints: paths, URLs and model zoo names, resolved to a local path."""
import difflib
import json
import logging
import os
import urllib.parse
import urllib.request
from importlib.util import find_spec
from typing import Callable, Dict, Sequence, Tuple, Union

from mmdet_ft.checkpoints.download import fetch
from mmdet_ft.checkpoints.errors import CheckpointError

logger = logging.getLogger('mmdet_ft')

# Several are alternatives: the first available one is used.
Source = Union[str, Sequence[str]]


def first_available(source: Source) -> Tuple[str, str]:
    """Return (name as written, local path) of the first available alternative.

    Raises CheckpointError with the problem of each.
    """
    alternatives = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    failures = []
    for index, alternative in enumerate(map(str, alternatives), 1):
        try:
            return alternative, resolve(alternative)
        except CheckpointError as error:
            failures.append(str(error))
            if index < len(alternatives):
                logger.warning('%s. Next: %s', error, alternatives[index])
    raise CheckpointError('\n  '.join(failures) or 'no checkpoint is named')


def resolve(source: str) -> str:
    """Return a local path for a path, an `http(s)://` URL or a name in a table of `TABLES`.

    Raises CheckpointError.
    """
    scheme, separator, name = source.partition('://')
    if separator and scheme in TABLES:
        source = TABLES[scheme](name)
    elif separator and scheme == 'file':
        source = urllib.request.url2pathname(name)
    elif separator and scheme not in ('http', 'https'):
        raise CheckpointError(
            f'checkpoint {source}: nothing is fetched by {scheme}://; write a path, http(s):// or '
            f'{", ".join(f"{known}://NAME" for known in TABLES)}')
    if source.startswith(('http://', 'https://')):
        return fetch(source)
    path = os.path.expanduser(source)
    if not os.path.isfile(path):
        raise CheckpointError(
            f'checkpoint {path} {_suggest_path(path)} (looked from {os.getcwd()})')
    return path


def _suggest_path(path: str) -> str:
    if os.path.isdir(path):
        return _describe_folder(path)
    if os.path.exists(path):
        return 'is a device or pipe, not a file'
    return 'is a link that leads nowhere' if os.path.islink(path) else 'does not exist'


def _describe_folder(path: str) -> str:
    names = sorted(os.listdir(path)) if os.access(path, os.R_OK) else []
    if '.metadata' in names or any(name.endswith('.distcp') for name in names):
        return (
            'is a folder of torch.distributed.checkpoint; make one file of it: '
            f'python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pth')
    inside = sorted(
        (name for name in names
         if name.endswith(('.pth', '.pt', '.safetensors', '.index.json', '.ckpt', '.bin', '.pkl'))),
        key=lambda name: (name != 'latest.pth', not name.endswith('.index.json'), name))
    if not inside:
        return 'is a folder'
    return f'is a folder; name a file in it, such as {os.path.join(path, inside[0])}'


def _torchvision_url(name: str) -> str:
    import torchvision
    name, _, version = name.partition('.')  # resnet50.imagenet1k_v2
    try:
        weights = torchvision.models.get_model_weights(name)
    except ValueError:
        raise CheckpointError(
            f'torchvision has no model {name!r}; torchvision.models.list_models() lists them'
        ) from None
    members = {weight.name: weight for weight in weights}
    if version and version.upper() not in members:
        raise CheckpointError(
            f'torchvision has no weights {version!r} of {name}; it has {", ".join(members).lower()}'
        )
    # V2's published results were obtained with the V1 weights.
    first = members.get(version.upper()) or next(
        (member
         for key, member in members.items() if key.endswith('_V1')), next(iter(members.values())))
    return first.url


def _openmmlab_url(name: str) -> str:
    return _from_mmengine('openmmlab', _tables().get('deprecated', {}).get(name, name))


def _from_mmengine(table: str, name: str) -> str:
    names = _tables().get(table)
    if names is None:
        raise CheckpointError(
            f'{name} is looked up in a table of mmengine, which is not installed: '
            'pip install mmengine, or write the URL')
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        raise CheckpointError(f'unknown name {name}; ' + (
            f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(sorted(names))}'))
    return urllib.parse.urljoin('https://download.openmmlab.com/', names[name])


def _tables() -> Dict[str, Dict[str, str]]:
    """Read OpenMMLab's model names from mmengine's hub folder, without importing mmengine."""
    spec = find_spec('mmengine')
    if spec is None or spec.origin is None:
        return {}
    folder = os.path.join(os.path.dirname(spec.origin), 'hub')
    tables = {}
    for table in ('deprecated', 'openmmlab', 'mmcls'):
        with open(os.path.join(folder, f'{table}.json'), encoding='utf-8') as file:
            tables[table] = json.load(file)
    return tables


TABLES: Dict[str, Callable[[str], str]] = {  # scheme -> function from name to URL; V2's schemes
    'torchvision': _torchvision_url,
    'modelzoo': _torchvision_url,
    'open-mmlab': _openmmlab_url,
    'openmmlab': _openmmlab_url,
    'mmcls': lambda name: _from_mmengine('mmcls', name),
}
