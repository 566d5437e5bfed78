"""Allowed and required keys of a config dict: the signature of its class, or the fields of a dataclass."""
import dataclasses
import functools
import inspect
import typing
from typing import Any, Callable, Mapping, NamedTuple, Optional, Tuple


class AllowedKeys(NamedTuple):
    """The keys that a dict may and must have."""
    parameters: Mapping[str, Any]  # name -> inspect.Parameter, or None
    is_open: bool = False  # takes any key
    required: Tuple[str, ...] = ()
    is_ours: bool = True  # a class of this package: all its keys are known

    def without(self, *names: str) -> 'AllowedKeys':
        return self._replace(
            parameters={
                name: value
                for name, value in self.parameters.items() if name not in names
            },
            required=tuple(name for name in self.required if name not in names))

    def plus(self, *names: str) -> 'AllowedKeys':
        return self._replace(parameters={**self.parameters, **dict.fromkeys(names)})


@functools.lru_cache(maxsize=None)
def allowed_keys(function: Callable, skip: int = 0) -> AllowedKeys:
    """Return the named arguments of a class or function, without the first `skip`."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # implemented in C
        return AllowedKeys({}, is_open=True)
    kinds = inspect.Parameter
    parameters = [
        value for value in signature.parameters.values() if value.kind != kinds.VAR_POSITIONAL
    ][skip:]
    named = {
        value.name: value
        for value in parameters if value.kind not in (kinds.VAR_KEYWORD, kinds.POSITIONAL_ONLY)
    }
    is_open = any(value.kind == kinds.VAR_KEYWORD for value in parameters)
    required = tuple(name for name, value in named.items() if value.default is kinds.empty)
    return AllowedKeys(named, is_open, required, str(function.__module__).startswith('mmdet_ft.'))


@functools.lru_cache(maxsize=None)
def record_of(annotation: object) -> Optional[type]:
    """Return the dataclass in an annotation, such as Union[Dict, RPNTrainSettings, None], or a list of it."""
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        return annotation
    found = (record_of(inside) for inside in typing.get_args(annotation))
    return next((record for record in found if record is not None), None)


def names_of(*names: str) -> AllowedKeys:
    return AllowedKeys(dict.fromkeys(names))
