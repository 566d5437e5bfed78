"""Batches on their way to the device while it works."""
from typing import Any, Iterator

import torch
from torch import Tensor

from mmdet_ft.structures import to_device


def on_device(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The batches on `device`.

    On a GPU the copy goes by a stream of its own. The host queues a step and comes back long before
    it is done: the next batch is copied beside it.
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


def _used_by(stream: Any, value: Any) -> None:
    """Tell the allocator that memory of another stream must stay until this one is through."""
    if isinstance(value, Tensor):
        value.record_stream(stream)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _used_by(stream, item)
