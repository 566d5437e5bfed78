"""Errors that a user can fix, whose message is enough, and how a command ends with one."""
import contextlib
import functools
import logging
import os
import re
import sys
import time
import traceback
from typing import Callable, Iterator

from mmdet_ft.config.errors import ConfigError
from mmdet_ft.engine.distributed import interruption, watchdog
from mmdet_ft.errors import (CheckpointError, DataError, NonFiniteError, UntrustedFileError,
                             UserError)
from mmdet_ft.registry import RegistryError

__all__ = [
    'NonFiniteError', 'UserError', 'command', 'first_line', 'from_command_line', 'is_consequence',
    'is_user_mistake', 'message_of'
]

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def is_user_mistake(error: BaseException) -> bool:
    """Return whether the message suffices. Anything else is a bug of this package or of the user's
    code: its traceback stays."""
    mistakes = (UserError, ConfigError, RegistryError, CheckpointError, DataError,
                UntrustedFileError, FileNotFoundError, PermissionError, NotADirectoryError)
    if isinstance(error, mistakes):
        return True
    if isinstance(error, ImportError):  # of a package that only some configs need
        return 'pip install' in str(error)
    return isinstance(error, (KeyError, ValueError, TypeError)) and _is_refused_argument(error)


def _is_refused_argument(error: BaseException) -> bool:
    """Return whether a constructor of this package refused its arguments, by a `raise` of its own."""
    building = any(note.startswith('while building') for note in getattr(error, '__notes__', ()))
    if not building or error.__traceback__ is None:
        return False
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    return innermost.filename.startswith(PACKAGE) and (innermost.line or '').startswith('raise ')


def is_consequence(error: BaseException) -> bool:
    """Return whether the error is only a consequence of the end of another process: closed
    connections, or SIGTERM from torchrun to this process and its loader."""
    torch = sys.modules.get(
        'torch')  # not imported here: a command that refuses its arguments does not need it
    of_torch = torch is not None and isinstance(error, torch.distributed.DistError)
    return of_torch or re.search('gloo/transport|killed by signal: Terminated',
                                 str(error)) is not None


def message_of(error: BaseException) -> str:
    """Return the message of an error, without the traceback that a loader process puts before it."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if text.startswith('Caught ') and ' in DataLoader worker process ' in text:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
        return text.rpartition(f'\n{name}: ')[2].rstrip()
    return text


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, for a line of the log."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate a command: a user's error ends in one message on stderr and exit code 1, any other
    in a traceback.

    The code is 2 for errors in the config or on the command line. With several processes only the
    first one to fail prints the reason, and the others end with it.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except KeyboardInterrupt:  # not of a training, which saves first: see failures.signals
            sys.stderr.write('\nstopped by Ctrl-C\n')
            _leave(130)  # 128 + SIGINT, as in a shell
        except Exception as error:
            together = watchdog.is_watching()
            if not together and not is_user_mistake(error):
                raise
            code = getattr(error, 'exit_code', 1)
            if code == 2 and os.environ.get('RANK', '0') != '0':
                # Rank 0 most likely reports the same; then this process is ended during the sleep.
                time.sleep(5)
            if code == interruption.EXIT_CODE:
                interruption.notify_launcher()
            watchdog.report(_ending(error))
            _leave(code)

    return run


@contextlib.contextmanager
def from_command_line() -> Iterator[None]:
    """Give a user's mistake inside the block the exit code of the command line, 2."""
    try:
        yield
    except Exception as error:
        if is_user_mistake(error):
            error.exit_code = 2
        raise


def _leave(code: int) -> None:
    if watchdog.is_watching(
    ):  # other threads, of NCCL or a loader, might wait forever for other processes
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def _ending(error: BaseException) -> str:
    """Return the last words of a command."""
    rank = os.environ.get('RANK', '0')
    if is_user_mistake(error):
        notes = ''.join(f'\n({note})' for note in getattr(error, '__notes__', ()))
        return f'\nerror: {message_of(error)}{notes}\n'
    if is_consequence(error):
        cause = re.sub(r'^\[\S+\] ', '', str(error)).split('. ')[0].splitlines()[0]
        return (
            f'\nerror: rank {rank} cannot continue: another rank was killed, or its machine or network is down '
            f'({cause})\n')
    return f'\nrank {rank} failed:\n{"".join(traceback.format_exception(None, error, error.__traceback__))}'
