"""Names removed from NumPy that evaluation packages still use."""
import contextlib
from typing import Any, Iterator

import numpy as np


@contextlib.contextmanager
def numpy_names(**names: Any) -> Iterator[None]:
    """Add these names to numpy in this context, unless it has them anyway."""
    missing = {name: value for name, value in names.items() if name not in vars(np)}
    for name, value in missing.items():
        setattr(np, name, value)
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)
