"""Page-locked memory for batches, which a GPU copies without waiting."""
from typing import Any

from torch import Tensor


class Pinnable:
    """Wrapper of a batch for the loader's pinning thread, which would turn the tuples of the metas into lists."""

    def __init__(self, batch: Any):
        self.batch = batch

    def pin_memory(self) -> Any:
        return _pinned(self.batch)


def _pinned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.pin_memory()
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*(_pinned(field) for field in value))
    if isinstance(value, tuple):
        return tuple(_pinned(item) for item in value)
    return value
