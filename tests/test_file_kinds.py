"""A file is told by its first bytes, and a command that is given the wrong one says what it is."""
import argparse
import json
import pickle

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft import file_kinds
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import ConfigError
from mmdet_ft.engine.begin import check_files, read_arguments
from mmdet_ft.errors import CheckpointError, UsageError

WEIGHTS = dict(state_dict={'a.weight': torch.zeros(2, 2)})


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A file of each kind, called by the kind's name in file_kinds."""
    monkeypatch.chdir(tmp_path)
    torch.save(WEIGHTS, 'CHECKPOINT.pth')
    (tmp_path / 'PICKLE.pkl').write_bytes(pickle.dumps([[np.zeros((1, 5))]]))
    (tmp_path / 'CONFIG.py').write_text("model = dict(type='A')\n")
    (tmp_path / 'ANNOTATIONS.json').write_text(
        json.dumps(dict(images=[dict(file_name='a')], annotations=[])))
    (tmp_path / 'LOG.json'
     ).write_text('{"env_info": "x", "config": "model = dict()"}\n{"mode": "train", "loss": 1}\n')
    (tmp_path / 'JSON.json').write_text('{"class_scores": [[0.1, 0.9]]}')
    (tmp_path / 'TEXT.txt').write_text('cat\ndog\n')
    (tmp_path / 'EMPTY.pth').write_bytes(b'')
    cv2.imwrite('IMAGE.png', np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'FOLDER').mkdir()
    return tmp_path


def test_each_kind_of_file_is_told_by_its_content(files):
    for path in files.iterdir():
        assert file_kinds.kind_of_file(path) == getattr(file_kinds, path.stem), path
    torch.save(WEIGHTS, 'old.pth', _use_new_zipfile_serialization=False)
    (files / 'config.json').write_text('{"model": {"type": "A"}, "data": {}}')
    (files / 'noise').write_bytes(bytes(range(129, 256)))
    for name, kind in (('old.pth', file_kinds.CHECKPOINT), ('config.json', file_kinds.CONFIG),
                       ('noise', file_kinds.UNKNOWN), ('nowhere', file_kinds.UNKNOWN)):
        assert file_kinds.kind_of_file(name) == kind, name


@pytest.mark.parametrize('arguments, words', [
    (dict(config='CHECKPOINT.pth', checkpoint='CONFIG.py'),
     'config CHECKPOINT.pth is a checkpoint, expected a config (.py, .json, .yaml); config and checkpoint are swapped'),
    (dict(config='PICKLE.pkl'), 'config PICKLE.pkl is a pickle, expected a config'),
    (dict(config='ANNOTATIONS.json'), 'config ANNOTATIONS.json is an annotation file, expected a config'),
    (dict(config='FOLDER'), 'config FOLDER is a folder, expected a config'),
    (dict(config='CONFIG.py', checkpoint='LOG.json'), 'checkpoint LOG.json is the log of a run, expected a checkpoint'),
    (dict(config='CONFIG.py', checkpoint='CONFIG.py'), 'checkpoint CONFIG.py is a config, expected a checkpoint'),
    (dict(config='CONFIG.py', pkl_results='EMPTY.pth'), 'pkl_results EMPTY.pth is an empty file, expected results'),
    (dict(config='CONFIG.py', pkl_results='CHECKPOINT.pth'),
     'pkl_results CHECKPOINT.pth is a checkpoint, expected results of `python tools/test.py --out`'),
    (dict(config='CONFIG.py', prediction_path='ANNOTATIONS.json'),
     'prediction_path ANNOTATIONS.json is an annotation file, expected results'),
    (dict(config='PICKLE.pkl', prediction_path='CONFIG.py'), 'config and prediction_path are swapped, most likely'),
    (dict(in_file='IMAGE.png', out_file='x.pth'), 'in_file IMAGE.png is an image, expected a checkpoint'),
])  # yapf: disable
def test_a_file_of_another_kind_is_refused_with_both_kinds(files, arguments, words):
    with pytest.raises(UsageError) as caught:
        check_files(argparse.Namespace(**arguments))
    assert words in str(caught.value)


@pytest.mark.parametrize('arguments', [
    dict(config='CONFIG.py', checkpoint='CHECKPOINT.pth'), dict(config='CONFIG.py', checkpoint='PICKLE.pkl'),
    dict(config='CONFIG.py', pkl_results='PICKLE.pkl'), dict(config='CONFIG.py', pkl_results='JSON.json'),
    dict(config=None, checkpoint='https://x/y.pth'),
])  # yapf: disable
def test_files_of_the_right_kind_pass(files, arguments):
    check_files(argparse.Namespace(**arguments))


@pytest.mark.parametrize('arguments', [
    dict(config='nosuch.py'), dict(config='CONFIG.py', checkpoint='nosuch.pth'), dict(config='broken.py'),
    dict(config='CONFIG.py', checkpoint='FOLDER'), dict(config='TEXT.txt'), dict(pkl_results='nosuch.pkl'),
])  # yapf: disable
def test_every_mistake_of_the_command_line_ends_with_exit_code_2(files, capsys, arguments):
    (files / 'broken.py').write_text('model = dict(\n')
    with pytest.raises((UsageError, ConfigError, CheckpointError)):
        check_files(argparse.Namespace(**arguments))
    with pytest.raises(SystemExit) as stopped:
        read_arguments(lambda: argparse.Namespace(**arguments))
    assert stopped.value.code == 2 and capsys.readouterr().err.count('error: ') == 1


@pytest.mark.parametrize('name, words', [
    ('CONFIG.py', 'CONFIG.py is a config, expected a checkpoint (.pth)'),
    ('ANNOTATIONS.json', 'is an annotation file, expected a checkpoint'), ('LOG.json', 'is the log of a run, expected'),
    ('IMAGE.png', 'is an image, expected a checkpoint'), ('TEXT.txt', "is a text, not weights; it begins with 'cat"),
    ('EMPTY.pth', 'is empty'), ('FOLDER', 'is a folder'), ('nosuch.pth', 'does not exist'),
])  # yapf: disable
def test_load_from_and_the_command_line_refuse_a_wrong_checkpoint_alike(files, capsys, name, words):
    (files / 'b.py').write_text(f"model = dict()\nload_from = '{name}'\n")
    (files / 'c.py').write_text(f"model = dict()\nresume_from = '{name}'\n")
    (files /
     'd.py').write_text(f"model = dict()\nload_from = dict(checkpoint=['no.pth', '{name}'])\n")
    train = dict(auto_resume=False, dry_run=False, resume_from=None)
    for arguments, index in ((dict(config='CONFIG.py',
                                   checkpoint=name), ''), (dict(config='b.py', **train),
                                                           f"load_from (b.py:2) = '{name}': "),
                             (dict(config='c.py', **train), f"resume_from (c.py:2) = '{name}': "),
                             (dict(config='d.py', **train), 'load_from.checkpoint.0 (d.py:2) = '),
                             (dict(config='b.py', **{
                                 **train, 'resume_from': name
                             }), '')):
        with pytest.raises(SystemExit) as stopped:
            read_arguments(lambda: argparse.Namespace(**arguments))
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and words in said and index in said, said
    if (files / name).is_file():
        with pytest.raises(CheckpointError) as caught:  # what reads it says the same
            read(name)
        assert words in str(caught.value)


def test_load_from_is_not_looked_for_where_the_run_may_not_read_it(files):
    (files / 'b.py').write_text("model = dict()\nload_from = 'nosuch.pth'\n")
    (files / 'c.py').write_text("model = dict()\nload_from = ['nosuch.pth', 'https://x/y.pth']\n")
    train = dict(config='b.py', auto_resume=False, dry_run=False, resume_from=None)
    for arguments in (dict(auto_resume=True), dict(dry_run=True),
                      dict(resume_from='CHECKPOINT.pth'), dict(config='c.py')):
        check_files(argparse.Namespace(**{**train, **arguments}))
