"""train --data as users type it: from a folder to a checkpoint, and the same again from the written config."""
import pytest
import torch

from tests.commands import complete
from . import helpers

SHORT = ('--seed', '0', '--cfg-options', 'runner.max_epochs=1', 'data.workers_per_gpu=0')


def train(folder, *words):
    """Run the command in a folder; returns its exit code and what it printed."""
    found = complete('train.py', *words, cwd=folder)
    return found.returncode, found.stdout + found.stderr


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.parametrize('key', ['coco', 'yolo', 'voc', 'folders'])
def test_a_folder_is_trained_on_and_its_config_again(key, tmp_path):
    helpers.write(key, tmp_path / 'photos')
    code, said = train(tmp_path, '--data', 'photos', '--work-dir', 'run', '--offline', *SHORT)
    assert code == 0, said
    assert 'Data: ' in said and '  cat' in said and 'Model: ' in said and 'Config: run/config.py' in said
    assert said.index('Data: ') < said.index('Epoch [1][')
    code, again = train(tmp_path, 'run/config.py', '--work-dir', 'again', *SHORT)
    assert code == 0, again
    first, second = (weights(tmp_path / name / 'latest.pth') for name in ('run', 'again'))
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize('words, message', [
    ((), 'name a config, or a folder with --data'),
    (('config.py', '--data', 'photos'), 'name a config, or a folder with --data'),
    (('config.py', '--data-format', 'voc'), '--data-format is for --data'),
    (('--data', 'photos', '--data-format', 'pascal'), "there is no format 'pascal'; there are "),
    (('--data', 'nowhere'), "there is no folder 'nowhere'"),
    (('--data', 'photos'), 'no image below'),
])
def test_a_mistake_is_one_message_before_anything_is_written(words, message, tmp_path):
    (tmp_path / 'photos').mkdir()
    code, said = train(tmp_path, *words)
    assert code in (1, 2) and message in said and 'Traceback' not in said
    assert [path.name for path in tmp_path.iterdir()] == ['photos']


def test_offline_refuses_weights_that_a_config_downloads(tmp_path):
    """Those that an option names are not chosen for the folder, and not downloaded either."""
    helpers.write('voc', tmp_path / 'photos')
    url = 'load_from=https://example.invalid/a.pth'
    code, said = train(tmp_path, '--data', 'photos', '--work-dir', 'run', '--offline', *SHORT, url)
    assert code in (1, 2) and 'cannot download https://example.invalid/a.pth' in said
    assert 'nothing is downloaded with --offline' in said and 'Epoch [1]' not in said
