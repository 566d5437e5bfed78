"""Exported models give what inference_detector gives, for any batch and image size."""
import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch

from mmdet_ft.apis import inference_detector
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.deploy import Classifier, Detector
from mmdet_ft.deploy.export import proof
from mmdet_ft.deploy.export.layers import layers_of
from mmdet_ft.deploy.export.writing import ExportSettings, export, read_input_format
from mmdet_ft.deploy.preparation import prepare, read_image
from mmdet_ft.errors import UserError
from mmdet_ft.registry import MODELS
from tests.deploy.helpers import (CLASSIFIER_PIPELINE, DETECTOR_PIPELINE, classifier, detector,
                                  images, with_config, write)
from tests.models.test_export import BACKBONES

SIZES = (96, 128), (60, 200), (96, 128), (300, 310), (70, 40)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """Return the file of a Faster R-CNN."""
    return write(detector(False), tmp_path_factory.mktemp('file') / 'm.onnx')


def assert_proven(model, path, pictures, batch_size=2):
    found = proof.compare(model, path, pictures, batch_size=batch_size)
    proof.require_agreement(model, path, pictures, found, proof.Tolerance())
    return found.total


@pytest.mark.parametrize('settings', [
    dict(), dict(prepares=False), dict(pastes=True), dict(prepares=False, pastes=True), dict(opset=20)
], ids=str)  # yapf: disable
def test_mask_rcnn_gives_the_same_boxes_and_masks(tmp_path, settings):
    model = detector()
    path = write(model, tmp_path / 'm.onnx', **settings)
    total = assert_proven(model, path, images(*SIZES))
    assert total.found > 50 and total.boxes < 1e-4
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert domains == {''}


@pytest.mark.parametrize('changes', [
    dict(rpn_head=dict(loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False))),
    dict(test_cfg=dict(rcnn=dict(score_thr=.1, nms=dict(type='nms', iou_threshold=.5, class_agnostic=True),
                                 max_per_img=7))),
    dict(test_cfg=dict(rpn=dict(nms_pre=20, max_per_img=15, nms=dict(type='nms', iou_threshold=.5, offset=1),
                                min_bbox_size=4))),
    dict(backbone=dict(depth=50, dcn=dict(type='DCNv2', deform_groups=2), stage_with_dcn=(False, False, False, True)),
         neck=dict(in_channels=[32, 64, 128, 256])),
    dict(rpn_head=dict(anchor_generator=dict(type='TorchvisionAnchorGenerator', scales=[8], ratios=[.5, 1., 2.],
                                             strides=[4, 8, 16, 32, 64]))),
], ids=['softmax', 'agnostic', 'few', 'dcn', 'torchvision'])  # yapf: disable
def test_faster_rcnn_of_other_settings_gives_the_same_boxes(tmp_path, changes):
    model = detector(False, **changes)
    if 'backbone' in changes:
        for name, weight in model.named_parameters():
            if 'conv_offset' in name:
                torch.nn.init.normal_(weight, std=.3)
    path = write(model, tmp_path / 'm.onnx')
    assert assert_proven(model, path, images(*SIZES)).found > 10


def test_an_image_without_detections_gives_empty_lists(tmp_path):
    model = detector(
        test_cfg=dict(
            rcnn=dict(score_thr=1., nms=dict(type='nms', iou_threshold=.5), max_per_img=9)))
    run = Detector(write(model, tmp_path / 'm.onnx'))
    boxes, masks = run(images((50, 60))[0])
    assert [rows.shape for rows in boxes] == [(0, 5)] * 3 and masks == [[], [], []]


@pytest.mark.parametrize('config', BACKBONES, ids=lambda config: config['type'])
def test_classifiers_of_every_backbone_give_the_same_scores(tmp_path, config):
    with torch.no_grad():
        last = MODELS.build(dict(config)).eval()(torch.zeros(1, 3, 32, 32))[-1]
    model = classifier(config, last.shape[1])
    path = write(model, tmp_path / 'm.onnx', shape=(32, 32))
    assert_proven(model, path, images((48, 64), (100, 50), (32, 32)))


def test_metadata_tell_classes_thresholds_and_config(tmp_path):
    model = detector()
    path = str(tmp_path / 'm.onnx')
    export(model, path, read_input_format(model, DETECTOR_PIPELINE), config='model = dict()')
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata['classes']) == ['a', 'b', 'c']
    assert metadata['config'] == 'model = dict()'
    facts = json.loads(metadata['mmdet_ft'])
    assert facts['thresholds'] == dict(score_thr=.05, nms_iou_threshold=.5, max_per_img=20)
    assert facts['mean'] == [123.675, 116.28, 103.53] and facts['divisor'] == 32


@pytest.mark.parametrize('layer', ['neck.lateral_convs.1.conv', 'roi_head.mask_head.conv_logits'])
def test_a_changed_weight_is_refused_with_the_name_of_its_layer(tmp_path, layer):
    model = detector()
    path = write(model, tmp_path / 'm.onnx')
    file = onnx.load(path)
    assert layer in {found.name for found in layers_of(file)}
    weight = next(one for one in file.graph.initializer if one.name == f'model.{layer}.weight')
    values = onnx.numpy_helper.to_array(weight).copy()
    values += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(file, path)
    with pytest.raises(UserError, match=f'the first layer that differs is {layer}:'):
        assert_proven(model, path, images((96, 128)))


def test_a_moved_box_a_missing_one_and_another_mask_do_not_agree(tmp_path):
    model = detector()
    run = Detector(write(model, tmp_path / 'm.onnx'))
    picture = images((96, 128))[0]
    boxes, masks = inference_detector(model, picture)
    label = max(range(3), key=lambda label: len(boxes[label]))
    limits = proof.Tolerance()

    def is_within(change):
        other = [rows.copy() for rows in boxes], [[mask.copy() for mask in of_class]
                                                  for of_class in masks]
        change(*other)
        return proof.agreement((boxes, masks), other, run, limits, 'one').is_within(limits)

    assert is_within(lambda boxes, masks: None)
    assert not is_within(lambda boxes, masks: boxes[label].__setitem__(
        (0, 0), boxes[label][0, 0] + .01))
    assert not is_within(lambda boxes, masks: boxes[label].__setitem__(
        (0, 4), boxes[label][0, 4] + .01))
    assert not is_within(lambda boxes, masks: masks[label][0].__setitem__(slice(0, 9), True))
    assert not is_within(lambda boxes, masks:
                         (boxes.__setitem__(label, boxes[label][1:]), masks[label].pop(0)))


@pytest.mark.parametrize('pipeline, text', [
    ([dict(type='LoadImageFromFile', to_float32=True)], 'to_float32'),
    ([dict(type='Pad', size=(64, 64))], 'size_divisor'),
    ([dict(type='Corrupt', corruption='blur')], 'Corrupt has no export form'),
    ([dict(type='MultiScaleFlipAug', img_scale=[(9, 9), (8, 8)], transforms=[])], 'one view'),
])
def test_what_a_file_cannot_carry_is_refused(pipeline, text):
    with pytest.raises(UserError, match=text):
        read_input_format(detector(False), pipeline)


def test_soft_nms_is_refused_with_the_line_to_write(tmp_path):
    soft = dict(
        rcnn=dict(score_thr=.05, nms=dict(type='soft_nms', iou_threshold=.4), max_per_img=9))
    with pytest.raises(UserError, match=r"nms=dict\(type='nms', iou_threshold=0.4\)"):
        write(detector(False, test_cfg=soft), tmp_path / 'm.onnx')
    assert not list(tmp_path.iterdir())


def test_an_unknown_opset_is_refused(tmp_path):
    with pytest.raises(UserError, match='opset 11'):
        write(detector(False), tmp_path / 'm.onnx', opset=11)


@pytest.mark.parametrize('steps', [
    [dict(type='Resize', size=40), dict(type='CenterCrop', crop_size=(24, 30))],
    [dict(type='Resize', size=(40, -1), adaptive_side='long'), dict(type='CenterCrop', crop_size=99)],
    [dict(type='CenterCrop', crop_size=32, efficientnet_style=True, interpolation='bicubic')],
    [dict(type='Resize', size=(30, 50), interpolation='area')],
    [dict(type='Resize', size=(30, 50), backend='pillow', interpolation='bicubic')],
    [dict(type='Resize', img_scale=(77, 33), keep_ratio=False)],
    [dict(type='Resize', img_scale=(77, 33), keep_ratio=True)],
], ids=str)  # yapf: disable
def test_images_are_prepared_as_by_the_pipeline(steps):
    model = with_config(detector(False), CLASSIFIER_PIPELINE, ('a', ))
    facts = read_input_format(model, steps, ExportSettings())
    for picture in images((64, 48), (33, 90), (7, 200)):
        about = dict(img_shape=picture.shape, ori_shape=picture.shape, img_fields=['img'])
        expected = Compose([dict(step) for step in steps])(dict(img=picture, **about))['img']
        assert np.array_equal(prepare(read_image(picture, 'one'), facts).pixels, expected)


def test_grey_images_are_one_channel(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=4),
                              head=dict(type='ClsHead')))  # yapf: disable
    pipeline = [
        dict(type='Resize', size=32),
        dict(type='Normalize', mean=[33.], std=[78.]),
    ]
    model = with_config(model, pipeline, tuple('abcd'))
    run = Classifier(write(model, tmp_path / 'm.onnx', shape=(32, 32)))
    picture = images((40, 36))[0][..., 0]
    resized = cv2.resize(picture, (32, 32))
    with torch.no_grad():
        logits = model.logits(torch.from_numpy((resized.astype(np.float32) - 33) / 78)[None, None])
    np.testing.assert_allclose(run(picture), model.head.scores(logits)[0].numpy(), atol=1e-5)
    best = run.best(picture)
    assert best['pred_class'] == 'abcd'[best['pred_label']]


@pytest.mark.parametrize(
    'image, text', [
        (None, 'NoneType'),
        ('no such.jpg', 'there is no image'),
        (np.zeros((3, 8, 9), np.uint8), r'\[3, 8, 9\]'),
        (np.zeros((0, 9, 3), np.uint8), r'\[0, 9, 3\]'),
        (np.full((8, 9, 3), .5), '0..255'),
        (np.full((8, 9, 3), np.nan), '0..255'),
        (np.zeros((80, 90, 3), np.uint8), 'more than 1000'),
    ],
    ids=str)
def test_what_is_no_image_is_refused(path, image, text):
    run = Detector(path, max_pixels=1000)
    with pytest.raises(UserError, match=text):
        run(image)


def test_broken_files_and_other_files_are_refused(tmp_path, path):
    (tmp_path / 'broken.onnx').write_bytes(b'no model')
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(UserError, match='there is no file'):
        Detector(tmp_path / 'none.onnx')
    with pytest.raises(UserError, match='cannot be run'):
        Detector(tmp_path / 'broken.onnx')
    with pytest.raises(UserError, match='open it with mmdet_ft.deploy.Detector'):
        Classifier(path)
    with pytest.raises(UserError, match='cannot be decoded'):
        Detector(path)(str(tmp_path / 'broken.jpg'))
    file = onnx.load(path)
    del file.metadata_props[:]
    onnx.save(file, tmp_path / 'foreign.onnx')
    with pytest.raises(UserError, match='was not written by'):
        Detector(tmp_path / 'foreign.onnx')


def test_a_file_runs_without_torch(tmp_path, path):
    picture = images((50, 60))[0]
    cv2.imwrite(str(tmp_path / 'image.png'), picture)
    blocked = [
        'torch', 'torchvision', 'mmcv', 'mmengine', 'pycocotools', 'onnx', 'PIL', 'rich',
        'matplotlib'
    ]
    code = ('import sys\n'
            f'sys.modules.update(dict.fromkeys({blocked!r}))\n'
            'from mmdet_ft.deploy import Detector\n'
            f'found = Detector({path!r})({str(tmp_path / "image.png")!r})\n'
            'print(sum(map(len, found)))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(map(len, inference_detector(detector(False), picture))) > 0


def test_without_onnxruntime_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='pip install'):
        Detector('m.onnx')


def test_without_onnx_one_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(UserError, match='pip install'):
        write(detector(False), tmp_path / 'm.onnx')
