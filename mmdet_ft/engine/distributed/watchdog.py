"""Watchdog of a run of several processes: if one fails or hangs, all end within seconds, with one report.

Every rank writes to the store of its process group how many batches it has done, where its main
thread waits and for how long. This takes two threads: one for the store, which may not answer; the
other for the decision.
"""
import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

STALL_TIMEOUT = 300.
PATIENCE = .9  # share of the process group's timeout, whose own error has less information
_DEBUGGERS = ('pdb.py', 'bdb.py', 'pydevd.py', 'debugpy')
_LONG_STEPS = 2  # the first steps compile, choose algorithms and start workers
_GRACE = 3.  # seconds in which a process may end by itself after another has failed

_current: Optional['Watchdog'] = None
_steps_inside = 0  # how many `step` the main thread is in


def _current_wait() -> Optional[Any]:
    """Return the wait of the main thread for a batch; None outside of one."""
    from mmdet_ft.datasets.loading import waiting  # not above, for the reason below
    return waiting.current


@functools.lru_cache(maxsize=None)
def _waiting_folders() -> Tuple[str, ...]:
    """Return the folders of the packages in which a main thread waits for other ranks.

    It waits in a collective, or in backward, where DistributedDataParallel reduces the gradients.
    """
    import torch.autograd  # not above: a command refuses a missing file without torch
    import torch.distributed
    return tuple(
        os.path.dirname(package.__file__) + os.sep
        for package in (torch.distributed, torch.autograd))


def start(store: Any, rank: int, world_size: int, stall_timeout: float, timeout: float,
          address: str) -> None:
    """Start the watchdog of this run; `stop` ends it.

    store: a separate connection to the store of the process group. stall_timeout: seconds after
    which a batch that does not come or a step that does not end counts
        as hung; 0 never. The run ends when all ranks have stalled that long.
    timeout: the same for everything else, such as an evaluation on rank 0. address: of the store, for messages.
    """
    global _current
    stop()
    _current = Watchdog(store, rank, world_size, stall_timeout, timeout, address)


def stop() -> None:
    global _current
    if _current is not None:
        _current.stop()
        _current = None


def beat() -> None:
    """Record that a batch of training or evaluation is done."""
    if _current is not None:
        _current.beats += 1


@contextlib.contextmanager
def step() -> Iterator[None]:
    """Mark a step of training or an evaluation, as a decorator too: `stall_timeout` counts there."""
    global _steps_inside
    inside = threading.current_thread() is threading.main_thread()
    _steps_inside += inside
    try:
        yield
    finally:
        _steps_inside -= inside


def report(text: str) -> None:
    """Print why this process fails, unless another rank has failed before: its report is the cause
    and this one a consequence."""
    if _current is None:
        sys.stdout.flush()
        sys.stderr.write(text)
        sys.stderr.flush()
    else:
        _current.report_first(text)


def is_watching() -> bool:
    return _current is not None


class RankStatus(NamedTuple):
    """Status of the main thread of a rank.

    turn: counts up, so that an unchanged rank is known to be alive. stage: 'loader', 'step' or
    'else'. stalled: seconds without a beat. limit: seconds that it may stay at this stage.
    """
    turn: int
    beats: int
    stage: str
    stalled: float
    limit: float
    waits: bool  # for another rank or the loader's processes, by its stack
    line: str
    stack: str


class Watchdog:

    def __init__(self, store: Any, rank: int, world_size: int, stall_timeout: float, timeout: float,
                 address: str):
        self.beats = 0
        self.store = store
        self.rank, self.world_size = rank, world_size
        self.stall_timeout = stall_timeout or float('inf')
        self.timeout = PATIENCE * timeout
        self.address = address
        self.period = min(max(min(self.stall_timeout, timeout) / 20, .1), 5.)
        self.main_thread = threading.main_thread().ident
        self.statuses: Dict[int, RankStatus] = {}  # as last read from other ranks
        self.unheard: Dict[int, float] = dict.fromkeys(range(world_size), 0.)  # seconds
        self.stalled, self._seen_beats = 0., -1
        self.proposal: Optional[str] = None
        self.decided = threading.Event()
        self.stopped = threading.Event()
        self._turn = 0
        self._write()
        self.threads = [
            threading.Thread(target=target, name=f'watchdog{target.__name__}', daemon=True)
            for target in (self._exchange_status, self._check_progress)
        ]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopped.set()
        # python's exit would abort a thread that is inside the store, and the process with it
        for thread in set(self.threads) - {threading.current_thread()}:
            thread.join(5)

    # ---------------------------------------------------------------------------------- reporting

    def report_first(self, text: str) -> None:
        """Make `text` the report of the run and print it, if it is the first one."""
        self.proposal = text
        # If the store does not answer, this rank prints its own report.
        if not self.decided.wait(2 * self.period + 5):
            self._print(text)

    def _exchange_status(self) -> None:
        """Write the status of this rank, read those of the others, and check whether one has failed."""
        while not self.stopped.wait(self.period if self.proposal is None else .05):
            try:
                self._write()
                for rank in range(self.world_size):
                    if rank != self.rank and self.store.check([f'rank{rank}']):
                        self._update_status(rank, json.loads(self.store.get(f'rank{rank}')))
                if self._end_if_failed():
                    return
            except Exception:  # the store does not answer: `_check_progress` counts for how long
                time.sleep(self.period)

    def _end_if_failed(self) -> bool:
        """Return whether the run has failed; prints this rank's own report if it is the first."""
        verdict = self.store.compare_set('verdict', '', '-').decode()
        if self.proposal is not None:
            verdict = self.store.compare_set('verdict', '-', f'rank {self.rank}').decode()
        if verdict == '-':
            return False
        is_own = verdict == f'rank {self.rank}'
        if is_own:
            self._print(self.proposal)
        wait = _current_wait()
        if wait is not None and wait.pid:
            _ask_worker(wait.pid)
        self.decided.set()
        if is_own:
            return True
        self.stopped.wait(_GRACE)  # to end by itself, and clean up
        self._end_process()
        return True

    def _write(self) -> None:
        self.store.set(f'rank{self.rank}', json.dumps(self._read_status()))

    def _update_status(self, rank: int, heard: List[Any]) -> None:
        status = RankStatus(*heard)
        before = self.statuses.get(rank)
        if before is None or status != before:
            self.unheard[rank] = 0.
        self.statuses[rank] = status

    def _print(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(text if text.endswith('\n') else text + '\n')
        sys.stderr.flush()

    def _end_process(self) -> None:
        logging.shutdown()
        os._exit(
            1)  # the main thread cannot be woken from a collective; loader processes end with it

    # ----------------------------------------------------------------------------------- deciding

    def _read_status(self) -> RankStatus:
        frames = _frames(self.main_thread)
        wait = _current_wait()
        stage = 'loader' if wait else 'step' if _steps_inside else 'else'
        is_short = stage == 'loader' or (stage == 'step' and self.beats >= _LONG_STEPS)
        limit = self.stall_timeout if is_short else self.timeout
        last = frames[-1]
        # Stacks are only sent when they may be needed.
        stack = ''.join(traceback.format_list(frames)) if self.stalled > limit / 2 else ''
        self._turn += 1
        waits = wait.has_workers if wait else last.filename.startswith(_waiting_folders())
        return RankStatus(self._turn, self.beats, stage, self.stalled, limit, waits,
                          f'{last.filename}:{last.lineno} in {last.name}', stack)

    def _check_progress(self) -> None:
        """Count the time without progress, and end the run when no rank can make progress any more.

        Time is counted in steps of this thread, so that a machine that was asleep or a process that
        was stopped does not seem hung.
        """
        before = time.monotonic()
        while not self.stopped.wait(self.period):
            now = time.monotonic()
            passed, before = min(now - before, 2 * self.period), now
            frames = _frames(self.main_thread)
            is_still = self.beats == self._seen_beats and not any(name in frame.filename
                                                                  for frame in frames
                                                                  for name in _DEBUGGERS)
            self.stalled = self.stalled + passed if is_still else 0.
            self._seen_beats = self.beats
            for rank in self.unheard:
                self.unheard[rank] += passed
            self.unheard[self.rank] = 0.
            statuses = {**self.statuses, self.rank: self._read_status()}
            if self.proposal is None and all(
                    self._is_stuck(rank, statuses.get(rank)) for rank in range(self.world_size)):
                self.report_first(self._verdict(statuses))
                self.stopped.wait(2 * self.period)  # the others read it
                self._end_process()

    def _is_lost(self, rank: int) -> bool:
        return self.unheard[rank] > self.stall_timeout

    def _is_stuck(self, rank: int, status: Optional[RankStatus]) -> bool:
        if self._is_lost(rank) or status is None:
            return self._is_lost(rank)
        # Whatever it does, it waits in vain for a lost rank.
        in_vain = status.waits and any(map(self._is_lost, self.unheard))
        return status.stalled > (self.stall_timeout if in_vain else status.limit)

    def _verdict(self, statuses: Dict[int, RankStatus]) -> str:
        """Return the status of each rank, and the stacks of those that do not wait for others."""
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        lost = [rank for rank in others if self._is_lost(rank)]
        lines = [
            f'\nerror: nothing has moved for {self.stalled:.0f} s: the run ends '
            f'(dist_params has stall_timeout = {self.stall_timeout:g} for a batch or a step, '
            f'timeout = {self.timeout / PATIENCE:g} for all else)'
        ]
        if others and lost == others:
            lines.append(f'  rank {self.rank} has had no word of the others for '
                         f'{min(self.unheard[rank] for rank in lost):.0f} s: the network to '
                         f'{self.address} or the other machines are down')
        for rank in range(self.world_size):
            status = statuses.get(rank)
            if rank in lost:
                lines.append(f'  rank {rank} has not been heard of for {self.unheard[rank]:.0f} s: '
                             'its machine, the network, or the process itself')
            elif status.stage == 'loader':
                below = '; the stack of the process that it waits for follows' if status.waits else ''
                lines.append(f'  rank {rank} has been in its loader for {status.stalled:.0f} s, '
                             f'after {status.beats} batches{below}')
            else:
                what = 'waits for the others' if status.waits else 'stands'
                lines.append(f'  rank {rank} {what} at {status.line}, after {status.beats} batches')
        present = {rank: status for rank, status in statuses.items() if rank not in lost}
        # The stack of a rank that waits for other ranks or for its loader is no help.
        for rank in sorted(rank for rank, status in present.items()
                           if not lost and not status.waits and status.stack):
            lines.append(f'\nrank {rank} (most recent call last):\n{present[rank].stack.rstrip()}')
        return '\n'.join(lines) + '\n'


def _ask_worker(pid: int) -> None:
    """Make a worker of the loader print its stack: it has a handler of SIGUSR2, see datasets.loading.workers."""
    with contextlib.suppress(OSError):  # it has ended
        os.kill(pid, signal.SIGUSR2)
        time.sleep(.2)  # it needs time to write before its parent ends, which ends it


def _frames(thread: int) -> List[traceback.FrameSummary]:
    """Return the stack of a thread, outermost first."""
    return list(traceback.extract_stack(sys._current_frames()[thread]))
