"""Dicts with attribute access, and functions on trees of config values."""
import collections
import collections.abc
import os
from typing import Any, Callable, Dict, Iterable, List, SupportsIndex, Tuple, Union

from addict import Dict as AddictDict

from mmdet_ft.config.errors import ConfigKeyError, ConfigTypeError, did_you_mean

DELETE_KEY = '_delete_'
_LITERALS = frozenset((type(None), bool, int, float, str, bytes, range))


class ConfigDict(AddictDict):
    """A dict whose keys are also attributes; a missing attribute raises AttributeError.

    Construction from a dict copies all nested containers. A dict assigned later becomes a
    ConfigDict.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        dict.__init__(self, *args, **kwargs)  # addict's own loop takes twice as long
        for key, value in self.items():
            if isinstance(value, (dict, list, tuple)):
                dict.__setitem__(self, key, _to_config_dicts(value, copying=True))

    def __missing__(self, name: object) -> Any:
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            near = '' if name.startswith('_') else did_you_mean(name, self)
            raise AttributeError(f'ConfigDict has no attribute {name!r}{near}') from None

    def __setitem__(self, name: object, value: object) -> None:
        super().__setitem__(name, _to_config_dicts(value, copying=False))

    def setdefault(self, key: object, default: object = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]  # not `default`: the stored value may be its ConfigDict

    def to_dict(self) -> Dict[Any, Any]:
        """Return the same tree as plain dicts."""
        return map_leaves(self, lambda leaf: leaf)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Tuple:
        return type(self), (dict(self), )


def _to_config_dicts(value: object, copying: bool) -> Any:
    """Return `value` with ConfigDicts for its dicts; without `copying`, ConfigDicts are kept."""
    if isinstance(value, dict):
        return value if not copying and isinstance(value, ConfigDict) else ConfigDict(value)
    if isinstance(value, (list, tuple)):
        items = [_to_config_dicts(item, copying) for item in value]
        if copying or any(new is not old for new, old in zip(items, value)):
            return rebuild(value, items)
    return value


def map_leaves(value: object, change: Callable[[Any], Any]) -> Any:
    """Return a tree of plain dicts with `change` applied to every leaf."""
    if isinstance(value, dict):
        return {key: map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return rebuild(value, [map_leaves(item, change) for item in value])
    return change(value)


def plain(value: object,
          refuse: Callable[[str, Any], Any] = lambda path, leaf: leaf,
          path: str = '') -> Any:
    """Return a tree of types that a config file can hold, equal in meaning to `value`.

    Paths become text. numpy and torch scalars and arrays become numbers and lists. Named tuples, deques, dict
    views and other subclasses become their base types. `refuse(path, leaf)` returns a replacement for anything
    else, such as an object, a function or a date; by default the leaf itself.
    """

    def convert(item: object, path: str) -> Any:
        kind = type(item)
        if kind in _LITERALS:
            return item
        if isinstance(item, dict):
            return {
                convert(key, path): convert(inner, f'{path}.{key}' if path else str(key))
                for key, inner in item.items()
            }
        if isinstance(item, tuple):
            return tuple(inside(item, path))
        if isinstance(item, (list, collections.deque, collections.abc.KeysView,
                             collections.abc.ValuesView, collections.abc.ItemsView)):
            return inside(item, path)
        if isinstance(item, (set, frozenset)):
            return {convert(inner, path) for inner in item}
        if isinstance(item, (str, bytes, int, float)) and not hasattr(item, 'dtype'):
            return _of_base(item)
        if isinstance(item, os.PathLike):
            return convert(os.fspath(item), path)
        if hasattr(item, 'tolist') and hasattr(item, 'dtype'):  # numpy's and torch's
            values = item.tolist()
            # numpy.longdouble and the void of a record have no python type.
            return refuse(path, item) if type(values) is kind else convert(values, path)
        return refuse(path, item)

    def inside(items: Iterable[Any], path: str) -> List[Any]:
        return [
            convert(inner, f'{path}.{index}' if path else str(index))
            for index, inner in enumerate(items)
        ]

    return convert(value, path)


def _of_base(value: Union[str, bytes, int, float]) -> Union[str, bytes, int, float]:
    """Return a number of an IntEnum or a string of a subclass in its base type."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    return int(value) if isinstance(value, int) else float(value)


def is_object(value: object) -> bool:
    """Check whether no config file can hold the value itself, such as a date or an open file.

    The items of a container are not checked.
    """
    if isinstance(value, (dict, list, tuple)):
        return False
    found = []
    plain(value, lambda path, leaf: found.append(leaf))
    return bool(found)


def rebuild(sequence: Union[list, tuple], items: List[Any]) -> Union[list, tuple]:
    """Return a list or tuple of the same type with other items."""
    if type(sequence) is list:
        return items
    return type(sequence)(*items) if hasattr(sequence, '_fields') else type(sequence)(items)


def item_at(tree: object, path: str) -> Any:
    """Return the value at a dotted path; numbers index lists. Raises KeyError with the missing step."""
    for step in path.split('.'):
        if isinstance(tree, (list, tuple)) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        elif isinstance(tree, dict) and step in tree:
            tree = tree[step]
        else:
            raise KeyError(repr(step) + did_you_mean(step, tree if isinstance(tree, dict) else ()))
    return tree


def merge(child: Dict[str, Any],
          base: Union[dict, list, tuple],
          allow_list_keys: bool = False,
          path: str = '') -> Any:
    """Return `base` with `child` merged over it, dict by dict; neither is modified.

    A dict of the child with `_delete_=True` replaces its counterpart. With `allow_list_keys` a child
    {'0': value} changes the first item of a list; beyond V2, the index after the last item appends.
    Raises ConfigTypeError for a dict over another type, ConfigKeyError for an index out of range.
    """
    merged = dict(base) if isinstance(base, dict) else dict(enumerate(base))
    for key, value in child.items():
        step = f'{path}.{key}' if path else str(key)
        if not isinstance(base, dict):
            if not str(key).isdigit() or int(key) > len(merged):
                raise ConfigKeyError(f'{step}: {path} is a list of {len(base)}, numbered from 0; '
                                     f'{path}.{len(merged)} appends an item')
        known: Any = key if isinstance(base, dict) else int(key)
        merged[known] = _over(value, merged[known], allow_list_keys,
                              step) if known in merged else value
    return merged if isinstance(base, dict) else rebuild(base, list(merged.values()))


def _over(value: object, base: object, allow_list_keys: bool, path: str) -> Any:
    if not isinstance(value, dict):
        return value
    heir = {key: item for key, item in value.items() if key != DELETE_KEY}
    # None has nothing to inherit. (V2 asks for _delete_=True even so.)
    if value.get(DELETE_KEY, False) or base is None:
        return heir
    if isinstance(base, dict) or allow_list_keys and isinstance(base, (list, tuple)):
        return merge(heir, base, allow_list_keys, path)
    raise ConfigTypeError(f'{path}: is a dict here but {base!r} in the base; '
                          f'write {DELETE_KEY}=True into the dict to replace that')
