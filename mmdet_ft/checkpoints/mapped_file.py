"""A file's bytes as tensors, without reading what is not used."""
import mmap

import torch
from torch import Tensor

from mmdet_ft.checkpoints.safe_pickle import Refused


class MappedFile:
    """A file's bytes as tensors."""

    def __init__(self, path: str):
        with open(path, 'rb') as file:
            # Copied on a write, which torch insists on; the file stays as it is.
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.path = path

    def __len__(self) -> int:
        return len(self.bytes)

    def values(self, start: int, num_values: int, dtype: torch.dtype) -> Tensor:
        """`num_values` numbers from byte `start` on: a view where they are aligned, else a copy."""
        num_bytes = num_values * dtype.itemsize
        if start < 0 or num_values < 0 or start + num_bytes > len(self):
            raise Refused(
                f'is cut short: {start + num_bytes} bytes are announced, {len(self)} there')
        if num_values == 0:
            return torch.empty(0, dtype=dtype)
        if start % dtype.itemsize == 0:
            flat = torch.frombuffer(self.bytes, dtype=torch.uint8, count=num_bytes, offset=start)
        else:  # not through the mapping, whose pages would count twice
            flat = torch.empty(num_bytes, dtype=torch.uint8)
            with open(self.path, 'rb') as file:
                file.seek(start)
                file.readinto(memoryview(flat.numpy()))
        return flat.view(dtype)
