import logging
import os

import pytest

from mmdet_ft.engine.failures import restart


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """`started(attempt, agent)`: whether the run of such a process is to go on from a checkpoint."""

    def started(attempt=0, agent='host:1'):
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', str(attempt))
        monkeypatch.setattr(restart, '_agent', lambda: agent)
        return restart.resumes_after_restart(str(tmp_path), logging.getLogger('test'))

    return started


def save(folder, name, seconds):
    (folder / name).write_bytes(b'')
    os.utime(folder / name, (seconds, seconds))


def test_a_restart_goes_on_from_what_was_saved(launched, tmp_path):
    assert not launched()
    assert not launched(attempt=1)  # nothing was saved yet
    save(tmp_path, 'epoch_1.pth', 100)
    assert launched(attempt=2)
    assert launched(attempt=3)


def test_checkpoints_of_an_older_run_are_not_taken_for_its_own(launched, tmp_path):
    save(tmp_path, 'epoch_1.pth', 100)
    save(tmp_path, 'epoch_2.pth', 200)
    assert not launched()
    assert not launched(attempt=1)
    save(tmp_path, 'epoch_1.pth', 300)  # written over
    assert launched(attempt=2)


def test_a_machine_that_comes_or_goes_restarts_without_counting(launched, tmp_path):
    assert not launched(agent='host:1')
    save(tmp_path, 'epoch_1.pth', 100)
    assert launched(agent='host:1')  # the same torchrun has started these processes anew
    assert not launched(agent='host:2')  # a new launch


def test_without_torchrun_nothing_is_done(monkeypatch, tmp_path):
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    assert not restart.resumes_after_restart(str(tmp_path), logging.getLogger('test'))
    assert not os.listdir(tmp_path)


def test_a_torchrun_is_known_by_its_start():
    host, pid, began = restart._agent().rsplit(':', 2)
    assert host and int(pid) == os.getppid()
    assert restart._agent() == restart._agent() and (not began or int(began) > 0)
