"""Interruption of a run, polled by long operations between two steps; signals.py receives the signals."""
import contextlib
import os
from typing import Any

from mmdet_ft.errors import UserError

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: not done, try again
NOTE = 'MMDET_FT_INTERRUPTED'  # environment variable of launch.py: the file that `notify_launcher` makes

listener: Any = None  # the InterruptHook of the current run, if any


class Interrupted(UserError):
    """The run was ended by a signal; the message names the checkpoint to resume."""
    exit_code = EXIT_CODE


def check() -> None:
    """Raise Interrupted if this process was asked to stop."""
    if listener is not None and listener.asked is not None:
        raise Interrupted


def notify_launcher() -> None:
    """Notify launch.py that this process ends with EXIT_CODE after it has saved the run."""
    with contextlib.suppress(OSError):  # the launcher is gone, and its folder with it
        if os.environ.get(NOTE):
            open(os.environ[NOTE], 'a', encoding='utf-8').close()
