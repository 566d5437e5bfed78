"""tools/model_converters: a file's kind told, a file rewritten."""
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmdet_ft.checkpoints.reading import read
from tests.checkpoints.test_kinds_openmmlab import CLASSES, in_version_1
from tests.models.tiny import tiny_config, tiny_model

TOOLS = Path(__file__).parents[2] / 'tools' / 'model_converters'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a tool in this process; returns its exit code and what it wrote."""

    def run(name, *words):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        code = 0
        try:
            runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
        except SystemExit as end:
            code = end.code
        return SimpleNamespace(returncode=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture(scope='module')
def old_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('files') / 'old.pth'
    config = "model = dict(backbone=dict(style='pytorch'))\nimg_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], " \
             'to_rgb=False)\ntrain_pipeline = [dict(type="Normalize", **img_norm_cfg)]'
    meta = dict(mmdet_version='1.1.0', CLASSES=CLASSES, config=config, epoch=12)
    torch.save(dict(meta=meta, state_dict=in_version_1(tiny_model().state_dict())), path)
    return path


def test_a_file_of_version_1_is_upgraded_once(old_file, tmp_path, run):
    new = tmp_path / 'new.pth'
    done = run('upgrade_model_version', old_file, new)
    assert done.returncode == 0, done.err
    assert 'old.pth: MMDetection 1.1\n  heads under roi_head\n  classes: 4 rows' in done.out
    expected, found = read(str(old_file)), read(str(new))
    assert {
        name: value.tolist()
        for name, value in found.state_dict.items()
    } == {
        name: value.tolist()
        for name, value in expected.state_dict.items()
    }
    assert found.origin.kind == 'MMDetection 1.1, upgraded' and not found.origin.changes
    assert found.origin.advice == expected.origin.advice and found.meta['epoch'] == 12
    wrong = run('upgrade_model_version', old_file, new, '--num-classes', 81)
    assert wrong.returncode == 1 and 'has 4 classes, the background too, not --num-classes 81' in wrong.err


def test_inspection_tells_the_kind_and_what_would_be_loaded(old_file, tmp_path, run):
    normalize = dict(type='Normalize', mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)
    data = dict(
        type='CocoDataset',
        ann_file='absent.json',
        classes=['bird', 'rider', 'cat'],
        pipeline=[
            dict(type='LoadImageFromFile'), normalize,
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img'])
        ])
    train = dict(
        data,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True), normalize,
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])
        ])
    config = tmp_path / 'config.py'
    config.write_text(
        f"model = {tiny_config()!r}\ndata = dict(train={train!r}, val={data!r}, test={data!r})\n"
        "load_from = dict(checkpoint='other.pth', heads='by_class')\n")
    done = run('inspect_checkpoint', old_file, config, '--json', tmp_path / 'report.json')
    assert done.returncode == 0, done.err
    for line in ('old.pth: MMDetection 1.1\n', 'classes: 3: cat, dog, bird', 'parts: backbone ',
                 'meta: mmdet_version 1.1.0, epoch 12',
                 'trained on BGR images with mean [1.0, 2.0, 3.0]', 'into the MaskRCNN of',
                 '2 of 3 classes copied: bird, cat; new: rider',
                 'warning: these weights were trained on BGR'):
        assert line in done.out, done.out
    assert json.loads((tmp_path / 'report.json').read_text())['heads_by_class']['new'] == ['rider']


def test_a_file_that_is_none_is_one_message(tmp_path, run):
    (tmp_path / 'text.pth').write_text('hello')
    for name, more in (('inspect_checkpoint', ()), ('upgrade_model_version',
                                                    (tmp_path / 'new.pth', ))):
        done = run(name, tmp_path / 'text.pth', *more)
        assert done.returncode == 2 and 'error: ' in done.err and 'Traceback' not in done.err
