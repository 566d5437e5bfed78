"""tools/misc/check_configs.py over a folder: what is right, not supported, wrong, and a part of a config."""
import pytest

from tests import commands
from tests.engine.test_engine_check import MAIN


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / '_base_').mkdir()
    (tmp_path / '_base_' / 'part.py').write_text('nothing = 1 / 0\n')
    (tmp_path / 'a' / 'right.py').write_text(f'_base_ = {str(MAIN)!r}\n')
    (tmp_path / 'a' / 'grid.py').write_text("model = dict(type='GridRCNN')\ndata = dict()\n")
    (tmp_path / 'schedule.py').write_text("optimizer = dict(type='SGD', lr=0.1)\n")
    return tmp_path


def test_a_folder_is_counted_and_missing_types_are_named(folder):
    out, _ = commands.run('misc/check_configs.py', folder, '--list')
    assert f'{folder}/a/right.py: right' in out and f'{folder}/a/grid.py: not supported' in out
    assert '1 config names GridRCNN, which is not supported' in out
    assert [cell.strip() for cell in out.split('| all')[1].split('|')[1:4]] == ['1', '1', '0']
    assert '_base_' not in out and 'schedule.py' not in out


def test_a_mistake_is_printed_with_its_line_and_fails(folder):
    (folder / 'wrong.py').write_text(f'_base_ = {str(MAIN)!r}\nmodel = dict(bakbone=dict())\n')
    out, _ = commands.run('misc/check_configs.py', folder, expect=1)
    assert 'wrong.py:2' in out and "did you mean 'backbone'?" in out


def test_a_folder_without_configs_is_refused(tmp_path):
    _, error = commands.run('misc/check_configs.py', tmp_path, expect=1)
    assert f'there is no .py config in {tmp_path}' in error
