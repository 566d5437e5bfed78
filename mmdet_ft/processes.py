"""What a process asks of the operating system for itself."""
import contextlib
import ctypes
import faulthandler
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Be killed when the process that started this one ends, in whatever way: no orphan stays.

    Linux only; elsewhere it does nothing. For a process that the main thread of its parent started:
    the end of another thread would count as the parent's.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def show_stack_on_signal() -> None:
    """Write where the main thread stands to stderr on SIGUSR2, even inside of C code."""
    if hasattr(signal, 'SIGUSR2'):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # stderr is no file
            faulthandler.register(signal.SIGUSR2, all_threads=False)
