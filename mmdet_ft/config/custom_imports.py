"""Import of user modules that a config names."""
import importlib
import importlib.util
import os
import sys
import types
import warnings
from typing import Any, List, Mapping

from mmdet_ft.config.errors import ConfigTypeError


def import_custom_modules(config: Mapping[str, Any]) -> List[types.ModuleType]:
    """Import `custom_imports=dict(imports=['my.module'])`, which registers the modules' types.

    The working directory is importable. Raises ImportError with the module name and the search
    path; under `allow_failed_imports=True` this is a warning.
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
        advice = _suggest_name(name)
        if is_package_of_v2(name):  # even if it is installed: its types are in other registries
            warnings.warn(
                f'custom_imports: {name} is left out: its types, as far as they are here, need no import'
            )
            continue
        try:
            if advice and not _exists(name):
                raise ModuleNotFoundError(advice, name=name)
            modules.append(importlib.import_module(name))
        except ImportError as error:
            message = (f'custom_imports: cannot import {name!r} from {os.getcwd()} or PYTHONPATH: '
                       f'{error}')
            if not custom_imports.get('allow_failed_imports', False):
                raise ImportError(message, name=error.name, path=error.path) from error
            warnings.warn(message)
    return modules


def is_package_of_v2(name: str) -> bool:
    """Check whether a module is a V2 package of types that some configs import, such as mmcls.models."""
    root, _, rest = name.partition('.')
    return root in ('mmdet', 'mmcls') and rest in ('', 'models', 'datasets', 'core')


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError,
            TypeError):  # for a relative or empty name, or from the package around it
        return False


def _suggest_name(name: str) -> str:
    """Return how to write a name that was given as a path or as several names; '' for others."""
    if ',' in name or name[:1] in '[(':
        parts = [part.strip('[]()\'" ') for part in name.split(',')]
        return f'it is one text; write a list, {[_to_module_name(part) for part in parts if part]!r}'
    if name != _to_module_name(name):
        return f'modules are named by dots; write {_to_module_name(name)!r}'
    if name.partition('.')[0] in ('mmdet', 'mmcls'):
        return 'it is a module of MMDetection V2, and its types that are here need no import; leave it out'
    return ''


def _to_module_name(name: str) -> str:
    """Convert a path to a module name: './my/module.py' -> 'my.module'."""
    name = name.replace('\\', '/')
    name = name[:-3] if name.endswith('.py') else name
    return '.'.join(part.strip('.') for part in name.split('/') if part.strip('.'))
