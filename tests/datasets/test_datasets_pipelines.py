"""Each transform against an independent formula."""
import contextlib
import copy

import cv2
import mmcv
import numpy as np
import pytest
import torch

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.classification.mnist import MNIST
from mmdet_ft.datasets.images.decoding import is_cut_off
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.pipelines.shared.color import DeferredNormalize, Normalize
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.formatting import (Collect, DefaultFormatBundle,
                                                           DeferredImage, ImageToTensor, ToTensor,
                                                           Transpose, defer_to_collate, to_tensor)
from mmdet_ft.datasets.pipelines.shared.loading import (LoadAnnotations, LoadImageFromFile,
                                                        LoadProposals)
from mmdet_ft.datasets.pipelines.shared.resize_flip import DeferredFlip, Pad, RandomFlip, Resize
from mmdet_ft.datasets.pipelines.shared.views import MultiScaleFlipAug
from mmdet_ft.ops.normalize import normalize_images
from .conftest import NORM, train_pipeline

BOXES = np.array([[1, 2, 11, 22], [5.5, 0, 39.5, 29]], dtype=np.float32)


def sample(height=30, width=40, seed=0):
    """What the loading transforms would have made."""
    rng = np.random.default_rng(seed)
    img = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.zeros((2, height, width), dtype=np.uint8)
    masks[0, 2:22, 1:11] = 1
    masks[1, 0:29, 6:39] = 1
    return dict(
        img=img,
        img_fields=['img'],
        img_shape=img.shape,
        ori_shape=img.shape,
        filename='a.png',
        ori_filename='a.png',
        gt_bboxes=BOXES.copy(),
        gt_labels=np.array([1, 0]),
        gt_masks=BitmapMasks(masks, height, width),
        gt_semantic_seg=rng.integers(0, 5, (height, width), dtype=np.uint8),
        bbox_fields=['gt_bboxes'],
        mask_fields=['gt_masks'],
        seg_fields=['gt_semantic_seg'])


# Resize
def test_resize_keeps_the_ratio_and_fits_into_the_scale():
    before = sample()
    after = Resize(img_scale=(100, 60))(copy.deepcopy(before))
    assert after['img'].shape == after['img_shape'] == after['pad_shape'] == (
        60, 80, 3)  # 2 = min(100/40, 60/30)
    np.testing.assert_array_equal(
        after['img'], cv2.resize(before['img'], (80, 60), interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(after['scale_factor'], np.float32([2, 2, 2, 2]))
    assert after['scale_factor'].dtype == np.float32 and after['keep_ratio']
    np.testing.assert_allclose(after['gt_bboxes'], BOXES * 2)
    np.testing.assert_array_equal(
        after['gt_masks'].masks[0],
        cv2.resize(before['gt_masks'].masks[0], (80, 60), interpolation=cv2.INTER_NEAREST))
    np.testing.assert_array_equal(
        after['gt_semantic_seg'],
        cv2.resize(before['gt_semantic_seg'], (80, 60), interpolation=cv2.INTER_NEAREST))


def test_resize_scale_factors_are_those_of_the_rounded_size():
    after = Resize(img_scale=(67, 50))(sample(30, 41))
    assert after['img'].shape[:2] == (49, 67)  # 30 * 67 / 41 = 49.02
    np.testing.assert_array_equal(after['scale_factor'],
                                  np.float32([67 / 41, 49 / 30, 67 / 41, 49 / 30]))
    assert after['gt_bboxes'].dtype == np.float32


def test_resize_without_ratio_stretches_to_width_and_height():
    after = Resize(img_scale=(80, 90), keep_ratio=False)(sample())
    assert after['img'].shape == (90, 80, 3)
    np.testing.assert_allclose(after['gt_bboxes'], BOXES * [2, 3, 2, 3])
    assert after['gt_masks'].masks.shape == (2, 90, 80) and not after['keep_ratio']


def test_resize_clips_boxes_unless_told_otherwise():
    for clip, right in ((True, 80), (False, 90)):
        before = sample()
        before['gt_bboxes'][1, 2] = 45
        assert Resize(img_scale=(80, 60), bbox_clip_border=clip)(before)['gt_bboxes'][1, 2] == right


def test_resize_by_range_draws_long_and_short_side():
    resize = Resize(img_scale=[(100, 60), (50, 30)], multiscale_mode='range')
    drawn = []
    for _ in range(200):
        drawn.append(resize(sample())['scale'])
    longs, shorts = zip(*drawn)
    assert (min(longs), max(longs)) == (50, 100) and (min(shorts), max(shorts)) == (30, 60)


def test_resize_by_value_draws_one_of_the_scales():
    scales = [(100, 60), (50, 30), (44, 33)]
    resize = Resize(img_scale=scales, multiscale_mode='value')
    results = [resize(sample()) for _ in range(60)]
    assert {result['scale'] for result in results} == set(scales)
    assert all(scales[result['scale_idx']] == result['scale'] for result in results)


def test_resize_by_ratio_draws_a_factor():
    resize = Resize(img_scale=(100, 60), ratio_range=(0.5, 2.0))
    scales = [resize(sample())['scale'] for _ in range(200)]
    assert all(50 <= long <= 200 and 30 <= short <= 120 for long, short in scales)
    assert min(scales)[0] < 60 and max(scales)[0] > 180


def test_resize_draws_what_numpy_draws():
    np.random.seed(3)
    expected = int(np.random.randint(50, 101)), int(np.random.randint(30, 61))
    np.random.seed(3)
    assert Resize(img_scale=[(100, 60), (50, 30)])(sample())['scale'] == expected


def test_resize_twice_needs_override():
    once = Resize(img_scale=(80, 60))(sample())
    with pytest.raises(ValueError, match='override=True'):
        Resize(img_scale=(80, 60))(once)
    assert Resize(img_scale=(120, 90), override=True)(once)['img'].shape == (90, 120, 3)


def test_resize_takes_lists_of_json_configs():
    assert Resize(img_scale=[1333, 800]).img_scale == [(1333, 800)]
    assert Resize(img_scale=[[1333, 800], [1333, 640]]).img_scale == [(1333, 800), (1333, 640)]


@pytest.mark.parametrize('arguments', [
    dict(img_scale=800),
    dict(img_scale=(1, 2), ratio_range=(2, 1)),
    dict(img_scale=[(1, 2), (3, 4)], ratio_range=(1, 2)),
    dict(img_scale=(1, 2), multiscale_mode='values'),
    dict(img_scale=[(1, 2), (3, 4), (5, 6)]),
])
def test_resize_refuses_what_makes_no_sense(arguments):
    with pytest.raises((ValueError, TypeError), match='img_scale|ratio_range|multiscale_mode'):
        Resize(**arguments)


# RandomFlip
@pytest.mark.parametrize('direction,axes', [('horizontal', 1), ('vertical', 0),
                                            ('diagonal', (0, 1))])
def test_flip_mirrors_everything(direction, axes):
    before = sample()
    after = RandomFlip(flip_ratio=1.0, direction=direction)(copy.deepcopy(before))
    assert after['flip'] and after['flip_direction'] == direction
    np.testing.assert_array_equal(after['img'], np.flip(before['img'], axes))
    np.testing.assert_array_equal(after['gt_semantic_seg'], np.flip(before['gt_semantic_seg'],
                                                                    axes))
    np.testing.assert_array_equal(after['gt_masks'].masks[1],
                                  np.flip(before['gt_masks'].masks[1], axes))
    x1, y1, x2, y2 = BOXES.T
    if direction != 'vertical':
        x1, x2 = 40 - x2, 40 - x1
    if direction != 'horizontal':
        y1, y2 = 30 - y2, 30 - y1
    np.testing.assert_array_equal(after['gt_bboxes'], np.stack([x1, y1, x2, y2], axis=1))


def directions_drawn(transform, number=400):
    return [
        transform(dict(img=np.zeros((2, 2, 3), np.uint8), img_shape=(2, 2, 3)))['flip_direction']
        for _ in range(number)
    ]


def test_flip_ratios_are_probabilities():
    assert set(directions_drawn(RandomFlip(flip_ratio=0.0), 20)) == {None}
    drawn = directions_drawn(RandomFlip(flip_ratio=0.5))
    assert 140 < drawn.count('horizontal') < 260 and drawn.count(
        None) == 400 - drawn.count('horizontal')
    drawn = directions_drawn(RandomFlip(flip_ratio=0.8, direction=['horizontal', 'vertical']))
    assert 110 < drawn.count('horizontal') < 210 and 110 < drawn.count('vertical') < 210
    drawn = directions_drawn(
        RandomFlip(flip_ratio=[0.1, 0.0, 0.9], direction=['horizontal', 'vertical', 'diagonal']))
    assert drawn.count('diagonal') > 320 and drawn.count('vertical') == drawn.count(None) == 0


def test_flip_obeys_the_sample():
    flip = RandomFlip(flip_ratio=0.0)
    after = flip(dict(sample(), flip=True, flip_direction='vertical'))
    np.testing.assert_array_equal(after['img'], sample()['img'][::-1])


@pytest.mark.parametrize('arguments', [
    dict(flip_ratio=1.5),
    dict(flip_ratio=[0.6, 0.6], direction=['horizontal', 'vertical']),
    dict(flip_ratio=[0.5], direction=['horizontal', 'vertical']),
    dict(flip_ratio=0.5, direction='sideways'),
    dict(flip_ratio='half'),
])
def test_flip_refuses_what_makes_no_sense(arguments):
    with pytest.raises(ValueError, match='RandomFlip'):
        RandomFlip(**arguments)


# Pad
def test_pad_to_multiples_fills_image_masks_and_maps():
    before = sample()
    after = Pad(
        size_divisor=32, pad_val=dict(img=(7, 7, 7), masks=0, seg=250))(
            copy.deepcopy(before))
    assert after['img'].shape == after['pad_shape'] == (32, 64, 3) and after['img_shape'] == (30,
                                                                                              40, 3)
    np.testing.assert_array_equal(after['img'][:30, :40], before['img'])
    assert (after['img'][30:] == 7).all() and (after['img'][:, 40:] == 7).all()
    assert after['gt_masks'].masks.shape == (2, 32, 64)
    assert (after['gt_semantic_seg'][30:] == 250).all()
    np.testing.assert_array_equal(after['gt_bboxes'], BOXES)
    assert (after['pad_size_divisor'], after['pad_fixed_size']) == (32, None)


def test_a_single_pad_value_fills_the_first_channel_as_in_v2():
    after = Pad(size_divisor=32, pad_val=dict(img=7))(sample())
    assert after['img'][31, 63].tolist() == [7, 0, 0]


def test_pad_to_a_size_and_to_a_square():
    assert Pad(size=(50, 60))(sample())['img'].shape == (50, 60, 3)
    square = Pad(pad_to_square=True)
    assert square(sample(30, 40))['img'].shape == (40, 40, 3)
    assert square(sample(50, 40))['img'].shape == (50, 50, 3)
    with pytest.raises(ValueError, match='one of'):
        Pad(size=(1, 1), size_divisor=2)
    with pytest.warns(DeprecationWarning):
        assert Pad(size_divisor=2, pad_val=3).pad_val == dict(img=3, masks=3, seg=255)


# Normalize
def test_normalize_is_the_plain_formula():
    before = sample()
    after = Normalize(**NORM)(copy.deepcopy(before))
    expected = (before['img'][..., ::-1].astype(np.float64) - NORM['mean']) / NORM['std']
    np.testing.assert_allclose(after['img'], expected, atol=1e-6)
    assert after['img'].dtype == np.float32 and after['img_norm_cfg']['to_rgb'] is True
    after = Normalize(mean=[1, 2, 3], std=[1, 1, 1], to_rgb=False)(copy.deepcopy(before))
    np.testing.assert_array_equal(after['img'], before['img'] - np.float32([1, 2, 3]))


# Formatting
def test_images_become_planes():
    img = sample()['img']
    for view in (img, img[:, ::-1], img[..., :1], img[..., 0], img.astype(np.float32),
                 img.astype(np.int16)):
        planes = ImageToTensor(keys=['img'])(dict(img=view))['img']
        expected = view[..., None] if view.ndim == 2 else view
        np.testing.assert_array_equal(planes.numpy(), expected.transpose(2, 0, 1))
        assert planes.is_contiguous()


def test_default_bundle_makes_tensors_and_float_images():
    after = DefaultFormatBundle()(sample())
    assert after['img'].dtype == torch.float32 and after['img'].shape == (3, 30, 40)
    assert after['gt_bboxes'].dtype == torch.float32 and after['gt_labels'].dtype == torch.int64
    assert after['gt_semantic_seg'].shape == (1, 30, 40) and isinstance(
        after['gt_masks'], BitmapMasks)
    assert after['scale_factor'] == 1.0 and after['pad_shape'] == (30, 40, 3)
    assert DefaultFormatBundle(img_to_float=False)(sample())['img'].dtype == torch.uint8


def test_small_formatters():
    assert Transpose(['img'], (2, 0, 1))(sample())['img'].shape == (3, 30, 40)
    assert torch.equal(ToTensor(['x'])(dict(x=[1, 2]))['x'], torch.tensor([1, 2]))
    assert to_tensor(3).dtype == torch.int64 and to_tensor(3.).dtype == torch.float32
    with pytest.raises(TypeError):
        to_tensor('3')


def test_collect_takes_keys_and_metas_and_names_what_is_missing():
    data = Collect(keys=['gt_labels'])(DefaultFormatBundle()(sample()))
    assert set(data) == {'gt_labels', 'img_metas'}
    assert set(data['img_metas']) == {
        'filename', 'ori_filename', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip',
        'flip_direction', 'img_norm_cfg'
    }
    assert data['img_metas']['flip'] is False
    without = sample()
    del without['gt_masks']
    with pytest.raises(KeyError, match='with_mask=True'):
        Collect(keys=['gt_masks'], meta_keys=())(without)


# The deferred normalisation
def end_of_pipeline(*changes):
    steps = [
        dict(type='Normalize', **NORM),
        dict(type='Pad', size_divisor=32),
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])
    ]
    for change in changes:
        change(steps)
    return Compose(steps)


def kinds(pipeline):
    return [type(step).__name__ for step in pipeline.transforms]


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('test', [True, False])
def test_deferred_normalisation_gives_the_same_numbers(to_rgb, test):
    norm = dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], to_rgb=to_rgb)
    formatter = dict(
        type='ImageToTensor', keys=['img']) if test else dict(type='DefaultFormatBundle')
    steps = [dict(type='Normalize', **norm), dict(type='Pad', size_divisor=32), formatter,
             dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])]  # yapf: disable
    late, early = Compose(steps), Compose(steps)
    early.transforms[0] = Normalize(**norm)
    assert kinds(late)[0] == 'DeferredNormalize'

    def to_batch(pipeline):
        samples = [pipeline(sample()), pipeline(sample(50, 33, seed=1))]
        for item in samples:
            item['gt_bboxes'], item['gt_labels'] = to_tensor(item['gt_bboxes']), to_tensor(
                item['gt_labels'])
        return collate(samples)

    late, early = to_batch(late), to_batch(early)
    assert late.images.dtype == torch.uint8 and early.images.dtype == torch.float32
    assert early.mean is None and late.mean.shape == (2, 3)
    normalised = (late.images.float() - late.mean[..., None, None]) / late.std[..., None, None]
    for image, (height, width) in zip(normalised, late.sizes.int().tolist()):
        image[:, height:] = 0
        image[:, :, width:] = 0
    torch.testing.assert_close(normalised, early.images, atol=1e-6, rtol=1e-6)
    assert late.metas[0]['img_norm_cfg']['to_rgb'] is to_rgb
    assert torch.equal(late.pad_sizes, early.pad_sizes) and late.pad_sizes.tolist() == [[32, 64],
                                                                                        [64, 64]]


class Brighter:
    """A user's transform."""

    def __call__(self, results):
        results['img'] = results['img'] + 1
        return results


@pytest.mark.parametrize('change', [
    lambda steps: steps.insert(1, Brighter()),
    lambda steps: steps.insert(3, Brighter()),
    lambda steps: steps[1].update(pad_val=dict(img=114)),
    lambda steps: steps[2].update(pad_val=dict(img=114)),
    lambda steps: steps.pop(2),
    lambda steps: steps.pop(3),
    lambda steps: steps.insert(2, dict(type='ToTensor', keys=['img'])),
    lambda steps: steps.insert(1, dict(type='Resize', img_scale=(80, 60))),
])
def test_normalisation_stays_where_the_numbers_would_change(change):
    assert kinds(end_of_pipeline(change))[0] == 'Normalize'


def test_images_that_are_not_bytes_are_normalised_on_the_host():
    pipeline = end_of_pipeline()
    assert isinstance(pipeline.transforms[0], DeferredNormalize)
    data = pipeline(dict(sample(), img=sample()['img'].astype(np.float32)))
    assert data['img'].dtype == torch.float32 and 'img_mean' not in data
    assert data['img'].mean().abs() < 2
    mixed = collate([data, pipeline(sample())])  # a transform that makes only some images float
    assert mixed.images.dtype == torch.float32 and mixed.mean is None
    torch.testing.assert_close(mixed.images[0], mixed.images[1])


def test_padding_before_normalize_is_normalised_too():
    pad = dict(type='Pad', size_divisor=32, pad_val=dict(img=(9, 9, 9)))
    pipeline = end_of_pipeline(lambda steps: steps.insert(0, pad))
    data = pipeline(sample(40, 33))
    _, height, width = data['img'].shape
    assert (height, width) == (64, 64) and data['img_metas']['img_shape'][:2] == (40, 33)
    batch = collate([data])
    expected = (9 - torch.tensor(NORM['mean'])) / torch.tensor(NORM['std'])
    images = normalize_images(batch)[0]
    for index in (images[:, 50, 5], images[:, 5, 50]):
        torch.testing.assert_close(index, expected, atol=1e-5, rtol=1e-5)
    full = collate([data, pipeline(sample(64, 64))])  # one that needs no padding beside it
    assert full.mean is None
    torch.testing.assert_close(full.images[0], images)


def flipped_batch(direction, kind, change=lambda img: img, late=False, bucket=1):
    """Two images of other sizes, mirrored by the RandomFlip that was written or by one that is put off."""
    pipeline = end_of_pipeline(
        lambda steps: steps.insert(0, dict(type='RandomFlip', flip_ratio=1., direction=direction)),
        lambda steps: steps.insert(-1, dict(type='ToTensor', keys=['img'])))  # changes nothing
    assert kinds(pipeline)[:2] == ['DeferredFlip', 'DeferredNormalize']
    pipeline.transforms[0] = kind(1., direction)
    with defer_to_collate() if late else contextlib.nullcontext():
        samples = [
            pipeline(dict(sample(*size), img=change(sample(*size)['img'])))
            for size in ((700, 500), (33, 1024))
        ]  # the first one is larger than a block
    assert isinstance(samples[0]['img'], DeferredImage if late else torch.Tensor)
    return collate(samples, bucket)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('late, bucket', [(False, 1), (True, 1), (True, 50)])
def test_an_image_mirrored_late_or_written_in_the_batch_is_the_same(direction, late, bucket):
    expected = flipped_batch(direction, RandomFlip, bucket=bucket)
    found = flipped_batch(direction, DeferredFlip, late=late, bucket=bucket)
    assert found.images.dtype == torch.uint8 and torch.equal(found.images, expected.images)
    assert torch.equal(found.gt.boxes, expected.gt.boxes)
    assert torch.equal(found.pad_sizes, expected.pad_sizes)


def test_an_image_that_is_not_bytes_is_mirrored_on_the_host():
    found, expected = (
        flipped_batch('diagonal', kind, lambda img: img.astype(np.float32))
        for kind in (DeferredFlip, RandomFlip))
    assert found.images.dtype == torch.float32 and torch.equal(found.images, expected.images)


def test_late_images_beside_others_are_normalised_on_the_host():
    pipeline = end_of_pipeline()
    with defer_to_collate():
        samples = [pipeline(sample()), pipeline(dict(sample(), img=sample()['img'].astype('f4')))]
    images = collate(samples).images
    torch.testing.assert_close(images[0], images[1])


# Loading
def raw(folder, name='7.png', **more):
    return dict(
        img_info=dict(filename=name, id=7, height=48, width=64),
        img_prefix=str(folder),
        ann_file='annotations.json',
        bbox_fields=[],
        mask_fields=[],
        seg_fields=[],
        **more)


def test_images_are_read_as_mmcv_reads_them(coco_folder):
    expected = mmcv.imread(str(coco_folder / '7.png'))
    results = LoadImageFromFile()(raw(coco_folder))
    np.testing.assert_array_equal(results['img'], expected)
    assert results['img_shape'] == results['ori_shape'] == (48, 64,
                                                            3) and results['img_fields'] == ['img']
    assert results['ori_filename'] == '7.png' and results['filename'] == str(coco_folder / '7.png')
    assert LoadImageFromFile(to_float32=True)(raw(coco_folder))['img'].dtype == np.float32
    assert LoadImageFromFile(color_type='grayscale')(raw(coco_folder))['img'].shape == (48, 64)
    np.testing.assert_array_equal(
        LoadImageFromFile(channel_order='rgb')(raw(coco_folder))['img'], expected[..., ::-1])


def test_missing_and_broken_images_are_named(coco_folder):
    with pytest.raises(FileNotFoundError, match=r'none\.png.*image id 7.*annotations\.json'):
        LoadImageFromFile()(raw(coco_folder, 'none.png'))
    for content in (b'', b'not an image'):
        (coco_folder / 'broken.png').write_bytes(content)
        with pytest.raises(ValueError, match=r'broken\.png.*image id 7.*annotations\.json'):
            LoadImageFromFile()(raw(coco_folder, 'broken.png'))


def test_a_jpeg_that_ends_too_early_is_told_from_one_with_something_behind_it():
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    whole = cv2.imencode('.jpg', picture)[1].tobytes()
    thumbnail = cv2.imencode('.jpg', picture[:8, :8])[1].tobytes()
    with_thumbnail = whole[:2] + b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(
        2, 'big') + thumbnail + whole[2:]
    film = bytes(range(200)) + b'\xff\xda'
    for content in (whole, with_thumbnail, whole + film, with_thumbnail + film, b'', b'no picture'):
        assert not is_cut_off(content)
    for content in (whole[:-2], whole[:len(whole) // 2], with_thumbnail[:-200]):
        assert is_cut_off(content)


def annotations(masks):
    return dict(
        bboxes=BOXES[:len(masks)],
        labels=np.arange(len(masks)),
        bboxes_ignore=np.zeros((0, 4), np.float32),
        masks=masks,
        seg_map='x.png')


def test_annotations_of_mixed_forms_are_drawn(coco_folder, coco_content):
    forms = [
        annotation['segmentation'] for annotation in coco_content['annotations']
        if annotation['image_id'] == 3
    ]
    info = dict(
        raw(coco_folder),
        ann_info=annotations(forms),
        img_info=dict(filename='3.png', width=48, height=64))
    results = LoadAnnotations(with_mask=True)(copy.deepcopy(info))
    assert isinstance(results['gt_masks'], BitmapMasks) and len(results['gt_masks']) == 2
    assert results['mask_fields'] == ['gt_masks'] and results['bbox_fields'] == [
        'gt_bboxes_ignore', 'gt_bboxes'
    ]
    mixed = LoadAnnotations(with_mask=True, poly2mask=False)(copy.deepcopy(info))['gt_masks']
    np.testing.assert_array_equal(mixed.to_ndarray(), results['gt_masks'].masks)
    info['ann_info'] = annotations(forms[:1])
    assert isinstance(
        LoadAnnotations(with_mask=True, poly2mask=False)(info)['gt_masks'], PolygonMasks)


def test_instances_without_masks_are_refused(coco_folder):
    for masks in ([None], [[]]):
        with pytest.raises(ValueError, match='with_mask=False'):
            LoadAnnotations(with_mask=True)(dict(raw(coco_folder), ann_info=annotations(masks)))


def test_semantic_maps_proposals_and_relative_boxes(coco_folder):
    cv2.imwrite(str(coco_folder / 'x.png'), np.full((48, 64), 3, np.uint8))
    info = dict(raw(coco_folder), ann_info=annotations([]), seg_prefix=str(coco_folder))
    assert (LoadAnnotations(with_seg=True)(info)['gt_semantic_seg'] == 3).all()
    relative = dict(
        raw(coco_folder),
        img_shape=(48, 64, 3),
        ann_info=dict(bboxes=np.float32([[0, .25, .5, 1]]), labels=np.array([0])))
    np.testing.assert_array_equal(
        LoadAnnotations(denorm_bbox=True)(relative)['gt_bboxes'], [[0, 12, 32, 48]])
    results = LoadProposals(2)(dict(proposals=np.ones((3, 5)), bbox_fields=[]))
    assert results['proposals'].shape == (2, 4) and results['bbox_fields'] == ['proposals']


# Views at test time
def test_views_are_scales_times_flips(coco_folder):
    pipeline = Compose([
        dict(type='LoadImageFromFile'),
        dict(
            type='MultiScaleFlipAug',
            img_scale=[(64, 48), (128, 96)],
            flip=True,
            flip_direction=['horizontal', 'diagonal'],
            transforms=[
                dict(type='Resize', keep_ratio=True),
                dict(type='RandomFlip'),
                dict(type='Normalize', **NORM),
                dict(type='Pad', size_divisor=32),
                dict(type='ImageToTensor', keys=['img']),
                dict(type='Collect', keys=['img'])
            ])
    ])
    data = pipeline(raw(coco_folder))
    metas = data['img_metas']
    assert [(meta['img_shape'][0], meta['flip_direction'])
            for meta in metas] == [(48, None), (48, 'horizontal'), (48, 'diagonal'), (96, None),
                                   (96, 'horizontal'), (96, 'diagonal')]
    first, mirrored = data['img'][0][:, :48, :64], data['img'][1][:, :48, :64]
    assert torch.equal(first.flip(2), mirrored) and torch.equal(
        first.flip(1, 2), data['img'][2][:, :48, :64])
    batches = collate([data, data])
    assert isinstance(batches, tuple) and len(batches) == 6
    assert batches[3].images.shape == (2, 3, 96, 128) and batches[3].gt is None
    assert batches[3].scale_factors.tolist() == [[2, 2, 2, 2]] * 2 and batches[3].mean is not None


def test_views_by_factor(coco_folder):
    steps = [
        dict(type='Resize'),
        dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])
    ]
    view = MultiScaleFlipAug(transforms=steps, scale_factor=[0.5, 2.0])
    data = view(LoadImageFromFile()(raw(coco_folder)))
    assert [tuple(img.shape) for img in data['img']] == [(3, 24, 32), (3, 96, 128)]
    with pytest.raises(ValueError, match='one of'):
        MultiScaleFlipAug(transforms=steps)


def test_a_users_transform_of_v2_results_works_among_ours(coco_dataset):

    class DropFirst:

        def __call__(self, results):
            keep = np.arange(len(results['gt_bboxes'])) > 0
            for key in ('gt_bboxes', 'gt_labels', 'gt_masks'):
                results[key] = results[key][keep]
            results['gt_bboxes'] = results['gt_masks'].get_bboxes()
            return results

    steps = train_pipeline(flip=1.0)
    steps.insert(4, DropFirst())
    data = coco_dataset(steps)[1]
    assert len(data['gt_bboxes']) == len(data['gt_masks']) == 1


def test_none_ends_a_pipeline():
    assert Compose([lambda results: None, lambda results: 1 / 0])({}) is None


class Forgetful:
    """A transform without `return results`."""

    def __call__(self, results):
        pass


@pytest.mark.parametrize('steps', [[Forgetful()], [Compose([Forgetful()])]])
def test_a_transform_that_returns_none_is_named_where_no_other_image_stands_in(coco_dataset, steps):
    dataset = coco_dataset(steps)
    dataset.test_mode = True
    with pytest.raises(CheckError, match='Forgetful has returned None for .*return results'):
        dataset[0]
    views = MultiScaleFlipAug(transforms=steps, img_scale=(9, 9))
    with pytest.raises(CheckError, match="Forgetful has returned None for a view of 'a.png'"):
        views(dict(filename='a.png'))
    pictures = MNIST.__new__(MNIST)
    pictures.pipeline, pictures.data_infos = Compose(steps), [dict()]
    with pytest.raises(CheckError, match='Forgetful has returned None for sample 0'):
        pictures[0]


def test_a_transform_that_returns_something_else_is_told():
    with pytest.raises(CheckError, match='Normalize got a ndarray from the transform before it'):
        Compose([lambda results: results['img'],
                 dict(type='Normalize', mean=[0], std=[1])])(
                     dict(img=np.zeros((2, 2, 3))))


def test_compose_refuses_what_is_no_transform():
    with pytest.raises(TypeError, match='transform'):
        Compose([3])
    with pytest.raises(TypeError, match='list'):
        Compose(dict(type='Pad'))
