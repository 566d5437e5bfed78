"""Registries: classes by the `type='...'` of a config.

There is one table for each kind of object. A table imports its package on the first look-up, so
that `from mmdet_ft.registry import MODELS` is cheap and `MODELS.build(cfg)` still knows every
shipped type.
"""
import functools
import importlib
import inspect
from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Tuple, Union

from mmdet_ft.spelling import did_you_mean
from mmdet_ft.v2_types import foreign_answer, is_not_supported, without_scope


class RegistryError(Exception):
    """An error about a type name; the message is complete."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return str(self.args[0]) if self.args else ''


class UnknownTypeError(RegistryError, KeyError):
    """A `type` that no registry has, or a missing one."""


class TakenNameError(RegistryError, KeyError):
    """A name that is already registered for another object."""


class RegistrationError(RegistryError, TypeError):
    """A decorator without its parentheses."""


class Registry:
    """A table from V2's type names to classes, and the builder that reads `dict(type=..., ...)`.

    Args:
        name: name of the objects in messages ('model', 'dataset').
        location: dotted module that registers the shipped types; imported on the first look-up.
    """

    def __init__(self, name: str, location: Optional[str] = None):
        self.name = name
        self._location = location
        self._table: Dict[str, Callable] = {}
        self._by_argument: Dict[Tuple[str, str], Callable] = {}  # (name, argument) -> class

    def __repr__(self) -> str:
        return f'Registry({self.name}: {", ".join(sorted(self._table))})'

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._load_shipped()
        return iter(self._table)

    @property
    def module_dict(self) -> Dict[str, Callable]:
        """Return the table under V2's name."""
        self._load_shipped()
        return self._table

    def _load_shipped(self) -> None:
        if self._location is not None:
            location, self._location = self._location, None
            try:
                importlib.import_module(location)
            except BaseException:
                self._location = location
                raise

    def get(self, name: str, arguments: Collection[str] = ()) -> Optional[Callable]:
        """Return the class of a name, or None; if several share it, the one selected by the arguments.

        V2's scopes, as in 'mmdet.ResNet', are accepted: there is one table.
        """
        if name not in self._table:
            self._load_shipped()
        if name not in self._table and isinstance(name, str):
            name = without_scope(name)
        for (shared, argument), cls in self._by_argument.items():
            if shared == name and argument in arguments:
                return cls
        return self._table.get(name)

    def class_of(self, settings: object) -> Optional[Callable]:
        """Return the class that a `dict(type=..., ...)` names, or None; `type` may be a class itself."""
        if not isinstance(settings, dict):
            return None
        kind = settings.get('type')
        if isinstance(kind, str):
            return self.get(kind, settings)
        return kind if callable(kind) else None

    def spellings(self, name: str) -> Dict[Optional[str], Callable]:
        """Return the classes that share a name, by the argument that selects them; None selects the default."""
        self._load_shipped()
        found: Dict[Optional[str], Callable] = {}
        if name in self._table:
            found[None] = self._table[name]
        found.update({
            argument: cls
            for (key, argument), cls in self._by_argument.items() if key == name
        })
        return found

    def names_of(self, cls: Callable) -> List[str]:
        """Return the names under which configs select a class, those that need an argument last."""
        self._load_shipped()
        return [name for name, other in self._table.items() if other is cls
                ] + [name for (name, _), other in self._by_argument.items() if other is cls]

    def name_of(self, cls: type) -> str:
        """Return the name under which configs select a class; the class's own if that is one, or if there is none."""
        names = self.names_of(cls)
        return cls.__name__ if cls.__name__ in names else next(iter(names), cls.__name__)

    def register_module(self,
                        name: Union[str, List[str], None] = None,
                        force: bool = False,
                        module: Optional[Callable] = None,
                        when: Optional[str] = None):
        """Register a class or function, as a decorator or by `module=`: V2's signature, and `when`.

        With `when` the name selects this class if that argument is given, else the class registered
        without it. Raises TakenNameError if another object has the name and `force` is not set.
        """
        if inspect.isclass(name) or inspect.isfunction(name):
            raise RegistrationError(
                f'{name.__name__}: write @{self.name.upper()}S.register_module() with parentheses')

        def register(cls):
            names = [name] if isinstance(name, str) else name or [cls.__name__]
            if when is not None:
                self._by_argument.update({(key, when): cls for key in names})
                return cls
            for key in names:
                taken = self._table.get(key)
                same = taken is not None and (taken.__module__,
                                              taken.__qualname__) == (cls.__module__,
                                                                      cls.__qualname__)
                if taken is not None and not same and not force:
                    raise TakenNameError(
                        f'{self.name} type {key!r} is already {taken.__module__}.{taken.__qualname__}; '
                        f'choose another name, or replace it with register_module(force=True)')
                self._table[key] = cls
                if taken is not None and not same:  # `force` replaces all classes of the name
                    self._by_argument = {
                        pair: other
                        for pair, other in self._by_argument.items() if pair[0] != key
                    }
            return cls

        return register if module is None else register(module)

    def resolve(self, kind: object, arguments: Collection[str] = ()) -> Callable:
        """Return the class of a `type` entry: a registered name, or a class itself; see `get`.

        Raises UnknownTypeError with the nearest registered names.
        """
        if callable(kind):
            return kind
        cls = self.get(kind, arguments) if isinstance(kind, str) else None
        if cls is None:
            raise UnknownTypeError(self.unknown(kind))
        return cls

    def unknown(self, kind: object) -> str:
        """Return a message for an unknown type: one of V2, a misspelled one, or the user's own."""
        self._load_shipped()
        foreign = foreign_answer(kind, self.name, self._table) if isinstance(kind, str) else None
        if foreign and is_not_supported(foreign):
            return foreign
        hint = foreign or did_you_mean(kind, self._table, count=3)
        own = (f"{'if' if hint else 'If'} it is a class of your own, import its module: "
               "custom_imports=dict(imports=['your.module'])")
        return f'unknown {self.name} type {kind!r}' + (f'; {hint.rstrip("?")}? Or {own}'
                                                       if hint and hint.endswith('?') else
                                                       f'; {hint}' if hint else f'. {own}')

    def build(self, cfg: object, **defaults: Any) -> Any:
        """Build `dict(type=Name, **arguments)`; `defaults` fill missing arguments.

        Anything but a dict is returned as an already built object (a test passes such). An error
        inside a constructor keeps its type and traceback, with a note on the object being built.
        """
        if not isinstance(cfg, dict):
            return cfg
        arguments = {**defaults, **cfg}
        if 'type' not in arguments:
            raise UnknownTypeError(f'a {self.name} needs a type: add type=... to {dict(cfg)!r}')
        cls = self.resolve(arguments.pop('type'), arguments)
        if arguments.get('num_classes') == 'auto':
            raise ValueError(
                f"num_classes='auto' of {getattr(cls, '__name__', cls)} is counted from a dataset, and here is none: "
                'write the number, or build the model with mmdet_ft.engine.models.build.build_model(cfg, dataset)'
            )
        try:
            return cls(**arguments)
        except Exception as error:
            note_building(error, f'{self.name} {getattr(cls, "__name__", cls)!r}')
            raise


def note_building(error: BaseException, what: str) -> None:
    """Add the object being built to an error; an error that our own code raises then counts as a config error."""
    note = f'while building {what}'
    if hasattr(error, 'add_note'):  # Python 3.11
        error.add_note(note)
    else:
        error.__notes__ = [*getattr(error, '__notes__', ()), note]


def build_from_cfg(cfg: object,
                   registry: Registry,
                   default_args: Optional[Dict[str, Any]] = None) -> Any:
    """Build from a config under V2's function name; same as `registry.build(cfg, **default_args)`."""
    return registry.build(cfg, **(default_args or {}))


def fixed_arguments(**values: Any) -> Callable[[type], type]:
    """Return a class decorator that fixes some arguments of the parent's constructor.

    The fixed arguments leave the signature. So a type that only sets arguments of another
    (`Shared2FCBBoxHead`) still names every argument it takes.
    """

    def settle(cls: type) -> type:
        parent = cls.__init__  # type: ignore[misc] # wrapped, and called with its own arguments
        signature = inspect.signature(parent)
        assert set(values) <= set(signature.parameters), (cls, values)

        @functools.wraps(parent)
        def __init__(self, *positional, **named):
            taken = values.keys() & named.keys()
            if taken:
                raise TypeError(
                    f'{cls.__name__} settles {", ".join(sorted(taken))} itself; remove it from the config'
                )
            bound = own.bind(self, *positional, **named)
            parent(**bound.arguments, **values)

        rest = [parameter for name, parameter in signature.parameters.items() if name not in values]
        own = signature.replace(parameters=rest)
        setattr(__init__, '__signature__', own)
        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return settle


MODELS = Registry('model', 'mmdet_ft.models')
DATASETS = Registry('dataset', 'mmdet_ft.datasets')
PIPELINES = Registry('pipeline', 'mmdet_ft.datasets.pipelines')
SAMPLERS = Registry('sampler', 'mmdet_ft.datasets.loading.samplers')
HOOKS = Registry('hook', 'mmdet_ft.engine.hooks')
RUNNERS = Registry('runner', 'mmdet_ft.engine.runner')
OPTIMIZERS = Registry('optimizer', 'mmdet_ft.engine.optimizers.optimizer')
OPTIMIZER_BUILDERS = Registry('optimizer constructor', 'mmdet_ft.engine.optimizers.optimizer')

# V2's names for parts of the single model registry.
BACKBONES = NECKS = HEADS = SHARED_HEADS = ROI_EXTRACTORS = LOSSES = DETECTORS = CLASSIFIERS = MODELS
BBOX_ASSIGNERS = BBOX_SAMPLERS = BBOX_CODERS = ANCHOR_GENERATORS = PRIOR_GENERATORS = IOU_CALCULATORS = MODELS
