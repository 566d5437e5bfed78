"""Waits of the main thread for a batch, for a watchdog in another thread."""
import threading
from typing import Any, Iterator, NamedTuple, Optional

from torch import Tensor


class Wait(NamedTuple):
    """A wait inside a loader for the batch of one of its workers."""
    pids: Optional[Tensor] = None  # int64 [workers], see Batches
    worker: int = 0

    @property
    def has_workers(self) -> bool:
        return self.pids is not None

    @property
    def pid(self) -> int:
        """Return the process id of the worker, 0 if unknown; a new worker writes it during the wait."""
        return 0 if self.pids is None else int(self.pids[self.worker])


current: Optional[Wait] = None


class Batches:
    """The batches of an iteration over a loader; `current` is set while the main thread waits for one.

    torch's DataLoader gives batches to its workers in turn, from the first worker on in each epoch.

    pids: int64 [workers], process ids that the workers have written (0: not yet); None without workers.
    """

    def __init__(self, batches: Iterator[Any], pids: Optional[Tensor] = None):
        self._batches = batches
        self._pids = pids
        self._number = 0
        self.ring: Any = None  # of shared_batches

    def __iter__(self) -> 'Batches':
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return next(self._batches)
        global current
        before, current = current, self._wait()
        self._number += 1
        try:
            return next(self._batches)
        finally:
            current = before

    def _wait(self) -> Wait:
        return Wait() if self._pids is None else Wait(self._pids, self._number % len(self._pids))
