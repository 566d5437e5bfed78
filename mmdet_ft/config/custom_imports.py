"""Modules of the user's own that a config names."""
import importlib
import os
import sys
import types
import warnings
from typing import Any, List, Mapping

from mmdet_ft.config.errors import ConfigTypeError


def import_custom_modules(config: Mapping[str, Any]) -> List[types.ModuleType]:
    """Import what `custom_imports=dict(imports=['my.module'])` names, so that its types register.

    The working directory can be imported from. Raises ImportError that says what was sought where;
    under `allow_failed_imports=True` a warning says it.
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
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            message = (f'custom_imports: cannot import {name!r} from {os.getcwd()} or PYTHONPATH: '
                       f'{error}')
            if not custom_imports.get('allow_failed_imports', False):
                raise ImportError(message, name=error.name, path=error.path) from error
            warnings.warn(message)
    return modules
