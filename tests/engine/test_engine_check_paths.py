"""Paths and names that are numbers, dates, booleans or lists: text in options, named with their line in files."""
import argparse
from pathlib import Path

import pytest

from mmdet_ft.config import CheckError, Config, DictAction, load_config
from mmdet_ft.engine.config_check.check import prepare

CONFIGS = Path(__file__).parents[2] / 'configs/custom'


def options(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


@pytest.mark.parametrize('word, value', [
    ('work_dir=2024_01_05', '2024_01_05'),
    ('work_dir=20240105', '20240105'),
    ('work_dir=2024-01-05', '2024-01-05'),
    ('load_from=1e5', '1e5'),
    ('load_from=None', None),
    ('load_from=a.pth,b.pth', ['a.pth', 'b.pth']),
    ('load_from=dict(checkpoint="a.pth",heads="by_class")',
     dict(checkpoint='a.pth', heads='by_class')),
    ('data.train.data_prefix=2020', '2020'),
    ('data.train.ann_file=2020,2021', ['2020', '2021']),
    ('data.train.data_prefix="/data/a,b"', '/data/a,b'),
    ("data.train.data_prefix='/data/a,b'", '/data/a,b'),
    ('data.train.classes=0,1', ['0', '1']),
    ('data.train.classes=("0","1")', ('0', '1')),
    ('data.samples_per_gpu="2"', 2),
])
def test_a_path_on_the_command_line_stays_the_text_that_was_typed(word, value):
    found = options(word)[word.partition('=')[0]]
    assert found == value and type(found) is type(value)


def test_an_option_over_a_text_that_looks_like_a_path_stays_a_text():
    config = Config(
        dict(data=dict(split='2012', root='data/a'), num_classes='auto', scale='dynamic', x='1.5'))
    config.merge_from_dict(
        options('data.split=2007', 'data.root=5', 'num_classes=3', 'scale=512.', 'x=2'))
    assert config.data == dict(split='2007', root='5')
    assert config.num_classes == 3 and config.scale == 512. and config.x == '2'


@pytest.fixture
def heir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text, name='heir.py', base='classifier_ft'):
        base = f'{CONFIGS}/{base}.py'
        (tmp_path / name).write_text(
            f'_base_ = {base!r}\n{text}\n' if name.endswith('py') else f'_base_: {base}\n{text}\n')
        return load_config(name)

    return read


@pytest.mark.parametrize('text, words', [
    ('work_dir = 20240105', "work_dir: must be a path, not the number 20240105; write it in quotes: "
                            "work_dir='20240105' (heir.py:2)"),
    ('load_from = 1e5', 'load_from: must be a path, not the number 100000.0'),
    ('load_from = False', 'load_from: must be a path, not the boolean False'),
    ('load_from = b"x"', 'load_from: must be a path, not the bytes'),
    ('data = dict(train=dict(data_prefix=2020))', 'data.train.data_prefix: must be a path, not the number 2020'),
    ("data = dict(train=dict(data_prefix=['/data/a', 'b']))",
     """must be one path, not the list ['/data/a', 'b']; if the comma is a part of its name, quotes keep it: """
     """'data_prefix="/data/a,b"' on the command line (heir.py:2)"""),
    ("work_dir = ['a', 'b']", 'work_dir: must be one path'),
    ('data = dict(train=dict(ann_file=[1, 2]))', 'data.train.ann_file: must be paths, not 1'),
    ('data = dict(train=dict(classes=(0, 1)))', "data.train.classes: must be names as texts, not 0; write each in "
                                                "quotes: '0' (heir.py:2)"),
    ("data = dict(train=dict(data_prefix='D:\\new\\train'))",
     r"has a line break in it, which \n means in a text of Python; write r'D:\new\train' or 'D:/new/train' "
     r"(heir.py:2)"),
    ("model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=5)))",
     'model.backbone.init_cfg.checkpoint: must be a path, not the number 5'),
])  # yapf: disable
def test_a_path_that_is_no_text_is_told_with_its_line(heir, text, words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(text))
    assert words in str(caught.value)


def test_booleans_of_yaml_among_classes_are_told(heir):
    with pytest.raises(CheckError) as caught:
        prepare(heir('data:\n  train:\n    classes: [no, yes]', 'heir.yaml'))
    assert "data.train.classes: must be names as texts, not False; yaml reads no and yes as booleans; write each in " \
        "quotes: 'no' (heir.yaml:4)" in str(caught.value)
    config = heir('data:\n  train:\n    data_prefix: 2024-01-05', 'heir.yaml')
    assert prepare(config)[0].data.train.data_prefix == '2024-01-05'


def test_lists_of_annotation_files_are_right(heir):
    prepare(
        heir(
            "data = dict(train=dict(ann_file=['a.json', 'b.json'], img_prefix=['a/', 'b/']))",
            base='mask_rcnn'))
    prepare(heir("load_from = ['a.pth', 'b.pth']", base='mask_rcnn'))
    with pytest.raises(CheckError, match='data.train.img_prefix: must be one path'):
        prepare(heir("data = dict(train=dict(img_prefix=['a/', 'b/']))", base='mask_rcnn'))
