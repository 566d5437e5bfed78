"""Channels and levels that do not fit are named before anything is built; what is not known passes."""

import pytest

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS
from tests.engine.test_engine_check import MAIN, heir

WIDE = '[256, 512, 1024, 2048]'


@pytest.mark.parametrize('text, path, words', [
    ('model = dict(backbone=dict(depth=18))', 'model.neck.in_channels',
     [f'is {WIDE}, but ResNet of model.backbone gives [64, 128, 256, 512]', 'write in_channels=[64, 128']),
    ('model = dict(backbone=dict(out_indices=(1, 2, 3)))', 'model.neck.in_channels',
     [f'is {WIDE}', 'gives [512, 1024, 2048] (out_indices=(1, 2, 3))']),
    ('model = dict(neck=dict(in_channels=[256, 512, 1024, 1024]))', 'model.neck.in_channels',
     ['heir.py:2', f'write in_channels={WIDE}']),
    ('model = dict(neck=dict(out_channels=128))', 'model.rpn_head.in_channels',
     ['is 256, but model.neck.out_channels is 128 (heir.py:2)', 'write in_channels=128']),
    ('model = dict(neck=dict(out_channels=128), rpn_head=dict(in_channels=128))',
     'model.roi_head.bbox_head.in_channels', ['is 256', 'in_channels=128']),
    ('model = dict(roi_head=dict(mask_head=dict(in_channels=64)))', 'model.roi_head.mask_head.in_channels',
     ['is 64, but model.neck.out_channels is 256', 'heir.py:2']),
    ('model = dict(rpn_head=dict(anchor_generator=dict(strides=[4, 8, 16])))',
     'model.rpn_head.anchor_generator.strides',
     ['[4, 8, 16] are 3 strides, but model.neck.num_outs is 5 (', 'write one stride a level, such as '
      'strides=[4, 8, 16, 32, 64] (heir.py:2)']),
    ('model = dict(neck=dict(num_outs=6))', 'model.rpn_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 6 (heir.py:2)']),
    ('model = dict(roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8, 16, 32, 64, 128])))',
     'model.roi_head.bbox_roi_extractor.featmap_strides',
     ['are 6 strides, but model.neck.num_outs is 5', 'featmap_strides=[4, 8, 16, 32, 64]', 'heir.py:2']),
])  # yapf: disable
def test_what_does_not_fit_is_named_with_what_to_write(tmp_path, monkeypatch, text, path, words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path, [*map(str, caught.value.mistakes)]
    assert all(word in str(mistake) for word in words), str(mistake)


def test_channels_are_checked_beside_a_mistake_in_another_section(tmp_path, monkeypatch):
    text = 'model = dict(neck=dict(out_channels=128))\ndata = dict(sample_per_gpu=1)'
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text))
    assert [mistake.path for mistake in caught.value.mistakes
            ][:2] == ['data.sample_per_gpu', 'model.rpn_head.in_channels']


NECKS = ("model = dict(neck=[\n"
         "    dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels={}, num_outs=5),\n"
         "    dict(type='BFP', in_channels={}, num_levels={})])")


@pytest.mark.parametrize('text, path, words', [
    (NECKS.format(128, 128, 5), 'model.rpn_head.in_channels',
     ['is 256, but BFP of model.neck.1 gives 128; write in_channels=128']),
    (NECKS.format(256, 128, 5), 'model.neck.1.in_channels',
     ['is 128, but model.neck.0.out_channels is 256 (heir.py:3); write in_channels=256', 'heir.py:4']),
    (NECKS.format(256, 256, 4), 'model.neck.1.num_levels',
     ['is 4, but model.neck.0.num_outs is 5 (heir.py:3); write num_levels=5', 'heir.py:4']),
    (NECKS.format(256, 256, '5, refine_typ=None'), 'model.neck.1.refine_typ', ["'refine_type'", 'heir.py:4']),
    (NECKS.format(256, 256, 5).replace('512', '128'), 'model.neck.0.in_channels',
     ['is [256, 128, 1024, 2048]', 'heir.py:3']),
])  # yapf: disable
def test_necks_of_a_list_are_compared_with_one_another(tmp_path, monkeypatch, text, path, words):
    test_what_does_not_fit_is_named_with_what_to_write(tmp_path, monkeypatch, text, path, words)


def test_a_right_list_of_necks_passes(tmp_path, monkeypatch):
    assert prepare(heir(tmp_path, monkeypatch, NECKS.format(256, 256, 5)))[1] == []


RETINA = MAIN.parents[1] / 'retinanet/retinanet_r50_fpn_1x_coco.py'
FCOS = MAIN.parents[1] / 'fcos/fcos_r50_caffe_fpn_gn-head_1x_coco.py'
FOVEA = MAIN.parents[1] / 'foveabox/fovea_align_r50_fpn_gn-head_4x4_2x_coco.py'
FSAF = MAIN.parents[1] / 'fsaf/fsaf_r50_fpn_1x_coco.py'
GFL = MAIN.parents[1] / 'gfl/gfl_r50_fpn_1x_coco.py'
VFNET = MAIN.parents[1] / 'vfnet/vfnet_r50_fpn_1x_coco.py'
TOOD = MAIN.parents[1] / 'tood/tood_r50_fpn_1x_coco.py'
SSD = MAIN.parents[1] / 'ssd/ssd300_coco.py'
PAA = MAIN.parents[1] / 'paa/paa_r50_fpn_1x_coco.py'
FREE = MAIN.parents[1] / 'free_anchor/retinanet_free_anchor_r50_fpn_1x_coco.py'


@pytest.mark.parametrize('base, text, path, words', [
    (RETINA, 'model = dict(neck=dict(out_channels=128))', 'model.bbox_head.in_channels',
     ['is 256, but model.neck.out_channels is 128 (heir.py:2)', 'write in_channels=128']),
    (RETINA, 'model = dict(bbox_head=dict(in_channels=64))', 'model.bbox_head.in_channels',
     ['is 64, but model.neck.out_channels is 256', 'heir.py:2']),
    (RETINA, 'model = dict(neck=dict(num_outs=4))', 'model.bbox_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 4 (heir.py:2)']),
    (RETINA, 'model = dict(train_cfg=dict(asigner=1))', 'model.train_cfg.asigner', ["'assigner'", 'heir.py:2']),
    (RETINA, 'model = dict(test_cfg=dict(score_tr=.1))', 'model.test_cfg.score_tr', ["'score_thr'", 'heir.py:2']),
    (RETINA, 'model = dict(train_cfg=dict(assigner=dict(pos_iou=.5)))', 'model.train_cfg.assigner.pos_iou',
     ["'pos_iou_thr'"]),
    (RETINA, 'model = dict(train_cfg=None)', 'model.train_cfg.assigner', ['RetinaNet is trained by it']),
    (RETINA, "data = dict(train=dict(classes=('a', 'b')))", 'model.bbox_head.num_classes',
     ['has 2 classes (heir.py:2)', 'num_classes is 80', 'write num_classes=2']),
    (FCOS, 'model = dict(bbox_head=dict(strides=[8, 16, 32]))', 'model.bbox_head.strides',
     ['[8, 16, 32] are 3 strides, but model.neck.num_outs is 5', 'strides=[8, 16, 32, 64, 128] (heir.py:2)']),
    (FSAF, 'model = dict(bbox_head=dict(in_channels=64))', 'model.bbox_head.in_channels',
     ['is 64, but model.neck.out_channels is 256', 'heir.py:2']),
    (FSAF, 'model = dict(neck=dict(num_outs=4))', 'model.bbox_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 4 (heir.py:2)']),
    (FSAF, 'model = dict(train_cfg=dict(assigner=dict(pos_scal=.2)))', 'model.train_cfg.assigner.pos_scal',
     ["'pos_scale'", 'heir.py:2']),
    (FOVEA, 'model = dict(bbox_head=dict(strides=[8, 16, 32, 64], base_edge_list=[1] * 4, scale_ranges=[(1, 9)] * 4))',
     'model.bbox_head.strides', ['[8, 16, 32, 64] are 4 strides, but model.neck.num_outs is 5']),
    (FOVEA, 'model = dict(bbox_head=dict(base_edge=[16]))', 'model.bbox_head.base_edge', ["'base_edge_list'"]),
    (FREE, 'model = dict(neck=dict(out_channels=128))', 'model.bbox_head.in_channels',
     ['is 256, but model.neck.out_channels is 128 (heir.py:2)']),
    (FREE, 'model = dict(bbox_head=dict(anchor_topk=9))', 'model.bbox_head.anchor_topk',
     ["'pre_anchor_topk'", 'heir.py:2']),
    (GFL, 'model = dict(bbox_head=dict(in_channels=64))', 'model.bbox_head.in_channels',
     ['is 64, but model.neck.out_channels is 256', 'heir.py:2']),
    (GFL, 'model = dict(neck=dict(num_outs=4))', 'model.bbox_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 4 (heir.py:2)']),
    (VFNET, 'model = dict(neck=dict(out_channels=128))', 'model.bbox_head.in_channels',
     ['is 256, but model.neck.out_channels is 128 (heir.py:2)']),
    (VFNET, 'model = dict(bbox_head=dict(strides=[8, 16, 32]))', 'model.bbox_head.strides',
     ['[8, 16, 32] are 3 strides, but model.neck.num_outs is 5', 'heir.py:2']),
    (TOOD, 'model = dict(bbox_head=dict(in_channels=64))', 'model.bbox_head.in_channels',
     ['is 64, but model.neck.out_channels is 256', 'heir.py:2']),
    (TOOD, 'model = dict(neck=dict(num_outs=4))', 'model.bbox_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 4 (heir.py:2)']),
    (TOOD, 'model = dict(train_cfg=dict(initial_epok=1))', 'model.train_cfg.initial_epok',
     ["'initial_epoch'", 'heir.py:2']),
    (TOOD, 'model = dict(train_cfg=dict(initial_assigner=None))', 'model.train_cfg.initial_assigner',
     ['TOOD is trained by it', 'heir.py:2']),
    (SSD, 'model = dict(neck=dict(in_channels=(256, 1024), out_channels=(256, 1024, 512, 256, 256, 256)))',
     'model.neck.in_channels', ['gives [512, 1024]', 'write in_channels=[512, 1024]', 'heir.py:2']),
    (SSD, 'model = dict(neck=dict(out_channels=(512, 1024, 512, 256, 256, 128)))', 'model.bbox_head.in_channels',
     ['gives [512, 1024, 512, 256, 256, 128]', 'write in_channels=[512, 1024, 512, 256, 256, 128]']),
    (SSD, 'model = dict(train_cfg=dict(smoothl1_bet=1.))', 'model.train_cfg.smoothl1_bet',
     ["'smoothl1_beta'", 'heir.py:2']),
    (SSD, "data = dict(train=dict(dataset=dict(classes=('a', 'b'))))", 'model.bbox_head.num_classes',
     ['has 2 classes (heir.py:2)', 'num_classes is 80', 'write num_classes=2']),
    (SSD, 'model = dict(bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64, 100])))',
     'model.bbox_head.anchor_generator.ratios', ['SSDAnchorGenerator: 6 ratios for 5 strides; give one a level']),
    (PAA, 'model = dict(neck=dict(out_channels=128))', 'model.bbox_head.in_channels',
     ['is 256, but model.neck.out_channels is 128 (heir.py:2)']),
    (PAA, 'model = dict(neck=dict(num_outs=4))', 'model.bbox_head.anchor_generator.strides',
     ['5 strides, but model.neck.num_outs is 4 (heir.py:2)']),
    (PAA, 'model = dict(bbox_head=dict(score_votin=True))', 'model.bbox_head.score_votin',
     ["'score_voting'", 'heir.py:2']),
])  # yapf: disable
def test_a_head_of_one_stage_states_what_it_takes(tmp_path, monkeypatch, base, text, path, words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path, [*map(str, caught.value.mistakes)]
    assert all(word in str(mistake) for word in words), str(mistake)


CASCADE = MAIN.parents[1] / 'cascade_rcnn/cascade_mask_rcnn_r50_fpn_1x_coco.py'
HEADS = """model = dict(
    roi_head=dict(
        bbox_head=[
            dict(type='Shared2FCBBoxHead', in_channels=256, num_classes=80),
            dict(type='Shared2FCBBoxHead', {}),
            dict(type='Shared2FCBBoxHead', in_channels=256, num_classes=80)
        ]))
"""
STAGE = ("dict(assigner=dict(type='MaxIoUAssigner', {}neg_iou_thr=.5), "
         "sampler=dict(type='RandomSampler', num=512, pos_fraction=.25))")
RCNN = f"""model = dict(
    train_cfg=dict(rcnn=[
        {STAGE.format('pos_iou_thr=.5, ')},
        {STAGE.format('pos_iou=.5, ')},
        {STAGE.format('pos_iou_thr=.5, ')}
    ]))
"""


@pytest.mark.parametrize('text, path, words', [
    (HEADS.format('in_channels=128, num_classes=80'), 'model.roi_head.bbox_head.1.in_channels',
     ['is 128, but model.neck.out_channels is 256', 'write in_channels=256 (heir.py:6)']),
    (HEADS.format('in_channels=256, num_classes=8'), 'model.roi_head.bbox_head.1.num_classes',
     ['has 80 classes', 'num_classes is 8', 'write num_classes=80', '(heir.py:6)']),
    (HEADS.format('in_chanels=256, num_classes=80'), 'model.roi_head.bbox_head.1.in_chanels',
     ["'in_channels'", '(heir.py:6)']),
    (RCNN, 'model.train_cfg.rcnn.1.assigner.pos_iou', ["'pos_iou_thr'", '(heir.py:5)']),
    ('model = dict(neck=dict(out_channels=128), rpn_head=dict(in_channels=128))',
     'model.roi_head.bbox_head.0.in_channels', ['is 256, but model.neck.out_channels is 128 (heir.py:2)']),
    ('model = dict(roi_head=dict(stage_loss_weights=[1, .5]))', 'model.roi_head.stage_loss_weights',
     ['has 2 entries, but model.roi_head.num_stages is 3', 'heir.py:2']),
])  # yapf: disable
def test_a_mistake_in_one_stage_of_a_cascade_is_named(tmp_path, monkeypatch, text, path, words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, CASCADE))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path, [*map(str, caught.value.mistakes)]
    assert all(word in str(mistake) for word in words), str(mistake)


HTC = MAIN.parents[1] / 'htc/htc_r50_fpn_1x_coco.py'
SCORING = MAIN.parents[1] / 'ms_rcnn/ms_rcnn_r50_fpn_1x_coco.py'
WITHOUT_MAPS = """data = dict(train=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])]))
"""


@pytest.mark.parametrize('base, text, path, words', [
    (HTC, 'model = dict(roi_head=dict(semantic_head=dict(in_channels=128)))',
     'model.roi_head.semantic_head.in_channels',
     ['is 128, but model.neck.out_channels is 256', 'write in_channels=256 (heir.py:2)']),
    (HTC, 'model = dict(roi_head=dict(semantic_head=dict(num_ins=4)))', 'model.roi_head.semantic_head.num_ins',
     ['is 4, but model.neck.num_outs is 5 (', 'write num_ins=5 (heir.py:2)']),
    (HTC, 'model = dict(roi_head=dict(semantic_head=dict(fusion_levl=1)))', 'model.roi_head.semantic_head.fusion_levl',
     ["'fusion_level'", 'heir.py:2']),
    (HTC, 'model = dict(roi_head=dict(stage_loss_weights=[1, .5]))', 'model.roi_head.stage_loss_weights',
     ['write one value a stage: 3 of them', 'heir.py:2']),
    (HTC, WITHOUT_MAPS, 'data.train.pipeline.3.keys', ['leaves out gt_semantic_seg', 'heir.py:6']),
    (SCORING, 'model = dict(roi_head=dict(mask_iou_head=dict(in_channels=128)))',
     'model.roi_head.mask_iou_head.in_channels', ['is 128', 'write in_channels=256 (heir.py:2)']),
    (SCORING, 'model = dict(roi_head=dict(mask_iou_head=dict(num_classes=8)))',
     'model.roi_head.mask_iou_head.num_classes', ['has 80 classes', 'write num_classes=80', 'heir.py:2']),
    (SCORING, 'model = dict(train_cfg=dict(rcnn=dict(mask_thr_binry=.5)))', 'model.train_cfg.rcnn.mask_thr_binry',
     ["'mask_thr_binary'", 'heir.py:2']),
])  # yapf: disable
def test_a_mistake_in_a_semantic_or_mask_iou_head_is_named(tmp_path, monkeypatch, base, text, path,
                                                           words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path, [*map(str, caught.value.mistakes)]
    assert all(word in str(mistake) for word in words), str(mistake)


def test_semantic_classes_are_not_those_of_the_boxes(tmp_path, monkeypatch):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, "data = dict(train=dict(classes=('a', 'b')))", HTC))
    heads = [
        f'model.roi_head.{name}_head.{stage}' for name in ('bbox', 'mask') for stage in range(3)
    ]
    assert [mistake.path
            for mistake in caught.value.mistakes] == [f'{head}.num_classes' for head in heads]


def test_a_stride_other_than_that_of_the_semantic_level_is_a_warning(tmp_path, monkeypatch):
    text = 'model = dict(roi_head=dict(semantic_roi_extractor=dict(featmap_strides=[4])))'
    note, = prepare(heir(tmp_path, monkeypatch, text, HTC))[1]
    assert note.startswith('model.roi_head.semantic_roi_extractor.featmap_strides=[4] (heir.py:2)')


def test_strides_other_than_those_of_the_levels_are_told(tmp_path, monkeypatch):
    text = 'model = dict(roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16, 32, 64])))'
    note, = prepare(heir(tmp_path, monkeypatch, text))[1]
    assert note.startswith(
        'model.roi_head.bbox_roi_extractor.featmap_strides=[8, 16, 32, 64] (heir.py:2), but a pixel of '
        'the levels of model.neck is [4, 8, 16, 32, 64] pixels of the image')


def test_levels_that_begin_later_have_other_strides(tmp_path, monkeypatch):
    later = 'model = dict(neck=dict(start_level=1, num_outs=5, add_extra_convs="on_output"){})'
    notes = prepare(heir(tmp_path, monkeypatch, later.format('')))[1]
    assert len(notes) == 3 and all('[8, 16, 32, 64, 128] pixels' in note for note in notes)
    right = (
        ', rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64, 128])), roi_head=dict('
        'bbox_roi_extractor=dict(featmap_strides=[8, 16]), mask_roi_extractor=dict(featmap_strides=[8, 16]))'
    )
    assert prepare(heir(tmp_path, monkeypatch, later.format(right)))[1] == []


@pytest.mark.parametrize('text', [
    "model = dict(neck=dict(in_channels=[1, 512, 1024, 2048], start_level=1, num_outs=5, add_extra_convs='on_input'), "
    'rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64, 128])), roi_head=dict(bbox_roi_extractor=dict('
    'featmap_strides=[8]), mask_roi_extractor=dict(featmap_strides=[8])))',
    'model = dict(roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8])))',
    'model = dict(rpn_head=dict(anchor_generator=dict(strides=[(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)])))',
])
def test_what_fits_or_is_not_known_passes(tmp_path, monkeypatch, text):
    assert prepare(heir(tmp_path, monkeypatch, text))[1] == []


def test_a_part_of_the_users_own_that_says_nothing_passes(tmp_path, monkeypatch):

    class OwnNeck(FPN):

        def forward(self, inputs):
            return tuple(x[:, :256] for x in (*inputs, inputs[-1][..., ::2, ::2]))

    monkeypatch.setitem(MODELS._table, 'OwnNeck', OwnNeck)
    text = "model = dict(neck=dict(type='OwnNeck', in_channels=[1, 2], num_outs=2))"
    assert prepare(heir(tmp_path, monkeypatch, text))[1] == []


def test_what_a_part_of_the_users_own_gives_is_what_the_heads_must_take(tmp_path, monkeypatch):

    class OwnNeck(FPN):

        def forward(self, inputs):
            return tuple(x[:, :64] for x in inputs)

    monkeypatch.setitem(MODELS._table, 'OwnNeck', OwnNeck)
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, "model = dict(neck=dict(type='OwnNeck'))"))
    first = caught.value.mistakes[0]
    assert first.path == 'model.rpn_head.in_channels'
    assert 'is 256, but OwnNeck of model.neck gives 64; write in_channels=64' in str(first)


class OwnHead(BaseModule):

    def __init__(self, width, strides, train_cfg=None, test_cfg=None):
        super().__init__()
        self.width, self.strides = width, strides

    def takes(self):
        return [Takes('width', self.width), Takes('strides', strides=self.strides)]


class OwnDetector(Detector):
    """One that nothing in the package knows."""

    def __init__(self, backbone, neck, own_head):
        super().__init__(backbone, neck)
        self.own_head = MODELS.build(own_head)


@pytest.mark.parametrize('head, path, words', [
    ('width=32, strides=[4, 8, 16, 32, 64]', 'model.own_head.width',
     'is 32, but model.neck.out_channels is 256 ('),
    ('width=256, strides=[8, 16]', 'model.own_head.strides',
     '[8, 16] are 2 strides, but model.neck.num_outs is 5 ('),
])
def test_a_detector_and_head_written_tomorrow_are_named_with_their_line(
        tmp_path, monkeypatch, head, path, words):
    monkeypatch.setitem(MODELS._table, 'OwnHead', OwnHead)
    monkeypatch.setitem(MODELS._table, 'OwnDetector', OwnDetector)
    config = heir(tmp_path, monkeypatch, 'runner = dict(max_epochs=1)')
    model = dict(type='OwnDetector', backbone=config.model.backbone, neck=config.model.neck)
    (tmp_path / 'own.py').write_text(
        f"_base_ = 'heir.py'\nmodel = dict(_delete_=True, **{dict(model)!r},\n"
        f"             own_head=dict(type='OwnHead', {head}))\n")
    with pytest.raises(CheckError) as caught:
        prepare(load_config('own.py'))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path and words in str(mistake) and 'own.py:3' in str(mistake), str(
        mistake)


REGNET = "model = dict(backbone=dict(_delete_=True, type='RegNet', arch='regnetx_3.2gf')"
MOBILENET = "model = dict(backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6))"


@pytest.mark.parametrize('text, given', [
    (f'{REGNET})', [96, 192, 432, 1008]),
    (f'{MOBILENET})', [24, 32, 96, 320]),
    ("model = dict(backbone=dict(_delete_=True, type='ResNeXt', depth=50, groups=32, base_width=4, "
     'base_channels=32))', [128, 256, 512, 1024]),
])  # yapf: disable
def test_any_backbone_is_asked(tmp_path, monkeypatch, text, given):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text))
    assert f'write in_channels={given}' in str(caught.value.mistakes[0])
    right = f'{text[:-1]}, neck=dict(in_channels={given}))'
    assert prepare(heir(tmp_path, monkeypatch, right))[1] == []


def test_a_head_of_a_classifier_against_its_backbone(tmp_path, monkeypatch):
    main = MAIN.parents[1] / 'cifar10/resnet50_ft.py'
    (tmp_path / 'mine.py').write_text(f"_base_ = '{main}'\nmodel = dict(backbone=dict(depth=18))\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckError) as caught:
        prepare(load_config('mine.py'))
    mistake, = caught.value.mistakes
    assert mistake.path == 'model.head.in_channels'
    assert 'is 2048, but ResNet of model.backbone gives 512; write in_channels=512' in str(mistake)
