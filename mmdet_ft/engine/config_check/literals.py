"""Values that are not literals: classes become registered names, other objects are refused with their line.

A run writes its config beside its log and into each checkpoint. tools/predict.py and tools/test.py
read it from there, so a run must not train with a value that cannot be written.
"""
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import io
import types
from typing import Any, Iterator, List, Optional

import torch
from mmengine.registry import MODELS as LAYERS

from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import ConfigDict, is_object, plain
from mmdet_ft.config.lines import read_source
from mmdet_ft.engine.config_check.mistakes import Findings, refusal, short
from mmdet_ft.engine.config_check.top_level import ENGINE_NAMES
from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, OPTIMIZER_BUILDERS, OPTIMIZERS, PIPELINES,
                               RUNNERS, SAMPLERS)

REGISTRIES = (MODELS, DATASETS, PIPELINES, HOOKS, OPTIMIZERS, RUNNERS, SAMPLERS, OPTIMIZER_BUILDERS)


def as_values(config: Config) -> Config:
    """Return a config that holds only values that can be written and read again.

    Classes become their registered names; top-level names left by an import are dropped.

    Raises CheckError for anything else, with its dotted path, its line and what to write.
    """
    found = Findings(config)
    for name in ENGINE_NAMES:
        said = [layer for layer in config.layers if name in layer.values]
        if said and is_object(said[-1].values[name]):
            found.report(name, _advice(said[-1].values[name]))

    def substitute(path: str, leaf: object) -> Any:
        if isinstance(leaf, torch.device):
            return str(leaf)
        name = _registered(leaf) if inspect.isclass(leaf) else None
        if name is None:
            found.report(path, _advice(leaf))
        return name

    kept = {
        name: value
        for name, value in config.items()
        if not (is_object(value) and name not in ENGINE_NAMES or _is_imported(config, name))
    }
    values = plain(kept, substitute)
    if found.mistakes:
        raise refusal(config, found.mistakes)
    changed = Config.__new__(Config)
    changed.__setstate__((ConfigDict(values), *config.__getstate__()[1:]))
    return changed


def _is_imported(config: Config, name: str) -> bool:
    """Return whether a name is not a setting but an import of a python config."""
    files = [layer for layer in config.layers if layer.path is not None and name in layer.values]
    return name not in ENGINE_NAMES and bool(files) and files[-1].path.endswith(
        '.py') and name in read_source(files[-1].source, True).imported


def _names_of(cls: type) -> Iterator[str]:
    for registry in REGISTRIES:
        yield from registry.names_of(cls)
    yield from (name for name, layer in LAYERS.module_dict.items() if layer is cls)


def _registered(cls: type) -> Optional[str]:
    """Return the name under which a class is registered, preferably its own."""
    names = list(dict.fromkeys(_names_of(cls)))
    return next((name for name in names if name == cls.__name__), names[0] if names else None)


def _advice(value: object) -> str:
    """Describe a value and say what to write instead."""
    for kinds, advice in _ADVICE:
        if isinstance(value, kinds):
            return advice(value)
    if hasattr(value, '__next__'):
        return (
            f'is {_a(type(value).__name__)}, which can be gone through once: write list(...) around it'
        )
    if callable(value):
        return _of_function(value)
    return f'is {_a(type(value).__name__)}, which no config file can hold: write the number, text, list or dict ' \
        'that it is made of'


def _a(noun: str) -> str:
    return f'{"an" if noun[:1].lower() in "aeiou" else "a"} {noun} object'


def _of_class(value: type) -> str:
    return (
        f'is the class {value.__module__}.{value.__qualname__}, which is in no registry: register it, and write '
        f'type={value.__name__!r}')


def _of_function(value: object) -> str:
    name = getattr(value, '__name__', type(value).__name__)
    return (
        f'is the function {name}, which no checkpoint can carry: write a class with __call__, register it, and '
        "name it by dict(type='Name', ...)")


_ADVICE: List[tuple] = [
    (type, _of_class),
    ((types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial), _of_function),
    (types.ModuleType, lambda value: f'is the module {value.__name__}; a config holds values'),
    ((datetime.date, datetime.time, datetime.timedelta),
     lambda value: f'is a date or time, which no config file can hold: write it as text, {str(value)!r}'),
    (io.IOBase, lambda value: 'is an open file, which no config file can hold: write its path, or what was read'),
    (torch.dtype, lambda value: f'is {value!r}, which no config file can hold: write {str(value)[6:]!r}'),
    (enum.Enum, lambda value: f'is {value}, which no config file can hold: write its value, {short(value.value)}'),
    ((decimal.Decimal, fractions.Fraction, complex),
     lambda value: f'is {short(value)}, {_a(type(value).__name__)}: write a float'),
]  # yapf: disable
