"""Mistakes found in a config, each with its path, its value and the nearest valid name."""
import inspect
import sys
from typing import (TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional,
                    Sequence, Tuple)

from mmdet_ft import spelling
from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import DELETE_KEY
from mmdet_ft.config.errors import CheckError
from mmdet_ft.config.layers import OPTIONS_LABEL
from mmdet_ft.engine.config_check.schema import AllowedKeys
from mmdet_ft.engine.legacy import old_configs
from mmdet_ft.registry import MODELS
from mmdet_ft.v2_types import foreign_answer, is_not_supported

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

MOST_SHOWN = 10  # mistakes in one message


class Mistake(NamedTuple):
    path: str  # dotted path of the value
    message: str
    where: Optional[str]  # 'configs/a.py:12'
    is_sentence: bool = False  # the message names the path itself

    def __str__(self) -> str:
        start = '' if self.is_sentence else f'{self.path}: '
        return f'{start}{self.message}' + (f' ({self.where})' if self.where else '')


def refusal(config: Config, mistakes: List[Mistake]) -> CheckError:
    """Return the error that lists all mistakes."""
    lines = [str(mistake) for mistake in mistakes[:MOST_SHOWN]]
    if len(mistakes) > MOST_SHOWN:
        lines.append(f'... and {len(mistakes) - MOST_SHOWN} more')
    if len(mistakes) > 1:
        of_what = f'{config.filename}: ' if config.filename else ''
        lines.insert(0, f'{of_what}{len(mistakes)} mistakes in the config')
    error = CheckError('\n'.join(lines))
    error.mistakes = mistakes
    return error


class Findings:
    """The mistakes and warnings found so far; values are identified by their dotted path."""

    def __init__(self, config: Config):
        self.config = config
        self.mistakes: List[Mistake] = []
        self.warnings: List[str] = []

    def report(self,
               path: str,
               message: str,
               where: Optional[str] = None,
               is_sentence: bool = False) -> None:
        """Note a mistake at a path; `where` is another path whose line is reported instead."""
        self.mistakes.append(Mistake(path, message, self.where(where or path), is_sentence))

    def report_instead(self, path: str, message: str) -> None:
        """Note a mistake that replaces those already noted for the same value."""
        self.mistakes = [mistake for mistake in self.mistakes if mistake.path != path]
        self.report(path, message)

    def where(self, path: str) -> Optional[str]:
        """Return `file:line` of a value, or of the nearest enclosing setting if no file sets it directly."""
        steps = path.split('.')
        locations = (
            self.config.where('.'.join(steps[:length])) for length in range(len(steps), 0, -1))
        return next((index for index in locations if index), None)

    def report_unknown_key(self, owner: str, known: Iterable[str], values: Dict[str, Any],
                           key: object, path: str) -> None:
        known = [name for name in known if name != 'self']
        full = f'{path}.{key}' if path else str(key)
        if key == DELETE_KEY:
            return self.report_needless_delete(full)
        near = nearest(key, known, taken=values)
        hint = f'did you mean {near!r}?' if near else f'it knows {", ".join(known)}'
        newer = old_configs.newer_key(key)
        meant = locate_num_classes(self.config) if key == 'num_classes' or (path, key) == (
            'model', 'bbox_head') and 'num_classes' in as_dict(values[key]) else []
        if meant:
            hint = f'the number of classes is {" and ".join(meant)}'
        elif newer and not (near and len(near) == len(str(key)) + 1):
            hint = newer
        elif near and (self.where(full) or '').startswith(OPTIONS_LABEL):
            set_by = self.config.where(f'{path}.{near}' if path else near)
            hint += f' It is set in {set_by}' if set_by and not set_by.startswith(
                OPTIONS_LABEL) else ''
        kind = 'policy' if path in ('lr_config', 'momentum_config') else 'type'
        types, sets = self.config.history(f'{path}.{kind}'), self.config.history(full)
        if near is None and sets and len(types) > 1 and types[-1].value != types[-2].value \
                and sets[-1].file != types[-1].file:
            hint = (
                f'it was meant for {types[-2].value}: write {DELETE_KEY}=True beside the {kind} '
                f'{types[-1].value} ({types[-1].where}) to inherit nothing')
        self.report(full, f'{owner} has no {str(key)!r} (here {short(values[key])}); {hint}')

    def report_needless_delete(self, path: str) -> None:
        self.report(path, f'there is nothing to delete here; remove {DELETE_KEY}')

    def report_unknown_type(self, kind: str, known: Iterable[str], value: object,
                            path: str) -> None:
        if not isinstance(value, str):
            return self.report(path, f'type must be the name of a {kind}, not {short(value)}',
                               f'{path}.type')
        known = list(known)
        whole = [name for name in known if path == 'model' and _is_shipped_model(MODELS.get(name))]
        newer = old_configs.newer_type(value)
        foreign = foreign_answer(value, kind, whole or known) if not newer else None
        unregistered = self._unregistered(kind, value)
        near = nearest(value, whole or known)
        hint = f'did you mean {near!r}?' if near else (
            "a type of your own is found when its module is named in custom_imports=dict(imports=['your.module'])"
        )
        if whole:  # an unregistered architecture looks like a misspelt one
            hint = f'{"did you mean " + repr(near) + "? " if near else ""}the models here are {", ".join(whole)}'
        if foreign:
            hint = f'{foreign}; the models here are {", ".join(whole)}' if whole else foreign
        message = newer or unregistered or hint
        self.report(
            path,
            message if is_not_supported(message) else f'unknown {kind} type {value!r}; {message}',
            f'{path}.type')

    def _unregistered(self, kind: str, value: object) -> Optional[str]:
        """Say how to register a class that a module of custom_imports has but does not register."""
        imports = as_dict(self.config.get('custom_imports')).get('imports') or ()
        for name in [imports] if isinstance(imports, str) else imports:
            module = sys.modules.get(name)
            if isinstance(value, str) and inspect.isclass(getattr(module, value, None)):
                return (f'{name} has a class of this name that is not registered: write '
                        f'@{kind.upper()}S.register_module() above it')
        return None

    def is_dict(self, value: object, path: str) -> 'TypeGuard[Dict[str, Any]]':
        if value is not None and not isinstance(value, dict):
            self.report(path, f'must be a dict, not {short(value)}')
        return isinstance(value, dict)

    def is_list(self, value: object, path: str) -> 'TypeGuard[Sequence[Any]]':
        if value is not None and not isinstance(value, (list, tuple)):
            self.report(path, f'must be a list, not {short(value)}')
        return isinstance(value, (list, tuple))

    def keys(self,
             known: AllowedKeys,
             value: object,
             path: str,
             owner: Optional[str] = None) -> None:
        """Check the keys of a dict but not its values; anything else passes."""
        if isinstance(value, dict) and not known.is_open:
            for key in value:
                if key not in known.parameters:
                    self.report_unknown_key(
                        owner or path.rpartition('.')[2], known.parameters, value, key, path)


def _is_shipped_model(cls: Any) -> bool:
    """Return whether a class is a whole detector or classifier of this package."""
    return hasattr(cls, 'results') and cls.__module__.startswith('mmdet_ft.')


def as_dict(value: object) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


def locate_num_classes(config: Config) -> List[str]:
    """Return the paths of a model's `num_classes`; [] if no part has one."""
    return [
        f'{path}.num_classes' for path, part, cls in parts_of(config.get('model'))
        if 'num_classes' in part and getattr(cls, 'counts_classes', True)
    ]


def parts_of(model: object, path: str = 'model') -> Iterator[Tuple[str, Dict[str, Any], Any]]:
    """Yield (dotted path, settings, class or None) of a model and of every nested part, in order."""
    if isinstance(model, dict):
        if 'type' in model:
            yield path, model, MODELS.class_of(model)
        for key, value in model.items():
            yield from parts_of(value, f'{path}.{key}')
    elif isinstance(model, (list, tuple)):
        for index, value in enumerate(model):
            yield from parts_of(value, f'{path}.{index}')


def nearest(name: object, names: Iterable[str], taken: Iterable[str] = ()) -> Optional[str]:
    """Return the most likely intended name: one with a character missing, else the most similar.

    Names that are not `taken` yet are preferred.
    """
    names = sorted(map(str, names), key=lambda known: known in set(taken))
    name = str(name)
    for known in names:
        if len(known) == len(name) + 1 and any(known[:i] + known[i + 1:] == name
                                               for i in range(len(known))):
            return known
    near = spelling.nearest(name, names)
    if not near and name:
        near = [known for known in names if known.startswith(name)]
    return near[0] if near else None


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def listed(paths: Sequence[str], most: int = 12) -> str:
    more = f' and {len(paths) - most} more' if len(paths) > most else ''
    return ', '.join(paths[:most]) + more
