"""Names that NumPy has taken away and evaluation packages still call."""
import contextlib
from typing import Any, Iterator

import numpy as np


@contextlib.contextmanager
def numpy_names(**names: Any) -> Iterator[None]:
    """Within, numpy has these names, if it does not have them anyway."""
    missing = {name: value for name, value in names.items() if name not in vars(np)}
    for name, value in missing.items():
        setattr(np, name, value)
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)
