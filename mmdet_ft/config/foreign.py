"""Advice for config syntax of other projects and of the shell: the V2 form to write instead.

Nothing here executes or translates such a config: a message gives the line to write.
"""
import ast
import glob
import os
import os.path as osp
from typing import Iterator, List, Optional, Union

from mmdet_ft.config import shipped as shipped_configs

PACKAGES = ('mmdet', 'mmcls', 'mmcv', 'mmpretrain', 'mmseg', 'mmengine')


def read_base_answer(source: str) -> Optional[str]:
    """Return 'LINE: what to write' for a config with `with read_base():`, or None for any other."""
    if 'read_base' not in source:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    blocks = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.With) and any('read_base' in ast.unparse(item.context_expr)
                                              for item in node.items)
    ]
    if not blocks:
        return None
    bases = [base for block in blocks for node in block.body for base in _paths_of(node)]
    written = repr(bases[0]) if len(bases) == 1 else repr(bases)
    return (f'{blocks[0].lineno}: read_base() is of the lazy configs of MMDetection 3; '
            f'write _base_ = {written} and change its values by dict(...) of the same names')


def _paths_of(node: ast.stmt) -> Iterator[str]:
    """Yield the files that a relative import names.

    `from .._base_.models.a import *` is ../_base_/models/a.py.
    """
    if not isinstance(node, ast.ImportFrom):
        return
    start = './' if node.level == 1 else '../' * (node.level - 1)
    if node.module:
        yield f'{start}{node.module.replace(".", "/")}.py'
    else:  # from . import a, b
        yield from (f'{start}{alias.name}.py' for alias in node.names)


def import_answer(error: ImportError, line: str) -> str:
    """Return advice for an import from a package that configs of other projects import types from."""
    root = (error.name or '').partition('.')[0]
    if root == 'detectron2':
        return ('. This is a lazy config of Detectron2; here a part is written '
                "dict(type='Name', argument=...) and bases are named by _base_ = [...]")
    if root not in PACKAGES:
        return ''
    names = _imported(line)
    example = next((name for name in names if name[:1].isupper()), None)
    if example:
        return f". A config imports no types: it names them by text, dict(type={example!r}, ...)"
    return ('. A config imports nothing of that package: types are named by text, '
            "dict(type='Name', ...), and bases by _base_ = [...]")


def _imported(line: str) -> List[str]:
    try:
        return [
            alias.name for node in ast.parse(line.strip()).body if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
    except SyntaxError:  # a statement of several lines
        return []


def base_attributes(source: str, first: int, last: int) -> List[str]:
    """Return dotted names read as `_base_.a.b` or `_base_['a']` in some lines, the MMDetection 3 form."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and first <= node.lineno <= last:
            dotted = _dotted(node)
            if dotted and dotted.startswith('_base_.'):
                found.append(dotted[len('_base_.'):])
    # _base_.a is a node of _base_.a.b too
    return [
        name for name in dict.fromkeys(found)
        if not any(other != name and other.startswith(f'{name}.') for other in found)
    ]


def _dotted(node: ast.AST) -> Optional[str]:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f'{before}.{node.attr}'
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(
            node.slice.value, str):
        before = _dotted(node.value)
        return before and f'{before}.{node.slice.value}'
    return None


def base_answer(written: Union[str, os.PathLike], base: str, folder: str,
                endings: tuple) -> Optional[str]:
    """Return the correct form of a base that is not a file, or None if its form gives no hint.

    Args:
        written: the base as written in the config.
        base: its absolute path.
        folder: folder of the config.
        endings: extensions of configs.
    """
    text = os.fspath(written)
    if '::' in text:
        if shipped_configs.is_scoped(text):
            return shipped_configs.nearest(text)
        package, _, name = text.partition('::')
        return (
            f'; {package}:: names a config of a package that is not here: write a path, or mmdet_ft::NAME'
            f'{shipped(name, folder)}')
    if text.startswith(('http://', 'https://', 'ftp://', 's3://')):
        return '; a base is a file on this machine: download it, with its own bases, and write its path'
    if '$' in text or '%' in text:
        return (
            "; variables of the shell are not filled in: write the path, or '{{$HOME:/home/me}}/...', "
            'which takes HOME from the environment')
    if any(letter in text for letter in '*?'):
        names = [osp.relpath(name, folder) for name in sorted(glob.glob(base))][:4]
        return f'; a base is one file: name each, _base_ = {names or ["a.py", "b.py"]!r}'
    for ending in endings:
        if osp.isfile(base + ending):
            return f'; with its ending: {text + ending!r}'
    if '\\' in text:
        slashes = text.replace('\\', '/')
        if osp.isfile(osp.join(folder, slashes)):
            return f'; with /, which every system reads: {slashes!r}'
    if osp.isdir(base):
        inside = sorted(name for name in os.listdir(base) if name.endswith(endings))
        example = osp.join(text, inside[0] if inside else 'a.py')
        return f': that is a folder; name a file in it, such as {example!r}'
    return None


def shipped(name: str, folder: str) -> str:
    """Return the location of a shipped config of this name, as the end of a message; '' if none."""
    parts = name.replace('\\', '/').split('/')
    for start in range(len(parts)):  # '../_base_/a.py' and 'configs/_base_/a.py' alike
        path = osp.join(shipped_configs.FOLDER, *parts[start:])
        if osp.isfile(path) and parts[start:] != ['']:
            relative = osp.relpath(path, folder)
            near = relative if relative.count(
                osp.pardir) < 4 else f'mmdet_ft::{"/".join(parts[start:])}'
            return f'; the project has one at {near!r}'
    return ''
