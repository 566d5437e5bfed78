"""torchrun, as tools/dist_train.sh starts it: all its options, and a summary line instead of its
own traceback after that of the failed process.

The exit code is that of the process that ended first, with the same meaning as for a single
process. SIGUSR1 is forwarded to the processes, as torchrun forwards SIGTERM.
"""
import errno
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from typing import Any, Dict, List

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main

from mmdet_ft.engine.distributed import interruption
from mmdet_ft.errors import UserError

DEFAULT_PORT = 29500


def _forward_signal(number: int, frame: Any) -> None:
    raise SignalException('', sigval=signal.Signals(number))  # torchrun's handling of SIGTERM


def _describe(failure: ProcessFailure, rank: int) -> str:
    if failure.exitcode >= 0:
        return f'rank {rank} ended with exit code {failure.exitcode}; see its error above'
    name = signal.Signals(-failure.exitcode).name
    hint = '; if nobody killed it, the machine was out of memory' if name == 'SIGKILL' else ''
    return f'rank {rank} (process {failure.pid}) was ended by {name}{hint}'


def check_torchrun_options(words: List[str]) -> List[str]:
    """Check the torchrun arguments of tools/dist_train.sh; returns them, perhaps with another port.

    On one machine a free port is chosen if 29500 is in use and PORT is not set. Raises UserError
    for an invalid number of processes or port, and for a port in use.
    """
    options: Dict[str, str] = {}
    for word in words:
        if not word.startswith('--'):
            break  # the script, and its own options
        name, _, value = word[2:].partition('=')
        options[name.replace('-', '_')] = value
    count = options.get('nproc_per_node', '1')
    if count not in ('auto', 'gpu', 'cpu', 'xpu') and not (count.isdecimal() and int(count) > 0):
        raise UserError(
            f'GPUS is the number of processes on this machine, from 1 on, not {count!r}')
    if 'rdzv_backend' in options or 'master_port' not in options:
        return words
    port = options['master_port']
    if not port.isdecimal() or int(port) > 65535:
        raise UserError(f'PORT is a number up to 65535, not {port!r}')
    is_alone = options.get('nnodes', '1') == '1'
    if not is_alone and options.get('node_rank', '0') != '0':
        return words  # only the first machine listens
    reason = explain_busy_port(int(port))
    if int(port) == 0 or reason and is_alone and not os.environ.get('PORT'):
        free = free_port(int(port))
        if int(port):
            print(f'{reason}: port {free} is used', file=sys.stderr)
        return [
            f'--master_port={free}' if re.match('--master[_-]port=', word) else word
            for word in words
        ]
    if reason:
        everywhere = '' if is_alone else ', on all machines the same'
        raise UserError(
            f'{reason}; choose another one{everywhere}: PORT={free_port(int(port))} {_script(words)} ...'
        )
    return words


def _script(words: List[str]) -> str:
    is_test = any(os.path.basename(word) == 'test.py' for word in words)
    return f'tools/dist_{"test" if is_test else "train"}.sh'


def explain_busy_port(port: int) -> str:
    """Return why no process can listen at a port of this machine; '' if one can."""
    with socket.socket() as listener:
        if os.name != 'nt':  # a port that was just closed is free
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(('', port))
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f'port {port} is in use, most likely by another run'
            return f'port {port} cannot be used ({error.strerror})'
    return ''


def free_port(after: int = 0) -> int:
    """Find a free port of this machine: one of the hundred next to `after`, or any."""
    for port in range(after + 1, min(after + 101, 65536)) if after > 1023 else ():
        if not explain_busy_port(port):
            return port
    with socket.socket() as listener:
        listener.bind(('', 0))
        return listener.getsockname()[1]


def launch() -> int:
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, _forward_signal)
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.ERROR)
    # torchrun does not return the exit codes of processes that it ends on a signal.
    with tempfile.TemporaryDirectory(prefix='mmdet_ft_') as folder:
        os.environ[interruption.NOTE] = os.path.join(folder, 'saved')
        return _run()


def _run() -> int:
    try:
        sys.argv[1:] = check_torchrun_options(sys.argv[1:])
        main()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except DistError as error:  # taken since the check, or another machine is missing
        text = str(error).splitlines()[0]
        print(
            f'error: the processes cannot connect: {text}. If the port is in use, choose another one: '
            f'PORT={free_port(DEFAULT_PORT)} {_script(sys.argv)} ...',
            file=sys.stderr)
        return 1
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f'\n{_describe(failure, rank)}', file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        print(f'\nended by {signal.Signals(error.sigval).name}', file=sys.stderr)
        return interruption.EXIT_CODE if os.path.exists(
            os.environ[interruption.NOTE]) else 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(launch())
