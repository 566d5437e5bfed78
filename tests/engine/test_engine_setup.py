"""What a run does before its models: it keeps other runs out of its work_dir."""
import multiprocessing

import pytest

from mmdet_ft.config import Config
from mmdet_ft.engine import setup as run_setup
from mmdet_ft.engine.errors import UserError


def test_two_processes_do_not_write_to_one_work_dir(tmp_path, monkeypatch):
    fork = multiprocessing.get_context('fork')
    folder = str(tmp_path / 'run')
    cfg = Config(dict(work_dir=folder, log_level='INFO'))

    def other() -> bool:
        """Whether another process may write to the folder."""
        answers = fork.SimpleQueue()
        process = fork.Process(target=lambda: answers.put(run_setup.claim(folder)))
        process.start()
        answer = answers.get()
        process.join()
        return answer

    run_setup.open_log(cfg)
    try:
        assert not other()
        run_setup.open_log(cfg)  # the same process may, one run after another
    finally:
        run_setup.release(folder)
    assert other()

    # A loader's process that outlives its run does not keep the folder.
    run_setup.open_log(cfg)
    end = fork.Event()
    loader = fork.Process(target=end.wait)
    loader.start()
    run_setup.release(folder)
    try:
        assert other()
    finally:
        end.set()
        loader.join()

    monkeypatch.setattr(run_setup, 'claim', lambda path: False)
    with pytest.raises(
            UserError,
            match='another run is writing to .*run at this moment.*a --work-dir of its own'):
        run_setup.open_log(cfg)
    monkeypatch.setattr(run_setup.dist, 'is_distributed', lambda: True)
    run_setup._require_sole_use(
        folder)  # a warning: the lock of a machine that went down may stay for a while
