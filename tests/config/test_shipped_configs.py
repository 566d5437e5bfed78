"""The configs that we ship: they load, and those named as V2's mean what V2's mean."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_ft.config import Config, ConfigDict
from tests import commands
from .test_stock_configs import DIGESTS, digest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py'))


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_config_loads(name):
    config = Config.fromfile(CONFIGS / name)
    assert len(config) > 0 and type(config.copy()) is ConfigDict


@pytest.mark.parametrize('name', ['cityscapes/mask_rcnn_ft.py', '_base_/default_runtime.py'])
def test_shipped_config_survives_printing(name):
    config = Config.fromfile(CONFIGS / name)
    assert Config.fromstring(config.pretty_text, '.py')._cfg_dict == config._cfg_dict


@pytest.mark.parametrize('package, number', [('mmdet', 25), ('mmcls', 20)])
def test_configs_with_stock_names_have_stock_values(package, number):
    known = [name for name in SHIPPED if name in DIGESTS[package]]
    if package == 'mmcls':
        known.remove('_base_/default_runtime.py')  # both have one of this name
    assert [name for name in known if digest(CONFIGS / name) != DIGESTS[package][name]] == []
    assert len(known) >= number


TUTORIAL = '''
_base_ = [
    '../_base_/models/mask_rcnn_r50_fpn.py', '../_base_/datasets/cityscapes_instance.py',
    '../_base_/default_runtime.py'
]
model = dict(
    pretrained=None,
    roi_head=dict(
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=8,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
        mask_head=dict(
            type='FCNMaskHead', num_convs=4, in_channels=256, conv_out_channels=256, num_classes=8,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[7])
runner = dict(max_epochs=8)
log_config = dict(interval=100)
load_from = 'checkpoint.pth'
'''


def test_the_fine_tuning_config_is_the_tutorial_in_todays_spelling(monkeypatch):
    monkeypatch.chdir(CONFIGS / 'cityscapes')
    tutorial = Config.fromstring(TUTORIAL, '.py')._cfg_dict.to_dict()
    ours = Config.fromfile('mask_rcnn_ft.py')._cfg_dict.to_dict()
    assert tutorial['model'].pop('pretrained') is None
    assert ours['model']['backbone'].pop('init_cfg') is None  # the same, as of V2.12
    tutorial['model']['backbone'].pop('init_cfg')
    tutorial['runner']['type'] = 'EpochBasedRunner'
    tutorial['auto_scale_lr']['base_batch_size'] = 8  # stated in a comment of the tutorial
    tutorial['load_from'] = ours['load_from']
    assert ours == tutorial


def print_config(*words):
    command = [sys.executable, str(ROOT / 'tools' / 'misc' / 'print_config.py'), *map(str, words)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_print_config_prints_the_merged_config_with_options():
    done = commands.complete('misc/print_config.py', 'configs/cityscapes/mask_rcnn_ft.py',
                             '--cfg-options', 'model.backbone.depth=101',
                             'data.val.pipeline.1.img_scale=(800,400)', 'classes=a,b')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('Config:\n')
    config = Config.fromstring(done.stdout[len('Config:\n'):], '.py')
    assert config.model.backbone.depth == 101 and config.classes == ['a', 'b']
    assert config.data.val.pipeline[1].img_scale == (800, 400)
    assert config.model.roi_head.bbox_head.num_classes == 8


def test_print_config_answers_a_mistake_with_one_line():
    done = print_config('configs/cityscapes/mask_rcn_ft.py')
    assert done.returncode == 2
    assert done.stderr.strip(
    ) == "error: no config configs/cityscapes/mask_rcn_ft.py; did you mean 'mask_rcnn_ft.py'?"
