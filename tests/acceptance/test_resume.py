"""Runs of tools/train.py that are killed with -9 twenty times, at random moments, and always resumed: at the end the
weights are bit-equal to those of an undisturbed run, the logs equal but for times, and no checkpoint was ever
unreadable."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdet_ft.checkpoints.reading import read
from tests.engine.fakes import same
from tests.engine.test_engine_resume import figures
from tests.tools.tiny_world import write_world

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get('KILLS', 20))
EPOCHS = '''
runner = dict(max_epochs=4)
checkpoint_config = dict(interval=1, max_keep_ckpts=2)
log_config = dict(interval=2)
'''
WITHIN = '''
runner = dict(max_epochs=4)
checkpoint_config = dict(interval=2, by_epoch=False, max_keep_ckpts=3)
log_config = dict(interval=3)
'''
ITERATIONS = '''
runner = dict(_delete_=True, type='IterBasedRunner', max_iters=20)
checkpoint_config = dict(interval=3)
evaluation = dict(interval=5)
log_config = dict(interval=2)
lr_config = dict(step=[12])
'''
AVERAGES = "custom_hooks = [dict(type='EMAHook', momentum=.3, warm_up=2, priority=49)]\n"
ACCUMULATION = "optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=3)\n"
EARLY = "early_stop = dict(monitor='bbox_mAP', patience=4)\n"
WORKERS = 'data = dict(workers_per_gpu=2)\n'
CONFIGS = dict(
    epochs=EPOCHS,
    within_an_epoch=WITHIN,
    iterations=ITERATIONS,
    averages=WITHIN + AVERAGES,
    averages_iterations=ITERATIONS + AVERAGES,
    accumulation=WITHIN + ACCUMULATION,
    accumulation_iterations=ITERATIONS + ACCUMULATION,
    early_stop_and_workers=EPOCHS + EARLY + WORKERS)


def start(config, work_dir):
    return subprocess.Popen([
        sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--seed', '1',
        '--auto-resume'
    ],
                            cwd=ROOT,
                            env={
                                **os.environ, 'OMP_NUM_THREADS': '1',
                                'CUDA_VISIBLE_DEVICES': ''
                            },
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE,
                            text=True)


def finish(config, work_dir):
    process = start(config, work_dir)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def kill_somewhere(config, work_dir, draw):
    """Start, wait until there is something to spoil, and kill at a random moment; whether it was in time."""
    process = start(config, work_dir)
    before = {path.name for path in work_dir.glob('.*.pth*')}
    deadline = time.monotonic() + draw.choice([0., draw.uniform(0, 2.), draw.uniform(0, 6.)])
    in_a_write = draw.random() < .4
    began = False
    for line in process.stderr:  # not in the seconds in which only libraries are imported
        if 'workflow:' in line:
            began = True
            break
    while began and process.poll() is None:
        if in_a_write and {path.name for path in work_dir.glob('.*.pth*')} - before:
            break  # mid-save
        if not in_a_write and time.monotonic() > deadline:
            break
    in_time = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.stderr.close()
    process.wait()
    return in_time


@pytest.mark.parametrize('name', CONFIGS)
def test_a_run_killed_twenty_times_ends_as_an_undisturbed_one(tmp_path, name):
    write_world(tmp_path / 'world', num_train=10)
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = '{tmp_path}/world/tiny.py'\n{CONFIGS[name]}")
    finish(config, tmp_path / 'whole')
    whole = read(str(tmp_path / 'whole' / 'latest.pth'))
    expected = figures(tmp_path / 'whole')
    draw, killed, lives = random.Random(name), 0, 0
    while killed < KILLS:
        work_dir = tmp_path / f'run{lives}'
        work_dir.mkdir()
        while killed < KILLS and kill_somewhere(config, work_dir, draw):
            killed += 1
            for path in work_dir.glob('*.pth'):
                assert read(str(
                    path)).state_dict, path  # raises if it is not readable, or latest.pth dangles
        err = finish(config, work_dir)
        assert 'skipped' not in err
        found = read(str(work_dir / 'latest.pth'))
        assert same(found.state_dict, whole.state_dict)
        assert (found.meta['iter'], found.meta['epoch']) == (whole.meta['iter'],
                                                             whole.meta['epoch'])
        assert figures(work_dir) == expected
        assert not [path for path in work_dir.glob('.*') if path.suffix == '.tmp']
        assert sorted(path.name for path in work_dir.glob('*.pth')) == sorted(
            path.name for path in (tmp_path / 'whole').glob('*.pth'))
        lives += 1
    print(f'{name}: {killed} kills in {lives} runs')
