"""docs/extending.md: every block of the page is run as the page says, through tools/train.py."""
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from mmdet_ft.checkpoints.reading import read
from mmdet_ft.commands.main import run_tool
from mmdet_ft.engine.legacy import user_code
from tests import commands
from tests.tools.test_train_command import rows
from tests.tools.tiny_world import CLASSES, write_world

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'extending.md').read_text(encoding='utf-8')
BLOCKS = dict(re.findall(r'```python\n# (\w+\.py)\n(.*?)```', PAGE, re.S))
ANSWERS = re.findall(r'```text\n(.*?)```', PAGE, re.S)


def train(folder, config, *words, expect=0):
    return commands.run(
        'train.py',
        config,
        '--work-dir',
        folder / 'run',
        '--seed',
        '0',
        *words,
        cwd=folder,
        expect=expect)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The working directory of a user who has typed off the page, beside a small config and its data."""
    folder = tmp_path_factory.mktemp('mine')
    write_world(folder)
    for name, text in BLOCKS.items():
        (folder / name).write_text(f'# {name}\n{text}')
    return folder


def test_transform_hook_dataset_backbone_neck_and_loss_of_the_page_run(folder):
    assert len(BLOCKS) == 8 and len(ANSWERS) == 2
    out, err = train(folder, 'my_config.py', '--cfg-options', 'runner.max_epochs=1',
                     'data.workers_per_gpu=1', 'log_config.interval=1')
    assert 'watching MaskRCNN for 2 iterations, seed 0' in err and 'epoch 0 iter 1 loss' in err
    lines = rows(folder / 'run')[1:]
    assert 0 < lines[0]['weight'] < 1 and lines[0]['momentum'] == .9 and lines[0]['loss_bbox'] >= 0
    assert lines[-1]['mode'] == 'val' and 'bbox_mAP' in lines[-1]
    checkpoint = read(str(folder / 'run' / 'latest.pth'))
    assert tuple(checkpoint.meta['CLASSES']) == CLASSES
    names = set(checkpoint.state_dict)
    assert {'backbone.stages.0.conv.weight', 'neck.convs.0.weight'} <= names
    assert not [name for name in names if name.startswith('module.')]


def test_the_middle_format_of_the_page_trains_and_useless_boxes_are_counted(folder):
    """Annotations of one's own kind, for a model without masks; one box has no area, one lies outside."""
    text = ''.join(f'{index}.png 96 64\n 5 5 40 30 {CLASSES[index % 3]}\n' for index in range(4))
    (folder / 'lines.txt').write_text(text + ' 7 7 7 20 bar\n 100 2 120 9 dot\n')
    (folder / 'lines.py').write_text('''
_base_ = 'my_config.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(96, 64), keep_ratio=True),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'],
         meta_keys=('filename', 'ori_filename', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor')),
]
data = dict(train=dict(_delete_=True, type='LinesDataset', ann_file='lines.txt', img_prefix='train/',
                       pipeline=train_pipeline))
model = dict(type='FasterRCNN', roi_head=dict(mask_head=None, mask_roi_extractor=None))
''')
    out, err = train(folder, 'lines.py', '--no-validate', '--cfg-options', 'runner.max_epochs=1')
    assert "of 6 boxes 2 without area or wholly outside their image are left out (in '3.png')" in err
    assert (folder / 'run' / 'epoch_1.pth').exists()


@pytest.mark.parametrize('index,module,option', [
    (0, 'my_old_code', 'runner.max_epochs=1'),
    (1, 'my_old_head', 'model.roi_head.type=MyRoIHead'),
])
def test_what_cannot_run_is_answered_as_the_page_says(folder, index, module, option):
    config = folder / f'{module}_config.py'
    config.write_text(f"_base_ = 'tiny.py'\ncustom_imports = dict(imports=['{module}'])\n")
    out, err = train(folder, config.name, '--cfg-options', option, expect=2)
    assert 'Traceback' not in err
    text = [line.strip() for line in err.split('error: ')[-1].splitlines()]
    for line in ANSWERS[index].splitlines():
        assert any(said.startswith(line) for said in text), f'{line}\nis not in\n{err}'


def test_answers_name_what_is_there():
    for name, module in user_code.HOME_OF.items():
        assert hasattr(importlib.import_module(module), name), f'{module} has no {name}'
    for answer in user_code.ANSWERS.values():
        found = re.match(r'from (\S+) import (\w+)', answer)
        if found:
            assert hasattr(importlib.import_module(found.group(1)), found.group(2)), answer


@pytest.mark.parametrize(
    'line,answer',
    [
        ('import mmdet', 'mmdet_ft.models'),
        ('import mmcv.runner', 'mmdet_ft.engine.hooks'),
        ('from mmdet import models', 'mmdet_ft.models'),
        ('from mmdet.models.backbones import ResNet',
         'from mmdet_ft.models.backbones.resnet import ResNet'),
        ('from mmdet.datasets.pipelines.loading import LoadAnnotations', 'import LoadAnnotations'),
        ('from mmdet.models.builder import NECKS as N', 'from mmdet_ft.models import NECKS'),
        ('from mmcv.parallel import DataContainer as DC', 'plain arrays'),
        ('from mmcv.cnn import ConvModule, kaiming_init',
         'from mmdet_ft.models.base_module import kaiming_init'),
        ('from mmcv.ops import DeformConv2d', 'from torchvision.ops import DeformConv2d'),
        ('from mmdet.models.dense_heads import AnchorHead', 'extending.md'),
        ('from mmdet.core import something_of_its_own', 'in your own code'),
        ('from mmcv.parallel import MMDataParallel', 'the model itself goes into'),
        ('from mmdet_ft.core.evaluation import eval_map',
         'dataset.evaluate'),  # mmdet replaced by mmdet_ft
        ('from mmdet_ft.apis.inference import init_detector',
         'from mmdet_ft.apis import init_detector'),
        ('import mmdet_ft.core.mask', 'mmdet_ft.models'),
        ('import mmcv\n@mmcv.runner.HOOKS.register_module()\nclass A: pass',
         'from mmdet_ft.engine.hooks import HOOKS'),
    ])
def test_old_names_are_answered(line, answer):
    found, = user_code.old_names(line)
    assert answer in found.instead
    if line.startswith('from'):
        assert found.written.startswith(line.split(' import')[0])


def test_what_mmcv_still_has_passes():
    assert not user_code.old_names('''
import mmcv
import mmcv.cnn as cnn
from mmcv.cnn import ConvModule, build_norm_layer
from mmcv import imread
from mmdet_ft.models import BACKBONES
image = mmcv.imresize(mmcv.image.imread('a.png'), (3, 4))
''')


def test_a_script_is_read_and_told_line_by_line(tmp_path, capsys, monkeypatch):
    script = tmp_path / 'mine.py'
    script.write_text(
        'import torch\nfrom mmcv import Config\nfrom mmdet.apis import init_detector\n'
        "raise SystemExit('it was run')\n")
    for expected, text in ((1, script.read_text()), (0,
                                                     'from mmdet_ft.apis import init_detector\n')):
        script.write_text(text)
        monkeypatch.setattr(sys, 'argv', ['check_script.py', str(script)])
        with pytest.raises(SystemExit) as end:
            run_tool('check_script')
        assert end.value.code == expected
    message = capsys.readouterr().out.splitlines()
    assert message == [
        f'{script}:2: from mmcv import Config: write from mmdet_ft.config import Config',
        f'{script}:3: from mmdet.apis import init_detector: write from mmdet_ft.apis import init_detector',
        f'nothing of V2 that is not here in {script}'
    ]
    script.write_text('def (')
    with pytest.raises(SystemExit):
        run_tool('check_script')
    assert 'mine.py is not a Python script: ' in capsys.readouterr().err


def test_an_old_import_that_a_module_tries_first_is_its_own_business(tmp_path, monkeypatch):
    (tmp_path / 'both.py').write_text(
        'try:\n    from mmdet.datasets import PIPELINES\nexcept ImportError:\n'
        '    from mmdet_ft.datasets import PIPELINES\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert user_code.explain_modules([importlib.import_module('both')]) is None


def test_another_missing_module_is_not_blamed_on_v2(tmp_path, monkeypatch):
    (tmp_path / 'other.py').write_text('from mmcv.cnn import ConvModule\nimport no_such_module\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError) as error:
        importlib.import_module('other')
    assert user_code.explain_failed_import(error.value) is None


def test_heads_of_the_projects_own_kind_pass():
    from mmdet_ft.registry import MODELS
    assert not [name for name in MODELS if user_code.explain_class(MODELS.get(name))]


def test_a_weighted_loss_does_not_look_at_what_has_no_weight():
    from mmdet_ft.models.losses import weighted_loss
    loss = weighted_loss(lambda pred, target: (pred - target)**2)
    pred = torch.tensor([1., float('nan')], requires_grad=True)
    value = loss(pred, torch.zeros(2), torch.tensor([2., 0.]), avg_factor=4)
    value.backward()
    assert value.item() == pytest.approx(.5) and pred.grad.tolist() == pytest.approx([1., 0.])
    assert loss(torch.ones(2), torch.zeros(2), reduction='sum') == 2


def test_a_notebook_gets_the_same_answer(folder, monkeypatch):
    from mmdet_ft.apis import init_detector
    from mmdet_ft.config import CheckError
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    (folder / 'notebook.py'
     ).write_text("_base_ = 'tiny.py'\ncustom_imports = dict(imports=['my_old_code'])\n")
    with pytest.raises(
            CheckError, match=r'my_old_code\.py:3: from mmcv\.runner import HOOKS, Hook: write'):
        init_detector('notebook.py')
