"""The configs for own data, copied and given paths and classes as their first lines say, train and are judged."""
import json
from pathlib import Path
from typing import List

import pytest

from tests.commands import ROOT, run
from tests.tools.tiny_world import CLASSES, write_world

CUSTOM = ROOT / 'configs' / 'custom'
# Those of another format than COCO's have tests of their own data.
NAMES = sorted(
    path.stem for path in CUSTOM.glob('*.py')
    if "data_root + 'train.json'" in path.read_text(encoding='utf-8'))
QUICK = ('load_from=None', 'runner.max_epochs=1', 'data.workers_per_gpu=0',
         'data.samples_per_gpu=2', 'data.persistent_workers=False', 'log_config.interval=1',
         'checkpoint_config.interval=9', 'evaluation.interval=1', 'evaluation.save_best=None')


def copy_of(name: str, root: Path) -> Path:
    """Write the config under `root` as a user edits it, for the dataset that lies there."""
    text = (CUSTOM / f'{name}.py').read_text(encoding='utf-8')
    for old, new in (("('cat', 'dog')", repr(CLASSES)), ("'data/pets/'", repr(f'{root}/')),
                     ("'../custom/", "'mmdet_ft::custom/")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = root / f'my_{name}.py'
    path.write_text(text)
    return path


def smaller(name: str) -> List[str]:
    """Options for images of 64 pixels, few proposals and narrow layers of boxes."""
    if name == 'yolox':
        places = [(0, 'img_scale=(64,64)'), (1, 'border=(-32,-32)'), (2, 'img_scale=(64,64)'),
                  (5, 'img_scale=(64,64)')]
        scale = '(64,64)'
        own = ['model.input_size=(64,64)', 'model.random_size_range=(2,3)']
    else:
        places, scale, own = [(2, 'img_scale=(96,64)')], '(96,64)', ['model.backbone.init_cfg=None']
    if 'rcnn' in name:
        own += [
            f'model.{part}.max_per_img=20'
            for part in ('train_cfg.rpn_proposal', 'test_cfg.rpn', 'test_cfg.rcnn')
        ]
        heads = [f'bbox_head.{i}' for i in range(3)] if 'cascade' in name else ['bbox_head']
        own += [f'model.roi_head.{head}.fc_out_channels=64' for head in heads]
    else:
        own += ['model.test_cfg.score_thr=0']  # an untrained one finds something, too
    return [
        *own, *(f'data.train.pipeline.{place}.{setting}' for place, setting in places),
        *(f'data.{split}.pipeline.1.img_scale={scale}' for split in ('val', 'test'))
    ]


def test_each_kind_of_detector_is_here():
    assert {'cascade_mask_rcnn', 'faster_rcnn', 'mask_rcnn', 'retinanet', 'yolox'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_copy_trains_and_is_judged_class_by_class(name, tmp_path):
    write_world(tmp_path)
    work_dir = tmp_path / 'run'
    run('train.py', copy_of(name, tmp_path), '--work-dir', work_dir, '--seed', 0, '--cfg-options',
        *QUICK, *smaller(name))
    log, = work_dir.glob('*.log.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if line.get('mode') == 'train']
    assert len(losses) == 2 and all(0 < loss < 1000 for loss in losses)
    judged = lines[-1]
    assert judged['mode'] == 'val' and 0 <= judged['bbox_mAP'] <= 1
    assert ('segm_mAP' in judged) == ('mask' in name)
