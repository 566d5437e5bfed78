"""Interruption of a run, polled by long operations between two steps; signals.py receives the signals."""
from typing import Any

from mmdet_ft.errors import UserError

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: not done, try again

listener: Any = None  # the InterruptHook of the current run, if any


class Interrupted(UserError):
    """The run was ended by a signal; the message names the checkpoint to resume."""
    exit_code = EXIT_CODE


def check() -> None:
    """Raise Interrupted if this process was asked to stop."""
    if listener is not None and listener.asked is not None:
        raise Interrupted
