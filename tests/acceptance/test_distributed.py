"""Launches of two and four processes whose ranks die, raise or hang: all end or recover within a minute,
with one report, and leave no process behind. Linux only."""
import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from mmdet_ft.checkpoints.reading import read
from tests.engine.fakes import same
from tests.engine.test_engine_resume import figures
from tests.tools.faults import free_port, processes_of, start, wait, write_faulty_world
from tests.tools.test_dist_faults import epochs_of

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(sys.platform != 'linux', reason='looks at /proc')
]
LIMITS = 'dist_params = dict(backend="nccl", timeout=300, stall_timeout=10)\n'
KILLS = int(os.environ.get('KILLS', 6))
PROCESSES = pytest.mark.parametrize('processes', [2, 4])


def launch_with(root, processes, kind, in_loader=False, restarts=0):
    """(how a launch ended whose rank 1 fails, seconds from the fault to that)."""
    mark = root / 'mark'
    # Epoch 2 is done by then, of two iterations with two processes and one with four.
    hooks = [dict(type='FaultAt', kind=kind, at=4 if processes == 2 else 2, mark=str(mark))]
    transform = None
    if in_loader:
        hooks = [dict(type='MarkAt', at=3 if processes == 2 else 1, mark=str(root / 'saved'))]
        transform = dict(type='FaultOn', kind=kind, mark=str(mark), after=str(root / 'saved'))
    config = write_faulty_world(root / 'world', hooks, transform, epochs=6, extra=LIMITS)
    ending = wait(start(config, root / 'run', processes, MAX_RESTARTS=str(restarts)), root)
    assert mark.exists(), ending.last_lines
    return ending, time.time() - mark.stat().st_mtime


def check_recovery(root, ending, attempts):
    assert ending.code == 0, ending.last_lines
    assert not ending.orphans
    assert ending.output.count('resuming the last checkpoint') == attempts
    assert read(str(root / 'run/latest.pth')).meta['epoch'] == 6
    assert epochs_of(root / 'run') == [1, 2, 3, 4, 5, 6]


@PROCESSES
def test_a_killed_process_is_replaced(tmp_path, processes):
    ending, seconds = launch_with(tmp_path, processes, 'kill', restarts=1)
    check_recovery(tmp_path, ending, 1)
    assert seconds < 60


@PROCESSES
def test_a_killed_process_ends_the_run_without_restarts(tmp_path, processes):
    ending, seconds = launch_with(tmp_path, processes, 'kill')
    assert ending.code == 128 + signal.SIGKILL and seconds < 60
    assert 'rank 1 (process ' in ending.output and 'was ended by SIGKILL' in ending.output
    assert 'Traceback' not in ending.output and not ending.orphans


@PROCESSES
def test_an_error_is_told_once(tmp_path, processes):
    ending, seconds = launch_with(tmp_path, processes, 'raise')
    assert ending.code == 1 and seconds < 60 and not ending.orphans
    assert ending.output.count('Traceback') == 1
    assert ending.output.count('ZeroDivisionError: a planted error') == 1
    assert 'rank 1 failed:' in ending.output
    last_words = ending.output[ending.output.index('ZeroDivisionError'):].splitlines()
    assert len([line for line in last_words if line.strip()]) < 8, last_words


@PROCESSES
def test_a_loader_that_hangs_ends_the_run(tmp_path, processes):
    ending, seconds = launch_with(tmp_path, processes, 'hang', in_loader=True)
    assert ending.code == 1 and seconds < 60 and not ending.orphans
    assert ending.output.count('rank 1 has been in its loader for') == 1
    assert 'rank 0 waits for the others' in ending.output
    assert ending.output.count('in strike') == 1 and 'Traceback' not in ending.output


@PROCESSES
def test_a_step_that_hangs_ends_the_run(tmp_path, processes):
    ending, seconds = launch_with(tmp_path, processes, 'hang')
    assert ending.code == 1 and seconds < 60 and not ending.orphans
    assert ending.output.count('\nrank 1 (most recent call last):') == 1
    assert 'time.sleep' in ending.output and 'Traceback' not in ending.output


def test_a_machine_that_leaves_is_done_without(tmp_path):
    """NNODES=1:2, both on this machine: when torchrun of one is killed the other goes on alone."""
    config = write_faulty_world(
        tmp_path / 'world', [dict(type='Slow', seconds=.5)], epochs=8, extra=LIMITS)
    together = dict(NNODES='1:2', PORT=free_port(), RUN_ID=tmp_path.name)
    first = start(config, tmp_path / 'run', 1, **together)
    time.sleep(3)  # the first one keeps the list of those who are there
    second = start(config, tmp_path / 'run', 1, **together)
    latest = tmp_path / 'run/epoch_2.pth'
    began = time.monotonic()
    while not latest.exists():
        assert time.monotonic() < began + 200
        time.sleep(.5)
    os.kill(second.pid, signal.SIGKILL)
    ending = wait(first, tmp_path)
    assert ending.code == 0, ending.last_lines
    assert 'resumed by 1 processes instead of 2' in ending.output
    assert read(str(tmp_path / 'run/latest.pth')).meta['epoch'] == 8
    assert epochs_of(tmp_path / 'run') == list(range(1, 9)) and not ending.orphans


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_signal_to_torchrun_saves_the_run(tmp_path, name):
    config = write_faulty_world(
        tmp_path / 'world', [dict(type='Slow', seconds=.3)], epochs=20, extra=LIMITS)
    launch = start(config, tmp_path / 'run', 2)
    began = time.monotonic()
    while not (tmp_path / 'run/epoch_2.pth').exists():
        assert time.monotonic() < began + 200
        time.sleep(.3)
    os.kill(launch.pid, getattr(signal, name))
    ending = wait(launch, tmp_path)
    assert ending.code == 75 and ending.seconds < 30 and not ending.orphans
    assert ending.output.count(f'stopped by {name} after') == 1 and 'Traceback' not in ending.output
    assert read(str(tmp_path / 'run/interrupted.pth')).meta['iter'] < 40


RESUMABLE = '''
checkpoint_config = dict(interval=2, by_epoch=False, max_keep_ckpts=3)
log_config = dict(interval=3)
custom_hooks += [dict(type='EMAHook', momentum=.3, warm_up=2, priority=49)]
'''


def kill_somewhere(config, work_dir, draw):
    """Start, and kill -9 torchrun and all workers at a random moment of training; whether it was in time."""
    launch = start(config, work_dir, 2, '--auto-resume')
    log = Path(launch.log.name)
    while launch.poll() is None and 'workflow:' not in log.read_text():
        time.sleep(.1)  # only libraries are imported
    time.sleep(draw.uniform(0, 6))
    in_time = launch.poll() is None
    for process in processes_of(work_dir.parent):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.partition(':')[0]), signal.SIGKILL)
    ending = wait(launch, work_dir.parent)
    assert not ending.orphans and ending.code == (-signal.SIGKILL
                                                  if in_time else 0), ending.last_lines
    return in_time


def test_two_processes_killed_at_random_moments_end_as_undisturbed_ones(tmp_path):
    """Bit-equal weights and equal logs: each rank's own batches, flips and samples come back."""
    config = write_faulty_world(
        tmp_path / 'world', [dict(type='Slow', seconds=.2)],
        dict(type='FaultOn', kind='none', mark=str(tmp_path)),
        epochs=12,
        extra=LIMITS + RESUMABLE)
    ending = wait(start(config, tmp_path / 'whole', 2), tmp_path)
    assert ending.code == 0, ending.last_lines
    whole = read(str(tmp_path / 'whole/latest.pth'))
    draw, killed, lives = random.Random(0), 0, 0
    while killed < KILLS:
        work_dir = tmp_path / f'run{lives}'
        while killed < KILLS and kill_somewhere(config, work_dir, draw):
            killed += 1
        ending = wait(start(config, work_dir, 2, '--auto-resume'), tmp_path)
        assert ending.code == 0, ending.last_lines
        found = read(str(work_dir / 'latest.pth'))
        assert found.meta['iter'] == whole.meta['iter'] == 24
        assert same(found.state_dict, whole.state_dict)
        assert figures(work_dir) == figures(tmp_path / 'whole')
        lives += 1
    print(f'{killed} kills in {lives} runs')


def test_unused_parameters_are_named(tmp_path):
    config = write_faulty_world(tmp_path / 'world', extra=LIMITS)
    options = ['--cfg-options', 'model.type=WithUnusedLayer']
    ending = wait(start(config, tmp_path / 'run', 2, *options), tmp_path)
    assert ending.code == 1 and ending.seconds < 60 and not ending.orphans
    assert 'does not depend on unused.weight, unused.bias' in ending.output
    assert 'Set find_unused_parameters = True' in ending.output
    assert 'Traceback' not in ending.output
    options.append('find_unused_parameters=True')
    ending = wait(start(config, tmp_path / 'run', 2, *options), tmp_path)
    assert ending.code == 0, ending.last_lines


def test_a_hang_is_recovered_from(tmp_path):
    ending, seconds = launch_with(tmp_path, 2, 'hang', in_loader=True, restarts=1)
    check_recovery(tmp_path, ending, 1)
    assert seconds < 60


@pytest.mark.parametrize('in_loader', [False, True])
def test_nothing_outlives_torchrun(tmp_path, in_loader):
    """It is killed while one rank hangs, which nobody else could end."""
    mark = tmp_path / 'mark'
    fault = dict(kind='hang', mark=str(mark))
    config = write_faulty_world(tmp_path / 'world',
                                [] if in_loader else [dict(type='FaultAt', at=3, **fault)],
                                dict(type='FaultOn', **fault) if in_loader else None)
    launch = start(config, tmp_path / 'run', 2)
    try:
        began = time.monotonic()
        while not mark.exists():
            assert time.monotonic() < began + 200 and launch.poll() is None
            time.sleep(.5)
        assert len(processes_of(tmp_path)) >= 3
    finally:
        os.kill(launch.pid, signal.SIGKILL)
    ending = wait(launch, tmp_path)
    assert not ending.orphans


def test_handles_and_processes_stay_as_they_are_for_fifty_epochs(tmp_path):
    """With loader processes that are kept: what is counted after each epoch."""
    saving = 'checkpoint_config = dict(interval=1, max_keep_ckpts=1)\n'
    config = write_faulty_world(
        tmp_path / 'world', [dict(type='CountAtEpochs', folder=str(tmp_path))],
        dict(type='FaultOn', kind='none', mark=str(tmp_path)),
        epochs=50,
        extra=f'{saving}evaluation = dict(interval=5, metric="bbox")\n')
    ending = wait(start(config, tmp_path / 'run', 2), tmp_path, timeout=600)
    assert ending.code == 0 and not ending.orphans, ending.last_lines
    for rank in range(2):
        rows = [
            list(map(int, line.split()))
            for line in Path(tmp_path / f'counts_{rank}').read_text().splitlines()
        ]
        assert len(rows) == 50
        files, children, kilobytes = zip(*rows)
        assert max(files[10:]) <= max(files[5:10]) + 2, files
        assert max(children[10:]) <= max(children[5:10]), children
        assert max(kilobytes[40:]) < 1.05 * max(kilobytes[5:15]), kilobytes
