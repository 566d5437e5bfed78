"""What an annotation of a signature allows: whether a value of a config is of its kind, and the kind in words.

Values of a config are None, booleans, numbers, texts, lists (tuples are the same) and dicts. A dict stands for an
object wherever a signature asks for one. `Any` is such an object in the signatures here, or a list of some.
"""
import collections.abc
import functools
import inspect
import types
import typing
from typing import Any, Tuple

NUMBERS = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a text'}
MANY = {int: 'whole numbers', float: 'numbers', str: 'texts', bool: 'booleans'}
LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
UNIONS = (typing.Union, getattr(types, 'UnionType', typing.Union))


class Kind(typing.NamedTuple):
    """One of the kinds that an annotation allows."""
    name: Any  # bool, int, float, str, list, dict, None, Any; a tuple of values of a Literal
    items: Tuple[Any, ...] = ()  # annotations of a list's items, all of one if there is but one
    length: int = 0  # of a list that has a fixed one


@functools.lru_cache(maxsize=None)
def kinds_of(annotation: Any) -> Tuple[Kind, ...]:
    """Tell the kinds that an annotation allows; () where it is not known, which allows anything."""
    if annotation in (inspect.Parameter.empty, object) or isinstance(annotation,
                                                                     (str, typing.TypeVar)):
        return ()
    origin, inside = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in UNIONS:
        found = [kinds_of(part) for part in inside]
        return () if () in found else tuple(kind for kinds in found for kind in kinds)
    if annotation in (None, type(None)):
        return (Kind(None), )
    if annotation is Any:
        return (Kind(Any), )
    if annotation in NUMBERS:
        return (Kind(annotation), )
    if origin is typing.Literal:
        return (Kind(tuple(inside)), )
    if origin is tuple and inside and Ellipsis not in inside:
        return (Kind(list, inside, len(inside)), )
    if origin in LISTS:
        return (Kind(list, inside[:1]), )
    return (Kind(dict), )


def fits(annotation: Any, value: Any) -> bool:
    """Tell whether a value of a config is of a kind that an annotation allows."""
    kinds = kinds_of(annotation)
    return not kinds or any(_is_of(kind, value) for kind in kinds)


def _is_of(kind: Kind, value: Any) -> bool:
    name = kind.name
    if name is None:
        return value is None
    if isinstance(name, tuple):
        return value in name
    if name is list:
        if not isinstance(value, (list, tuple)) or kind.length and len(value) != kind.length:
            return False
        if kind.length:
            return all(map(fits, kind.items, value))
        return not kind.items or _holds_dicts(kind.items[0]) or all(
            fits(kind.items[0], item) for item in value)
    if name is Any:
        items = value if isinstance(value, (list, tuple)) and value else [value]
        return all(isinstance(item, dict) for item in items)
    if name is bool:
        return isinstance(value, bool) or isinstance(value, int) and value in (0, 1)
    if name in (int, float):
        return isinstance(value, (int, name)) and not isinstance(value, bool)
    return isinstance(value, name)


@functools.lru_cache(maxsize=None)
def _holds_dicts(annotation: Any) -> bool:
    """Whether items are dicts, which the walk looks at one by one."""
    return any(kind.name in (dict, Any) for kind in kinds_of(annotation))


@functools.lru_cache(maxsize=None)
def words_of(annotation: Any) -> str:
    """Say what an annotation allows: 'a whole number or a list of whole numbers'; None is not told."""
    words = [_words(kind) for kind in kinds_of(annotation) if kind.name is not None]
    return ' or '.join(sorted(dict.fromkeys(words)))


def _words(kind: Kind) -> str:
    if isinstance(kind.name, tuple):
        return ' or '.join(map(repr, kind.name))
    if kind.name in (dict, Any):
        return 'a dict'
    if kind.name is not list:
        return NUMBERS[kind.name]
    inside = {MANY.get(item) for item in kind.items}
    number = f'{kind.length} ' if kind.length else ''
    what = inside.pop() if len(inside) == 1 else None
    if what:
        return f'a list of {number}{what}'
    return f'a list of {kind.length}' if kind.length else 'a list'
