"""Commands of tools/ as a user types them, in processes of their own that need not import torch once more.

A server has imported what the commands import, and has run nothing yet: it has one thread and no state of a test.
For each command it forks a child, which gets the arguments, folder, environment and streams of a process and runs the
script as `__main__`. Where the server cannot be (not Linux, libraries that start threads), or the environment says
what is read once at a start, the command is started from the beginning.
"""
import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

ROOT = Path(__file__).resolve().parents[1]
# Variables that Python, the C library or torch reads once, before a command's first line.
READ_AT_THE_START = ('PYTHON', 'LD_', 'MALLOC_', 'GLIBC_', 'OMP_', 'GOMP_', 'KMP_', 'MKL_', 'OPENBLAS_', 'DNNL_',
                     'ONEDNN_', 'TORCH', 'PYTORCH_', 'TRITON_', 'CUDA_', 'LANG', 'LC_')  # yapf: disable


def run(script: Any,
        *words: Any,
        cwd: Any = None,
        expect: int = 0,
        timeout: float = 300,
        **environment: str) -> Tuple[str, str]:
    """Run a script of tools/ in a process of its own and return its (stdout, stderr).

    Raises AssertionError with both when it does not exit with `expect`, subprocess.TimeoutExpired after `timeout`
    seconds. `environment` is set besides that of this process.
    """
    done = complete(script, *words, cwd=cwd, timeout=timeout, **environment)
    assert done.returncode == expect, (
        f'{script} {words} exited with {done.returncode}\n{done.stdout}\n{done.stderr}')
    return done.stdout, done.stderr


def complete(script: Any,
             *words: Any,
             cwd: Any = None,
             timeout: float = 300,
             **environment: str) -> 'subprocess.CompletedProcess[str]':
    """Run a script as `run` does and return how it ended, whatever its exit code."""
    global _server
    env = environment_of(environment)
    command = [str(ROOT / 'tools' / script), *map(str, words)]
    if _server is None:
        _server = Server(environment_of({}))
    if not _server.takes(env):
        return subprocess.run([sys.executable, *command],
                              cwd=cwd or ROOT,
                              env=env,
                              stdin=subprocess.DEVNULL,
                              capture_output=True,
                              text=True,
                              timeout=timeout)
    return _server.run(command, str(cwd or ROOT), env, timeout)


def environment_of(more: Dict[str, str]) -> Dict[str, str]:
    """Return the variables of a command: those of this process, one thread, no GPU, and `more`."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **more}


class Server:
    """The process that forks; one for all tests, ended with this process."""

    def __init__(self, env: Dict[str, str]):
        self.start = at_the_start(env)
        self.process: Any = None
        if sys.platform != 'linux':
            return
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen([sys.executable, __file__],
                                        cwd=ROOT,
                                        env=env,
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        stderr=self.said)
        atexit.register(self.close)
        if self.answer(300) != 1:  # threads; a fork would leave the others behind
            self.close()

    def takes(self, env: Dict[str, str]) -> bool:
        """Return whether a child with these variables is what a new process would be."""
        return self.process is not None and at_the_start(env) == self.start

    def run(self, command: Any, cwd: str, env: Dict[str, str],
            timeout: float) -> 'subprocess.CompletedProcess[str]':
        """Fork a child that runs `command`, a script and its arguments, and wait for its end."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [os.path.join(folder, name) for name in ('out', 'err')]
            request = dict(command=command, cwd=cwd, env=env, streams=streams)
            self.process.stdin.write(json.dumps(request).encode() + b'\n')
            self.process.stdin.flush()
            pid, code = self.answer(60), self.answer(timeout)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                self.answer(60)
            out, err = (Path(stream).read_text() for stream in streams)
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def answer(self, timeout: float) -> Optional[int]:
        """Return the next number that the server says, None if it says none in time."""
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            return None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise RuntimeError(
                f'the server of tests/commands.py has ended\n{self.said.read().decode()}')
        return int(line)

    def close(self) -> None:
        """End the server."""
        if self.process is not None:
            self.process.communicate()
            self.process = None


_server: Optional[Server] = None


def at_the_start(env: Dict[str, str]) -> Dict[str, str]:
    """Return those of the variables that are read before a command's first line."""
    return {name: value for name, value in env.items() if name.startswith(READ_AT_THE_START)}


def serve() -> Dict[str, Any]:
    """Fork a child for each line of stdin, and tell its process id and then its exit code.

    Returns in a child only, with what it is to run; ends the process when stdin does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all: a child answers it
    while True:
        line = b''
        while not line.endswith(b'\n'):  # byte for byte: a child must not hold a part of the next
            more = os.read(0, 1 << 16)
            if not more:
                os._exit(0)
            line += more
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return json.loads(line)
        os.write(1, b'%d\n' % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, b'%d\n' % code)


def become(request: Dict[str, Any], path: Any) -> None:
    """Give this process the streams, folder, variables, arguments and import path of a command."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number, stream in enumerate(request['streams'], 1):
        file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    sys.argv[:] = request['command']
    sys.path[:] = [os.path.dirname(sys.argv[0]), *path]


def run_to_the_end(script: str) -> None:
    """Run a script and end this process as Python does, but for taking its modules apart, which takes a second."""
    code, interrupted = 0, False
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as ending:
        if ending.code is not None:
            code = ending.code if isinstance(ending.code, int) else 1
        if code == 1 and ending.code != 1:
            print(ending.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 255)


if __name__ == '__main__':
    found = sys.path[1:]  # without the folder of this file
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault('GOMP_SPINCOUNT',
                          '2000')  # as the commands set it, before torch is imported
    import numpy

    import mmdet_ft.commands.test
    import mmdet_ft.commands.train  # noqa: F401
    os.write(1, b'%d\n' % len(os.listdir('/proc/self/task')))
    become(serve(), found)
    numpy.random.seed()  # drawn from the system, as at a start; `random` does so itself
    run_to_the_end(sys.argv[0])
