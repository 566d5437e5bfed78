"""V2 configs: read, merge, override, print.

    load_config(path, cfg_options)   what every command does
      Config.fromfile                the file and its bases
        _load                        bases first, then this file over them
          _read                      one file: its own values and its bases; nothing merged yet
        _merge                       the only place where one value replaces another
      replace_cfg_vals               '${key}' in values
      update_data_root               MMDET_DATASETS
      Config.merge_from_dict         --cfg-options

Reading runs a python config and nothing else: `custom_imports` wait for `import_custom_modules`,
which is called just before something is built. json and yaml configs never run anything.
"""
import ast
import difflib
import functools
import importlib
import json
import keyword
import os
import os.path as osp
import re
import sys
import traceback
import types
import warnings
from argparse import Action
from copy import deepcopy
from typing import (Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import yaml
from addict import Dict as AddictDict

from mmdet_ft.config_lines import read_source

PathLike = Union[str, os.PathLike]

BASE_KEY = '_base_'
DELETE_KEY = '_delete_'
DEPRECATION_KEY = '_deprecation_'
RESERVED_KEYS = ('filename', 'text', 'pretty_text')  # attributes of Config
EXTENSIONS = ('.py', '.json', '.yaml', '.yml')

DATA_ROOT_VARIABLE = 'MMDET_DATASETS'


class ConfigError(Exception):
    """A mistake in a config; the message says `path:line: what is wrong`, as far as these are known."""


class ConfigFileError(ConfigError, OSError):
    """A file that is no config: wrong extension, not readable."""


class ConfigNotFoundError(ConfigFileError, FileNotFoundError):
    """A config, or a base of one, that does not exist."""


class ConfigSyntaxError(ConfigError, SyntaxError):
    """A file that does not parse."""


class ConfigTypeError(ConfigError, TypeError):
    """A dict over something that is none, or the other way round."""


class ConfigKeyError(ConfigError, KeyError):
    """A key that is reserved, set twice, or not there."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return str(self.args[0])


class CheckError(ConfigError):
    """What a config says that nothing understands; a command ends with exit code 2.

    `mistakes` lists all of it, see mmdet_ft.engine.checks.config.
    """
    exit_code = 2
    mistakes: Sequence[Any] = ()


# --- values ---------------------------------------------------------------------------------------


class ConfigDict(AddictDict):
    """A dict whose keys are attributes too; a missing attribute raises AttributeError.

    Made from a dict it copies all containers inside. Put in later, a dict becomes a ConfigDict.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        dict.__init__(self, *args, **kwargs)  # addict's own loop takes twice as long
        for key, value in self.items():
            if isinstance(value, (dict, list, tuple)):
                dict.__setitem__(self, key, _to_config_dicts(value, copying=True))

    def __missing__(self, name: Any) -> Any:
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            near = '' if name.startswith('_') else _did_you_mean(name, self)
            raise AttributeError(f'ConfigDict has no attribute {name!r}{near}') from None

    def __setitem__(self, name: Any, value: Any) -> None:
        super().__setitem__(name, _to_config_dicts(value, copying=False))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]  # not `default`: what is stored may be its ConfigDict

    def to_dict(self) -> Dict[Any, Any]:
        """The same tree of plain dicts."""
        return _map_leaves(self, lambda leaf: leaf)

    def __reduce_ex__(self, protocol: int) -> Tuple:
        return type(self), (dict(self), )


def _to_config_dicts(value: Any, copying: bool) -> Any:
    """`value` with ConfigDicts for its dicts; not `copying`, what is right already stays as it is."""
    if isinstance(value, dict):
        return value if not copying and isinstance(value, ConfigDict) else ConfigDict(value)
    if isinstance(value, (list, tuple)):
        items = [_to_config_dicts(item, copying) for item in value]
        if copying or any(new is not old for new, old in zip(items, value)):
            return _rebuild(value, items)
    return value


def _map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """A tree of plain dicts with `change` applied to whatever is no container."""
    if isinstance(value, dict):
        return {key: _map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _rebuild(value, [_map_leaves(item, change) for item in value])
    return change(value)


def _rebuild(sequence: Union[list, tuple], items: List[Any]) -> Union[list, tuple]:
    """A list or tuple of the same type with other items."""
    if type(sequence) is list:
        return items
    return type(sequence)(*items) if hasattr(sequence, '_fields') else type(sequence)(items)


def _item(tree: Any, path: str) -> Any:
    """What lies at a dotted path; numbers are places in lists. KeyError tells the missing step."""
    for step in path.split('.'):
        if isinstance(tree, (list, tuple)) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        elif isinstance(tree, dict) and step in tree:
            tree = tree[step]
        else:
            raise KeyError(repr(step) + _did_you_mean(step, tree if isinstance(tree, dict) else ()))
    return tree


def _did_you_mean(name: Any, names: Iterable[Any]) -> str:
    near = difflib.get_close_matches(str(name), [key for key in names if isinstance(key, str)], n=1)
    return f'; did you mean {near[0]!r}?' if near else ''


# --- one file -------------------------------------------------------------------------------------


class _File(NamedTuple):
    """What one file says itself, before anything is merged."""
    path: str  # absolute
    text: str
    source: str  # the text as it is run: placeholders for {{ _base_.x }}, other braces replaced
    values: Dict[str, Any]  # with those placeholders
    bases: List[str]  # absolute paths, in the order written

    def line_of(self, *patterns: str) -> str:
        """`path:line` of what regular expressions match, each after the one before; for messages."""
        place = 0
        for pattern in patterns:
            match = re.compile(pattern, re.MULTILINE).search(self.text, place)
            place = match.end() if match else place
        return _where(self.path, self.text, place)

    def line_of_key(self, path: str) -> str:
        """`path:line` of a value, by its dotted path; for messages."""
        return self.line_of(*(rf'\b{re.escape(key)}\b[\'"]?\s*[=:]' for key in path.split('.')))


def _where(path: str, text: str, place: int) -> str:
    return f'{_shown(path)}:{text.count(chr(10), 0, place) + 1}'


def _shown(path: str) -> str:
    """A path as the user would type it."""
    relative = osp.relpath(path)
    return path if relative.startswith(osp.pardir) else relative


def _text_of(path: str) -> str:
    if not path.endswith(EXTENSIONS):
        raise ConfigFileError(f'{_shown(path)}: a config is one of {", ".join(EXTENSIONS)}')
    try:
        with open(path, encoding='utf-8-sig') as file:  # some editors on Windows put a mark first
            return file.read()
    except FileNotFoundError:
        raise ConfigNotFoundError(f'no config {_shown(path)}{_near_file(path)}') from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFileError(f'{_shown(path)}: cannot be read: {error}') from error


def _near_file(path: str) -> str:
    folder = osp.dirname(path)
    return _did_you_mean(osp.basename(path), os.listdir(folder) if osp.isdir(folder) else ())


def _read(path: str, text: str, use_predefined_variables: bool = True) -> _File:
    source = _substitute(path, text, use_predefined_variables) if '{{' in text else text
    values = _run_python(path, source) if path.endswith('.py') else _parse_data(path, source)
    file = _File(path, text, source, values, _base_paths(path, values.pop(BASE_KEY, [])))
    for base in file.bases:
        if not osp.isfile(base):
            where = file.line_of(BASE_KEY, re.escape(osp.basename(base)))
            raise ConfigNotFoundError(f'{where}: no base {_shown(base)}{_near_file(base)}')
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


def _base_paths(path: str, bases: Any) -> List[str]:
    bases = bases if isinstance(bases, (list, tuple)) else [bases]
    for base in bases:
        if not isinstance(base, (str, os.PathLike)):
            raise ConfigTypeError(
                f'{_shown(path)}: {BASE_KEY} takes paths of configs, not {base!r}')
    return [osp.abspath(osp.join(osp.dirname(path), osp.expanduser(base))) for base in bases]


_PREDEFINED = re.compile(r'\{\{\s*(file(?:Dirname|Basename|BasenameNoExtension|Extname))\s*\}\}')
_ENVIRONMENT = re.compile(r'\{\{\s*\$(\w+)\s*:\s*([^\s}]*)\s*\}\}')
_BASE_VARIABLE = re.compile(r'(["\']?)\{\{\s*_base_\.([\w.]+)\s*\}\}\1')  # quotes do not matter
_PLACEHOLDER = re.compile(r'\$_base_\.([\w.]+)\$')  # stands in the values until the bases are read
_WHOLE_VALUE = '. {{ _base_.x }} must be a value of its own, not part of a string or expression'


def _substitute(path: str, text: str, use_predefined_variables: bool) -> str:
    """Replace {{ fileDirname }} and its sisters, {{$NAME:default}}, and {{ _base_.x }} (later)."""

    def environment(match):
        value = os.environ.get(match[1]) or match[2]
        if not value:
            raise ConfigKeyError(f'{_where(path, text, match.start())}: environment variable '
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
    # The same text each time, so that the code compiled from it can be used again.
    return _BASE_VARIABLE.sub(lambda match: f'"$_base_.{match[2]}$"', text)


@functools.lru_cache(maxsize=1024)
def _compile(source: str, path: str) -> types.CodeType:
    return compile(source, path, 'exec', dont_inherit=True)


def _run_python(path: str, source: str) -> Dict[str, Any]:
    """The names that a python config sets, but for modules, functions and classes."""
    namespace = {'__name__': osp.splitext(osp.basename(path))[0], '__file__': path}
    try:
        exec(_compile(source, path), namespace)
    except SyntaxError as error:
        where = f'{_shown(error.filename or path)}:{error.lineno}'
        code = (error.text or '').strip()
        hint = _WHOLE_VALUE if _BASE_VARIABLE.search(code) else ''
        raise ConfigSyntaxError(f'{where}: {error.msg}: {code}{hint}') from error
    except ConfigError:  # from a config that this one loads
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = [1, *(frame.lineno for frame in frames if frame.filename == path)][-1]
        raise ConfigError(f'{_shown(path)}:{line}: {type(error).__name__}: {error}'
                          f'{_hint(error, path, namespace)}') from error
    tools = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith('__') and not isinstance(value, tools)
    }


def _hint(error: Exception, path: str, namespace: Dict[str, Any]) -> str:
    """What the author of a python config most likely meant."""
    if isinstance(error, TypeError) and _PLACEHOLDER.search(repr(namespace)):
        return _WHOLE_VALUE
    name = getattr(error, 'name', None)
    if not isinstance(error, NameError) or not name:
        return ''
    inherited = {}
    try:
        for base in _base_paths(path, namespace.get(BASE_KEY, [])):
            inherited.update(_load(base, heirs=(path, ))[0])
    except ConfigError:  # another mistake; the first one first
        return ''
    if name in inherited:
        return f'. It is set in a base: write {{{{ _base_.{name} }}}}'
    return _did_you_mean(name, [*namespace, *inherited])


class _YamlLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """Plain data, and tuples as dumped by `Config.dump`."""


_YamlLoader.add_constructor('tag:yaml.org,2002:python/tuple',
                            lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


def _parse_data(path: str, source: str) -> Dict[str, Any]:
    try:
        values = json.loads(source) if path.endswith('.json') else yaml.load(source, _YamlLoader)
    except json.JSONDecodeError as error:
        raise ConfigSyntaxError(f'{_shown(path)}:{error.lineno}: {error.msg}') from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, 'problem_mark', None), getattr(error, 'problem', None)
        where = f'{_shown(path)}:{mark.line + 1 if mark else 1}'
        raise ConfigSyntaxError(f'{where}: {problem or error}') from error
    if not isinstance(values, (dict, type(None))):
        raise ConfigTypeError(f'{_shown(path)}: a config maps names to values; this is {values!r}')
    return values or {}


# --- bases and merging ----------------------------------------------------------------------------


def _load(
    path: str,
    text: Optional[str] = None,
    use_predefined_variables: bool = True,
    heirs: Tuple[str, ...] = ()
) -> Tuple[Dict[str, Any], str, List['Layer']]:
    """The merged values of a file and its bases, all their texts, and what each said, bases first.

    Args:
        path: absolute path.
        text: instead of the file's content.
        use_predefined_variables: of this file; bases always do.
        heirs: the files that led here, the one asked for first.
    """
    if path in heirs:
        circle = ' -> '.join(map(_shown, [*heirs[heirs.index(path):], path]))
        raise ConfigError(f'{_shown(heirs[-1])}: bases lead back to where they started: {circle}')
    file = _read(path, _text_of(path) if text is None else text, use_predefined_variables)

    inherited, set_by, texts, layers = {}, {}, [], []
    for base in file.bases:
        values, base_text, base_layers = _load(base, heirs=(*heirs, path))
        for key in values:
            if key in set_by:
                raise ConfigKeyError(
                    f'{file.line_of(BASE_KEY)}: {key!r} is set by two bases, {_shown(set_by[key])} '
                    f'and {_shown(base)}: take it out of one, or make one the base of the other')
            set_by[key] = base
        inherited.update(values)
        texts.append(base_text)
        layers += base_layers

    values = file.values
    if '_base_.' in file.text:
        values = _map_leaves(values, functools.partial(_base_variable, file, inherited))
    layers.append(Layer(values, path, file.source))
    if file.bases:
        try:
            values = _merge(values, inherited)
        except ConfigTypeError as error:
            path_of_value = str(error).partition(':')[0]
            raise ConfigTypeError(f'{file.line_of_key(path_of_value)}: {error}') from None
    return values, '\n'.join([*texts, f'{path}\n{file.text}']), layers


def _base_variable(file: _File, inherited: Dict[str, Any], leaf: Any) -> Any:
    """What a placeholder of {{ _base_.x }} stands for; any other value as it is."""
    match = _PLACEHOLDER.search(leaf) if isinstance(leaf, str) else None
    if not match:
        return leaf
    where = file.line_of(rf'\{{\{{\s*_base_\.{re.escape(match[1])}\s*\}}\}}')
    if match[0] != leaf:
        raise ConfigError(f'{where}: {leaf!r}{_WHOLE_VALUE}')
    try:
        return _item(inherited, match[1])
    except KeyError as error:
        raise ConfigKeyError(f'{where}: no base sets {error.args[0]}') from None


def _merge(child: Dict[str, Any], base: Any, allow_list_keys: bool = False, path: str = '') -> Any:
    """`base` with `child` over it, dict by dict; neither is changed.

    A dict of the child with `_delete_=True` replaces its counterpart. With `allow_list_keys` a child
    {'0': value} changes the first item of a list. Raises ConfigTypeError for a dict over something
    else, ConfigKeyError for a place that a list does not have.
    """
    merged = dict(base) if isinstance(base, dict) else dict(enumerate(base))
    for key, value in child.items():
        step = f'{path}.{key}' if path else str(key)
        if not isinstance(base, dict):
            if not str(key).isdigit() or int(key) >= len(base):
                raise ConfigKeyError(f'{step}: {path} is a list of {len(base)}, numbered from 0')
            key = int(key)
        merged[key] = _over(value, merged[key], allow_list_keys, step) if key in merged else value
    return merged if isinstance(base, dict) else _rebuild(base, list(merged.values()))


def _over(value: Any, base: Any, allow_list_keys: bool, path: str) -> Any:
    if not isinstance(value, dict):
        return value
    heir = {key: item for key, item in value.items() if key != DELETE_KEY}
    # From None there is nothing to inherit. (V2 asks for _delete_=True even so.)
    if value.get(DELETE_KEY, False) or base is None:
        return heir
    if isinstance(base, dict) or allow_list_keys and isinstance(base, (list, tuple)):
        return _merge(heir, base, allow_list_keys, path)
    raise ConfigTypeError(f'{path}: is a dict here but {base!r} in the base; '
                          f'write {DELETE_KEY}=True into the dict to replace that')


# --- where values come from -----------------------------------------------------------------------


class Layer(NamedTuple):
    """What one file, the command line or the environment put over the layers before it."""
    values: Dict[str, Any]  # its own, `_delete_` included; never changed
    path: Optional[str] = None  # of a file, absolute; None for all else
    source: str = ''
    label: str = ''  # what stands for a file: '--cfg-options'
    moved: Optional[Tuple[str,
                          str]] = None  # (old path, new path): a rewriting put a value elsewhere

    def where(self, steps: Tuple[str, ...]) -> str:
        """`path:line` of the key that sets a value, or the label."""
        if self.path is None:
            return f'{self.label} {".".join(steps)}' if self.label == OPTIONS_LABEL else self.label
        line = None
        try:
            line = read_source(self.source, self.path.endswith('.py')).line_of(steps)
        except (SyntaxError,
                yaml.YAMLError):  # it has been loaded, so this is a way of writing not foreseen
            pass
        return f'{_shown(self.path)}:{line}' if line else _shown(self.path)

    def says(self, steps: Tuple[str, ...]) -> Tuple[str, Any]:
        """('sets', value), ('drops', None) where it replaces something around by a thing without it, or ('', None)."""
        node, whole = self.values, False
        for step in steps:
            if isinstance(node, dict):
                whole = whole or bool(node.get(DELETE_KEY, False))
                if step not in node:
                    return ('drops', None) if whole else ('', None)
                node = node[step]
            elif isinstance(node, (list, tuple)) and step.isdigit() and int(step) < len(node):
                node, whole = node[int(step)], True
            else:
                return 'drops', None
        return 'sets', node


OPTIONS_LABEL = '--cfg-options'


class Setting(NamedTuple):
    """One entry of a value's history."""
    where: str  # 'configs/a.py:12', '--cfg-options model.depth', 'MMDET_DATASETS'
    value: Any  # as written there: of a dict only what is said there
    is_dropped: bool = False  # replaced with something around it
    file: Optional[str] = None  # absolute path


def _trace(steps: Tuple[str, ...], layers: Iterable[Layer]) -> List[Setting]:
    settings: List[Setting] = []
    for index, layer in enumerate(layers):
        if layer.moved is not None:
            old, new = (tuple(path.split('.')) for path in layer.moved)
            if steps[:len(new)] == new:
                settings += _trace(old + steps[len(new):], layers[:index])
            continue
        verb, value = layer.says(steps)
        if verb == 'sets' and not (layer.label == DATA_ROOT_VARIABLE and settings
                                   and settings[-1].value == value):
            settings.append(Setting(layer.where(steps), value, file=layer.path))
        elif verb == 'drops' and settings and not settings[-1].is_dropped:
            known = steps
            while layer.says(known)[0] != 'sets':  # the replacement around it
                known = known[:-1]
            settings.append(Setting(layer.where(known), None, is_dropped=True, file=layer.path))
    return settings


# --- the whole ------------------------------------------------------------------------------------


class Config:
    """The values of a config as items and attributes, where they came from, ways to change and write.

    Args:
        cfg_dict: the values; copied.
        cfg_text: what `text` returns.
        filename: what `filename` returns; its content is `text` where none is given.

    Raises ConfigKeyError for a key that is an attribute of Config.
    """

    def __init__(self,
                 cfg_dict: Optional[Dict[str, Any]] = None,
                 cfg_text: Optional[str] = None,
                 filename: Optional[PathLike] = None):
        cfg_dict = {} if cfg_dict is None else cfg_dict
        if not isinstance(cfg_dict, dict):
            raise TypeError(f'cfg_dict must be a dict, not {cfg_dict!r}')
        for key in set(RESERVED_KEYS) & set(cfg_dict):
            raise ConfigKeyError(f'{key!r} is reserved; choose another name')
        filename = None if filename is None else os.fspath(filename)
        if filename and cfg_text is None:
            cfg_text = _text_of(filename)
        self.__setstate__((ConfigDict(cfg_dict), filename, cfg_text or '', ()))

    @staticmethod
    def fromfile(filename: PathLike,
                 use_predefined_variables: bool = True,
                 import_custom_modules: bool = False) -> 'Config':
        """Read a .py, .json, .yaml or .yml config and its bases.

        Args:
            filename: path of the config.
            use_predefined_variables: put in {{ fileDirname }} and its sisters.
            import_custom_modules: import `custom_imports` at once, not by `import_custom_modules(cfg)`.

        Raises a ConfigError of the fitting kind, which names file and line.
        """
        path = osp.abspath(osp.expanduser(os.fspath(filename)))
        values, text, layers = _load(path, use_predefined_variables=use_predefined_variables)
        config = Config(values, cfg_text=text, filename=filename)._over(*layers)
        if import_custom_modules:
            _import_modules(config)
        return config

    @staticmethod
    def fromstring(cfg_str: str, file_format: str) -> 'Config':
        """Read a config from text in the format '.py', '.json', '.yaml' or '.yml'.

        Bases are sought from the working directory.
        """
        if file_format not in EXTENSIONS:
            raise ConfigFileError(f'file_format is one of {EXTENSIONS}, not {file_format!r}')
        if file_format != '.py' and 'dict(' in cfg_str:
            warnings.warn(f"this looks like python, not {file_format}; write file_format='.py'")
        name = f'<string>{file_format}'
        values, text, layers = _load(osp.abspath(name), cfg_str)
        return Config(values, cfg_text=text, filename=name)._over(*layers)

    @property
    def filename(self) -> Optional[str]:
        return self._filename

    @property
    def text(self) -> str:
        """The texts of all files that went in, each after its path."""
        return self._text

    @property
    def layers(self) -> Tuple[Layer, ...]:
        """What each file, bases first, and then the command line said."""
        return self._layers

    def history(self, path: str) -> List[Setting]:
        """What set the value at a dotted path, in order; the last one counts.

        Empty for what no file and no option sets, such as values put in by a program.
        """
        return _trace(tuple(path.split('.')), self._layers)

    def where(self, path: str) -> Optional[str]:
        """`file:line` of what set the value at a dotted path, or None: 'configs/_base_/models/a.py:57'."""
        settings = [setting for setting in self.history(path) if not setting.is_dropped]
        return settings[-1].where if settings else None

    def record_move(self, old: str, new: str) -> None:
        """Remember that the value at `new` was written at `old`; the caller has moved it."""
        self._over(Layer({}, moved=(old, new)))

    def _over(self, *layers: Layer) -> 'Config':
        super().__setattr__('_layers', (*self._layers, *layers))
        return self

    @property
    def pretty_text(self) -> str:
        """The merged values as a python config."""
        return _format(_python_source(self._cfg_dict))

    def dump(self, file: Optional[PathLike] = None) -> Optional[str]:
        """Write the merged values in the format of the file's extension.

        Without a file return the text, in the format of `filename` (python if there is none). Tuples
        become lists in json.
        """
        name = os.fspath(file) if file is not None else self.filename or '.py'
        values = self._cfg_dict.to_dict()
        if name.endswith('.py'):
            text = self.pretty_text
        elif name.endswith('.json'):
            text = json.dumps(values, indent=2, default=_to_json).replace('{{', '{\\u007b') + '\n'
        elif name.endswith(('.yaml', '.yml')):
            text = yaml.dump(values, Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)
            text = text.replace('{{', '{\\x7b')
        else:
            raise ConfigFileError(f'{name}: a config is one of {", ".join(EXTENSIONS)}')
        if file is None:
            return text
        with open(name, 'w', encoding='utf-8') as stream:
            stream.write(text)

    def merge_from_dict(self, options: Dict[str, Any], allow_list_keys: bool = True) -> None:
        """Put `--cfg-options` over the values.

        Args:
            options: values by dotted path; 'data.train.pipeline.2.flip_ratio' goes through a list.
                A dict is merged as one of a file over its base is, `_delete_=True` replaces.
            allow_list_keys: without it a number is a key like any other.
        """
        tree: Dict[str, Any] = {}
        for path, value in options.items():
            for step in reversed(path.split('.')):
                value = {step: value}
            _add_option(value, tree, path)
        super().__setattr__('_cfg_dict', ConfigDict(_merge(tree, self._cfg_dict, allow_list_keys)))
        self._over(Layer(deepcopy(tree), label=OPTIONS_LABEL))

    def __repr__(self) -> str:
        return f'Config (path: {self.filename}): {self._cfg_dict!r}'

    def __len__(self) -> int:
        return len(self._cfg_dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cfg_dict)

    def __contains__(self, name: object) -> bool:
        return name in self._cfg_dict

    def __getattr__(self, name: str) -> Any:
        if name in ('_cfg_dict', '_layers'):  # asked for before it is set, by copy and pickle
            raise AttributeError(name)
        return getattr(self._cfg_dict, name)

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._cfg_dict.__setattr__(name, ConfigDict(value) if isinstance(value, dict) else value)

    def __setitem__(self, name: str, value: Any) -> None:
        self._cfg_dict[name] = ConfigDict(value) if isinstance(value, dict) else value

    def __getstate__(self) -> Tuple[ConfigDict, Optional[str], str, Tuple[Layer, ...]]:
        return self._cfg_dict, self._filename, self._text, self._layers

    def __setstate__(self, state: Tuple) -> None:
        for name, value in zip(('_cfg_dict', '_filename', '_text', '_layers'), state):
            super().__setattr__(name, value)

    def __copy__(self) -> 'Config':
        """Shares its values with the original, as in V2."""
        other = type(self).__new__(type(self))
        other.__setstate__(self.__getstate__())
        return other

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'Config':
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        *state, layers = self.__getstate__()
        other.__setstate__((*deepcopy(state, memo), layers))  # layers never change
        return other


def _add_option(option: Dict[str, Any], tree: Dict[str, Any], path: str) -> None:
    """Put a tree with one option into that of all: a dict says what its keys would say one by one."""
    for key, value in option.items():
        if not isinstance(value, dict):
            tree[key] = value
        elif isinstance(tree.setdefault(key, {}), dict):
            _add_option(value, tree[key], path)
        else:
            raise ConfigKeyError(f'{path!r}: another option sets {key!r} as a whole')


def load_config(filename: PathLike, cfg_options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config as V2's commands do: bases, references, MMDET_DATASETS, `--cfg-options` last."""
    config = replace_cfg_vals(Config.fromfile(filename))
    update_data_root(config)
    if cfg_options:
        config.merge_from_dict(cfg_options)
    return config


# --- writing --------------------------------------------------------------------------------------


def _python_source(config: ConfigDict) -> str:
    # Names that python cannot write come from json and yaml.
    targets = {key: key if _is_name(key) else f'globals()[{key!r}]' for key in config}
    return ''.join(f'{targets[key]} = {_expression(value)}\n' for key, value in config.items())


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _expression(value: Any) -> str:
    if isinstance(value, dict) and all(map(_is_name, value)):
        return f'dict({", ".join(f"{key}={_expression(item)}" for key, item in value.items())})'
    if isinstance(value, dict):
        items = (f'{_expression(key)}: {_expression(item)}' for key, item in value.items())
        return f'{{{", ".join(items)}}}'
    if type(value) is list:
        return f'[{", ".join(map(_expression, value))}]'
    if type(value) is tuple:
        return f'({", ".join(map(_expression, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, str):  # a {{ must not be read as a variable
        return str.__repr__(value).replace('{{', '{\\x7b')
    if isinstance(value, float):
        text = float.__repr__(value)
        return text if text[-1].isdigit() else f"float('{text}')"  # inf and nan
    return repr(value)


@functools.lru_cache(maxsize=4)  # a run asks three times; yapf takes its time
def _format(source: str) -> str:
    from yapf.yapflib.yapf_api import FormatCode
    style = dict(
        based_on_style='pep8',
        blank_line_before_nested_class_or_def=True,
        split_before_expression_after_opening_paren=True)
    try:
        ast.parse(source)
    except SyntaxError:  # a value without a literal, such as a class: readable, if not loadable
        return source
    return FormatCode(source, style_config=style)[0]


class _YamlDumper(yaml.SafeDumper):

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_tuple(self, value: tuple) -> yaml.Node:
        return self.represent_sequence('tag:yaml.org,2002:python/tuple', value)

    def represent_str(self, value: str) -> yaml.Node:
        style = '"' if '{{' in value else None  # only there can a brace be escaped
        return self.represent_scalar('tag:yaml.org,2002:str', value, style=style)


_YamlDumper.add_representer(tuple, _YamlDumper.represent_tuple)
_YamlDumper.add_representer(str, _YamlDumper.represent_str)


def _to_json(value: Any) -> Any:
    if isinstance(value, (set, range)):
        return list(value)
    if hasattr(value, 'tolist'):  # numpy
        return value.tolist()
    raise TypeError(f'json cannot hold {value!r}; dump to a .py file instead')


# --- after reading --------------------------------------------------------------------------------

_REFERENCE = re.compile(r'\$\{([a-zA-Z\d_.]+)\}')


def value_at(config: Config, path: str) -> Any:
    """The value at a dotted path; raises ConfigKeyError with the nearest name for a path that leads nowhere."""
    try:
        return _item(config._cfg_dict, path)
    except KeyError as error:
        raise ConfigKeyError(f'{path}: there is no {error.args[0]}') from None


def replace_cfg_vals(config: Config) -> Config:
    """A config whose '${key.of.another}' strings are replaced by what they name.

    A string that is nothing but a reference becomes the value itself; within a string goes its text.
    Then `model_wrapper` takes the place of `model`: V2's way to wrap a detector named by '${model}'.

    Raises ConfigKeyError for a key that is not there and for references in a circle, ConfigTypeError
    for a container within a string.
    """

    def resolve(key: str, string: str, seen: Tuple[str, ...]) -> Any:
        if key in seen:
            raise ConfigKeyError(f'references lead back to themselves: {" -> ".join((*seen, key))}')
        try:
            found = _item(config._cfg_dict, key)
        except KeyError as error:
            raise ConfigKeyError(
                f'{string!r} names no value: there is no {error.args[0]}') from None
        return _map_leaves(found, lambda leaf: replace(leaf, (*seen, key)))

    def replace(leaf: Any, seen: Tuple[str, ...] = ()) -> Any:
        if not isinstance(leaf, str) or '${' not in leaf:
            return leaf
        whole = _REFERENCE.fullmatch(leaf)
        if whole:
            return resolve(whole[1], leaf, seen)

        def as_text(match):
            found = resolve(match[1], leaf, seen)
            if isinstance(found, (dict, list, tuple)):
                raise ConfigTypeError(f'{leaf!r} has a {type(found).__name__} inside a string; '
                                      f'{match[0]!r} must stand alone')
            return str(found)

        return _REFERENCE.sub(as_text, leaf)

    values = _map_leaves(config._cfg_dict, replace)
    wrapped = values.get('model_wrapper') is not None
    if wrapped:
        values['model'] = values.pop('model_wrapper')
    replaced = Config(values, cfg_text=config.text, filename=config.filename)._over(*config.layers)
    if wrapped:
        replaced.record_move('model_wrapper', 'model')
    return replaced


def update_data_root(config: Config) -> None:
    """Where MMDET_DATASETS is set, put it for `data_root`, there and in every string of `data`."""
    root, new_root = config.get('data_root'), os.environ.get(DATA_ROOT_VARIABLE)
    if not new_root or not isinstance(root, str) or not root:
        return
    if root.endswith('/') and not new_root.endswith('/'):
        new_root += '/'  # configs write data_root + 'annotations/...'

    def update(leaf: Any) -> Any:
        return leaf.replace(root, new_root) if isinstance(leaf, str) else leaf

    if 'data' in config:
        config.data = _map_leaves(config.data, update)
    config.data_root = new_root
    config._over(
        Layer(
            dict(data=config.data.to_dict() if 'data' in config else {}, data_root=new_root),
            label=DATA_ROOT_VARIABLE))


def import_custom_modules(config: Config) -> List[types.ModuleType]:
    """Import what `custom_imports=dict(imports=['my.module'])` names, so that its types register.

    The working directory can be imported from. Raises ImportError that says what was sought where;
    under `allow_failed_imports=True` a warning says it.
    """
    custom_imports = config.get('custom_imports') or {}
    names = custom_imports.get('imports') or [] if isinstance(custom_imports, dict) else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names) \
            or set(custom_imports) - {'imports', 'allow_failed_imports'}:
        raise ConfigTypeError(f"write custom_imports=dict(imports=['your.module'], "
                              f'allow_failed_imports=False), not {custom_imports!r}')
    if names and os.getcwd() not in sys.path:  # a script's path has its own folder, tools/, instead
        sys.path.insert(0, os.getcwd())
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            message = (f'custom_imports: cannot import {name!r} from {os.getcwd()} or PYTHONPATH: '
                       f'{error}')
            if not custom_imports.get('allow_failed_imports', False):
                raise ImportError(message, name=error.name, path=error.path) from error
            warnings.warn(message)
    return modules


_import_modules = import_custom_modules  # Config.fromfile has an argument of that name

# --- the command line -----------------------------------------------------------------------------


class DictAction(Action):
    """argparse: words KEY=VALUE to a dict. `a.b=1 c=x,y d=[(1,2),3]` is what V2 makes of it:

    {'a.b': 1, 'c': ['x', 'y'], 'd': [(1, 2), 3]}. Values are integers, floats, true or false in any
    case, None, or strings; lists and tuples of them nest. Given twice, the options add up.

    Beyond V2 a value, or an item of a list, may be a dict as python writes it, of literals:
    `'a={"type":"A"}' 'b=[dict(type="A",x=(1,2))]'`, quoted for the shell.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, value = word.partition('=')
            if not key or not equals:
                parser.error(f'{option_string}: {word!r} is not of the form KEY=VALUE')
            try:
                options[key] = self._parse_iterable(value)
            except ValueError as error:
                parser.error(f'{option_string}: {word!r}: {error}')
        setattr(namespace, self.dest, options)

    @staticmethod
    def _parse_int_float_bool(text: str) -> Any:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        return {'true': True, 'false': False}.get(text.lower(), None if text == 'None' else text)

    @staticmethod
    def _parse_iterable(text: str) -> Any:
        text = text.strip().strip('\'"').strip()
        if text and _end_of_dict(text) == len(text):
            return _parse_dict(text)
        if ',' not in text and text[:1] not in ('(', '['):
            return DictAction._parse_int_float_bool(text)
        parts, first_closing = _split_at_commas(text)
        enclosed = text[0] in '([' and first_closing == len(text) - 1
        if enclosed:
            parts, _ = _split_at_commas(text[1:-1])
        elif len(parts) == 1 and text[-1] != ',':  # such as '[a]b'
            return text
        items = [DictAction._parse_iterable(part) for part in parts]
        return tuple(items) if enclosed and text[0] == '(' else items


def _split_at_commas(text: str) -> Tuple[List[str], int]:
    """Parts between the commas outside all brackets and dicts, and where the first bracket closes, or -1."""
    parts, start, open_brackets, first_closing, end_of_dict = [], 0, [], -1, 0
    for index, letter in enumerate(text):
        if index < end_of_dict:
            continue
        if letter in '([':
            open_brackets.append(letter)
        elif letter in ')]':
            if not open_brackets or open_brackets.pop() != {')': '(', ']': '['}[letter]:
                raise ValueError(f'{letter!r} closes no bracket')
            if not open_brackets and first_closing < 0:
                first_closing = index
        elif letter == ',' and not open_brackets:
            parts.append(text[start:index])
            start = index + 1
        elif letter in 'd{' and text[:index].rstrip()[-1:] in '([,':  # an item begins
            end_of_dict = _end_of_dict(text, index)
    if open_brackets:
        raise ValueError(f'{open_brackets[-1]!r} is not closed')
    if text[start:].strip():
        parts.append(text[start:])
    return parts, first_closing


_DICT = re.compile(r'dict\s*\(|\{\s*(?=[}"\']|\w+\s*:)')  # not '{a}/b.jpg', which is a string
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[\[({\])}]')  # or a string, whole


def _end_of_dict(text: str, start: int = 0) -> int:
    """Where a dict that begins at a place of a text ends; 0 where none begins."""
    if not _DICT.match(text, start):
        return 0
    depth = 0
    for token in _BRACKET.finditer(text, start):
        depth += (token[0] in '[({') - (token[0] in '])}')
        if depth == 0:
            return token.end() if text[token.end():].lstrip()[:1] in ',])' else 0
    return len(text)


def _parse_dict(text: str) -> Dict[Any, Any]:
    try:
        value = _literal(ast.parse(text, mode='eval').body)
        if isinstance(value, dict):
            return value
    except (SyntaxError, ValueError, TypeError):  # the last for a key that cannot be one
        pass
    raise ValueError(
        f'{text} looks like a dict but cannot be read as one; in a shell write single quotes around '
        """the whole and double quotes around strings: 'key={"type":"A","x":1}'""")


def _literal(node: ast.AST) -> Any:
    """The value of a literal, of dict(name=literal, ...), and of true and false in any case."""
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict' and not node.args \
            and all(word.arg for word in node.keywords):
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id.lower() in ('true', 'false'):
        return node.id.lower() == 'true'
    return ast.literal_eval(node)
