"""Reading of a config file and its bases, and their merge.

    read            bases first, then this file over them
      _read_file    one file: its own values and its bases; nothing merged yet
        _substitute {{ fileDirname }}, {{$NAME:default}}, and a placeholder for {{ _base_.x }}
        _run_python, or _parse_data of json and yaml, which executes nothing
      merge         the only code where one value replaces another
"""
import functools
import json
import os
import os.path as osp
import re
import traceback
import types
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import yaml

from mmdet_ft.config import foreign, shipped
from mmdet_ft.config.config_dict import is_object, item_at, map_leaves, merge, plain
from mmdet_ft.config.errors import (ConfigError, ConfigFileError, ConfigKeyError,
                                    ConfigNotFoundError, ConfigSyntaxError, ConfigTypeError,
                                    did_you_mean, display_path, format_location)
from mmdet_ft.config.layers import Layer
from mmdet_ft.config.lines import read_source

BASE_KEY = '_base_'
DEPRECATION_KEY = '_deprecation_'
RESERVED_KEYS = ('filename', 'text', 'pretty_text')  # attributes of Config
EXTENSIONS = shipped.ENDINGS


def read(
    path: str,
    text: Optional[str] = None,
    use_predefined_variables: bool = True,
    heirs: Tuple[str, ...] = ()
) -> Tuple[Dict[str, Any], str, List[Layer]]:
    """Return the merged values of a file and its bases, all texts, and the layers, bases first.

    Args:
        path: absolute path.
        text: used instead of the file's content.
        use_predefined_variables: for this file; bases always use them.
        heirs: the files that led here, the requested one first.
    """
    if path in heirs:
        circle = ' -> '.join(map(display_path, [*heirs[heirs.index(path):], path]))
        raise ConfigError(
            f'{display_path(heirs[-1])}: bases lead back to where they started: {circle}')
    file = _read_file(path, text_of(path) if text is None else text, use_predefined_variables)

    inherited: Dict[str, Any] = {}
    set_by: Dict[str, str] = {}
    texts: List[str] = []
    layers: List[Layer] = []
    for base in file.bases:
        values, base_text, base_layers = read(base, heirs=(*heirs, path))
        for key in values:
            if key in set_by:
                raise ConfigKeyError(
                    f'{file.line_of(BASE_KEY)}: {key!r} is set by two bases, {display_path(set_by[key])} '
                    f'and {display_path(base)}: take it out of one, or make one the base of the other'
                )
            set_by[key] = base
        inherited.update(values)
        texts.append(base_text)
        layers += base_layers

    values = file.values
    if '_base_.' in file.text:
        values = map_leaves(values, functools.partial(_base_variable, file, inherited))
    layers.append(Layer(values, path, file.source, bases=tuple(file.bases)))
    values = {name: value for name, value in values.items() if not is_object(value)}
    if file.bases:
        try:
            values = merge(values, inherited)
        except ConfigTypeError as error:
            path_of_value = str(error).partition(':')[0]
            raise ConfigTypeError(f'{file.line_of_key(path_of_value)}: {error}') from None
    return values, '\n'.join([*texts, f'{path}\n{file.text}']), layers


def _base_variable(file: '_File', inherited: Dict[str, Any], leaf: object) -> Any:
    """Return the value of a {{ _base_.x }} placeholder; any other value as it is."""
    match = _PLACEHOLDER.search(leaf) if isinstance(leaf, str) else None
    if not match:
        return leaf
    where = file.line_of(rf'\{{\{{\s*_base_\.{re.escape(match[1])}\s*\}}\}}')
    if match[0] != leaf:
        raise ConfigError(f'{where}: {leaf!r}{_WHOLE_VALUE}')
    try:
        return item_at(inherited, match[1])
    except KeyError as error:
        raise ConfigKeyError(f'{where}: none of the _base_ files sets {error.args[0]}') from None


# --- one file -------------------------------------------------------------------------------------


class _File(NamedTuple):
    """The content of one file, before anything is merged."""
    path: str  # absolute
    text: str
    source: str  # the text as executed: placeholders for {{ _base_.x }}, other braces replaced
    values: Dict[str, Any]  # still with placeholders
    bases: List[str]  # absolute paths, in the order written

    def line_of(self, *patterns: str) -> str:
        """Return `path:line` of regular expressions, each matched after the previous one; for messages."""
        index = 0
        for pattern in patterns:
            match = re.compile(pattern, re.MULTILINE).search(self.text, index)
            index = match.end() if match else index
        return format_location(self.path, self.text, index)

    def line_of_key(self, path: str) -> str:
        """Return `path:line` of a value by its dotted path; for messages."""
        return self.line_of(*(rf'\b{re.escape(key)}\b[\'"]?\s*[=:]' for key in path.split('.')))


def text_of(path: str) -> str:
    if not path.endswith(EXTENSIONS):
        found = next((path + ending for ending in EXTENSIONS if osp.isfile(path + ending)), None)
        hint = f'; did you mean {display_path(found)!r}?' if found else ''
        raise ConfigFileError(
            f'{display_path(path)}: a config is one of {", ".join(EXTENSIONS)}{hint}')
    try:
        with open(
                path, encoding='utf-8-sig') as file:  # some Windows editors write a byte order mark
            text = file.read()
    except FileNotFoundError:
        raise ConfigNotFoundError(f'no config {display_path(path)}{_near_file(path)}') from None
    except UnicodeDecodeError as error:
        what = 'UTF-16' if error.object[:2] in (b'\xff\xfe', b'\xfe\xff') else \
            f'another encoding than UTF-8, by its byte 0x{error.object[error.start]:02x}'
        line = 1 if what == 'UTF-16' else error.object.count(b'\n', 0, error.start) + 1
        raise ConfigFileError(
            f'{display_path(path)}:{line}: the file is in {what}; save it as UTF-8') from error
    except OSError as error:
        raise ConfigFileError(f'{display_path(path)}: cannot be read: {error}') from error
    if '\0' in text:  # UTF-16 without a byte order mark, or not text at all
        raise ConfigFileError(
            f'{display_path(path)}:1: the file has zero bytes, as UTF-16 does; save it as UTF-8')
    return text


def _near_file(path: str) -> str:
    folder, name = osp.split(path)
    sisters = os.listdir(folder) if osp.isdir(folder) else ()
    return did_you_mean(name, [sister for sister in sisters if sister != name])


def _elsewhere(path: str, base: str) -> str:
    """Return where the base is if its child config was copied to another folder."""
    folder = osp.dirname(osp.abspath(path))
    parent, name = osp.dirname(folder), osp.basename(base)
    found = [osp.join(parent, sister, name) for sister in sorted(os.listdir(parent))]
    near = next((candidate for candidate in found if osp.isfile(candidate)), None)
    return '' if near is None else f'; from the folder of this config it is {osp.relpath(near, folder)!r}'


def _read_file(path: str, text: str, use_predefined_variables: bool = True) -> _File:
    source = _substitute(path, text, use_predefined_variables) if '{{' in text else text
    values = _run_python(path, source) if path.endswith('.py') else _parse_data(path, source)
    written_bases = _as_list(values.pop(BASE_KEY, []))
    file = _File(path, text, source, values, _base_paths(path, written_bases))
    for written, base in zip(written_bases, file.bases):
        if not osp.isfile(base):
            folder = osp.dirname(path)
            form = foreign.base_answer(written, base, folder, EXTENSIONS)
            name = display_path(base) if form is None else repr(os.fspath(written))
            hint = form or _elsewhere(path, base) or _near_file(base) or foreign.shipped(
                os.fspath(written), folder)
            where = file.line_of(BASE_KEY, re.escape(osp.basename(os.fspath(written))))
            raise ConfigNotFoundError(f'{where}: no base {name}{hint}')
    for key in set(RESERVED_KEYS) & set(values):
        raise ConfigKeyError(f'{file.line_of_key(key)}: {key!r} is reserved; choose another name')

    if DEPRECATION_KEY in values:
        deprecation = values.pop(DEPRECATION_KEY)
        message = f'The config file {path} will be deprecated in the future.'
        if 'expected' in deprecation:
            message += f' Please use {deprecation["expected"]} instead.'
        if 'reference' in deprecation:
            message += f' More information can be found at {deprecation["reference"]}'
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    return file


def _as_list(bases: object) -> List[Any]:
    return list(bases) if isinstance(bases, (list, tuple)) else [bases]


def _base_paths(path: str, bases: List[Any]) -> List[str]:
    for base in bases:
        if not isinstance(base, (str, os.PathLike)):
            raise ConfigTypeError(
                f'{display_path(path)}: {BASE_KEY} takes paths of configs, not {base!r}')
    return [_base_path(osp.dirname(path), os.fspath(base)) for base in bases]


def _base_path(folder: str, base: str) -> str:
    """Return the absolute path of a base: of a shipped config by its name, or relative to the folder of its child."""
    if shipped.is_scoped(base):
        return shipped.scoped_path(base)
    return osp.abspath(osp.join(folder, osp.expanduser(base)))


_PREDEFINED = re.compile(r'\{\{\s*(file(?:Dirname|Basename|BasenameNoExtension|Extname))\s*\}\}')
_ENVIRONMENT = re.compile(r'\{\{\s*\$(\w+)\s*:\s*([^\s}]*)\s*\}\}')
_BASE_VARIABLE = re.compile(r'(["\']?)\{\{\s*_base_\.([\w.]+)\s*\}\}\1')  # quotes are optional
_PLACEHOLDER = re.compile(r'\$_base_\.([\w.]+)\$')  # kept in the values until the bases are read
_WHOLE_VALUE = '. {{ _base_.x }} must be a value of its own, not part of a string or expression'


def _substitute(path: str, text: str, use_predefined_variables: bool) -> str:
    """Replace {{ fileDirname }} and similar, {{$NAME:default}}, and {{ _base_.x }} (deferred)."""

    def environment(match):
        value = os.environ.get(match[1]) or match[2]
        if not value:
            raise ConfigKeyError(
                f'{format_location(path, text, match.start())}: environment variable '
                f'{match[1]!r} is not set, and there is no default')
        return value

    if use_predefined_variables:
        basename = osp.basename(path)
        stem, extension = osp.splitext(basename)
        predefined = dict(
            fileDirname=osp.dirname(path).replace('\\', '/'),
            fileBasename=basename,
            fileBasenameNoExtension=stem,
            fileExtname=extension)
        text = _PREDEFINED.sub(lambda match: predefined[match[1]], text)
    text = _ENVIRONMENT.sub(environment, text)
    # Identical text each time, so that the compiled code can be reused.
    return _BASE_VARIABLE.sub(lambda match: f'"$_base_.{match[2]}$"', text)


@functools.lru_cache(maxsize=1024)
def _compile(source: str, path: str) -> types.CodeType:
    return compile(source, path, 'exec', dont_inherit=True)


def _run_python(path: str, source: str) -> Dict[str, Any]:
    """Run a python config and return the names that it sets.

    Modules, functions, classes and leftover variables of a `for` or `with` are left out. Paths become
    strings and numpy numbers python numbers, so that every value can be written.
    """
    answer = foreign.read_base_answer(source)
    if answer:
        raise ConfigError(f'{display_path(path)}:{answer}')
    namespace = {'__name__': osp.splitext(osp.basename(path))[0], '__file__': path}
    try:
        exec(_compile(source, path), namespace)
    except SyntaxError as error:
        where = f'{display_path(error.filename or path)}:{error.lineno}'
        code = (error.text or '').strip()
        hint = _WHOLE_VALUE if _BASE_VARIABLE.search(code) else ''
        if 'unicodeescape' in str(error.msg):  # 'C:\Users'
            hint = ". Of a path with \\: write r'...', or / for each \\"
        raise ConfigSyntaxError(f'{where}: {error.msg}: {code}{hint}') from error
    except ConfigError:  # raised by a config that this one loads
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == path]
        line = own[-1].lineno or 1 if own else 1
        raise ConfigError(f'{display_path(path)}:{line}: {type(error).__name__}: {error}'
                          f'{_hint(error, path, source, line, namespace)}') from error
    tools = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    left_over = read_source(source, True).left_over
    values = {}
    for name, value in namespace.items():
        if str(name).startswith('__') or isinstance(value, tools) or name in left_over:
            continue
        try:
            values[name] = plain(value)
        except RecursionError:
            raise ConfigError(
                f'{display_path(path)}: {name} contains itself, or is nested too deep') from None
    return values


def _hint(error: Exception, path: str, source: str, line: int, namespace: Dict[str, Any]) -> str:
    """Return the most likely intention of a python config's author."""
    if isinstance(error, TypeError) and _PLACEHOLDER.search(repr(namespace)):
        return _WHOLE_VALUE
    if isinstance(error, ImportError):
        return foreign.import_answer(error, source.splitlines()[line - 1])
    if isinstance(error, (AttributeError, TypeError, KeyError)):
        names = foreign.base_attributes(source, line, line)
        if names:
            value = _inherited(path, namespace, names[0])
            return (
                f'. _base_.{names[0]} is a form of MMDetection 3: write {{{{ _base_.{names[0]} }}}}, '
                f'as a value of its own{value}')
    name = getattr(error, 'name', None)
    if not isinstance(error, NameError) or not name:
        return ''
    inherited = _values_of_bases(path, namespace)
    if name in inherited:
        return f'. It is set in a base: write {{{{ _base_.{name} }}}}'
    return did_you_mean(name, [*namespace, *inherited])


def _values_of_bases(path: str, namespace: Dict[str, Any]) -> Dict[str, Any]:
    inherited = {}
    try:
        for base in _base_paths(path, _as_list(namespace.get(BASE_KEY, []))):
            inherited.update(read(base, heirs=(path, ))[0])
    except ConfigError:  # another mistake; the first one is reported first
        pass
    return inherited


def _inherited(path: str, namespace: Dict[str, Any], name: str) -> str:
    """Describe the bases' value at a dotted path, which an expression cannot use but its author can."""
    try:
        value = item_at(_values_of_bases(path, namespace), name)
    except KeyError:
        return ''
    return '' if isinstance(value,
                            (dict,
                             list)) else f' (here {value!r}); in an expression write {value!r}'


_FastLoader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)  # C's, if built


class _YamlLoader(_FastLoader):
    """Plain data, and tuples as dumped by `Config.dump`. A date stays text: it is a folder's name or a version."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in rules if not tag.endswith(':timestamp')]
        for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Dict[Any, Any]:
        seen: Dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != 'tag:yaml.org,2002:merge':
                if key.value in seen:
                    raise _DuplicateKeyError(key.value, seen[key.value].start_mark.line + 1,
                                             key.start_mark.line + 1)
                seen[key.value] = key
        return super().construct_mapping(node, deep)


_YamlLoader.add_constructor('tag:yaml.org,2002:python/tuple',
                            lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


class _DuplicateKeyError(Exception):
    """A duplicate key in one mapping, with the lines where they are known."""

    def __init__(self, key: str, first: Optional[int] = None, second: Optional[int] = None):
        super().__init__(key)
        self.key, self.first, self.second = key, first, second


def _refuse_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return values


def _parse_data(path: str, source: str) -> Dict[str, Any]:
    try:
        values = json.loads(
            source, object_pairs_hook=_refuse_duplicates) if path.endswith('.json') else yaml.load(
                source, _YamlLoader)
    except json.JSONDecodeError as error:
        raise ConfigSyntaxError(f'{display_path(path)}:{error.lineno}: {error.msg}') from error
    except _DuplicateKeyError as error:
        if error.second is None:  # json has no line numbers; it is valid yaml too
            try:
                yaml.load(source.replace('\t', ' '), _YamlLoader)
            except _DuplicateKeyError as same:
                error = same
            except yaml.YAMLError:
                pass
        where = display_path(path) + (f':{error.second}' if error.second else '')
        before = f', on line {error.first} too' if error.first else ''
        raise ConfigKeyError(
            f'{where}: {error.key!r} is set twice in one dict{before}; keep one') from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, 'problem_mark', None), getattr(error, 'problem', None)
        where = f'{display_path(path)}:{mark.line + 1 if mark else 1}'
        raise ConfigSyntaxError(f'{where}: {problem or error}') from error
    if not isinstance(values, (dict, type(None))):
        raise ConfigTypeError(
            f'{display_path(path)}: a config maps names to values; this is {values!r}')
    return values or {}
