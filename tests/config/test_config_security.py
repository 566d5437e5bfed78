"""What reading a config may run: a python config itself, and nothing of a json or yaml file, an option or a
checkpoint."""
import argparse
import json
import sys

import pytest
import torch

from mmdet_ft.apis import init_detector
from mmdet_ft.config import Config, ConfigError, DictAction, import_custom_modules
from mmdet_ft.untrusted import UntrustedFileError

ATTACK = "__import__('pathlib').Path('ran').touch()"


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path /
     'module_of_a_config.py').write_text("from pathlib import Path\nPath('imported').touch()\n")
    yield
    assert not (tmp_path / 'ran').exists()
    sys.modules.pop('module_of_a_config', None)


@pytest.mark.parametrize('name', ['a.json', 'a.yaml'])
def test_data_files_hold_values_and_nothing_else(tmp_path, name):
    values = dict(x=ATTACK, y='${jndi:x}', z={'!!python/object/apply:os.system': ['touch ran']})
    (tmp_path / name).write_text(json.dumps(values))  # is yaml too
    config = Config.fromfile(str(tmp_path / name))
    assert config.x == ATTACK and config.z == values['z']


@pytest.mark.parametrize('tag', [
    'python/object/apply:os.mkdir [ran]', 'python/name:os.system', 'python/module:os',
    'python/object/new:pathlib.Path [ran]'
])
def test_tags_of_yaml_make_no_objects(tmp_path, tag):
    (tmp_path / 'a.yaml').write_text(f'x: !!{tag}\n')
    with pytest.raises(ConfigError):
        Config.fromfile(str(tmp_path / 'a.yaml'))


@pytest.mark.parametrize('name', ['a.json', 'a.yaml'])
def test_custom_imports_of_a_data_file_wait_until_something_is_built(tmp_path, name):
    """They import modules that lie on this machine, by name: what runs is never in the config."""
    (tmp_path / name).write_text(
        json.dumps(dict(custom_imports=dict(imports=['module_of_a_config']))))
    config = Config.fromfile(str(tmp_path / name))
    assert not (tmp_path / 'imported').exists()
    import_custom_modules(config)
    assert (tmp_path / 'imported').exists()


def test_options_of_the_command_line_are_values():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = parser.parse_args(['--cfg-options', f'x={ATTACK}', f'y=[{ATTACK},1]']).cfg_options
    assert options == dict(x=ATTACK, y=[ATTACK, 1])


def test_the_config_in_a_checkpoint_is_not_run(tmp_path):
    for text in (f'model = dict()\nx = {ATTACK}\n',
                 f"model = '{{{{$NOT_SET:' + {ATTACK} + '}}}}'\n",
                 "model = dict()\n_base_ = 'attack.py'\n"):
        (tmp_path / 'attack.py').write_text(ATTACK)
        torch.save(dict(meta=dict(config=text), state_dict=dict(weight=torch.zeros(1))), 'a.pth')
        with pytest.raises(UntrustedFileError, match='it is not run'):
            init_detector(None, 'a.pth', device='cpu')
