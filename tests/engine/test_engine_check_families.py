"""Common mistakes in cascades and one-stage detectors: channels, classes, keys and strides that do not fit."""
import sys

import pytest

from mmdet_ft.config import CheckError
from mmdet_ft.engine.config_check.check import prepare
from tests.engine.test_engine_check import MAIN, heir
from tests.tools.test_train_command import ROOT, run

FAMILIES = MAIN.parents[1]
CASCADE = FAMILIES / 'cascade_rcnn/cascade_mask_rcnn_r50_fpn_1x_coco.py'
HTC = FAMILIES / 'htc/htc_without_semantic_r50_fpn_1x_coco.py'
PAFPN = FAMILIES / 'pafpn/faster_rcnn_r50_pafpn_1x_coco.py'
LIBRA = FAMILIES / 'libra_rcnn/libra_faster_rcnn_r50_fpn_1x_coco.py'
GHM = FAMILIES / 'ghm/retinanet_ghm_r50_fpn_1x_coco.py'
ATSS = FAMILIES / 'atss/atss_r50_fpn_1x_coco.py'
DOUBLE = FAMILIES / 'double_heads/dh_faster_rcnn_r50_fpn_1x_coco.py'

EXTRACTORS = """model = dict(
    roi_head=dict(
        bbox_roi_extractor=[
            dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
                 out_channels=256, featmap_strides=[4, 8, 16, 32]),
            dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
                 out_channels=256, featmap_strides=[4, 8, 16, 32, 64, 128]),
            dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
                 out_channels=256, featmap_strides=[4, 8, 16, 32])]))
"""


def masks(kind, second):
    """A config with three mask heads on its lines 2 to 4."""
    heads = [
        f"    dict(type='{kind}', {one})" for one in ('num_classes=80', second, 'num_classes=80')
    ]
    return 'model = dict(roi_head=dict(mask_head=[\n' + ',\n'.join(heads) + ']))'


def boxes(second):
    head = "    dict(type='Shared2FCBBoxHead', {})"
    rows = [head.format(one) for one in ('num_classes=80', second, 'num_classes=80')]
    return 'model = dict(roi_head=dict(bbox_head=[\n' + ',\n'.join(rows) + ']))'


def stages(second):
    stage = ("    dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=.5, neg_iou_thr=.5), "
             "sampler=dict(type='RandomSampler', num=512, pos_fraction=.25), mask_size=28{})")
    rows = [stage.format(one) for one in ('', second, '')]
    return 'model = dict(train_cfg=dict(rcnn=[\n' + ',\n'.join(rows) + ']))'


@pytest.mark.parametrize('base, text, path, words', [
    (CASCADE, boxes('num_classes=8'), 'model.roi_head.bbox_head.1.num_classes',
     ['80 classes', 'write num_classes=80', 'heir.py:4']),
    (CASCADE, masks('FCNMaskHead', 'num_classes=8'), 'model.roi_head.mask_head.1.num_classes',
     ['80 classes', 'write num_classes=80', 'heir.py:4']),
    (CASCADE, masks('FCNMaskHead', 'num_classes=80, in_channels=128'), 'model.roi_head.mask_head.1.in_channels',
     ['is 128, but model.neck.out_channels is 256', 'write in_channels=256', 'heir.py:4']),
    (HTC, masks('HTCMaskHead', 'num_classes=8'), 'model.roi_head.mask_head.1.num_classes',
     ['80 classes', 'write num_classes=80', 'heir.py:4']),
    (HTC, boxes('num_classes=80, in_channels=128'), 'model.roi_head.bbox_head.1.in_channels',
     ['is 128', 'write in_channels=256', 'heir.py:4']),
    (HTC, boxes('num_classes=80, roi_feat_size=14'), 'model.roi_head.bbox_head.1.roi_feat_size',
     ['is 14, but the RoI extractor gives 7 x 7', 'write roi_feat_size=7', 'heir.py:4']),
    (CASCADE, stages(', pos_wieght=-1'), 'model.train_cfg.rcnn.1.pos_wieght', ["'pos_weight'", 'heir.py:4']),
    (HTC, stages(', sampeler=1'), 'model.train_cfg.rcnn.1.sampeler', ["'sampler'", 'heir.py:4']),
    (CASCADE, 'model = dict(roi_head=dict(num_stages=2))', 'model.roi_head.bbox_head',
     ['has 3 entries, but model.roi_head.num_stages is 2 (heir.py:2)', 'write one dict a stage']),
    (CASCADE, EXTRACTORS, 'model.roi_head.bbox_roi_extractor.1.featmap_strides',
     ['6 strides', 'model.neck.num_outs is 5', 'heir.py:8']),
    (HTC, 'model = dict(neck=dict(num_outs=6))', 'model.rpn_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 6 (heir.py:2)']),
    (PAFPN, 'model = dict(neck=dict(in_channels=[256, 512, 1024, 1024]))', 'model.neck.in_channels',
     ['write in_channels=[256, 512, 1024, 2048]', 'heir.py:2']),
    (PAFPN, 'model = dict(rpn_head=dict(anchor_generator=dict(strides=[4, 8])))',
     'model.rpn_head.anchor_generator.strides', ['2 strides, but model.neck.num_outs is 5', 'heir.py:2']),
    (LIBRA, 'model = dict(rpn_head=dict(in_channels=64))', 'model.rpn_head.in_channels',
     ['is 64', 'write in_channels=256', 'heir.py:2']),
    (DOUBLE, 'model = dict(roi_head=dict(bbox_head=dict(in_channels=64)))', 'model.roi_head.bbox_head.in_channels',
     ['is 64', 'write in_channels=256', 'heir.py:2']),
    (DOUBLE, 'model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))', 'model.roi_head.bbox_head.num_classes',
     ['80 classes', 'write num_classes=80', 'heir.py:2']),
    (GHM, 'model = dict(bbox_head=dict(loss_cls=dict(momentun=.5)))', 'model.bbox_head.loss_cls.momentun',
     ["'momentum'", 'heir.py:2']),
    (ATSS, 'model = dict(bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32])))',
     'model.bbox_head.anchor_generator.strides', ['3 strides, but model.neck.num_outs is 5', 'heir.py:2']),
    (ATSS, 'model = dict(bbox_head=dict(num_classes=3))', 'model.bbox_head.num_classes',
     ['80 classes', 'write num_classes=80', 'heir.py:2']),
])  # yapf: disable
def test_a_mistake_is_named_with_its_line_and_its_fix(tmp_path, monkeypatch, base, text, path,
                                                      words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    found = {mistake.path: str(mistake) for mistake in caught.value.mistakes}
    assert path in found, [*found.values()]
    assert all(word in found[path] for word in words), found[path]


@pytest.mark.parametrize('base, text, words', [
    (CASCADE, boxes('num_classes=8, in_channels=128'),
     ['model.roi_head.bbox_head.1.num_classes', 'model.roi_head.bbox_head.1.in_channels', 'mine.py:4']),
    (ATSS, 'model = dict(neck=dict(out_channels=128),\n             bbox_head=dict(num_classes=3))',
     ['model.bbox_head.in_channels', 'mine.py:2', 'model.bbox_head.num_classes', 'mine.py:3']),
])  # yapf: disable
def test_the_command_names_them_all_before_it_trains(tmp_path, base, text, words):
    (tmp_path / 'mine.py').write_text(f"_base_ = '{base}'\n{text}\n")
    err = run(
        sys.executable,
        ROOT / 'tools/train.py',
        'mine.py',
        '--work-dir',
        tmp_path / 'run',
        cwd=tmp_path,
        expect=2)[1]
    assert all(word in err for word in words) and 'Traceback' not in err, err
    assert not list(tmp_path.rglob('*.pth'))
