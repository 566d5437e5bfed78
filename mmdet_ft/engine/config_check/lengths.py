"""Checks of lists with one item per stage against the number of stages; parts state them, see mmdet_ft.parts."""
import inspect
from typing import Any, Dict, Iterator, Tuple

from mmdet_ft.engine.config_check.mistakes import Findings, as_dict
from mmdet_ft.engine.config_check.schema import allowed_keys
from mmdet_ft.engine.config_check.value_kinds import fits
from mmdet_ft.registry import MODELS


def check_lengths(found: Findings) -> None:
    """Compare the lists in `one_each` of a model and its parts with the number that they belong to."""
    model = found.config.model
    parts = {'': model, **{name: part for name, part in model.items() if isinstance(part, dict)}}
    for name, part in parts.items():
        cls = MODELS.class_of(part)
        path = f'model.{name}' if name else 'model'
        for counter, arguments in getattr(cls, 'one_each', {}).items():
            count = part.get(counter, _default(cls, counter))
            if isinstance(count, int):
                for argument, value, place in _values(model, name, part, path, arguments):
                    annotation = allowed_keys(cls).parameters[argument].annotation
                    _check(found, place, value, annotation, count, f'{path}.{counter}')


def _values(model: Dict[str, Any], name: str, part: Dict[str, Any], path: str,
            arguments: Tuple[str, ...]) -> Iterator[Tuple[str, Any, str]]:
    """Yield arguments of a part with their values and paths: its own, or those of the detector's settings."""
    settings_of = getattr(MODELS.class_of(model), 'settings_of', {})
    for argument in arguments:
        if part.get(argument) is not None:
            yield argument, part[argument], f'{path}.{argument}'
        for place, target in settings_of.items():
            value: Any = model
            for key in place.split('.'):
                value = as_dict(value).get(key)
            if target == f'{name}.{argument}' and value is not None:
                yield argument, value, f'model.{place}'


def _check(found: Findings, path: str, value: object, annotation: object, count: int,
           counter: str) -> None:
    """Refuse a list of another length; entries of train_cfg beyond the last stage are not used, as in V2."""
    name, number = path.rpartition('.')[2], f'{counter} is {count} ({found.where(counter)})'
    if isinstance(value, (list, tuple)):
        has = f'has {len(value)} entries, but {number}'
        if len(value) > count and path.startswith('model.train_cfg.'):
            found.warnings.append(
                f'{path} ({found.where(path)}) {has}: the last {len(value) - count} are not used')
        elif len(value) != count:
            item = 'dict' if value and isinstance(value[0], dict) else 'value'
            found.report(path, f'{has}; write one {item} a stage: {count} of them')
    elif not fits(annotation, value):
        found.report(
            path,
            f'is one dict, but {number}; write a list of one dict a stage: {name}=[dict(...), ...]')


def _default(cls: object, argument: str) -> object:
    parameter = allowed_keys(cls).parameters.get(argument)  # type: ignore[arg-type] # a class
    default = getattr(parameter, 'default', None)
    return None if default is inspect.Parameter.empty else default
