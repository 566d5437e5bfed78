"""A disk that fills up, that becomes read-only, and a clock that jumps: nothing already saved is lost, and the run goes
on to the weights of an undisturbed one. Needs the right to mount a tmpfs."""
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.reading import read
from tests.engine.fakes import same
from tests.tools.test_train_command import run
from tests.tools.tiny_world import write_world

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).resolve().parents[2]
LONG = "_base_ = '{root}/world/tiny.py'\nrunner = dict(max_epochs=8)\nevaluation = dict(interval=9)\n"
HOOK = '''
import os
import time

from mmdet_ft.engine.hooks import HOOKS, Hook


@HOOKS.register_module()
class Disturb(Hook):
    """In the seventh iteration: 'read_only' is run as a command, or the clock jumps by as many days."""

    def __init__(self, command=None, days=0):
        self.command, self.days = command, days

    def after_train_iter(self, runner):
        if runner.iter == 6 and self.command:
            assert os.system(self.command) == 0
        if runner.iter == 6 and self.days:
            now, local = time.time, time.localtime
            time.time = lambda: now() + self.days * 86400
            time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
'''


def mount(*words):
    return subprocess.run(['mount', *words], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 7 MB, which three checkpoints fill."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if sys.platform != 'linux' or not mount('-t', 'tmpfs', '-o', 'size=7m', 'tmpfs', str(folder)):
        pytest.skip('needs the right to mount')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def config_of(tmp_path, extra=''):
    write_world(tmp_path / 'world')
    (tmp_path / 'my_hook.py').write_text(HOOK)
    path = tmp_path / 'mine.py'
    path.write_text(LONG.format(root=tmp_path) + extra)
    return path


def train(config, work_dir, *words, expect=0):
    return run(
        sys.executable,
        ROOT / 'tools/train.py',
        config,
        '--work-dir',
        work_dir,
        '--seed',
        '1',
        *words,
        cwd=config.parent,
        expect=expect)[1]


@pytest.fixture
def whole(tmp_path):
    """The weights of an undisturbed run."""
    train(config_of(tmp_path), tmp_path / 'whole')
    return read(str(tmp_path / 'whole' / 'latest.pth')).state_dict


def check_all_readable(folder):
    for path in Path(folder).glob('*.pth'):
        assert read(str(path)).state_dict
    assert not list(Path(folder).glob('.*.tmp'))


def test_a_disk_that_fills_up(tmp_path, small_disk, whole):
    config = config_of(tmp_path / 'again')
    err = train(config, small_disk / 'run', expect=1)
    assert 'the disk will be full' in err  # before the first iteration
    assert 'no room for the checkpoint' in err and 'What was saved before is still there' in err
    assert 'Traceback' not in err
    check_all_readable(small_disk / 'run')
    saved = {path.name for path in (small_disk / 'run').glob('epoch_*.pth')}
    assert {'epoch_1.pth', 'epoch_2.pth'} <= saved and 'epoch_8.pth' not in saved
    assert mount('-o', 'remount,size=64m', str(small_disk))
    train(config, small_disk / 'run', '--auto-resume')
    assert same(read(str(small_disk / 'run' / 'latest.pth')).state_dict, whole)


def test_a_disk_that_is_full_in_the_middle_of_a_write(small_disk, monkeypatch):
    weights = dict(weight=torch.zeros(10**6))
    path = str(small_disk / 'epoch_1.pth')
    writing.save(path, weights, dict(epoch=1))
    real, calls = writing.shutil.disk_usage, []

    def usage(folder):  # another program takes the room after we looked
        calls.append(folder)
        return real(folder)._replace(free=10**9) if len(calls) == 1 else real(folder)

    monkeypatch.setattr(writing.shutil, 'disk_usage', usage)
    with pytest.raises(CheckpointError, match='no room for the checkpoint'):
        writing.save(path, dict(weight=torch.ones(10**6)), dict(epoch=2))
    assert read(path).meta['epoch'] == 1 and os.listdir(small_disk) == ['epoch_1.pth']


def test_a_disk_that_becomes_read_only(tmp_path, small_disk, whole):
    command = f'mount -o remount,ro {small_disk}'
    extra = f"checkpoint_config = dict(interval=1, max_keep_ckpts=2, out_dir='{small_disk}')\n"
    config = config_of(tmp_path / 'again', extra)
    broken = config.with_name('broken.py')
    broken.write_text(f"_base_ = 'mine.py'\ncustom_imports = dict(imports=['my_hook'])\n"
                      f"custom_hooks = [dict(type='Disturb', command='{command}')]\n")
    err = train(broken, tmp_path / 'run', expect=1)
    assert 'cannot write the checkpoint' in err and 'Read-only file system' in err
    assert 'What was saved before is still there' in err and 'Traceback' not in err
    check_all_readable(small_disk / 'run')
    assert read(str(small_disk / 'run' / 'latest.pth')).meta['epoch'] == 3
    assert mount('-o', 'remount,rw', str(small_disk))
    train(config, tmp_path / 'run', '--auto-resume')
    assert same(read(str(small_disk / 'run' / 'latest.pth')).state_dict, whole)


@pytest.mark.parametrize('days', [-400, 400])
def test_a_clock_that_jumps(tmp_path, whole, days):
    config = config_of(tmp_path / 'again')
    jumping = config.with_name('jumping.py')
    jumping.write_text(
        f"_base_ = 'mine.py'\ncustom_imports = dict(imports=['my_hook'])\n"
        f"custom_hooks = [dict(type='Disturb', days={days})]\nrunner = dict(max_epochs=5)\n")
    train(jumping, tmp_path / 'run')
    for epoch in range(1, 6):  # files of the second half are as old, or as young, as the clock said
        when = time.time() + (days * 86400 if epoch > 3 else 0)
        os.utime(tmp_path / 'run' / f'epoch_{epoch}.pth', (when, when))
    (tmp_path / 'run' / 'latest.pth').unlink()
    err = train(config, tmp_path / 'run', '--auto-resume')
    assert 'resumed epoch 5, iter 10' in err
    assert same(read(str(tmp_path / 'run' / 'latest.pth')).state_dict, whole)
