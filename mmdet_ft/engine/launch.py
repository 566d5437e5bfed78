"""torchrun, as tools/dist_train.sh starts it: all its options, with a last line instead of its own
traceback after that of the process that failed.

The exit code is that of the process that ended first: what it means for one process it means for
several. SIGUSR1 goes to the processes, as torchrun hands on SIGTERM.
"""
import gc
import logging
import signal
import sys
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
from torch.distributed.run import main

from mmdet_ft.engine.failures import interruption


def _pass_on(number: int, frame: Any) -> None:
    raise SignalException('', sigval=signal.Signals(number))  # what torchrun makes of SIGTERM


def _describe(failure: ProcessFailure, rank: int) -> str:
    if failure.exitcode >= 0:
        return f'rank {rank} ended with exit code {failure.exitcode}; why stands above'
    name = signal.Signals(-failure.exitcode).name
    hint = '; if nobody killed it, the machine was out of memory' if name == 'SIGKILL' else ''
    return f'rank {rank} (process {failure.pid}) was ended by {name}{hint}'


def launch() -> int:
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, _pass_on)
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.ERROR)
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f'\n{_describe(failure, rank)}', file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        # The agent keeps to itself how its processes ended, and they may have saved the run.
        saved = any(
            isinstance(item, SubprocessHandler) and item.proc.returncode == interruption.EXIT_CODE
            for item in gc.get_objects())
        print(f'\nended by {signal.Signals(error.sigval).name}', file=sys.stderr)
        return interruption.EXIT_CODE if saved else 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(launch())
