"""What `pip install .` installs works outside the checkout."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip('setuptools')


def run(*words, cwd=ROOT, **environment):
    """The output of a command; fails with what it says unless it exits with 0."""
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, *map(str, words)],
                          cwd=cwd,
                          env={
                              **env,
                              **environment
                          },
                          capture_output=True,
                          text=True,
                          timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A function that runs `python -m mmdet_ft` of the built package in a folder of its own."""
    root = tmp_path_factory.mktemp('package')
    run('setup.py', '-q', 'build', '--build-base', root / 'build', '--build-lib', root / 'lib')

    def command(*words, cwd=root):
        return run('-m', 'mmdet_ft', *words, cwd=cwd, PYTHONPATH=str(root / 'lib'))

    command.root, command.lib = root, root / 'lib'
    return command


def test_configs_and_commands_are_in_the_package(installed):
    for folder in ('mmdet_ft', 'configs'):
        built = installed.lib / ('mmdet_ft' if folder == 'mmdet_ft' else 'mmdet_ft/configs')
        files = {
            path.relative_to(ROOT / folder)
            for path in (ROOT / folder).rglob('*')
            if path.is_file() and path.suffix in ('.py', '.pth', '.json', '.txt')
        }
        assert len(files) > 250 and all((built / path).is_file() for path in files)


def test_a_shipped_config_is_found_by_its_name(installed):
    text = installed('config', 'retinanet/retinanet_r50_fpn_1x_coco')
    assert "type='RetinaNet'" in text
    assert str(installed.lib / 'mmdet_ft/configs') in installed('list', 'configs', 'retinanet')


def test_a_run_from_shipped_configs_trains_outside_the_checkout(installed, tmp_path):
    from tests.tools.tiny_world import write_world
    write_world(tmp_path)
    (tmp_path / 'mine.py').write_text('''
_base_ = 'mmdet_ft::custom/base_mask_rcnn_slim.py'
data = dict(
    samples_per_gpu=1, workers_per_gpu=0,
    **{split: dict(classes=('box', 'bar', 'dot'), ann_file=split + '.json', img_prefix=split)
       for split in ('train', 'val')})
runner = dict(max_epochs=1)
data['test'] = data['val']
''')
    installed('train', 'mine.py', '--device', 'cpu', '--no-validate', cwd=tmp_path)
    log = next((tmp_path / 'work_dirs/mine').glob('*.log')).read_text()
    assert 'mask_rcnn_slim_80.pth' in log and 'mmdet-ft' not in log
    assert 'predict: python -m mmdet_ft predict work_dirs/mine/latest.pth' in log


def test_an_archive_of_the_sources_has_what_a_build_reads(tmp_path):
    run('setup.py', '-q', 'egg_info', '--egg-base', tmp_path)
    names = (tmp_path / 'mmdet_ft.egg-info/SOURCES.txt').read_text().splitlines()
    for name in ('requirements.txt', 'README.md', 'configs/_base_/default_runtime.py',
                 'configs/sample/mask_rcnn_slim_80.pth', 'tools/train.py',
                 'mmdet_ft/datasets/detection/objects365v1_classes.txt'):
        assert name in names, name
    entry = (tmp_path / 'mmdet_ft.egg-info/entry_points.txt').read_text()
    assert 'mmdet-ft = mmdet_ft.commands.main:main' in entry
