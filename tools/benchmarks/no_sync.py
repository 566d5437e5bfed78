"""Detection of operations that would make the host wait for the GPU, on any machine.

    with NoSync():                    # refuses the first
        loss = model.loss(batch)
    with NoSync(limit=2):             # refuses the third
        ...
    with count_syncs() as seen:       # refuses none
        ...
    assert len(seen.syncs) <= 2 and seen.num_ops <= 900

An operation syncs if the host needs a value or a shape (`item`, `nonzero`, a boolean index, `unique`, nms). It also
syncs if host values become a tensor (`torch.tensor([..])`, a list as index): on a GPU, a copy from unpinned memory.
The check covers dispatched operations, also in the backward pass, and the few Python calls that read a tensor without
an operation. It cannot look inside a C++ operation: `WAITING` lists those that are known to sync.
"""
import traceback
from collections import Counter
from typing import Collection, List, Optional

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    'aten::_local_scalar_dense': 'the host reads a value: item(), bool(), int(), float()',
    'aten::nonzero': 'the host reads the number of hits',
    'aten::masked_select': 'the host reads the number of hits',
    'aten::_unique2': 'the host reads the number of values',
    'aten::unique_dim': 'the host reads the number of values',
    'aten::unique_consecutive': 'the host reads the number of values',
    'aten::unique_dim_consecutive': 'the host reads the number of values',
    'aten::bincount': 'the host reads the largest value',
    'aten::histc': 'the host reads the range',
    'aten::equal': 'the host reads the answer',
    'aten::is_nonzero': 'the host reads the answer',
    'aten::multinomial': 'the host checks the weights',
    'aten::lift_fresh': 'numbers of the host are copied to the device',
    'torchvision::nms': 'the host reads the number of boxes',
}
INDEXING = ('aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_')
READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.cpu)


class HostSync(AssertionError):
    """Raised for an operation that would wait for the device."""


class NoSync(TorchDispatchMode):
    """Refuse operations that would sync, beyond `limit` of them (None: refuse none), and count all operations.

    Args:
        limit: number of syncs that are allowed.
        waiting: names of further operations that count as one sync each, as 'mmdet_ft::nms'.

    During and after the block: `syncs`, one line per sync; `num_ops`, operations that compute; `num_views`, operations
    that return a view; `ops`, how often each computing one was seen.
    """

    def __init__(self, limit: Optional[int] = 0, waiting: Collection[str] = ()):
        super().__init__()
        self.limit = limit
        self.waiting = {**WAITING, **{name: 'named by the caller' for name in waiting}}
        self.syncs: List[str] = []
        self.num_ops = 0
        self.num_views = 0
        self.ops: Counter = Counter()
        self._reads = _Reads(self)

    def __enter__(self) -> 'NoSync':
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._reads.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        reason = self._reason(name, args, kwargs)
        if reason:
            self.note(name, reason)
        if func.is_view or name == 'aten::_unsafe_view':  # a view that autograd does not track as one
            self.num_views += 1
        else:
            self.num_ops += 1
            self.ops[name] += 1
        return func(*args, **kwargs)

    def _reason(self, name: str, args: tuple, kwargs: dict) -> Optional[str]:
        """Return why an operation syncs, or None."""
        if name == 'aten::lift_fresh' and args[0].device.type == 'cpu' and args[0].is_pinned():
            return None  # copied asynchronously
        if name in self.waiting:
            return self.waiting[name]
        if name in INDEXING and any(
                isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
                for index in args[1]):
            return 'a boolean index: the host reads the number of hits'
        if name == 'aten::repeat_interleave' and kwargs.get('output_size') is None:
            return 'the host reads the sum of the repeats; give output_size'
        # The rest needs a machine with a GPU: elsewhere all tensors are on one device.
        if name == 'aten::_to_copy' and kwargs.get(
                'device') is not None and not kwargs.get('non_blocking'):
            if torch.device(kwargs['device']).type != args[0].device.type:
                return f'a copy from {args[0].device} to {kwargs["device"]}'
        if name == 'aten::copy_' and not (args[2] if len(args) > 2 else kwargs.get('non_blocking')):
            if args[0].device.type != args[1].device.type:
                return f'a copy from {args[1].device} to {args[0].device}'
        return None

    def note(self, name: str, reason: str) -> None:
        """Count a sync with its line of code; raise HostSync if it exceeds the limit."""
        self.syncs.append(f'{name} ({reason}) at {_innermost_line()}')
        if self.limit is not None and len(self.syncs) > self.limit:
            raise HostSync(f'{len(self.syncs)} waits, {self.limit} allowed:\n  ' +
                           '\n  '.join(self.syncs))


class _Reads(TorchFunctionMode):
    """Intercepts Python calls that read a tensor on the host without dispatching an operation."""

    def __init__(self, owner: NoSync):
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in READS or (func is Tensor.to
                             and 'cpu' in (*filter(_is_text, args), kwargs.get('device'))):
            self.owner.note(func.__name__, 'the host reads the values')
        elif func is torch.from_numpy or (func is torch.as_tensor
                                          and hasattr(args[0], '__array_interface__')):
            self.owner.note(func.__name__, 'numbers of the host are copied to the device')
        return func(*args, **kwargs)


def count_syncs(waiting: Collection[str] = ()) -> NoSync:
    """Return a `NoSync` that only counts."""
    return NoSync(limit=None, waiting=waiting)


def _is_text(value) -> bool:
    return isinstance(value, str)


def _innermost_line() -> str:
    """Return the innermost line of code outside torch and this file."""
    for frame in reversed(traceback.extract_stack()):
        if '/torch/' not in frame.filename and frame.filename != __file__:
            return f'{frame.filename}:{frame.lineno}: {frame.line}'
    return '?'
