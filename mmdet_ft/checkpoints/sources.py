"""Where checkpoints come from: a local path for every way in which a config names one."""
import json
import os
import re
import urllib.error
from importlib.util import find_spec
from typing import Sequence, Union

import torch

from mmdet_ft.checkpoints.errors import CheckpointError

# Several are alternatives: the first that is there is taken.
Source = Union[str, Sequence[str]]


def resolve(source: Source) -> str:
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
