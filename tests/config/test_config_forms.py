"""Configs of other projects, helpers of Python, values that are no literals: what runs, and what is said."""
import json
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.config import CheckError, Config, ConfigError, ConfigKeyError, load_config, writing
from mmdet_ft.config.config_dict import plain
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.untrusted import require_plain_config

CLASSIFIER = Path(__file__).parents[2] / 'configs/custom/classifier_ft.py'


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a config over the classifier's, from a folder with the file cls.py and the folder cls."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'cls.py').write_text(f'_base_ = {str(CLASSIFIER)!r}\n')
    (tmp_path / 'cls').mkdir()
    (tmp_path / 'sub').mkdir()

    def read_text(text, name='heir.py'):
        (tmp_path / name).write_text(text)
        return load_config(name)

    return read_text


def prepared(config):
    """As it is trained with; its dump says the same, can be read anew, and a checkpoint may carry it."""
    config, _ = prepare(config)
    text = config.pretty_text
    again = Config.fromstring(text, '.py')
    assert again._cfg_dict == config._cfg_dict
    require_plain_config(text, 'a checkpoint')
    assert prepare(again)[0]._cfg_dict == config._cfg_dict
    return config


# --- configs of others


@pytest.mark.parametrize('text, words', [
    ('from mmengine.config import read_base\nwith read_base():\n    from .cls import *\n',
     "heir.py:2: read_base() is of the lazy configs of MMDetection 3; write _base_ = './cls.py'"),
    ('from mmengine.config import read_base\n\nwith read_base():\n'
     '    from .._base_.models.rcnn import *\n    from . import cls, run\n',
     "heir.py:3: read_base() is of the lazy configs of MMDetection 3; write _base_ = "
     "['../_base_/models/rcnn.py', './cls.py', './run.py']"),
    ("_base_ = 'cls.py'\noptimizer = dict(lr=_base_.optimizer.lr * 2)\n",
     'write {{ _base_.optimizer.lr }}, as a value of its own (here 0.005)'),
    ("_base_ = ['cls.py']\noptimizer = dict(lr=_base_['optimizer']['lr'])\n",
     'write {{ _base_.optimizer.lr }}, as a value of its own (here 0.005)'),
    ('from detectron2.config import LazyCall as L\nmodel = L(dict)(a=1)\n',
     'This is a lazy config of Detectron2; here a part is written dict(type='),
    ('from mmdet.models import MaskRCNN\nmodel = dict(type=MaskRCNN)\n',
     "names them by text, dict(type='MaskRCNN', ...)"),
    ("_base_ = 'mmseg::_base_/default_runtime.py'\n",
     'mmseg:: names a config of a package that is not here: write a path, or mmdet_ft::NAME; the project has one at'
     ),
    ("_base_ = ['cls.py', 'mmdet::retinanet/retina_r50_fpn_1x_coco.py']\n",
     "no base 'mmdet::retinanet/retina_r50_fpn_1x_coco.py'; did you mean "
     "'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"),
    ("_base_ = 'https://a.b/c.py'\n", 'a base is a file on this machine: download it'),
    ("_base_ = '$HOME/c.py'\n", 'variables of the shell are not filled in'),
    ("_base_ = 'c*.py'\n", "a base is one file: name each, _base_ = ['cls.py']"),
    ("_base_ = 'sub'\n", "no base 'sub': that is a folder; name a file in it, such as 'sub/a.py'"),
    ("_base_ = 'cls'\n", "no base 'cls'; with its ending: 'cls.py'"),
    ("_base_ = '.\\\\cls.py'\n", "with /, which every system reads: './cls.py'"),
    ("_base_ = 'Cls.py'\n", "did you mean 'cls.py'?"),
    ("_base_ = 'custom/base_mask_rcnn.py'\n", 'the project has one at'),
    ("x = 'C:\\Users\\a'\n", "Of a path with \\: write r'...', or / for each \\"),
    ('a = []\na.append(a)\n', 'a contains itself'),
])
def test_a_form_that_is_not_v2s_is_answered_with_v2s(read, text, words):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert words in str(caught.value) and 'heir.py:' in str(caught.value)


def test_a_delete_at_the_top_is_not_answered_with_itself(read):
    with pytest.raises(CheckError, match='remove it; _delete_=True belongs inside the dict'):
        prepare(read("_base_ = 'cls.py'\n_delete_ = True\n"))


@pytest.mark.parametrize('name, text, words', [
    ('a.json', '{"a": 1,\n "b": {"x": 1,\n "x": 2}}',
     "a.json:3: 'x' is set twice in one dict, on line 2 too"),
    ('a.yaml', 'a: 1\nb: 2\na: 3\n', "a.yaml:3: 'a' is set twice in one dict, on line 1 too"),
])
def test_a_key_that_json_or_yaml_has_twice_is_refused(read, name, text, words):
    with pytest.raises(ConfigKeyError) as caught:
        read(text, name)
    assert words in str(caught.value)


@pytest.mark.parametrize('content, words', [
    ('a = 1\n'.encode('utf-16'), 'a.py:1: the file is in UTF-16; save it as UTF-8'),
    ('a = 1\n'.encode('utf-16-le'),
     'a.py:1: the file has zero bytes, as UTF-16 does; save it as UTF-8'),
    ('# -*- coding: latin-1 -*-\n# \xe9\n'.encode('latin-1'), 'by its byte 0xe9; save it as UTF-8'),
])
def test_another_encoding_than_utf_8_is_told(tmp_path, content, words):
    (tmp_path / 'a.py').write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(tmp_path / 'a.py')
    assert words in str(caught.value)


def test_a_date_of_yaml_is_text_and_an_anchor_is_read_by_its_alias(read):
    config = read(
        '_base_: cls.py\nepochs: &x {max_epochs: 3}\nrunner:\n  <<: *x\nwork_dir: 2024-01-05\n',
        'a.yaml')
    assert config.work_dir == '2024-01-05' and prepare(config)[0].runner.max_epochs == 3
    with pytest.raises(CheckError, match='epochs: nothing reads this name'):
        prepare(read('_base_: cls.py\nepochs: &x {max_epochs: 3}\n', 'a.yaml'))


# --- helpers


@pytest.mark.parametrize('text', [
    "hooks = []\nfor i in range(2):\n    hooks.append(dict(type='TextLoggerHook'))\nlog_config = dict(hooks=hooks)\n",
    'with open("cls.py") as file:\n    epochs = len(file.read()) % 7 + 1\nrunner = dict(max_epochs=epochs)\n',
    'for name, value in dict(a=1).items():\n    pass\n',
    'try:\n    import nosuch\nexcept ImportError as error:\n    pass\n',
    'from math import pi\nimport os, sys as system\nfrom os import environ, sep\n',
    '_epochs = 3\n_unused = 4\nrunner = dict(max_epochs=_epochs)\n',
    'def epochs(x):\n    return x + 1\n\nadd = lambda x: x + 1\nrunner = dict(max_epochs=epochs(add(1)))\n',
    'class Settings:\n    epochs = 3\n\nsettings = Settings()\nrunner = dict(max_epochs=settings.epochs)\n',
    'runner = dict(max_epochs=max(k for k in (1, 2)))\nlog_config = dict(interval=[n for n in (1, 2)][0])\n',
    'import datetime\nnow = datetime.datetime(2024, 1, 5)\nwork_dir = f"wd/{now:%Y}"\n',
    'import re, functools\npattern = re.compile("a")\npart = functools.partial(max, 1)\n',
    'file = open("cls.py")\nlines = file.read()\nrunner = dict(max_epochs=len(lines))\n',
])  # yapf: disable
def test_what_a_config_in_python_leaves_behind_is_no_setting(read, text):
    prepared(read(f"_base_ = 'cls.py'\n{text}"))


@pytest.mark.parametrize('text, words', [
    ("wrok_dir = 'x'\n", "did you mean 'work_dir'"),
    ('_base = 3\n', "did you mean '_base_'"),
    ("for i in range(2):\n    optimzer = dict(lr=i)\n", "did you mean 'optimizer'"),
    ("import os\noptimizr = dict(lr=1)\n", "did you mean 'optimizer'"),
])
def test_a_misspelt_setting_is_refused_as_before(read, text, words):
    with pytest.raises(CheckError, match=words):
        prepare(read(f"_base_ = 'cls.py'\n{text}"))


# --- values that are no literals


def test_paths_arrays_and_classes_become_what_can_be_written(read):
    config = prepared(
        read('''_base_ = 'cls.py'
import collections
import enum
from pathlib import Path
import numpy as np
import torch
from mmdet_ft.models.backbones.resnet import ResNet
class Size(enum.IntEnum):
    SMALL = 32
Pair = collections.namedtuple('Pair', 'a b')
root = Path('data')
mean = np.array([1., 2., 3.])
work_dir = root / 'runs'
optimizer = dict(lr=np.float32(0.25), betas=None)
optimizer.pop('betas')
model = dict(backbone=dict(type=ResNet))
data = dict(
    samples_per_gpu=Size.SMALL,
    train=dict(data_prefix=root / 'train', classes=dict(cat=0, dog=1).keys()),
    train_dataloader=dict(persistent_workers=np.bool_(False)))
img_norm_cfg = dict(mean=mean, std=torch.tensor([2., 4.]))
gpu_ids = range(2)
log_config = dict(hooks=[dict(type='TextLoggerHook', ignore_last=Pair(1, 2)[0] == 1)])
'''))
    assert config.work_dir == 'data/runs' and config.data.train.data_prefix == 'data/train'
    assert config.optimizer.lr == .25 and type(config.optimizer.lr) is float
    assert config.model.backbone.type == 'ResNet' and type(config.data.samples_per_gpu) is int
    assert config.img_norm_cfg == dict(mean=[1., 2., 3.], std=[2., 4.], to_rgb=True)
    assert config.data.train.classes == ['cat', 'dog'] and config.gpu_ids == range(2)


@pytest.mark.parametrize('text, words', [
    ('class A: pass\nmodel = dict(backbone=dict(type=A))',
     "model.backbone.type: is the class heir.A, which is in no registry: register it, and write type='A' (heir.py:3)"),
    ('data = dict(train=dict(pipeline=[lambda r: r]))',
     'data.train.pipeline.0: is the function <lambda>, which no checkpoint can carry'),
    ('import functools\noptimizer = dict(lr=functools.partial(max, 1))', 'optimizer.lr: is the function partial'),
    ('import datetime\nwork_dir = datetime.date(2024, 1, 5)', "write it as text, '2024-01-05' (heir.py:3)"),
    ("import datetime\ndata = dict(train=dict(data_prefix=datetime.date(2024, 1, 5)))",
     "data.train.data_prefix: is a d"),
    ('import torch\nfp16 = dict(dtype=torch.bfloat16)', "fp16.dtype: is torch.bfloat16, which no config file can hold: "
                                                        "write 'bfloat16'"),
    ("data = dict(train=dict(classes=(c for c in 'ab')))", 'data.train.classes: is a generator object, which can be '
                                                           'gone through once: write list(...) around it (heir.py:2)'),
    ("data = dict(train=dict(classes=map(str, 'ab')))", 'write list(...) around it'),
    ("data = dict(train=dict(ann_file=open('cls.py')))", 'data.train.ann_file: is an open file'),
    ("load_from = open('cls.py')", 'load_from: is an open file'),
    ('import enum\nclass E(enum.Enum):\n    A = 3\noptimizer = dict(lr=E.A)', 'write its value, 3'),
    ('import decimal\noptimizer = dict(lr=decimal.Decimal(1))', 'write a float'),
    ('import numpy\noptimizer = dict(lr=numpy.random.default_rng())', 'optimizer.lr: is a Generator object'),
])  # yapf: disable
def test_what_no_file_can_hold_is_refused_with_its_path_and_line(read, text, words):
    with pytest.raises(CheckError) as caught:
        prepare(read(f"_base_ = 'cls.py'\n{text}\n"))
    assert words in str(caught.value) and '(heir.py:' in str(caught.value)


def test_a_config_of_a_program_is_made_of_values_too():
    config = Config.fromfile(CLASSIFIER)
    config.work_dir = Path('wd')
    config.optimizer.lr = np.float64(.5)
    config = prepared(config)
    assert config.work_dir == 'wd' and type(config.optimizer.lr) is float
    config.load_from = open
    with pytest.raises(CheckError, match='load_from: is the function open'):
        prepare(config)


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary()
    | st.sampled_from(['{{', '{{ _base_.x }}', '_long_0_', "r'a'", 'é\n\t'])
    | st.builds(range, st.integers(0, 9)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner)
    | st.sets(st.integers() | st.text()),
    max_leaves=8)
NAMES = st.text(
    'abcdefgh_1 -', min_size=1).filter(lambda name: not name.startswith('__')) | st.just('class')


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name != '_base_'), LITERALS, max_size=4))
def test_a_dump_is_always_readable_and_says_the_same(values):
    config = Config(values)
    with mock.patch.object(writing, '_format', lambda source: source):  # yapf takes a second each
        text = config.pretty_text
    assert Config.fromstring(text, '.py')._cfg_dict == config._cfg_dict
    require_plain_config(text, 'a checkpoint')


@pytest.mark.parametrize('count', [101, 8000])
def test_long_lists_are_written_at_once_and_read_again(count, tmp_path):
    names = [f'class_{index:05d}_name' for index in range(count)]
    split = dict(
        type='A', classes=tuple(names), palette=[(1, 2, index) for index in range(min(count, 500))])
    config = Config(
        dict(data=dict(train=split, val=split, test=split), ids=dict.fromkeys(names, 1.5)))
    start = time.process_time()
    text = config.pretty_text
    assert time.process_time() - start < (10 if count > 101 else 5)  # yapf took the square: 131 s
    assert max(map(len, text.splitlines())) < 100
    assert Config.fromstring(text, '.py')._cfg_dict == config._cfg_dict


def test_many_lists_just_short_of_long_are_written_at_once_too():
    config = Config(
        dict(data=dict(train=[dict(classes=[f'class_{n}' for n in range(90)]) for _ in range(99)])))
    start = time.process_time()
    text = config.pretty_text
    assert time.process_time() - start < 10
    assert Config.fromstring(text, '.py')._cfg_dict == config._cfg_dict


def test_a_small_config_is_laid_out_as_before():
    config = Config(
        dict(
            model=dict(
                type='MaskRCNN', backbone=dict(type='ResNet', depth=50, out_indices=(0, 1, 2, 3))),
            classes=[f'class_{index}' for index in range(12)],
            optimizer=dict(type='SGD', lr=.02),
            workflow=[('train', 1)]))
    assert config.pretty_text == '''model = dict(
    type='MaskRCNN',
    backbone=dict(type='ResNet', depth=50, out_indices=(0, 1, 2, 3)))
classes = [
    'class_0', 'class_1', 'class_2', 'class_3', 'class_4', 'class_5',
    'class_6', 'class_7', 'class_8', 'class_9', 'class_10', 'class_11'
]
optimizer = dict(type='SGD', lr=0.02)
workflow = [('train', 1)]
'''


def test_other_formats_hold_the_same_values(tmp_path):
    config = Config(
        dict(a=Path('x'), b=np.arange(3), c=(1, 2), d={3, 1}, e=range(2), f=dict(g=np.float32(.5))))
    for name in ('a.py', 'a.yaml', 'a.json'):
        config.dump(str(tmp_path / name))
    written = json.loads((tmp_path / 'a.json').read_text())
    assert written == dict(a='x', b=[0, 1, 2], c=[1, 2], d=[1, 3], e=[0, 1], f=dict(g=.5))
    assert Config.fromfile(tmp_path / 'a.yaml').d == {1, 3}
    assert Config.fromfile(tmp_path / 'a.yaml').e == [0, 1]
    assert Config.fromfile(tmp_path / 'a.py').b == [0, 1, 2]


def test_plain_values_stay_as_they_are():
    values = dict(a=[1, 2.5, 'x', None, True, (1, ), {2}], b=range(3), c=b'x')
    assert plain(values) == values
    assert plain(torch.Size([1, 2])) == (1, 2) and type(plain(torch.Size([1]))) is tuple
