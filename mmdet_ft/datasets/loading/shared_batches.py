"""Batches from workers in reused shared memory.

torch puts every tensor of a batch into a new file in shared memory. Its pages are all new:
allocating, clearing and mapping them costs more than decoding and resizing the images. Here each
worker shares a few slots with the main process. A batch is written into a free slot, and the slot
is free again when no tensor of the batch is left. A batch that is kept is never overwritten; while
no slot is free, batches use torch's shared memory.

Loading from JPEG takes 1.6 (16 images a batch) to 2.3 times (2 images) the CPU time with torch's shared
memory; sending images that are in memory already 5 to 6 times. Measured on two cores of a CPU by
tools/benchmarks/loader.py --transport.
"""
import itertools
import mmap
import os
import weakref
from typing import Any, Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from mmdet_ft.datasets.loading.waiting import Batches
from mmdet_ft.processes import to_other_process

SLOT_BYTES = 256 << 20  # address space only: memory is used for what is written
ALIGNMENT = 64
_numbers = itertools.count()
_rings: 'weakref.WeakValueDictionary[int, Ring]' = weakref.WeakValueDictionary()
_slot: Optional['Slot'] = None  # the slot of this worker's current batch


class Ring:
    """The slots of all workers of one iteration over a loader.

    slots_each: batches of a worker that may be in flight or in use at a time.
    """

    def __init__(self, num_workers: int, slots_each: int):
        self.number = next(_numbers)
        self.slots_each = slots_each
        self.num_slots = num_workers * slots_each
        self.owner = os.getpid()
        file = os.memfd_create('mmdet_ft batches')
        os.ftruncate(file, self.num_slots * SLOT_BYTES + mmap.PAGESIZE)
        self._map(file)

    def _map(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file).atexit = False
        memory = mmap.mmap(file, self.num_slots * SLOT_BYTES + mmap.PAGESIZE)
        self.busy = np.frombuffer(memory, np.uint8, self.num_slots)  # 1: written, or in use
        self.memory = memory
        _rings[self.number] = self

    def __getstate__(self) -> Any:
        """Support pickling for workers that are not forked."""
        return {
            **self.__dict__, '_file': to_other_process(self._file),
            'busy': None,
            'memory': None
        }

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        self._map(state['_file'].detach())

    def array(self, slot: int, offset: int, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        start = mmap.PAGESIZE + slot * SLOT_BYTES + offset
        count = int(np.prod(shape))
        return np.frombuffer(self.memory, dtype, count, start).reshape(shape)

    def take(self, worker: int) -> Optional[int]:
        """Take a free slot of a worker and mark it busy; None if all are busy."""
        own = range(worker * self.slots_each, (worker + 1) * self.slots_each)
        for slot in own:  # prefer the first ones, so that no more memory is used than needed
            if not self.busy[slot]:
                self.busy[slot] = 1
                return slot
        return None

    def release(self, slot: int) -> None:
        if os.getpid() == self.owner:  # a worker forked meanwhile has a copy of every batch in use
            self.busy[slot] = 0


class Slot:
    """A slot into which a worker writes a batch."""

    def __init__(self, ring: Ring, index: int):
        self.ring = ring
        self.index = index
        self.offset = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Optional[Tensor]:
        """Allocate a tensor in the slot; return None if it does not fit."""
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        size = int(np.prod(shape)) * kind.itemsize
        if self.offset + size > SLOT_BYTES:
            return None
        tensor = torch.from_numpy(self.ring.array(self.index, self.offset, shape, kind))
        self.offset += -(-size // ALIGNMENT) * ALIGNMENT
        return tensor

    def offset_of(self, tensor: Tensor) -> Optional[int]:
        """Return the offset of a tensor in the slot; None for a tensor outside the slot."""
        start = self.ring.array(self.index, 0, (1, ), np.dtype(np.uint8)).ctypes.data
        index = tensor.data_ptr() - start
        return index if 0 <= index < self.offset and tensor.is_contiguous() else None


def shared_empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate a tensor to fill; in a worker in shared memory, which saves a copy before it is sent."""
    tensor = _slot.empty(shape, dtype) if _slot is not None else None
    if tensor is not None:
        return tensor
    number = int(np.prod(shape))
    if get_worker_info() is None or not number:
        return torch.empty(*shape, dtype=dtype)
    prototype = torch.empty(0, dtype=dtype)  # as torch's default_collate
    return prototype.new(prototype._typed_storage()._new_shared(number)).view(*shape)


class Placed(NamedTuple):
    """A tensor in flight: its location in the slot."""
    offset: int
    shape: Tuple[int, ...]
    dtype: np.dtype


class Copied(NamedTuple):
    """A small tensor in flight, with its content: a file in shared memory would cost more."""
    array: np.ndarray


class Parcel:
    """A batch as sent by a worker; the main process receives the batch itself."""

    def __init__(self, content: Any, slot: Slot, finish: Callable[[Any], Any]):
        self.content = _packed(content, slot)
        self.ring_number = slot.ring.number
        self.slot = slot.index
        self.finish = finish

    def __reduce__(self) -> Any:
        return _unpack, (self.content, self.ring_number, self.slot, self.finish)


def _packed(value: Any, slot: Slot) -> Any:
    if isinstance(value, Tensor):
        index = slot.offset_of(value)
        if index is None and value.is_shared():  # too large for the slot
            return value
        array = value.numpy()
        return Copied(array) if index is None else Placed(index, array.shape, array.dtype)
    return _mapped(value, lambda item: _packed(item, slot))


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the fields of a tuple and keep the tuple's type."""
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*map(function, value))
    return tuple(map(function, value)) if isinstance(value, tuple) else value


class _Lease:
    """A lease of a slot: it lives as long as a tensor of its batch; then the slot is free."""

    def __init__(self, ring: Ring, slot: int):
        self.ring = ring
        self.slot = slot
        weakref.finalize(self, ring.release, slot).atexit = False


class _Leased(np.ndarray):
    """The memory of a received tensor: torch keeps it as long as tensors refer to it."""
    lease: _Lease


def _unpack(content: Any, ring_number: int, slot: int, finish: Callable[[Any], Any]) -> Any:
    return finish(_unpacked(content, _Lease(_rings[ring_number], slot)))


def _unpacked(value: Any, lease: _Lease) -> Any:
    # not a function inside _unpack: a recursive closure lives, with the lease, until garbage is
    # collected
    if isinstance(value, Copied):
        return torch.from_numpy(value.array)
    if isinstance(value, Placed):
        array = lease.ring.array(lease.slot, *value).view(_Leased)
        array.lease = lease
        return torch.from_numpy(array)
    return _mapped(value, lambda item: _unpacked(item, lease))


class RingCollate:
    """A collate function whose batches are sent through a ring."""

    def __init__(self,
                 collate: Callable,
                 finish: Callable[[Any], Any],
                 ring: Optional[Ring] = None):
        self.collate = collate
        self.finish = finish
        self.ring = ring

    def __call__(self, samples: Any) -> Any:
        global _slot
        worker = get_worker_info()
        index = self.ring.take(worker.id) if self.ring is not None and worker is not None else None
        if index is None:
            return self.finish(self.collate(samples))
        slot = _slot = Slot(self.ring, index)
        try:
            return Parcel(self.collate(samples), slot, self.finish)
        except BaseException:
            self.ring.busy[index] = 0
            raise
        finally:
            _slot = None


class RingLoader(DataLoader):
    """torch's DataLoader with a ring for each iteration's workers; its collate_fn is a RingCollate.

    pids: int64 [workers] in shared memory, see init_worker.
    """

    def __init__(self, *args: Any, pids: Optional[Tensor] = None, **options: Any):
        super().__init__(*args, **options)
        self.pids = pids
        self.ring: Optional[Ring] = None
        self.has_started = False

    def __iter__(self) -> Any:
        if not (self.has_started and self.persistent_workers):
            self._prepare_workers()
        batches = Batches(super().__iter__(), self.pids)
        batches.ring = self.ring  # for batches still to be received, as long as the iterator is used
        return batches

    def _prepare_workers(self) -> None:
        """Make a ring for the workers that start next, and forget the process ids of earlier ones."""
        self.has_started = True
        if self.pids is not None:
            self.pids.zero_()
        if self.num_workers and hasattr(os, 'memfd_create'):  # Linux
            # Besides prefetched ones: the batch in use, in an evaluation the one before, and one to
            # spare.
            self.ring = Ring(self.num_workers, self.prefetch_factor + 3)
            self.collate_fn = RingCollate(self.collate_fn.collate, self.collate_fn.finish,
                                          self.ring)

    def restart_workers(self) -> None:
        """Start new workers at the next iteration: persistent ones have the earlier dataset."""
        self._iterator = None  # torch's: tests/engine/test_engine_averages.py fails when it is renamed
        self.has_started = False
