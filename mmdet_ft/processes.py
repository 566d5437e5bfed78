"""What a process asks of the operating system for itself."""
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from typing import Any, Optional

try:
    import resource
except ImportError:  # Windows
    resource = None

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def end_with_parent() -> None:
    """Be killed when the process that started this one ends, in whatever way: no orphan stays.

    Linux only; elsewhere it does nothing. For a process that the main thread of its parent started:
    the end of another thread would count as the parent's.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_signals_to_parent() -> None:
    """For a process that works for another: Ctrl-C and what a batch system sends to everyone are the
    parent's business, which needs its work until it has saved. SIGTERM ends it only if the parent
    sends it.
    """
    for name in ('SIGINT', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # Linux: tells who has sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_wait_for_parents_signal, daemon=True).start()


def _wait_for_parents_signal() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def show_stack_on_signal() -> None:
    """Write where the main thread stands to stderr on SIGUSR2, even inside of C code."""
    if hasattr(signal, 'SIGUSR2'):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # stderr is no file
            faulthandler.register(signal.SIGUSR2, all_threads=False)


def keep_freed_memory(most: int = 256 << 20, largest: int = 32 << 20, ahead: int = 0) -> None:
    """Let freed memory stay with the process for what comes next; Linux with glibc only.

    glibc gives arrays as large as images back at once, and takes pages for the next ones, all of which have to be
    cleared and mapped: for photographs of 800 x 1088 a third of a loading process's time.

    Args:
        most: bytes at the end of the heap that stay when all before them are in use.
        largest: bytes of an array that still comes from the heap. glibc before 2.35 takes 32 MiB at most, and then
            has those.
        ahead: bytes that the heap grows by beyond what is asked for; 0 leaves it at glibc's 128 kB.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    if mallopt is None:
        return
    if not mallopt(_M_MMAP_THRESHOLD, largest):
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, most)
    if ahead:
        mallopt(_M_TOP_PAD, ahead)


def keep_freed_memory_of_steps() -> None:
    """Let the memory of a step on the CPU stay for the next one; tools/benchmarks/allocator.py measures the gain."""
    keep_freed_memory(most=2**31 - 1, largest=1 << 30, ahead=64 << 20)


def peak_memory() -> Optional[int]:
    """Return the most bytes that this process has held in memory; None where the system does not say (Windows)."""
    if resource is None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else most * 1024  # kB on Linux, bytes on macOS


def to_other_process(file: int) -> Any:
    """Wrap a file descriptor for a process that is started with `spawn`, where `detach()` gives it again.

    Not on Windows, which has no descriptors to hand on; there nothing makes any (`memfd_create` is Linux).
    """
    from multiprocessing.reduction import DupFd
    return DupFd(file)
