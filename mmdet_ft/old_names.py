"""Names of MMDetection V2 in the packages where its scripts look for them.

A package's `face` returns an object from its current location, and gives advice for a removed name. The table
of both is engine/legacy/user_code.py. It is loaded by name, when such a name is requested, as registry.py does.
"""
import importlib
from typing import Any, Callable


def resolve_old_names(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module that resolves V2's names to their current location.

    It raises ImportError, with advice, for a V2 name that does not exist here: `from mmdet_ft.core import
    multiclass_nms` shows it. Other names raise AttributeError as usual.
    """

    def __getattr__(name: str) -> Any:
        if not name.startswith('_'):
            user_code = importlib.import_module('mmdet_ft.engine.legacy.user_code')
            home = user_code.HOME_OF.get(name)
            if home is None and name[0].isupper():  # a registered type
                home = user_code.find_current_module(name)
            if home is not None and home != module:
                return getattr(importlib.import_module(home), name)
            if name in user_code.ANSWERS:
                raise ImportError(
                    f'{module} has no {name} of MMDetection V2; write {user_code.ANSWERS[name]}')
        raise AttributeError(f'module {module!r} has no attribute {name!r}')

    return __getattr__
