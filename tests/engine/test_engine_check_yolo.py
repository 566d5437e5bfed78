"""What the parts of YOLO detectors take is compared with what they get, before anything is built."""
import pytest

from mmdet_ft.config import CheckError
from mmdet_ft.engine.config_check.check import prepare
from tests.engine.test_engine_check import MAIN, heir

YOLOX = MAIN.parents[1] / 'yolox/yolox_tiny_8x8_300e_coco.py'
YOLOV3 = MAIN.parents[1] / 'yolo/yolov3_d53_320_273e_coco.py'


@pytest.mark.parametrize('base, text, path, words', [
    (YOLOV3, 'model = dict(neck=dict(in_channels=[256, 512, 1024]))', 'model.neck.in_channels',
     ['is [256, 512, 1024], but Darknet of model.backbone gives [1024, 512, 256]',
      'write in_channels=[1024, 512, 256]', 'heir.py:2']),
    (YOLOV3, 'model = dict(neck=dict(out_channels=[512, 256, 64]))', 'model.bbox_head.in_channels',
     ['is [512, 256, 128], but YOLOV3Neck of model.neck gives [512, 256, 64]', 'write in_channels=[512, 256, 64]']),
    (YOLOV3, "data = dict(train=dict(classes=('a', 'b')))", 'model.bbox_head.num_classes',
     ['has 2 classes (heir.py:2)', 'num_classes is 80', 'write num_classes=2']),
    (YOLOV3, 'model = dict(test_cfg=dict(conf_thresh=.1))', 'model.test_cfg.conf_thresh',
     ["'conf_thr'", 'heir.py:2']),
    (YOLOV3, 'model = dict(train_cfg=dict(assigner=dict(pos_iou=.5)))', 'model.train_cfg.assigner.pos_iou',
     ["'pos_iou_thr'"]),
    (YOLOV3, 'model = dict(train_cfg=None)', 'model.train_cfg.assigner', ['YOLOV3 is trained by it']),
    (YOLOV3, 'model = dict(bbox_head=dict(loss_con=1))', 'model.bbox_head.loss_con', ["'loss_conf'", 'heir.py:2']),
    (YOLOX, 'model = dict(backbone=dict(widen_factor=.5))', 'model.neck.in_channels',
     ['is [96, 192, 384], but CSPDarknet of model.backbone gives [128, 256, 512]',
      'write in_channels=[128, 256, 512]']),
    (YOLOX, 'model = dict(neck=dict(out_channels=64))', 'model.bbox_head.in_channels',
     ['is 96, but model.neck.out_channels is 64 (heir.py:2)', 'write in_channels=64']),
    (YOLOX, 'model = dict(bbox_head=dict(strides=[8, 16]))', 'model.bbox_head.strides',
     ['[8, 16] are 2 strides', 'strides=[8, 16, 32] (heir.py:2)']),
    # its custom_hooks are without NumClassCheckHook
    (YOLOX, "data = dict(train=dict(dataset=dict(classes=('a', 'b'))))", 'model.bbox_head.num_classes',
     ['has 2 classes (heir.py:2)', 'write num_classes=2']),
    (YOLOX, 'model = dict(test_cfg=dict(score_thresh=.1))', 'model.test_cfg.score_thresh', ["'score_thr'"]),
    (YOLOX, 'model = dict(train_cfg=dict(assigner=dict(centre_radius=2)))', 'model.train_cfg.assigner.centre_radius',
     ["'center_radius'"]),
    (YOLOX, 'model = dict(random_size_rang=(1, 2))', 'model.random_size_rang', ["'random_size_range'"]),
    (YOLOX, 'lr_config = dict(num_last_epoch=3)', 'lr_config.num_last_epoch', ["'num_last_epochs'"]),
])  # yapf: disable
def test_what_does_not_fit_is_named_with_what_to_write(tmp_path, monkeypatch, base, text, path,
                                                       words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    mistake = caught.value.mistakes[0]
    assert mistake.path == path, [*map(str, caught.value.mistakes)]
    assert all(word in str(mistake) for word in words), str(mistake)


@pytest.mark.parametrize('argument', ['featmap_strides', 'anchor_generator.strides'])
def test_strides_in_the_order_of_the_image_are_a_warning(tmp_path, monkeypatch, argument):
    value = 'strides=[8, 16, 32]'
    text = f'featmap_{value}' if argument == 'featmap_strides' else f'anchor_generator=dict({value})'
    note, = prepare(heir(tmp_path, monkeypatch, f'model = dict(bbox_head=dict({text}))', YOLOV3))[1]
    assert note.startswith(
        f'model.bbox_head.{argument}=[8, 16, 32] (heir.py:2), but a pixel of the '
        'levels of model.neck is [32, 16, 8] pixels of the image')
