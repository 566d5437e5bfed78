"""The configs that come with the package, by name: 'mmdet_ft::mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py'.

In an installed package they are in mmdet_ft/configs, in a clone in configs/ beside the package.
"""
import functools
import os
import os.path as osp
from typing import Dict, List, Optional, Union

from mmdet_ft import spelling
from mmdet_ft.config.errors import ConfigNotFoundError

_PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
FOLDER = next(
    (folder
     for folder in (osp.join(_PACKAGE, 'configs'), osp.join(osp.dirname(_PACKAGE), 'configs'))
     if osp.isdir(folder)), osp.join(_PACKAGE, 'configs'))
SCOPES = ('mmdet_ft', 'mmdet', 'mmcls'
          )  # before '::'; stock configs of MMDetection have their names here
ENDINGS = ('.py', '.json', '.yaml', '.yml')
SIMILAR = .8  # of names; many are alike


@functools.lru_cache(maxsize=1)
def names() -> List[str]:
    """List the shipped configs that can be run, such as 'retinanet/retinanet_r50_fpn_1x_coco.py', sorted."""
    return [name for name in _all_names() if not name.startswith('_base_/')]


@functools.lru_cache(maxsize=1)
def _all_names() -> List[str]:
    found = []
    for folder, folders, files in os.walk(FOLDER):
        folders[:] = [name for name in folders if name != '__pycache__']
        found += [
            osp.relpath(osp.join(folder, file), FOLDER).replace(os.sep, '/') for file in files
            if file.endswith('.py')
        ]
    return sorted(found)


def is_scoped(name: str) -> bool:
    """Return whether a text is a name of a shipped config, by its scope."""
    return name.partition('::')[0] in SCOPES and '::' in name


def scoped_path(name: str) -> str:
    """Return the path of 'SCOPE::NAME'; the ending .py may be left out. Such a file need not exist."""
    rest = name.partition('::')[2].replace('\\', '/').lstrip('/')
    path = osp.join(FOLDER, *rest.split('/'))
    return path if path.endswith(ENDINGS) else f'{path}.py'


def nearest(name: str) -> str:
    """Return "; did you mean 'mmdet_ft::...'?" with the shipped configs of the nearest names; '' for none."""
    scope, separator, rest = name.rpartition('::')
    stem = osp.splitext(osp.basename(rest))[0]
    forms: Dict[str, List[str]] = {}
    for known in _all_names():
        form = known if rest.endswith(ENDINGS) else osp.splitext(known)[0]
        forms.setdefault(form if '/' in rest else osp.basename(form), []).append(known)
    alike = [known for known in names() if osp.splitext(osp.basename(known))[0] == stem]
    found = alike or [
        known for form in spelling.nearest(rest, forms, 2, SIMILAR) for known in forms[form]
    ]
    words = ' or '.join(repr(f'{scope}{separator}{known}') for known in found[:3])
    return f'; did you mean {words}?' if words else ''


def find_config(name: Union[str, 'os.PathLike[str]']) -> str:
    """Return the path of a config: a file that exists, else the shipped config of that name, else the name itself.

    Known are 'mmdet_ft::retinanet/retinanet_r50_fpn_1x_coco.py', the same without its scope and ending, with configs/
    before it, and 'retinanet_r50_fpn_1x_coco' where only one has that name. Raises ConfigNotFoundError, with the
    nearest name, for an unknown name after '::', and for a path whose folder is not there either.
    """
    text = os.fspath(name)
    path = osp.expanduser(text)
    if not is_scoped(text):
        is_file_name = osp.basename(text) == text and text.endswith(ENDINGS)
        if is_file_name or osp.isabs(path) or _exists(path):
            return text
        found = _unscoped(text.replace('\\', '/'))
        if found or osp.isdir(osp.dirname(path)) or not nearest(text):
            return found or text
    elif osp.isfile(scoped_path(text)):
        return scoped_path(text)
    raise ConfigNotFoundError(f'no config {text}{nearest(text)}')


def _exists(path: str) -> bool:
    """Return whether there is such a file or folder, also if the ending of the file is left out."""
    return any(osp.exists(path + ending) for ending in ('', *ENDINGS))


def _unscoped(text: str) -> Optional[str]:
    """Return the path of the shipped config that a relative path names, or None."""
    rest = text[len('configs/'):] if text.startswith('configs/') else text
    wanted = (rest, *(f'{rest}{ending}' for ending in ENDINGS))
    found = [known for known in _all_names() if known in wanted]
    if not found and '/' not in rest:
        found = [known for known in names() if osp.basename(known) in wanted]
    return osp.join(FOLDER, *found[0].split('/')) if len(found) == 1 else None
