"""Safe reading of untrusted files: pickles and configs of checkpoints without executing anything,
archives without leaving their folder."""
import ast
import gc
import os
import pickle
import shutil
import tarfile
import zipfile
import zlib
from typing import Any, Callable, Iterator, Tuple

from mmdet_ft.errors import UntrustedFileError
from mmdet_ft.pickle_values import (NAMED, OLD_MODULES, VALUES, Name, Plan, Refused, UnknownName,
                                    build_plans)


class _Function:
    """A function of the table, which a pickle can call but not change."""

    __slots__ = ('function', )

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused('sets the state of a function')


class _Unpickler(pickle.Unpickler):
    """Python's own fast unpickler, with plans for the names of a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        path = f'{OLD_MODULES.get(module, module)}.{name}'
        if path in NAMED or path == 'numpy.ndarray':  # an argument of others
            return Name(path)
        if path not in VALUES:
            raise UnknownName(path)
        value = VALUES[path]
        return value if isinstance(value, type) and issubclass(value, Plan) else _Function(value)


def load_pickle(path: str, encoding: str = 'ASCII') -> Any:
    """Return the value in a pickle of numpy arrays and plain python values, without executing it.

    Ordered dicts and similar types become dicts, numpy numbers become python numbers. encoding: of
    strings written by Python 2.

    Raises UntrustedFileError for any other class or function, and for a file that is not a pickle.
    """
    collects = gc.isenabled()
    with open(path, 'rb') as file:
        gc.disable()  # collecting the many small objects of results would take most of the time
        try:
            return build_plans(_Unpickler(file, encoding=encoding).load())
        except UnknownName as error:
            raise UntrustedFileError(f'{path} asks for {error.name}, which could run code; only '
                                     'numpy arrays and plain python values are read') from None
        except Refused as error:
            raise UntrustedFileError(f'{path} {error}') from None
        except Exception as error:  # a broken file can raise any error
            raise UntrustedFileError(
                f'{path} is not a whole pickle file: {error or type(error).__name__}') from None
        finally:
            if collects:
                gc.enable()


def require_plain_config(text: str, source: str) -> None:
    """Reject a python config that is more than values; the others are safe to run.

    Allowed are names bound to constants, lists, tuples, sets, dicts and `dict(...)`, the only contents of a
    dumped config. Raises UntrustedFileError, which names `source`, for anything else: other calls, imports,
    bases, substituted variables.
    """
    code = 'it is not run. If you trust it, give its config as a file'
    if '{{' in text:
        raise UntrustedFileError(f'the config in {source} has variables to be filled in: {code}')
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UntrustedFileError(f'the config in {source} is not python: {error}') from None
    for statement in statements:
        if not (isinstance(statement, ast.Assign) and all(map(_is_name, statement.targets))
                and _is_plain(statement.value)):
            line = text.splitlines()[statement.lineno - 1].strip()
            raise UntrustedFileError(
                f'the config in {source} is more than values, {line!r}: {code}')


def _is_name(target: ast.AST) -> bool:
    if isinstance(target, ast.Subscript):  # globals()['a name that is not an identifier']
        call = target.value
        return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and \
            call.func.id == 'globals' and not call.args and not call.keywords and \
            isinstance(target.slice, ast.Constant) and target.slice.value != '_base_'
    return isinstance(target, ast.Name) and target.id != '_base_'


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return all(map(_is_plain, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and _is_plain(key)
                   for key in node.keys) and all(map(_is_plain, node.values))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.UAdd, ast.USub)) and isinstance(node.operand, ast.Constant)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    if node.func.id in ('float', 'range', 'set'):  # float('inf'), V2's gpu_ids = range(0, 1), set()
        return not node.keywords and all(map(
            _is_number_or_text, node.args)) and (node.func.id != 'set' or not node.args)
    return node.func.id == 'dict' and not node.args and all(
        keyword.arg is not None and _is_plain(keyword.value) for keyword in node.keywords)


def _is_number_or_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) or isinstance(node, ast.UnaryOp) and isinstance(
        node.operand, ast.Constant)


def inside(folder: str, name: str) -> str:
    """Return the path of `name` (with / between its parts) in `folder`.

    Raises UntrustedFileError if it would be outside.
    """
    folder = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(folder, name))
    # Both kinds of slashes and a drive: a plain name here may be a path elsewhere.
    if '\\' in name or os.path.splitdrive(name)[0] or not path.startswith(os.path.join(folder, '')):
        raise UntrustedFileError(f'{name!r} would be written outside {folder}')
    return path


def extract(archive: str, folder: str) -> None:
    """Unpack a .zip or .tar(.gz, .bz2, .xz) into `folder`, which is created if needed.

    Only files and folders are unpacked, with the permissions of new files. Raises
    UntrustedFileError, before anything is written, if a member is outside `folder` or is a link or
    a device, and for a file that is not an archive.
    """
    kind = zipfile.ZipFile if zipfile.is_zipfile(archive) else tarfile.open
    try:
        with kind(archive) as opened:
            members = list(_members(opened))
            targets = [inside(folder, name) for name, _ in members]
            for index, (_, member) in zip(targets, members):
                os.makedirs(os.path.dirname(index), exist_ok=True)
                source = opened.open(member) if kind is zipfile.ZipFile \
                    else opened.extractfile(member)
                with source, open(index, 'wb') as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except UntrustedFileError as error:
        raise UntrustedFileError(f'{archive}: {error}') from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UntrustedFileError(f'{archive} is not a whole zip or tar archive: {error}') from None


def _members(opened: Any) -> Iterator[Tuple[str, Any]]:
    """Yield (name, member) of every file of an archive."""
    if isinstance(opened, zipfile.ZipFile):
        for member in opened.infolist():
            # Unix keeps the file type in the upper 16 bits; 0 if unknown.
            if (member.external_attr >> 28) not in (0, 0o04, 0o10):
                raise UntrustedFileError(f'{member.filename!r} is a link or a device')
            if not member.is_dir():
                yield member.filename, member
        return
    for member in opened.getmembers():
        if not (member.isfile() or member.isdir()):
            raise UntrustedFileError(f'{member.name!r} is a link or a device')
        if member.isfile():
            yield member.name, member
