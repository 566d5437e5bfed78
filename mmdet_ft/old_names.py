"""Names of MMDetection V2 in the packages where its scripts look for them.

A package's face hands out what stands elsewhere today, and says what to write instead of what is no more. The table
of both is engine/legacy/user_code.py; it is looked up by name, when such a name is asked for, as registry.py does.
"""
import importlib
from typing import Any, Callable


def face(module: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module: V2's names, wherever they stand today.

    It raises ImportError, with what to write instead, for a name that V2 had and that is not here: `from mmdet_ft.core
    import multiclass_nms` shows it. Other names are an AttributeError, as without it.
    """

    def __getattr__(name: str) -> Any:
        if not name.startswith('_'):
            user_code = importlib.import_module('mmdet_ft.engine.legacy.user_code')
            home = user_code.HOME_OF.get(name)
            if home is None and name[0].isupper():  # a registered type
                home = user_code.home_of(name)
            if home is not None and home != module:
                return getattr(importlib.import_module(home), name)
            if name in user_code.ANSWERS:
                raise ImportError(
                    f'{module} has no {name} of MMDetection V2; write {user_code.ANSWERS[name]}')
        raise AttributeError(f'module {module!r} has no attribute {name!r}')

    return __getattr__
