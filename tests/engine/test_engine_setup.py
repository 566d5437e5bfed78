"""What a run does before its first step: it keeps other runs out of its work_dir, and looks at its hooks."""
import logging
import multiprocessing

import pytest

from mmdet_ft.config import Config
from mmdet_ft.engine import build
from mmdet_ft.engine import environment as run_setup
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.hooks import build as hooks_build
from mmdet_ft.engine.reporting import log
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.settings.read import read_run_settings
from tests.engine.fakes import FakeDataset, FakeLoader, make_runner


def test_two_processes_do_not_write_to_one_work_dir(tmp_path, monkeypatch, caplog):
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
    monkeypatch.setattr(run_setup, 'get_root_logger', lambda: logging.getLogger('test_setup'))
    run_setup._require_sole_use(folder)  # the lock of a machine that went down may stay for a while
    assert 'another run is writing' in caplog.text


def test_hooks_that_cannot_be_are_mistakes_of_the_user(tmp_path, monkeypatch):
    runner = make_runner(tmp_path)
    for hook, priority in ((object(), 'NORMAL'), (Hook(), 'SOMETIMES')):
        with pytest.raises((TypeError, ValueError)) as error:
            build._register(runner, hook, priority)
        assert is_user_mistake(error.value), error.value
    monkeypatch.setattr(hooks_build, 'build_test_loader',
                        lambda cfg, split: FakeLoader(FakeDataset()))
    monkeypatch.setattr(hooks_build, 'check_evaluation_options', lambda dataset, options: None)
    monkeypatch.setattr(hooks_build, 'count_all_detections', lambda cfg, dataset, options: None)
    runner = dict(type='EpochBasedRunner', max_epochs=1)
    cfg = Config(dict(runner=runner, evaluation=dict(save_best='my')))
    with pytest.raises(ValueError, match="evaluation.rule='greater' or 'less'") as error:
        hooks_build.build_evaluation_hook(read_run_settings(cfg))
    assert is_user_mistake(error.value)


def test_a_new_run_among_checkpoints_of_an_earlier_one_is_told(tmp_path, caplog):
    for name in ('epoch.pth', 'best_bbox_mAP_epoch_1.pth', 'mine.pth'):
        (tmp_path / name).touch()
    run_setup.warn_of_earlier_run(str(tmp_path), logging.getLogger('test_setup'))
    assert not caplog.text
    for number in range(1, 6):
        (tmp_path / f'epoch_{number}.pth').touch()
    run_setup.warn_of_earlier_run(str(tmp_path), logging.getLogger('test_setup'))
    assert 'an earlier run (epoch_1.pth, epoch_2.pth, epoch_3.pth and 2 more)' in caplog.text
    assert '--auto-resume continues instead' in caplog.text


def test_a_level_of_the_log_is_a_name_in_any_case_or_a_number():
    for level, number in (('debug', 10), ('DEBUG', 10), (30, 30), ('Warning', 30)):
        assert log._level_of(level) == number
    with pytest.raises(UserError, match="log_level 'loud': write 'DEBUG'"):
        log._level_of('loud')
