"""A memory-mapped file as tensors, which reads only the pages in use."""
import mmap

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.pickle_values import Refused


class MappedFile:
    """A memory-mapped file that gives its bytes as arrays and tensors."""

    def __init__(self, path: str):
        with open(path, 'rb') as file:
            # Copy on write: torch needs writable memory, and the file must not change.
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.path = path

    def __len__(self) -> int:
        return len(self.bytes)

    def numbers(self, start: int, num_bytes: int, alignment: int) -> np.ndarray:
        """Return bytes from offset `start` as uint8 [num_bytes]: a view if aligned, else a copy."""
        if start < 0 or num_bytes < 0 or start + num_bytes > len(self):
            raise Refused(
                f'is cut short: {start + num_bytes} bytes are announced, {len(self)} there')
        if start % alignment == 0:
            return np.frombuffer(self.bytes, np.uint8, num_bytes, start)
        copy = np.empty(num_bytes, np.uint8)
        with open(self.path, 'rb') as file:  # the pages of the mapping would count twice
            file.seek(start)
            file.readinto(memoryview(copy))
        return copy

    def values(self, start: int, num_values: int, dtype: torch.dtype) -> Tensor:
        """Return the values at byte `start` as [num_values] of `dtype`: a view if aligned, else a copy."""
        if num_values == 0:
            return torch.empty(0, dtype=dtype)
        numbers = self.numbers(start, num_values * dtype.itemsize, dtype.itemsize)
        return torch.from_numpy(numbers).view(dtype)
