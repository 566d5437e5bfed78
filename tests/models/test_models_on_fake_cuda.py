"""Models on a GPU that computes nothing: no operation may mix its tensors with those of the host, or wait for numbers
of the host."""
import pytest
import torch

from mmdet_ft.models import anchors
from mmdet_ft.models.classifiers import mixing
from mmdet_ft.models.roi_heads import regions, standard_roi_head
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, ClassTruth
from tests.fake_cuda import HostWork, fake_cuda, fake_cuda_works, on_fake_cuda
from tests.models.test_v2_parts import KINDS
from tests.models.tiny import tiny_batch, tiny_config

pytestmark = fake_cuda_works
NUM_POSITIVES = 13


class CountOnHost:
    """In the place of HostCopy: the one number that a step reads."""

    def __init__(self, value, device):
        assert value.is_cuda and device.type == 'cuda'

    def read(self):
        return NUM_POSITIVES


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    for module in (regions, standard_roi_head):
        monkeypatch.setattr(module, 'HostCopy', CountOnHost)
    monkeypatch.setattr(anchors, '_is_plain', lambda tensor: True)  # kept from the first call
    # has no fake kernel
    monkeypatch.setattr(mixing._BetaAugment, 'draw', lambda _, device: torch.rand(
        (), device=device))
    # else autocast finds no GPU, and does nothing
    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *arguments: True)


def changed(**changes):
    """A tiny detector's config with other values at dotted paths."""
    config = tiny_config(changes.pop('with_mask', True))
    for path, value in changes.items():
        *parents, key = path.split('__')
        part = config
        for parent in parents:
            part = part[parent]
        if isinstance(value, dict) and isinstance(part.get(key), dict):
            part[key].update(value)
        else:
            part[key] = value
    return config


GROUP_NORM = dict(type='GN', num_groups=4)
DETECTORS = dict(
    mask_rcnn=changed,
    faster_rcnn=lambda: changed(with_mask=False),
    caffe=lambda: changed(
        backbone=dict(depth=50, style='caffe', norm_eval=True),
        neck=dict(in_channels=[32, 64, 128, 256])),
    group_norm=lambda: changed(
        backbone=dict(norm_cfg=GROUP_NORM, frozen_stages=-1),
        neck=dict(norm_cfg=GROUP_NORM),
        roi_head__bbox_head=dict(
            type='Shared4Conv1FCBBoxHead', conv_out_channels=16, norm_cfg=GROUP_NORM),
        roi_head__mask_head=dict(norm_cfg=GROUP_NORM)),
    decoded=lambda: changed(
        rpn_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=1.)),
        roi_head__bbox_head=dict(
            reg_decoded_bbox=True,
            reg_class_agnostic=True,
            loss_bbox=dict(type='CIoULoss', loss_weight=1.)),
        roi_head__mask_head=dict(class_agnostic=True)),
    softmax=lambda: changed(
        rpn_head=dict(loss_cls=dict(type='CrossEntropyLoss')),
        roi_head__bbox_head=dict(
            loss_cls=dict(type='CrossEntropyLoss', class_weight=[1., 2., 3., 4.]))),
    legacy=lambda: changed(
        rpn_head=dict(
            bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder', target_stds=[.1, .1, .2, .2]))),
    ignored=lambda: changed(train_cfg__rpn__assigner=dict(ignore_iof_thr=.5)),
    weighed=lambda: changed(
        train_cfg__rpn=dict(pos_weight=2.), train_cfg__rcnn=dict(pos_weight=2.)),
    **KINDS)


def batch_of(objects=(2, 0, 3)):
    """With regions to ignore, and images that travel as uint8."""
    batch = tiny_batch(objects)
    number = len(objects)
    gt = batch.gt._replace(
        ignore=torch.ones(number, 8, 4), ignore_valid=torch.ones(number, 8, dtype=torch.bool))
    return batch._replace(
        images=batch.images.byte(), mean=torch.ones(number, 3), std=torch.ones(number, 3), gt=gt)


def run(model, batch, dtype, is_training=True):
    """What a model gives, and what the host had to do with it: anchors apart, which are made
    once."""
    with fake_cuda(), torch.autocast(
            'cuda', dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False):
        model, batch = on_fake_cuda(model.train(is_training)), on_fake_cuda(batch)
        with torch.set_grad_enabled(is_training):
            model(batch)
            with HostWork() as host:
                return model(batch), host.seen


PRECISIONS = [('mask_rcnn', None), ('mask_rcnn', torch.float16), ('c4', torch.float16),
              *((kind, torch.bfloat16) for kind in DETECTORS)]


@pytest.mark.parametrize('kind, dtype', PRECISIONS)
def test_a_detector_needs_nothing_of_the_host(kind, dtype):
    model = MODELS.build(DETECTORS[kind]())
    losses, seen = run(model, batch_of(), dtype)
    assert not seen, seen
    for name, value in {**losses.terms, **losses.metrics}.items():
        assert value.is_cuda and value.dtype == torch.float32 and value.shape == (), name
    detections, seen = run(model, batch_of(), dtype, is_training=False)
    assert not seen, seen
    assert all(field is None or field.is_cuda for field in detections)
    assert detections.scores.dtype == detections.boxes.dtype == torch.float32


def test_views_of_an_image_are_merged_on_the_gpu():
    plain = tiny_batch((2, 1))
    flipped = plain._replace(metas=[dict(meta, flip=True, flip_direction='horizontal')
                                    for meta in plain.metas])  # yapf: disable
    detections, seen = run(MODELS.build(tiny_config()), (plain, flipped), None, is_training=False)
    assert not seen and detections.masks.is_cuda


def head(**settings):
    return dict(
        type='LinearClsHead', in_channels=512, num_classes=5, topk=(1, 5), cal_acc=True, **settings)


MIXED = dict(augments=[
    dict(type='BatchMixup', alpha=.2, num_classes=5, prob=.5),
    dict(type='BatchCutMix', alpha=1., num_classes=5, prob=.5)
])  # yapf: disable
RESNET = dict(
    backbone=dict(type='ResNet_CIFAR', depth=18, num_stages=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'))
CLASSIFIERS = dict(
    resnet=dict(**RESNET, head=head(loss=dict(type='CrossEntropyLoss', class_weight=[1.] * 5))),
    smoothed=dict(**RESNET, head=head(loss=dict(type='LabelSmoothLoss', label_smooth_val=.1))),
    mixed=dict(
        **RESNET, head=head(loss=dict(type='CrossEntropyLoss', use_soft=True)), train_cfg=MIXED),
    sigmoid=dict(
        **RESNET,
        head=head(loss=dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[1.] * 5))),
    mobilenet=dict(
        backbone=dict(type='MobileNetV2', widen_factor=.5),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(head(), in_channels=1280)),
    lenet=dict(
        backbone=dict(type='LeNet5', num_classes=5), head=dict(type='ClsHead', cal_acc=True)),
)


@pytest.mark.parametrize('kind', CLASSIFIERS)
def test_a_classifier_needs_nothing_of_the_host(kind):
    channels, number = 1 if kind == 'lenet' else 3, 4
    batch = Batch(
        torch.zeros(number, channels, 32, 32, dtype=torch.uint8),
        *(torch.full((number, 2), 32.) for _ in range(2)),
        torch.ones(number, 4), [{}] * number,
        mean=torch.ones(number, channels),
        std=torch.ones(number, channels),
        gt=ClassTruth(torch.zeros(number, dtype=torch.long)))
    model = MODELS.build(dict(type='ImageClassifier', **CLASSIFIERS[kind]))
    for is_training in (True, False):
        result, seen = run(model, batch, torch.bfloat16, is_training)
        assert not seen, seen
    assert result.scores.is_cuda and result.scores.dtype == torch.float32
