"""A GPU that computes nothing: torch's fake tensors on the device 'cuda', which no driver is asked for.

Shapes, types and devices are those of a real run, and an operation between the host and the device
is refused or, where it is a copy, seen. Kernels do not run, and neither does a backward pass.
"""
import traceback
from typing import Any, List

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device('cuda')
fake_cuda_works = pytest.mark.skipif(
    torch.__version__ < (2, 11) and not torch.cuda.is_available(),
    reason='older fake tensors ask the driver all the same')


def fake_cuda() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


def on_fake_cuda(value: Any) -> Any:
    """Tensors, alone or in tuples, and modules (in place) on the fake device; within `fake_cuda()`."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(
                        _fake(parameter), requires_grad=parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = _fake(buffer)
        return value
    if isinstance(value, Tensor):
        return _fake(value)
    if isinstance(value, tuple):
        items = [on_fake_cuda(item) for item in value]
        return type(value)(*items) if hasattr(value, '_fields') else tuple(items)
    return value


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CUDA)


class HostWork(TorchDispatchMode):
    """Notes, with its line of code, each operation that has a tensor of the host among its inputs or
    results: a number that is uploaded makes the host wait."""

    def __init__(self):
        super().__init__()
        self.seen: List[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [
            item for item in torch.utils._pytree.tree_leaves((args, kwargs, result))
            if isinstance(item, Tensor)
        ]
        if any(tensor.device.type == 'cpu' for tensor in tensors):
            frames = [
                frame for frame in traceback.extract_stack() if '/mmdet_ft/' in frame.filename
            ]
            line = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else '?'
            self.seen.append(f'{func._schema.name} at {line}')
        return result
