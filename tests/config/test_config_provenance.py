"""Every value knows the file and line that set it."""
import copy
import functools
import pickle
from pathlib import Path

import pytest

from mmdet_ft.config import Config, load_config
from tests import commands

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Files in a working directory of their own."""
    monkeypatch.chdir(tmp_path)

    def write_files(**texts):
        for name, text in texts.items():
            Path(f'{name}.py').write_text(text)

    return write_files


BASE = '''norm = dict(mean=[1.0],
            std=[2.0])
root = 'data/'
pipeline = [
    dict(type='Load'),
    dict(type='Normalize', **norm),
]
model = dict(
    depth=50,
    head={
        'classes': 80,
        'loss': 'L1'
    })
data = dict(
    train=dict(
        file=root + 'train.json',
        pipeline=pipeline))
optimizer = dict(type='SGD',
                 momentum=0.9)
'''
CHILD = '''_base_ = './base.py'
model = dict(
    head=dict(classes=8))
optimizer = dict(
    _delete_=True,
    type='Adam')
model['extra'] = [1,
                  2]
'''


@pytest.mark.parametrize(
    'path, where',
    [
        ('model.depth', 'base.py:9'),
        ('model.head.classes', 'child.py:3'),
        ('model.head.loss', 'base.py:12'),
        ('model.head', 'child.py:3'),  # who said something about it last
        ('model.extra.1', 'child.py:8'),
        ('data.train.file', 'base.py:16'),  # the key that takes the expression
        ('data.train.pipeline', 'base.py:17'),
        ('data.train.pipeline.0.type', 'base.py:5'),  # inside the variable, where it is written
        ('data.train.pipeline.1.type', 'base.py:6'),
        ('data.train.pipeline.1.std', 'base.py:2'),
        ('optimizer.type', 'child.py:6'),
    ])
def test_a_value_knows_its_file_and_line(write, path, where):
    write(base=BASE, child=CHILD)
    assert Config.fromfile('child.py').where(path) == where


def test_the_history_names_every_file_that_set_a_value_in_order(write):
    write(base=BASE, child=CHILD)
    config = load_config('child.py', {'model.head.classes': 3, 'data.train.pipeline.0.type': 'X'})
    history = [(setting.where, setting.value) for setting in config.history('model.head.classes')]
    assert history == [('base.py:11', 80), ('child.py:3', 8),
                       ('--cfg-options model.head.classes', 3)]
    assert config.where('data.train.pipeline.0.type') == '--cfg-options data.train.pipeline.0.type'
    assert config.where('data.train.pipeline.1.type') == 'base.py:6'


def test_a_value_lost_with_what_is_around_it_says_so(write):
    write(base=BASE, child=CHILD)
    config = Config.fromfile('child.py')
    assert [(entry.where, entry.is_dropped)
            for entry in config.history('optimizer.momentum')] == [('base.py:19', False),
                                                                   ('child.py:4', True)]
    assert config.history('model.nothing') == [] and config.where('model.nothing') is None


def test_a_variable_of_a_base_leads_to_the_key_that_takes_it(write):
    write(
        base='a = dict(\n    x=1)\nb = 2\n',
        child="_base_ = 'base.py'\nc = dict(\n    d={{ _base_.a }},\n    e={{ _base_.b }})\n")
    config = Config.fromfile('child.py')
    assert (config.where('c.e'), config.where('c.d.x')) == ('child.py:4', 'child.py:3')


def test_the_last_of_several_statements_counts(write):
    write(a='a = dict(b=1)\nif True:\n    a = dict(\n        b=2)\nc = dict(d=a)\n'
          'a = dict(b=3)\na.update(\n    e=5)\n')
    config = Config.fromfile('a.py')
    assert config.where('a.b') == 'a.py:6' and config.where('a.e') == 'a.py:8'
    assert config.where('c.d.b') == 'a.py:4'  # what `a` was at that time


@pytest.mark.parametrize('name, text', [('a.json', '{\n\t"b": {\n"c": [1,\n 2]}}'),
                                        ('a.yaml', '# first\nb:\n  c:\n    - 1\n    - 2\n')])
def test_json_and_yaml_have_lines_too(tmp_path, monkeypatch, name, text):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    config = Config.fromfile(name)
    lines = [config.where(path) for path in ('b.c', 'b.c.1')]
    assert lines == [f'{name}:3', f'{name}:{4 if name == "a.json" else 5}']


def test_every_value_of_the_shipped_configs_has_a_line():
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        config = Config.fromfile(path)
        for value_path in leaves(config.copy()):
            where = config.where(value_path)
            assert where and where.rpartition(':')[2].isdigit(), (path, value_path, where)
            file, _, line = where.rpartition(':')
            text = lines_of(file)[int(line) - 1]
            key = [step for step in value_path.split('.') if not step.isdigit()][-1]
            assert key in text or value_path[-1].isdigit(), (path, value_path, where, text)


@functools.lru_cache(maxsize=None)
def lines_of(file):
    return Path(file).read_text().splitlines()


def leaves(value, path=''):
    if isinstance(value, (dict, list, tuple)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, f'{path}.{key}' if path else str(key))
    else:
        yield path


def test_copies_keep_the_history(write):
    write(base=BASE, child=CHILD)
    config = Config.fromfile('child.py')
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin.where('model.head.classes') == 'child.py:3'


def test_the_environment_is_named_for_what_it_changed(write, monkeypatch):
    write(a="data_root = 'data/'\ndata = dict(\n    a=data_root + 'x',\n    b=1)\n")
    monkeypatch.setenv('MMDET_DATASETS', '/big')
    config = load_config('a.py')
    assert [entry.value for entry in config.history('data.a')] == ['data/x', '/big/x']
    assert (config.where('data.a'), config.where('data.b')) == ('MMDET_DATASETS', 'a.py:4')


def explain(*words):
    return commands.complete('misc/print_config.py', *words)


def test_print_config_explains_a_value():
    done = explain('configs/cityscapes/mask_rcnn_ft.py', '--explain',
                   'model.roi_head.bbox_head.num_classes', 'runner.max_epochs', '--options',
                   'runner.max_epochs=2')
    assert done.returncode == 0, done.stderr
    assert done.stderr == '--options is now --cfg-options\n'
    assert [line.split() for line in done.stdout.splitlines()] == [
        ['model.roi_head.bbox_head.num_classes', '=', '8'],
        ['configs/_base_/models/mask_rcnn_r50_fpn.py:43', '80'],
        ['configs/cityscapes/mask_rcnn_ft.py:23', '8'],
        ['runner.max_epochs', '=', '2'],
        ['configs/cityscapes/mask_rcnn_ft.py:32', '8'],
        ['--cfg-options', 'runner.max_epochs', '2'],
    ]


def test_print_config_answers_a_misspelt_key_with_the_nearest():
    done = explain('configs/cityscapes/mask_rcnn_ft.py', '--explain', 'model.roi_head.bbox_hea')
    assert done.returncode == 2
    assert done.stderr == ("\nerror: model.roi_head.bbox_hea: there is no 'bbox_hea'; "
                           "did you mean 'bbox_head'?\n")


def test_print_config_writes_a_file_but_none_that_it_reads(tmp_path):
    config = tmp_path / 'a.py'
    config.write_text("optimizer = dict(type='SGD', lr=0.1)\n")
    for name in ('new/b.py', 'b.json'):
        path = tmp_path / name
        done = explain(str(config), '--save-path', str(path), '--cfg-options', 'optimizer.lr=0.5')
        assert done.returncode == 0, done.stderr
        assert Config.fromfile(path).optimizer == dict(type='SGD', lr=.5)
    for name, words in (('a.py', 'would overwrite'), ('b.txt', 'a config is one of .py, .json')):
        done = explain(str(config), '--save-path', str(tmp_path / name))
        assert done.returncode == 1 and words in done.stderr and 'Traceback' not in done.stderr
    assert config.read_text() == "optimizer = dict(type='SGD', lr=0.1)\n"
