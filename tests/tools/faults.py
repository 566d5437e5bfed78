"""Planted faults, and what it takes to watch how a launch of several processes ends on them."""
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from torch import nn

from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.models.detectors.two_stage import MaskRCNN
from mmdet_ft.registry import HOOKS, MODELS, PIPELINES
from tests.tools.tiny_world import write_world

ROOT = Path(__file__).resolve().parents[2]


def strike(kind: str, mark: str) -> None:
    """Once in the life of the file `mark`."""
    if os.path.exists(mark):
        return
    Path(mark).touch()
    if kind == 'raise':
        raise ZeroDivisionError('a planted error')
    if kind == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10**6)  # 'hang'


@HOOKS.register_module()
class FaultAt(Hook):
    """Strikes on one rank before the step of iteration `at`."""

    def __init__(self, kind: str, mark: str, at: int, rank: int = 1):
        self.kind, self.mark, self.at, self.rank = kind, mark, at, rank

    def before_train_iter(self, runner: Any) -> None:
        if runner.rank == self.rank and runner.iter == self.at:
            model = getattr(runner.model, 'module', runner.model)
            # within the step, where a hang is noticed soonest
            model.register_forward_pre_hook(lambda *_: strike(self.kind, self.mark))


@MODELS.register_module()
class WithUnusedLayer(MaskRCNN):
    """A detector with a layer that no loss depends on."""

    def init_weights(self, load: Any = None) -> None:
        super().init_weights(load)
        self.unused = nn.Linear(2, 2)


@HOOKS.register_module()
class MarkAt(Hook):
    """Makes a file at iteration `at`, on every rank."""

    def __init__(self, mark: str, at: int):
        self.mark, self.at = mark, at

    def after_train_iter(self, runner: Any) -> None:
        if runner.iter == self.at:
            Path(self.mark).touch()


@HOOKS.register_module()
class Slow(Hook):
    """Takes `seconds` before each step."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def before_train_iter(self, runner: Any) -> None:
        time.sleep(self.seconds)


@HOOKS.register_module()
class CountAtEpochs(Hook):
    """After each epoch a line in counts_<rank>: open files, child processes, resident kilobytes."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def after_train_epoch(self, runner: Any) -> None:
        status = Path('/proc/self/status').read_text()
        children = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
        kilobytes = status.split('VmRSS:')[1].split()[0]
        with open(self.folder / f'counts_{runner.rank}', 'a') as file:
            file.write(f"{len(os.listdir('/proc/self/fd'))} {len(children)} {kilobytes}\n")


@PIPELINES.register_module()
class FaultOn:
    """Strikes in the loader of one rank, on one image: once `after` exists, and when torchrun has
    started the processes anew `restarts` times."""
    moves = (
    )  # said, so that it is not tried on a painted picture before the run: there it would strike too early

    def __init__(self, kind: str, mark: str, after: str = '', rank: int = 1, restarts: int = 0):
        self.kind, self.mark, self.after = kind, mark, after
        self.rank, self.restarts = rank, restarts

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if (int(os.environ.get('RANK', 0)) == self.rank
                and int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) >= self.restarts
                and (not self.after or os.path.exists(self.after))):
            strike(self.kind, self.mark)
        return results


def write_faulty_world(root: Path,
                       hooks: List[Dict[str, Any]] = (),
                       transform: Any = None,
                       epochs: int = 4,
                       extra: str = '') -> str:
    """tiny_world with faults: entries of custom_hooks, and a transform of the training set."""
    path = Path(write_world(root, num_train=8))
    text = path.read_text().replace('max_epochs=2', f'max_epochs={epochs}')
    text = text.replace("metric=['bbox', 'segm']", "metric='bbox'")
    if transform is not None:
        flip = "    dict(type='RandomFlip', flip_ratio=0.5),\n"
        assert text.count(flip) == 1
        text = text.replace(flip, f'    {transform!r},\n{flip}')
        text = text.replace('workers_per_gpu=0', 'workers_per_gpu=1')
    path.write_text(
        f"{text}\ncustom_imports = dict(imports=['tests.tools.faults'])\ncustom_hooks = {list(hooks)!r}\n{extra}"
    )
    return str(path)


class Ending(NamedTuple):
    code: int
    output: str
    seconds: float
    orphans: List[str]

    @property
    def last_lines(self) -> str:
        """For the message of an assertion: what came after the config."""
        return self.output[-8000:]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def start(config: str, work_dir: Path, processes: int, *options: str, prefix=(),
          **environment: str):
    """tools/dist_train.sh, not waited for; its output goes to a file beside the work_dir."""
    env = {
        **os.environ, 'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT),
        'CUDA_VISIBLE_DEVICES': '',
        'PORT': free_port(),
        **environment
    }
    command = [
        *prefix, 'bash', ROOT / 'tools/dist_train.sh', config, processes, '--work-dir', work_dir,
        *options
    ]
    log = open(f'{work_dir}.{time.monotonic_ns()}.out', 'w+')
    process = subprocess.Popen(
        list(map(str, command)), env=env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    process.log = log
    return process


def wait(process, marker: Any, timeout: float = 240) -> Ending:
    """The end of a launch, and the command lines of what is left of it: all that name `marker`."""
    began = time.monotonic()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(60)
        code = -1
    seconds = time.monotonic() - began
    time.sleep(1)  # the kernel ends the last children
    process.log.seek(0)
    output = process.log.read()
    process.log.close()
    return Ending(code, output, seconds, processes_of(marker))


def processes_of(marker: Any) -> List[str]:
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / 'cmdline').read_bytes().replace(b'\0', b' ').decode()
            except OSError:
                continue
            if str(marker) in line:
                found.append(f'{entry.name}: {line}')
    return found
