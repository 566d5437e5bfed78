"""Operating system requests of a process: signals and memory."""
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
    resource = None  # type: ignore[assignment] # what its callers ask for

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def end_with_parent() -> None:
    """Have this process killed when its parent ends, however that happens: no orphan remains.

    Linux only; a no-op elsewhere. For a process started by the main thread of its parent: the end
    of any other thread would count as the parent's.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_signals_to_parent() -> None:
    """Leave signals to the parent of a worker process.

    Ctrl-C and signals that a batch system sends to all processes are handled by the parent, which needs
    its workers until it has saved. SIGTERM ends the worker only if the parent sends it.
    """
    for name in ('SIGINT', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):  # Linux: reports the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_wait_for_parents_signal, daemon=True).start()


def _wait_for_parents_signal() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def show_stack_on_signal() -> bool:
    """Write the stack of the main thread to stderr on SIGUSR2, even inside C code.

    Returns whether that works here: not on Windows, nor where stderr is not a file.
    """
    if hasattr(signal, 'SIGUSR2'):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # stderr is not a file
            faulthandler.register(signal.SIGUSR2, all_threads=False)
            return True
    return False


def keep_freed_memory(most: int = 256 << 20, largest: int = 32 << 20, ahead: int = 0) -> None:
    """Let freed memory stay with the process for later use; Linux with glibc only.

    glibc returns arrays as large as images to the system at once. New pages for the next ones must be cleared
    and mapped: a third of the time of a loading process for photographs of 800 x 1088.

    Args:
        most: bytes at the end of the heap that stay while everything before them is in use.
        largest: bytes of the largest array on the heap. glibc before 2.35 allows at most 32 MiB, and uses that
            then.
        ahead: bytes that the heap grows beyond a request; 0 keeps glibc's 128 kB.
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
    """Keep the memory of a CPU step for the next one; tools/benchmarks/allocator.py measures the gain."""
    keep_freed_memory(most=2**31 - 1, largest=1 << 30, ahead=64 << 20)


def peak_memory() -> Optional[int]:
    """Return the peak memory of this process in bytes; None if the system does not report it (Windows)."""
    if resource is None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else most * 1024  # kB on Linux, bytes on macOS


def to_other_process(file: int) -> Any:
    """Wrap a file descriptor for a process that is started with `spawn`, where `detach()` returns it.

    Not on Windows, which has no descriptors to pass; nothing creates any there (`memfd_create` is Linux).
    """
    from multiprocessing.reduction import DupFd
    return DupFd(file)
