"""The Config class: values, their sources, and methods to change and write them.

Reading executes a python config and nothing else: `custom_imports` are deferred to
`import_custom_modules`, which is called just before something is built. json and yaml configs never
execute anything.
"""
import os
import os.path as osp
import warnings
from copy import deepcopy
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from mmdet_ft.config import custom_imports, writing
from mmdet_ft.config.config_dict import ConfigDict, item_at, merge
from mmdet_ft.config.errors import ConfigFileError, ConfigKeyError
from mmdet_ft.config.layers import OPTIONS_LABEL, Layer, Setting, trace
from mmdet_ft.config.options import as_typed
from mmdet_ft.config.reading import EXTENSIONS, RESERVED_KEYS, read, text_of
from mmdet_ft.config.shipped import find_config

PathLike = Union[str, os.PathLike]


class Config:
    """The values of a config as items and attributes, with their sources and methods to change and write them.

    Args:
        cfg_dict: the values; copied.
        cfg_text: the value of `text`.
        filename: the value of `filename`; `text` is its content if `cfg_text` is not given.

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
            cfg_text = text_of(filename)
        self.__setstate__((ConfigDict(cfg_dict), filename, cfg_text or '', ()))

    @staticmethod
    def fromfile(filename: PathLike,
                 use_predefined_variables: bool = True,
                 import_custom_modules: bool = False) -> 'Config':
        """Read a .py, .json, .yaml or .yml config and its bases.

        Args:
            filename: path of the config, or the name of a shipped one, such as 'mmdet_ft::retinanet/....py'.
            use_predefined_variables: substitute {{ fileDirname }} and the other predefined variables.
            import_custom_modules: import `custom_imports` at once, not by `import_custom_modules(cfg)`.

        Raises the matching ConfigError, which names file and line.
        """
        filename = find_config(filename)
        path = osp.abspath(osp.expanduser(filename))
        values, text, layers = read(path, use_predefined_variables=use_predefined_variables)
        config = Config(values, cfg_text=text, filename=filename)._over(*layers)
        if import_custom_modules:
            custom_imports.import_custom_modules(config._cfg_dict)
        return config

    @staticmethod
    def fromstring(cfg_str: str, file_format: str) -> 'Config':
        """Read a config from text in the format '.py', '.json', '.yaml' or '.yml'.

        Bases are resolved relative to the working directory.
        """
        if file_format not in EXTENSIONS:
            raise ConfigFileError(f'file_format is one of {EXTENSIONS}, not {file_format!r}')
        if file_format != '.py' and 'dict(' in cfg_str:
            warnings.warn(f"this looks like python, not {file_format}; write file_format='.py'")
        name = f'<string>{file_format}'
        values, text, layers = read(osp.abspath(name), cfg_str)
        return Config(values, cfg_text=text, filename=name)._over(*layers)

    @property
    def filename(self) -> Optional[str]:
        return self._filename

    @property
    def text(self) -> str:
        """Return the texts of all files that were read, each after its path."""
        return self._text

    @property
    def layers(self) -> Tuple[Layer, ...]:
        """Return the layers: each file, bases first, then the command line."""
        return self._layers

    def history(self, path: str) -> List[Setting]:
        """Return every setting of the value at a dotted path, in order; the last one is effective.

        Empty for values that no file and no option sets, such as those added by a program.
        """
        return trace(tuple(path.split('.')), self._layers)

    def where(self, path: str) -> Optional[str]:
        """Return the `file:line` that set a value, or None: 'configs/_base_/models/a.py:57'."""
        settings = [setting for setting in self.history(path) if not setting.is_dropped]
        return settings[-1].where if settings else None

    def record_move(self, old: str, new: str) -> None:
        """Record that the value at `new` was written at `old`; the caller has moved it."""
        self._over(Layer({}, moved=(old, new)))

    def _over(self, *layers: Layer) -> 'Config':
        super().__setattr__('_layers', (*self._layers, *layers))
        return self

    @property
    def pretty_text(self) -> str:
        """Return the merged values as a python config."""
        return writing.as_python(self._cfg_dict)

    def dump(self, file: Optional[PathLike] = None) -> Optional[str]:
        """Write the merged values in the format of the file's extension.

        Without a file return the text, in the format of `filename` (python if there is none). Tuples
        become lists in json.
        """
        name = os.fspath(file) if file is not None else self.filename or '.py'
        text = writing.as_text(self._cfg_dict, name)
        if file is None:
            return text
        with open(name, 'w', encoding='utf-8') as stream:
            stream.write(text)
        return None

    def merge_from_dict(self, options: Dict[str, Any], allow_list_keys: bool = True) -> None:
        """Merge `--cfg-options` into the values.

        Args:
            options: values by dotted path; 'data.train.pipeline.2.flip_ratio' indexes a list.
                A dict is merged like a child config over its base; `_delete_=True` replaces.
            allow_list_keys: if False, a number is a key like any other.
        """
        tree: Dict[str, Any] = {}
        for path in options:
            value = as_typed(options, path, self._at(path))
            for step in reversed(path.split('.')):
                value = {step: value}
            _add_option(value, tree, path)
        super().__setattr__('_cfg_dict', ConfigDict(merge(tree, self._cfg_dict, allow_list_keys)))
        self._over(Layer(deepcopy(tree), label=OPTIONS_LABEL))

    def _at(self, path: str) -> Any:
        try:
            return item_at(self._cfg_dict, path)
        except KeyError:
            return None

    def override(self, name: str, value: object, by: str) -> None:
        """Set a top-level value; `where` then returns `by`, such as a command's flag."""
        self[name] = value
        self._over(Layer({name: deepcopy(value)}, label=by))

    def __repr__(self) -> str:
        return f'Config (path: {self.filename}): {self._cfg_dict!r}'

    def __len__(self) -> int:
        return len(self._cfg_dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cfg_dict)

    def __contains__(self, name: object) -> bool:
        return name in self._cfg_dict

    def __getattr__(self, name: str) -> Any:
        if name in ('_cfg_dict', '_layers'):  # read before it is set, by copy and pickle
            raise AttributeError(name)
        return getattr(self._cfg_dict, name)

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    def __setattr__(self, name: str, value: object) -> None:
        self._cfg_dict.__setattr__(name, ConfigDict(value) if isinstance(value, dict) else value)

    def __setitem__(self, name: str, value: object) -> None:
        self._cfg_dict[name] = ConfigDict(value) if isinstance(value, dict) else value

    def __getstate__(self) -> Tuple[ConfigDict, Optional[str], str, Tuple[Layer, ...]]:
        return self._cfg_dict, self._filename, self._text, self._layers

    def __setstate__(self, state: Tuple) -> None:
        for name, value in zip(('_cfg_dict', '_filename', '_text', '_layers'), state):
            super().__setattr__(name, value)

    def __copy__(self) -> 'Config':
        """Return a copy that shares its values with the original, as in V2."""
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
    """Insert one option into the tree of all options; a dict is inserted key by key."""
    for key, value in option.items():
        if not isinstance(value, dict):
            tree[key] = value
        elif isinstance(tree.setdefault(key, {}), dict):
            _add_option(value, tree[key], path)
        else:
            raise ConfigKeyError(f'{path!r}: another option sets {key!r} as a whole')
