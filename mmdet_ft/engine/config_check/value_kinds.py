"""Value types that an annotation allows: whether a config value has one of them, and its description.

Config values are None, booleans, numbers, strings, lists (or tuples) and dicts. A dict is accepted
for any object of a signature. `Any` in the signatures here is an object or a list of objects.
"""
import collections.abc
import functools
import inspect
import types
import typing
from typing import Any, Optional, Tuple, Union

from mmdet_ft.ranges import NotEmpty, Range

NUMBERS = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a text'}
MANY = {int: 'whole numbers', float: 'numbers', str: 'texts', bool: 'booleans'}
LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
UNIONS = (typing.Union, getattr(types, 'UnionType', typing.Union))


class Kind(typing.NamedTuple):
    """One of the value types that an annotation allows."""
    name: Any  # bool, int, float, str, list, dict, None, Any; a tuple of values of a Literal
    items: Tuple[Any, ...] = ()  # annotations of a list's items; a single one applies to all
    length: int = 0  # of a list of fixed length
    limit: Union[Range, NotEmpty, None] = None  # of the number, or of the list


@functools.lru_cache(maxsize=None)
def kinds_of(annotation: object) -> Tuple[Kind, ...]:
    """Return the value types that an annotation allows; () if unknown, which allows anything."""
    if annotation in (inspect.Parameter.empty, object) or isinstance(annotation,
                                                                     (str, typing.TypeVar)):
        return ()
    limit: Optional[Tuple] = getattr(annotation, '__metadata__', None)
    if limit:
        return tuple(
            kind._replace(limit=limit[0]) for kind in kinds_of(typing.get_args(annotation)[0]))
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


def fits(annotation: object, value: object) -> bool:
    """Return whether a config value has a type that an annotation allows."""
    kinds = kinds_of(annotation)
    return not kinds or any(
        _is_of(kind, value) and (kind.limit is None or kind.limit.holds(value)) for kind in kinds)


def _is_of(kind: Kind, value: object) -> bool:
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
def _holds_dicts(annotation: object) -> bool:
    """Return whether items are dicts, which the walk checks one by one."""
    return any(kind.name in (dict, Any) for kind in kinds_of(annotation))


@functools.lru_cache(maxsize=None)
def describe_values(annotation: object) -> str:
    """Describe the values that an annotation allows, such as 'a whole number or a list of whole
    numbers'; omits None."""
    words = [_describe_kind(kind) for kind in kinds_of(annotation) if kind.name is not None]
    return ' or '.join(sorted(dict.fromkeys(words)))


def _describe_kind(kind: Kind) -> str:
    """Describe one value of a kind."""
    if isinstance(kind.name, tuple):
        return ' or '.join(map(repr, kind.name))
    if kind.name in (dict, Any):
        return 'a dict'
    limit = f' {kind.limit.words}' if kind.limit else ''
    if kind.name is not list:
        return f'{NUMBERS[kind.name]}{limit}'
    return f'a list{_items_of(kind)}{limit}'


def _items_of(kind: Kind) -> str:
    """Return ' of 2 numbers' for a kind of list, or '' where its items may be anything."""
    number = f' {kind.length}' if kind.length else ''
    inside = {_describe_many(item) for item in kind.items}
    what = inside.pop() if len(inside) == 1 else ''
    return f' of{number} {what}' if what else f' of{number}' if number else ''


@functools.lru_cache(maxsize=None)
def _describe_many(annotation: object) -> str:
    """Describe several values of an annotation, such as 'lists of 2 numbers'; '' for dicts."""
    words = []
    for kind in kinds_of(annotation):
        if kind.name is list:
            words.append(f'lists{_items_of(kind)}')
        elif kind.name in MANY:
            words.append(MANY[kind.name] + (f' {kind.limit.words}' if kind.limit else ''))
        else:
            return ''
    return ' or '.join(dict.fromkeys(words))
