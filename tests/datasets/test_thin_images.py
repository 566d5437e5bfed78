"""Strips, and images of a pixel: no side becomes 0, and boxes, masks and factors stay those of the image."""
import random

import numpy as np
import pytest

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.registry import PIPELINES
from tests.datasets.test_transforms_move_together import ALL, moved_by

SHAPES = [(2, 700), (700, 2), (1, 1), (1, 300), (3, 2)]


def strip(height, width, objects=True, polygons=False):
    img = np.random.RandomState(0).randint(0, 255, (height, width, 3)).astype(np.uint8)
    sample = dict(img=img, img_fields=['img'], img_shape=img.shape, ori_shape=img.shape, filename='strip.png',
                  ori_filename='strip.png', bbox_fields=[], mask_fields=[], seg_fields=[])  # yapf: disable
    if objects:
        full = np.ones((1, height, width), dtype=np.uint8)
        part = [[np.array([0, 0, width, 0, width, height, 0, height], dtype=np.float64)]]
        sample.update(
            gt_bboxes=np.array([[0, 0, width, height]], dtype=np.float32),
            gt_labels=np.array([0]),
            gt_masks=PolygonMasks(part, height, width) if polygons else BitmapMasks(
                full, height, width),
            gt_semantic_seg=full[0],
            bbox_fields=['gt_bboxes'],
            mask_fields=['gt_masks'],
            seg_fields=['gt_semantic_seg'])
    return sample


@pytest.mark.parametrize('arguments', [
    dict(img_scale=(192, 128)), dict(img_scale=(64, 32), ratio_range=(.01, .2)),
    dict(img_scale=(64, 32), keep_ratio=False), dict(img_scale=[(64, 32), (32, 20)], multiscale_mode='value')
])  # yapf: disable
@pytest.mark.parametrize('height, width', [(6, 9000), (9000, 6), (1, 1)])
def test_a_resized_strip_has_a_pixel_at_least(arguments, height, width):
    for seed in range(3):
        np.random.seed(seed)
        results = PIPELINES.build(dict(type='Resize', **arguments))(
            strip(height, width, polygons=seed == 1))
        shape = results['img'].shape
        assert min(shape[:2]) >= 1 and results['img_shape'] == shape
        np.testing.assert_allclose(
            results['scale_factor'], [shape[1] / width, shape[0] / height] * 2, rtol=1e-6)
        np.testing.assert_allclose(results['gt_bboxes'], [[0, 0, shape[1], shape[0]]], rtol=1e-5)
        masks = results['gt_masks']
        assert (masks.height, masks.width) == shape[:2] == results['gt_semantic_seg'].shape
        assert masks.to_ndarray().all()


def test_the_size_of_a_strip():
    resized = PIPELINES.build(dict(type='Resize', img_scale=(192, 128)))(strip(6, 9000))
    assert resized['img'].shape == (1, 192, 3)
    np.testing.assert_allclose(resized['scale_factor'], [192 / 9000, 1 / 6, 192 / 9000, 1 / 6])
    assert resized['gt_bboxes'].tolist() == [[0, 0, 192, 1]]


@pytest.mark.parametrize('height, width', SHAPES)
def test_every_transform_takes_strips(height, width):
    for name, arguments in ALL:
        moves = moved_by(PIPELINES.get(name, arguments), arguments)
        transform = PIPELINES.build(dict(type=name, **arguments))
        for seed in range(3):
            sample = strip(height, width, objects=moves != ('img', ))
            if name in ('RandomAffine', 'RandomCenterCropPad', 'Mosaic', 'MixUp'):
                sample.update(mask_fields=[], seg_fields=[])
                others = [strip(2, 500), strip(500, 2), strip(1, 1)][:3 if name == 'Mosaic' else 1]
                for other in others:
                    other.update(mask_fields=[], seg_fields=[])
                for item in (sample, *others):
                    item.pop('gt_masks'), item.pop('gt_semantic_seg')
                sample['mix_results'] = others
            if name == 'CopyPaste':  # of images of one size
                sample['mix_results'] = [strip(height, width)]
                for item in (sample, *sample['mix_results']):
                    item.update(seg_fields=[])
                    item.pop('gt_semantic_seg')
            if name == 'RandomCenterCropPad':
                sample['img'] = sample['img'].astype(np.float32)
            random.seed(seed)
            np.random.seed(seed)
            try:
                results = transform(sample)
            except DataError as error:  # with a sentence about it
                assert {
                    'RandomCrop': 'resize it first',
                    'RandomAffine': 'leaves nothing'
                }[name] in str(error)
                continue
            if results is not None:
                assert min(results['img'].shape[:2]) >= 1, (name, arguments)
                assert np.isfinite(results.get('gt_bboxes', [0])).all()


@pytest.mark.parametrize('height, width', [(6, 9000), (9000, 6), (1, 1)])
@pytest.mark.parametrize('views',
                         [dict(img_scale=[(192, 128), (64, 64)]),
                          dict(scale_factor=[.1, .01])])
def test_a_test_takes_strips(height, width, views):
    pipeline = Compose([dict(
        type='MultiScaleFlipAug', flip=True, **views, transforms=[
            dict(type='Resize'), dict(type='RandomFlip'), dict(type='Normalize', mean=[0] * 3, std=[1] * 3),
            dict(type='Pad', size_divisor=32), dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img'])])])  # yapf: disable
    data = pipeline(strip(height, width, objects=False))
    for img, metas in zip(data['img'], data['img_metas']):
        assert img.shape[1] % 32 == img.shape[2] % 32 == 0 and min(img.shape) > 0
        shape = metas['img_shape']
        np.testing.assert_allclose(
            metas['scale_factor'], [shape[1] / width, shape[0] / height] * 2, rtol=1e-6)


def test_an_image_too_long_for_opencv_is_named():
    for step in (dict(type='Rotate', level=5, prob=1.), dict(type='Shear', level=5, prob=1.),
                 dict(type='Translate', level=5, prob=1.), dict(type='RandomAffine')):  # yapf: disable
        sample = strip(1, 33000)
        if step['type'] == 'RandomAffine':
            sample.update(mask_fields=[], seg_fields=[], gt_masks=None, gt_semantic_seg=None)
        with pytest.raises(DataError, match='at most 32766 pixels a side .* found 1 x 33000'):
            PIPELINES.build(step)(sample)


@pytest.mark.parametrize('scale', [(0, 100), (100, -1), [(64, 64), (0, 3)], ('a', 3)])
def test_a_scale_without_pixels_is_refused(scale):
    with pytest.raises(ValueError, match='1 at least'):
        PIPELINES.build(dict(type='Resize', img_scale=scale))
