"""Prefetching of batches to the device during computation."""
from typing import Any, Iterator

import torch
from torch import Tensor

from mmdet_ft.structures import to_device


def on_device(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Yield the batches on `device`.

    On a GPU the copy uses a separate stream. The host queues a step and returns long before it is
    done: the next batch is copied in the meantime.
    """
    if device.type != 'cuda':
        for batch in batches:
            yield to_device(batch, device)
        return
    beside = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(beside):
            batch = to_device(batch, device)
        working = torch.cuda.current_stream(device)
        working.wait_stream(beside)
        _used_by(working, batch)
        yield batch


def _used_by(stream: torch.cuda.Stream, value: object) -> None:
    """Prevent the allocator from reusing memory of another stream before this one is done."""
    if isinstance(value, Tensor):
        value.record_stream(stream)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _used_by(stream, item)
