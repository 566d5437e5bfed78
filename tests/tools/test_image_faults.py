"""Images that are not what the annotations say, through the commands: one message each, in the same words."""
import json

import cv2
import pytest
import torch

from tests.tools.test_train_command import call
from tests.tools.tiny_world import write_world

COMMANDS = {  # command -> its arguments after the config
    'train.py': ['--work-dir', 'run'],
    'test.py': ['none.pth', '--eval', 'bbox'],
    'misc/check_data.py': ['--workers', '0'],
    'misc/browse_dataset.py': ['--output-dir', 'browse', '--not-show'],
}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """A world in which one picture of train and of val is smaller than the json says."""
    folder = tmp_path_factory.mktemp('world')
    write_world(folder, num_train=4, num_val=3)
    for split in ('train', 'val'):
        path = str(folder / split / '2.png')
        cv2.imwrite(path, cv2.resize(cv2.imread(path), (48, 32)))
    return folder


@pytest.mark.parametrize('command', COMMANDS)
def test_a_picture_of_another_size_ends_no_command_in_a_traceback(world, tmp_path, monkeypatch,
                                                                  command):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}), tmp_path / 'none.pth')  # it is read later
    out, err = call(command, world / 'tiny.py', *COMMANDS[command], expect=1)
    text = out + err
    assert 'Traceback' not in text and '2.png' in text, text
    said = ('is listed as 96 x 64 pixels (width x height), and it is 48 x 32'
            if 'browse' in command else 'annotated as 96 x 64 (width x height), it is 48 x 32')
    assert said in text and 'take the pictures in the size that was annotated' in text.replace(
        '\n', ' '), text


def test_names_with_backslashes_are_trained_on_and_told(world, tmp_path, monkeypatch):
    content = json.loads((world / 'train.json').read_text())
    for image in content['images']:
        image['file_name'] = '..\\train\\' + image['file_name']
    content['images'] = [
        image for image in content['images'] if not image['file_name'].endswith('\\2.png')
    ]
    (tmp_path / 'train.json').write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    out, err = call('train.py', world / 'tiny.py', '--work-dir', 'run', '--no-validate',
                    '--cfg-options', f'data.train.ann_file={tmp_path}/train.json',
                    'data.workers_per_gpu=0')
    assert 'image name in another spelling (train, 3)' in out + err
    assert (tmp_path / 'run' / 'latest.pth').exists()
