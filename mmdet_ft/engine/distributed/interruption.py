"""That a run was asked to stop, for whatever takes long to look at between two steps; signals.py hears the asking."""
from typing import Any

from mmdet_ft.errors import UserError

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: not done, try again

listener: Any = None  # the InterruptHook of the run of this process, while there is one


class Interrupted(UserError):
    """A signal has ended the run; the message says from where it goes on."""
    exit_code = EXIT_CODE


def check() -> None:
    """Raise Interrupted if this process was asked to stop."""
    if listener is not None and listener.asked is not None:
        raise Interrupted
