"""Transforms with random draws: the same draws, told once more in plain loops."""
import copy
import random
import sys

import cv2
import mmcv
import numpy as np
import pytest

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.pipelines.detection.affine import Expand, RandomAffine, RandomShift
from mmdet_ft.datasets.pipelines.detection.copy_paste import CopyPaste
from mmdet_ft.datasets.pipelines.detection.crop import (MinIoURandomCrop, RandomCenterCropPad,
                                                        RandomCrop)
from mmdet_ft.datasets.pipelines.detection.mix import MixUp, Mosaic
from mmdet_ft.datasets.pipelines.shared.albu import Albu
from mmdet_ft.datasets.pipelines.shared.color import (Corrupt, CutOut, PhotoMetricDistortion,
                                                      YOLOXHSVRandomAug)
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.resize_flip import SegRescale
from .conftest import NORM

HEIGHT, WIDTH = 40, 50


def sample(number=4, seed=0, polygons=False, height=HEIGHT, width=WIDTH):
    """Objects whose every pixel tells whose it is: object i is painted with the colour 10 * (i + 1) in the image, i + 1
    in the segmentation map and 1 in its mask; its label is i. Later ones do not overlap earlier ones."""
    rng = np.random.default_rng(seed)
    img = rng.integers(100, 256, (height, width, 3), dtype=np.uint8)
    seg = np.zeros((height, width), dtype=np.uint8)
    cells = [(x, y) for x in (1, 26) for y in (1, 21)][:number]
    boxes, masks, parts = [], [], []
    for index, (x, y) in enumerate(cells):
        x1, y1 = x + int(rng.integers(0, 8)), y + int(rng.integers(0, 6))
        x2, y2 = x1 + int(rng.integers(4, 14)), y1 + int(rng.integers(4, 11))
        boxes.append([x1, y1, x2, y2])
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[y1:y2, x1:x2] = 1
        masks.append(mask)
        parts.append([np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)])
        img[y1:y2, x1:x2] = 10 * (index + 1)
        seg[y1:y2, x1:x2] = index + 1
    made = PolygonMasks(parts, height, width) if polygons else BitmapMasks(
        np.array(masks, dtype=np.uint8).reshape(-1, height, width), height, width)
    return dict(
        img=img,
        img_fields=['img'],
        img_shape=img.shape,
        ori_shape=img.shape,
        filename=f'{seed}.png',
        ori_filename=f'{seed}.png',
        gt_bboxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        gt_labels=np.arange(len(boxes)),
        gt_bboxes_ignore=np.array([[0, 30, 10, 39], [30, 0, 49, 6]], dtype=np.float32),
        gt_masks=made,
        gt_semantic_seg=seg,
        bbox_fields=['gt_bboxes_ignore', 'gt_bboxes'],
        mask_fields=['gt_masks'],
        seg_fields=['gt_semantic_seg'])


def seeded(transform, results, seed):
    random.seed(seed)  # the loader seeds both
    np.random.seed(seed)
    return transform(copy.deepcopy(results))


def check_objects(results):
    """Image, map, boxes, labels and masks still tell the same story (nothing scaled them)."""
    height, width = results['img'].shape[:2]
    assert results['img_shape'] == results['img'].shape
    assert results['gt_semantic_seg'].shape == (height, width)
    assert len(results['gt_bboxes']) == len(results['gt_labels']) == len(results['gt_masks'])
    assert (results['gt_masks'].height, results['gt_masks'].width) == (height, width)
    for box, label, mask in zip(results['gt_bboxes'], results['gt_labels'],
                                results['gt_masks'].to_ndarray()):
        painted = (results['img'] == 10 * (label + 1)).all(axis=2)
        np.testing.assert_array_equal(painted, results['gt_semantic_seg'] == label + 1)
        np.testing.assert_array_equal(painted, mask.astype(bool))
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        np.testing.assert_allclose(
            box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1e-5)


def labels_seen(results, least=1):
    """Objects of which at least so many pixels are to be seen."""
    return [
        label for label in range(4)
        if ((results['img'] == 10 * (label + 1)).all(axis=2)).sum() >= least
    ]


# RandomCrop
@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('arguments', [
    dict(crop_size=(15, 20)),
    dict(crop_size=(8, 30), crop_type='absolute_range'),
    dict(crop_size=(.4, .5), crop_type='relative'),
    dict(crop_size=(.2, .3), crop_type='relative_range'),
])
def test_random_crop_keeps_exactly_the_objects_that_are_seen(arguments, polygons):
    before = sample(polygons=polygons)
    for seed in range(25):
        after = seeded(RandomCrop(**arguments, allow_negative_crop=True), before, seed)
        check_objects(after)
        assert after['gt_labels'].tolist() == labels_seen(after)


def test_random_crop_draws_height_width_top_left_in_this_order():
    before = sample()
    for seed in range(10):
        np.random.seed(seed)
        height, width = np.random.randint(8, 31), np.random.randint(8, 31)
        top = np.random.randint(0, HEIGHT - height + 1)
        left = np.random.randint(0, WIDTH - width + 1)
        crop = RandomCrop((8, 30), 'absolute_range', allow_negative_crop=True)
        after = seeded(crop, before, seed)
        np.testing.assert_array_equal(after['img'], before['img'][top:top + height,
                                                                  left:left + width])
        expected = []
        for box in before['gt_bboxes_ignore']:
            x1, x2 = (min(max(x - left, 0), width) for x in box[0::2])
            y1, y2 = (min(max(y - top, 0), height) for y in box[1::2])
            if x2 > x1 and y2 > y1:
                expected.append([x1, y1, x2, y2])
        np.testing.assert_array_equal(after['gt_bboxes_ignore'], np.reshape(expected, (-1, 4)))


def test_random_crop_rounds_relative_sizes_to_the_nearest_pixel():
    after = seeded(RandomCrop((.51, .33), 'relative', allow_negative_crop=True), sample(), 0)
    assert after['img'].shape[:2] == (20, 17)  # 20.4, 16.5
    np.random.seed(4)
    shares = np.float32([.2, .3]) + np.random.rand(2) * (1 - np.float32([.2, .3]))
    after = seeded(RandomCrop((.2, .3), 'relative_range', allow_negative_crop=True), sample(), 4)
    assert after['img'].shape[:2] == (int(HEIGHT * shares[0] + .5), int(WIDTH * shares[1] + .5))


def test_random_crop_larger_than_the_image_changes_nothing():
    before = sample()
    after = seeded(RandomCrop((100, 200)), before, 0)
    np.testing.assert_array_equal(after['img'], before['img'])
    np.testing.assert_array_equal(after['gt_bboxes'], before['gt_bboxes'])
    check_objects(after)


def test_random_crop_without_objects_is_given_up_unless_allowed():
    empty = sample(0)
    assert seeded(RandomCrop((10, 10)), empty, 0) is None
    after = seeded(RandomCrop((10, 12), allow_negative_crop=True), empty, 0)
    assert after['gt_bboxes'].shape == (0, 4) and len(after['gt_masks']) == 0
    assert (after['gt_masks'].height, after['gt_masks'].width) == (10, 12)


def test_random_crop_recomputes_boxes_from_masks():
    before = sample()
    before['gt_bboxes'] += np.float32([-1, -1, 1, 1])  # wider than their masks
    seen = 0
    for seed in range(20):
        after = seeded(RandomCrop((25, 25), recompute_bbox=True), before, seed)
        for box, mask in zip(after['gt_bboxes'], after['gt_masks'].to_ndarray()):
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                np.testing.assert_array_equal(box,
                                              [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                seen += 1
    assert seen > 10


def test_random_crop_without_clipping_leaves_boxes_whole():
    before = sample()
    after = seeded(RandomCrop((12, 12), bbox_clip_border=False), before, 1)
    sizes = after['gt_bboxes'][:, 2:] - after['gt_bboxes'][:, :2]
    np.testing.assert_array_equal(sizes, (before['gt_bboxes'][:, 2:] - before['gt_bboxes'][:, :2]))
    assert len(after['gt_masks']) == 4


@pytest.mark.parametrize('arguments', [
    dict(crop_size=(10, 10), crop_type='relativ'),
    dict(crop_size=10),
    dict(crop_size=(.5, .5)),
    dict(crop_size=(0, 3)),
    dict(crop_size=(1.5, .5), crop_type='relative'),
    dict(crop_size=(30, 10), crop_type='absolute_range'),
])
def test_random_crop_refuses_what_makes_no_sense(arguments):
    with pytest.raises(ValueError, match='crop_size|crop_type'):
        RandomCrop(**arguments)


# MinIoURandomCrop
def iou(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return common / (sum(areas) - common)


def crop_of_ssd(results, seed, min_ious=(.1, .3, .5, .7, .9), min_crop_size=.3):
    """The patch by the paper's rule; None for the whole image."""
    np.random.seed(seed)
    boxes = [*results['gt_bboxes_ignore'].tolist(), *results['gt_bboxes'].tolist()]
    while True:
        least = np.random.choice((1, *min_ious, 0))
        if least == 1:
            return None
        for _ in range(50):
            width = np.random.uniform(min_crop_size * WIDTH, WIDTH)
            height = np.random.uniform(min_crop_size * HEIGHT, HEIGHT)
            if height / width < .5 or height / width > 2:
                continue
            left, top = np.random.uniform(WIDTH - width), np.random.uniform(HEIGHT - height)
            patch = [int(left), int(top), int(left + width), int(top + height)]
            if boxes and min(iou(patch, box) for box in boxes) < least:
                continue
            if boxes and not any(is_inside(box, patch) for box in boxes):
                continue
            return patch


def is_inside(box, patch):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return patch[0] < x < patch[2] and patch[1] < y < patch[3]


@pytest.mark.parametrize('polygons', [False, True])
def test_min_iou_crop_follows_ssd(polygons):
    before = sample(polygons=polygons)
    before['gt_bboxes_ignore'] = before['gt_bboxes_ignore'][:0]
    whole = 0
    for seed in range(40):
        after = seeded(MinIoURandomCrop(min_ious=(.02, .05)), before, seed)
        patch = crop_of_ssd(before, seed, (.02, .05))
        if patch is None:
            whole += 1
            patch = [0, 0, WIDTH, HEIGHT]
        np.testing.assert_array_equal(after['img'], before['img'][patch[1]:patch[3],
                                                                  patch[0]:patch[2]])
        expected = [label for label, box in enumerate(before['gt_bboxes']) if is_inside(box, patch)]
        assert after['gt_labels'].tolist() == expected
        check_objects(after)
    assert 0 < whole < 40


def test_min_iou_crop_drops_ignored_boxes_by_their_middle_too():
    before = sample()
    for seed in range(20):
        after = seeded(MinIoURandomCrop(min_ious=(), min_crop_size=.6), before, seed)
        patch = crop_of_ssd(before, seed, (), .6) or [0, 0, WIDTH, HEIGHT]
        expected = [[
            max(box[0], patch[0]) - patch[0],
            max(box[1], patch[1]) - patch[1],
            min(box[2], patch[2]) - patch[0],
            min(box[3], patch[3]) - patch[1]
        ] for box in before['gt_bboxes_ignore'] if is_inside(box, patch)]
        np.testing.assert_array_equal(after['gt_bboxes_ignore'], np.reshape(expected, (-1, 4)))


def test_min_iou_crop_takes_any_patch_of_an_image_without_objects():
    before = sample(0)
    before['gt_bboxes_ignore'] = before['gt_bboxes_ignore'][:0]
    shapes = {seeded(MinIoURandomCrop(), before, seed)['img'].shape for seed in range(10)}
    assert len(shapes) > 5
    check_objects(seeded(MinIoURandomCrop(), before, 3))


# RandomCenterCropPad
MEAN = dict(mean=[1, 2, 3], std=[1, 1, 1], to_rgb=True)


def test_center_crop_moves_boxes_with_their_pixels():
    before = sample()
    before.update(mask_fields=[], seg_fields=[], img=before['img'].astype(np.float32))
    crop = RandomCenterCropPad(
        crop_size=(60, 30), ratios=(.8, 1.2), border=16, test_pad_mode=None, **MEAN)
    for seed in range(20):
        after = seeded(crop, before, seed)
        assert after['img'].shape in ((48, 24, 3), (72, 36, 3)) and len(after['gt_bboxes'])
        for box, label in zip(after['gt_bboxes'].astype(int), after['gt_labels']):
            assert (after['img'][box[1]:box[3], box[0]:box[2]] == 10 * (label + 1)).all()
        outside = (after['img'] == [3, 2, 1]).all(axis=2)  # BGR
        assert outside[0].all() or after['img'].shape[0] == 48


def test_center_crop_gives_up_what_no_centre_shows():
    before = sample(1)
    before.update(mask_fields=[], seg_fields=[], img=before['img'].astype(np.float32))
    before['gt_bboxes'] = np.array([[-30, -30, -20, -20]], dtype=np.float32)
    crop = RandomCenterCropPad(crop_size=(20, 20), test_pad_mode=None, border=8, **MEAN)
    assert seeded(crop, before, 0) is None


@pytest.mark.parametrize('arguments, word', [
    (dict(crop_size=(2, 2), test_pad_mode=None), 'mean'),
    (dict(crop_size=(2, 2), **MEAN), 'test_pad_mode=None'),
    (dict(test_pad_mode=None, **MEAN), 'crop_size'),
    (dict(test_mode=True, **MEAN), 'ratios=None'),
])
def test_center_crop_refuses_what_makes_no_sense(arguments, word):
    with pytest.raises(ValueError, match=word):
        RandomCenterCropPad(**arguments)


# Expand
@pytest.mark.parametrize('polygons', [False, True])
def test_expand_lays_the_image_onto_a_canvas_of_the_mean(polygons):
    before = sample(polygons=polygons)
    expand = Expand(mean=(30.9, 20.5, 10.1), ratio_range=(1, 3), seg_ignore_label=255, prob=1)
    for seed in range(10):
        np.random.seed(seed)
        np.random.uniform(0, 1)
        ratio = np.random.uniform(1, 3)
        left = int(np.random.uniform(0, WIDTH * ratio - WIDTH))
        top = int(np.random.uniform(0, HEIGHT * ratio - HEIGHT))
        after = seeded(expand, before, seed)
        assert after['img'].shape == (int(HEIGHT * ratio), int(WIDTH * ratio), 3)
        outside = np.ones(after['img'].shape[:2], dtype=bool)
        outside[top:top + HEIGHT, left:left + WIDTH] = False
        assert (after['img'][outside] == [10, 20, 30]).all()  # BGR, whole numbers
        assert (after['gt_semantic_seg'][outside] == 255).all()
        np.testing.assert_array_equal(after['gt_bboxes_ignore'],
                                      before['gt_bboxes_ignore'] + [left, top, left, top])
        check_objects(after)


def test_expand_happens_with_its_probability():
    before = sample()
    grown = [
        seeded(Expand(prob=.3, seg_ignore_label=255), before, seed)['img'].shape[0] > HEIGHT
        for seed in range(300)
    ]
    assert 60 < sum(grown) < 120


def test_expand_asks_for_the_label_of_the_canvas():
    with pytest.raises(ValueError, match='seg_ignore_label=255'):
        Expand(prob=1)(sample())


# RandomShift
@pytest.mark.parametrize('polygons', [False, True])
def test_shift_moves_everything_alike_and_fills_with_black(polygons):
    before = sample(polygons=polygons)
    shift = RandomShift(shift_ratio=1, max_shift_px=16, filter_thr_px=1)
    moved = 0
    for seed in range(30):
        np.random.seed(seed)
        np.random.random()
        right, down = np.random.randint(-16, 16), np.random.randint(-16, 16)
        after = seeded(shift, before, seed)
        expected = np.zeros_like(before['img'])
        for y in range(HEIGHT):
            for x in range(WIDTH):
                if 0 <= y - down < HEIGHT and 0 <= x - right < WIDTH:
                    expected[y, x] = before['img'][y - down, x - right]
        np.testing.assert_array_equal(after['img'], expected)
        check_objects(after)
        kept = [
            label for label in labels_seen(after)
            if min(np.ptp(np.nonzero((after['img'] == 10 * (label + 1)).all(2)), axis=1)) > 0
        ]
        assert after['gt_labels'].tolist() == kept
        moved += len(after['gt_labels']) < 4
    assert moved


def test_shift_that_would_lose_every_object_changes_nothing():
    before = sample(1)
    before['gt_bboxes'] = np.array([[0, 0, 3, 3]], dtype=np.float32)
    shift = RandomShift(shift_ratio=1, max_shift_px=30, filter_thr_px=1)
    unchanged = 0
    for seed in range(20):
        after = seeded(shift, before, seed)
        if (after['img'] == before['img']).all():
            unchanged += 1
            for key in ('gt_bboxes', 'gt_bboxes_ignore', 'gt_labels'):
                np.testing.assert_array_equal(after[key], before[key])
        else:
            assert len(after['gt_bboxes']) == 1
    assert 0 < unchanged < 20
    empty = sample(0)
    np.testing.assert_array_equal(seeded(shift, empty, 0)['img'], empty['img'])


# RandomAffine
def affine_sample(number=4):
    results = sample(number)
    for key in ('gt_masks', 'gt_semantic_seg'):
        del results[key]
    return dict(results, mask_fields=[], seg_fields=[])


def test_affine_moves_the_corners_of_boxes_by_the_matrix_of_the_image():
    before = affine_sample()
    affine = RandomAffine(border=(5, -3))
    for seed in range(20):
        np.random.seed(seed)
        angle = np.radians(np.random.uniform(-10, 10))
        scale = np.random.uniform(.5, 1.5)
        shear = [np.tan(np.radians(np.random.uniform(-2, 2))) for _ in range(2)]
        height, width = HEIGHT + 10, WIDTH - 6
        shift = np.random.uniform(-.1, .1) * width, np.random.uniform(-.1, .1) * height
        after = seeded(affine, before, seed)
        assert after['img'].shape == (height, width, 3)
        expected, labels = [], []
        for label, (x1, y1, x2, y2) in enumerate(before['gt_bboxes'].tolist()):
            xs, ys = [], []
            for x, y in ((x1, y1), (x2, y1), (x1, y2), (x2, y2)):
                x, y = x * scale, y * scale
                x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
                x, y = x + shear[0] * y, y + shear[1] * x
                xs.append(min(max(x + shift[0], 0), width))
                ys.append(min(max(y + shift[1], 0), height))
            if min(xs) < width and max(xs) > 0 and min(ys) < height and max(ys) > 0:
                expected.append([min(xs), min(ys), max(xs), max(ys)])
                labels.append(label)
        np.testing.assert_allclose(after['gt_bboxes'], expected, atol=1e-3)
        assert after['gt_labels'].tolist() == labels and after['gt_bboxes'].dtype == np.float32
        for box, label in zip(after['gt_bboxes'].astype(int), after['gt_labels']):
            x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
            if min(box[2] - box[0],
                   box[3] - box[1]) > 4 and 2 < x < width - 2 and 2 < y < height - 2:
                assert (after['img'][y, x] == 10 * (label + 1)).all()


def test_affine_filters_what_is_too_small():
    after = seeded(RandomAffine(skip_filter=False, min_bbox_size=1000), affine_sample(), 0)
    assert after['gt_bboxes'].shape == (0, 4) and len(after['gt_labels']) == 0
    assert seeded(RandomAffine(), affine_sample(0), 0)['gt_bboxes'].shape == (0, 4)


def test_affine_refuses_masks():
    with pytest.raises(NotImplementedError, match='with_mask=False'):
        RandomAffine()(sample())


# colours
def test_photo_metric_distortion_follows_its_steps():
    before = sample()
    for seed in range(40):
        np.random.seed(seed)
        img = before['img'].astype(np.float32)
        if np.random.randint(2):
            img = img + np.float32(np.random.uniform(-32, 32))
        first = np.random.randint(2)
        if first and np.random.randint(2):
            img = img * np.float32(np.random.uniform(.5, 1.5))
        hue, saturation, value = np.moveaxis(mmcv.bgr2hsv(img), 2, 0)
        if np.random.randint(2):
            saturation = saturation * np.float32(np.random.uniform(.5, 1.5))
        if np.random.randint(2):
            hue = hue + np.float32(np.random.uniform(-18, 18))
            hue = np.where(hue > 360, hue - 360, hue)
            hue = np.where(hue < 0, hue + 360, hue)
        img = mmcv.hsv2bgr(np.stack([hue, saturation, value], axis=2).astype(np.float32))
        if not first and np.random.randint(2):
            img = img * np.float32(np.random.uniform(.5, 1.5))
        if np.random.randint(2):
            img = img[..., np.random.permutation(3)]
        after = seeded(PhotoMetricDistortion(), before, seed)
        assert after['img'].dtype == np.float32
        np.testing.assert_allclose(after['img'], img, rtol=1e-5, atol=1e-3)


def test_a_distorted_image_is_normalised_as_written_though_the_pipeline_puts_it_off():
    """PhotoMetricDistortion makes it float32, which cannot travel as bytes."""
    pipeline = Compose([
        dict(type='PhotoMetricDistortion'),
        dict(type='Normalize', **NORM),
        dict(type='Pad', size_divisor=32),
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])
    ])
    np.random.seed(0)
    data = pipeline(sample())
    distorted = seeded(PhotoMetricDistortion(), sample(), 0)['img']
    expected = mmcv.imnormalize(distorted, np.array(NORM['mean']), np.array(NORM['std']), True)
    np.testing.assert_allclose(
        data['img'][:, :HEIGHT, :WIDTH].numpy().transpose(1, 2, 0), expected, atol=1e-5)
    assert (data['img'][:, HEIGHT:] == 0).all() and 'img_mean' not in data


def test_yolox_colours_add_to_hue_saturation_and_value():
    before = sample()
    for seed in range(10):
        np.random.seed(seed)
        gains = np.random.uniform(-1, 1, 3) * [5, 30, 30] * np.random.randint(0, 2, 3)
        hsv = cv2.cvtColor(before['img'], cv2.COLOR_BGR2HSV).astype(int)
        for channel in range(3):
            moved = hsv[..., channel] + int(gains[channel])
            hsv[..., channel] = moved % 180 if channel == 0 else np.clip(moved, 0, 255)
        expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
        np.testing.assert_array_equal(seeded(YOLOXHSVRandomAug(), before, seed)['img'], expected)


@pytest.mark.parametrize('arguments', [
    dict(n_holes=3, cutout_shape=(6, 9)),
    dict(n_holes=(1, 5), cutout_ratio=[(.1, .2), (.3, .05)], fill_in=(7, 8, 9)),
])
def test_cutout_fills_rectangles(arguments):
    before = sample()
    for seed in range(10):
        np.random.seed(seed)
        holes = arguments['n_holes']
        low, high = holes if isinstance(holes, tuple) else (holes, holes)
        img = before['img'].copy()
        for _ in range(np.random.randint(low, high + 1)):
            left, top = np.random.randint(0, WIDTH), np.random.randint(0, HEIGHT)
            if 'cutout_shape' in arguments:
                np.random.randint(0, 1)
                width, height = arguments['cutout_shape']
            else:
                shares = arguments['cutout_ratio'][np.random.randint(0, 2)]
                width, height = int(shares[0] * WIDTH), int(shares[1] * HEIGHT)
            for y in range(top, min(top + height, HEIGHT)):
                for x in range(left, min(left + width, WIDTH)):
                    img[y, x] = arguments.get('fill_in', (0, 0, 0))
        kept = before['img'].copy()
        after = seeded(CutOut(**arguments), before, seed)
        np.testing.assert_array_equal(after['img'], img)
        np.testing.assert_array_equal(before['img'], kept)


def test_cutout_refuses_what_makes_no_sense():
    for arguments in (dict(n_holes=1), dict(n_holes=1, cutout_shape=(1, 1), cutout_ratio=(1, 1)),
                      dict(n_holes=(3, 2), cutout_shape=(1, 1))):
        with pytest.raises(ValueError, match='CutOut'):
            CutOut(**arguments)


def test_seg_rescale_scales_maps_to_the_nearest_pixel():
    before = sample()
    after = SegRescale(.5)(copy.deepcopy(before))
    expected = cv2.resize(before['gt_semantic_seg'], (25, 20), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(after['gt_semantic_seg'], expected)


# Mosaic and MixUp
def plain(number, seed, polygons=False, height=HEIGHT, width=WIDTH):
    results = sample(number, seed, polygons, height, width)
    del results['gt_semantic_seg']
    return dict(results, seg_fields=[])


@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('centers', [(.5, 1.5), (.1, .3), (1.7, 1.9)])
def test_mosaic_lays_four_images_around_a_point(polygons, centers):
    scale = (HEIGHT, WIDTH)  # nothing is resized, so that pixels can be followed
    parts = [plain(number, seed, polygons) for seed, number in enumerate((4, 0, 3, 4))]
    mosaic = Mosaic(img_scale=scale, center_ratio_range=centers)
    for seed in range(8):
        np.random.seed(seed)
        np.random.uniform(0, 1)
        center_x = int(np.random.uniform(*centers) * WIDTH)
        center_y = int(np.random.uniform(*centers) * HEIGHT)
        np.random.seed(seed)
        after = mosaic({**copy.deepcopy(parts[0]), 'mix_results': copy.deepcopy(parts[1:])})
        expected = np.full((2 * HEIGHT, 2 * WIDTH, 3), 114, dtype=np.uint8)
        owner = np.full((2 * HEIGHT, 2 * WIDTH), -1)
        boxes, labels, ignored = [], [], []
        corners = [(center_x - WIDTH, center_y - HEIGHT), (center_x, center_y - HEIGHT),
                   (center_x - WIDTH, center_y), (center_x, center_y)]
        for index, (part, (left, top)) in enumerate(zip(parts, corners)):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    if 0 <= y + top < 2 * HEIGHT and 0 <= x + left < 2 * WIDTH:
                        expected[y + top, x + left] = part['img'][y, x]
                        owner[y + top, x + left] = index
            for field, out in (('gt_bboxes', boxes), ('gt_bboxes_ignore', ignored)):
                for label, (x1, y1, x2, y2) in enumerate(part[field]):
                    x1, x2 = (min(max(x + left, 0), 2 * WIDTH) for x in (x1, x2))
                    y1, y2 = (min(max(y + top, 0), 2 * HEIGHT) for y in (y1, y2))
                    if x1 < 2 * WIDTH and x2 > 0 and y1 < 2 * HEIGHT and y2 > 0:
                        out.append([x1, y1, x2, y2])
                        if field == 'gt_bboxes':
                            labels.append((index, label))
        np.testing.assert_array_equal(after['img'], expected)
        np.testing.assert_array_equal(after['gt_bboxes'], np.reshape(boxes, (-1, 4)))
        np.testing.assert_array_equal(after['gt_bboxes_ignore'], np.reshape(ignored, (-1, 4)))
        assert after['gt_labels'].tolist() == [label for _, label in labels]
        assert after['img_shape'] == after['img'].shape and 'pad_shape' not in after
        for (index, label), mask in zip(labels, after['gt_masks'].to_ndarray()):
            painted = (after['img'] == 10 * (label + 1)).all(axis=2) & (owner == index)
            np.testing.assert_array_equal(mask.astype(bool), painted)


def test_mosaic_scales_its_parts_to_fit():
    parts = [plain(4, seed) for seed in range(4)]
    np.random.seed(0)
    after = Mosaic(img_scale=(80, 120))({**parts[0], 'mix_results': parts[1:]})
    assert after['img'].shape == (160, 240, 3)
    sizes = after['gt_bboxes'][:4, 2:] - after['gt_bboxes'][:4, :2]
    original = parts[0]['gt_bboxes'][:, 2:] - parts[0]['gt_bboxes'][:, :2]
    inside = (after['gt_bboxes'][:4, :2] > 0).all(axis=1)
    assert inside.any()
    np.testing.assert_allclose(sizes[inside], 2 * original[inside])  # min(80 / 40, 120 / 50)
    np.testing.assert_allclose(
        after['gt_masks'].get_bboxes()[:4][inside], after['gt_bboxes'][:4][inside], atol=1)


def test_mosaic_drops_small_boxes_with_labels_and_masks():
    parts = [plain(4, seed) for seed in range(4)]
    mosaic = Mosaic(img_scale=(HEIGHT, WIDTH), skip_filter=False, min_bbox_size=7)
    np.random.seed(1)
    after = mosaic({**parts[0], 'mix_results': parts[1:]})
    sizes = after['gt_bboxes'][:, 2:] - after['gt_bboxes'][:, :2]
    assert 0 < len(sizes) < 16 and (sizes > 7).all()
    assert len(after['gt_labels']) == len(after['gt_masks']) == len(sizes)
    np.testing.assert_array_equal(after['gt_masks'].get_bboxes(), after['gt_bboxes'])


def test_mosaic_without_the_others_says_where_it_belongs():
    for transform in (Mosaic(), MixUp()):
        with pytest.raises(ValueError, match='MultiImageMixDataset'):
            transform(plain(2, 0))


@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('ratio', [1., .5, 2.])
def test_mixup_is_the_mean_of_two_images_with_the_objects_of_both(polygons, ratio):
    own, other = plain(2, 0, polygons), plain(4, 1, polygons)
    scale = (HEIGHT, WIDTH + 10)
    for seed in range(6):
        flip = seed % 2
        transform = MixUp(img_scale=scale, ratio_range=(ratio, ratio), flip_ratio=float(flip))
        np.random.seed(seed)
        np.random.uniform(ratio, ratio), np.random.uniform(0, 1)
        width, height = int(scale[1] * ratio), int(scale[0] * ratio)
        top = np.random.randint(0, height - HEIGHT) if height > HEIGHT else 0
        left = np.random.randint(0, width - WIDTH) if width > WIDTH else 0
        np.random.seed(seed)
        after = transform({**copy.deepcopy(own), 'mix_results': [copy.deepcopy(other)]})

        padded = np.full((*scale, 3), 114, dtype=np.uint8)
        padded[:, :WIDTH] = other['img']
        padded = cv2.resize(padded, (width, height), interpolation=cv2.INTER_LINEAR)
        if flip:
            padded = padded[:, ::-1]
        second = np.zeros((HEIGHT, WIDTH, 3))
        for y in range(min(HEIGHT, height - top)):
            for x in range(min(WIDTH, width - left)):
                second[y, x] = padded[y + top, x + left]
        expected = np.floor((own['img'] + second) / 2).astype(np.uint8)
        np.testing.assert_array_equal(after['img'], expected)

        boxes, labels = own['gt_bboxes'].tolist(), [0, 1]
        for label, (x1, y1, x2, y2) in enumerate(other['gt_bboxes'] * ratio):
            if flip:
                x1, x2 = width - x2, width - x1
            x1, x2 = (min(max(x - left, 0), WIDTH) for x in (x1, x2))
            y1, y2 = (min(max(y - top, 0), HEIGHT) for y in (y1, y2))
            if x1 < WIDTH and x2 > 0 and y1 < HEIGHT and y2 > 0:
                boxes.append([x1, y1, x2, y2])
                labels.append(label)
        np.testing.assert_allclose(after['gt_bboxes'], boxes)
        assert after['gt_labels'].tolist() == labels
        masks = after['gt_masks']
        assert len(masks) == len(boxes) and (masks.height, masks.width) == (HEIGHT, WIDTH)
        for mask, box in zip(masks.to_ndarray(), boxes):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                np.testing.assert_allclose(tight, box, atol=1)


def test_mixup_leaves_an_image_alone_when_the_other_has_no_objects():
    own = plain(2, 0)
    after = MixUp()({**copy.deepcopy(own), 'mix_results': [plain(0, 1)]})
    np.testing.assert_array_equal(after['img'], own['img'])
    np.testing.assert_array_equal(after['gt_bboxes'], own['gt_bboxes'])


def test_mixup_into_an_image_without_objects_takes_the_others():
    np.random.seed(0)
    after = MixUp(
        img_scale=(HEIGHT, WIDTH), ratio_range=(1, 1), flip_ratio=0)({
            **plain(0, 0), 'mix_results': [plain(3, 1)]
        })
    np.testing.assert_array_equal(after['gt_bboxes'], plain(3, 1)['gt_bboxes'])
    assert len(after['gt_masks']) == 3


# CopyPaste
@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('limits', [dict(), dict(bbox_occluded_thr=0, mask_occluded_thr=30)])
def test_pasted_objects_cover_those_of_the_image(polygons, limits):
    own, other = plain(4, 0, polygons), plain(3, 1, polygons)
    transform = CopyPaste(max_num_pasted=3, **limits)
    numbers = set()
    for seed in range(8):
        np.random.seed(seed)
        count = np.random.randint(0, 3)
        pasted = np.random.choice(3, size=count, replace=False).tolist()
        np.random.seed(seed)
        after = transform({**copy.deepcopy(own), 'mix_results': [copy.deepcopy(other)]})
        numbers.add(count)
        masks, covering = own['gt_masks'].to_ndarray(), other['gt_masks'].to_ndarray()[pasted]
        cover = covering.any(0) if count else np.zeros((HEIGHT, WIDTH), bool)
        expected = np.where(cover[..., None], other['img'], own['img'])
        np.testing.assert_array_equal(after['img'], expected)
        assert after['img'].dtype == np.uint8

        boxes, labels, shown = [], [], []
        for label, (box, mask) in enumerate(zip(own['gt_bboxes'], masks)):
            rest = mask * ~cover
            rows, columns = np.flatnonzero(rest.any(1)), np.flatnonzero(rest.any(0))
            tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] +
                              1]) if len(rows) else np.zeros(4)
            near = (np.abs(tight - box) <= transform.bbox_occluded_thr).all()
            if near or rest.sum() > transform.mask_occluded_thr or not count:
                boxes.append(tight if count else box)
                labels.append(label)
                shown.append(rest)
        np.testing.assert_allclose(
            after['gt_bboxes'],
            np.concatenate([np.reshape(boxes, (-1, 4)), other['gt_bboxes'][pasted]]))
        assert after['gt_labels'].tolist() == labels + pasted
        np.testing.assert_array_equal(
            np.concatenate([np.reshape(shown, (-1, HEIGHT, WIDTH)), covering]).astype(bool),
            after['gt_masks'].to_ndarray().astype(bool))
        np.testing.assert_array_equal(after['gt_bboxes_ignore'], own['gt_bboxes_ignore'])
    assert numbers == {0, 1, 2}


def test_without_masks_boxes_are_pasted():
    own, other = ({**plain(number, seed), 'mask_fields': []} for seed, number in enumerate((2, 3)))
    del own['gt_masks'], other['gt_masks']
    before = own['img'].copy()
    after = CopyPaste(selected=False)({**own, 'mix_results': [other]})
    assert 'gt_masks' not in after and len(after['gt_bboxes']) >= 3
    np.testing.assert_array_equal(after['gt_bboxes'][-3:], other['gt_bboxes'])
    x1, y1, x2, y2 = other['gt_bboxes'][0].astype(int)
    np.testing.assert_array_equal(after['img'][y1:y2, x1:x2], other['img'][y1:y2, x1:x2])
    assert (after['img'] != before).any()


def test_images_of_unequal_size_are_not_pasted():
    with pytest.raises(ValueError, match="dict.type='Pad', size="):
        CopyPaste()({**plain(2, 0), 'mix_results': [plain(2, 1, height=HEIGHT + 1)]})


# MultiImageMixDataset
def mix_config(folder, extra=(), **arguments):
    return dict(
        type='MultiImageMixDataset',
        dataset=dict(
            type='CocoDataset',
            ann_file='annotations.json',
            data_root=str(folder),
            classes=('person', 'stop sign', 'zebra'),
            filter_empty_gt=False,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
            ]),
        pipeline=[
            dict(type='Mosaic', img_scale=(48, 64)),
            dict(type='MixUp', img_scale=(48, 64)), *extra,
            dict(type='RandomFlip', flip_ratio=.5),
            dict(type='Normalize', **NORM),
            dict(type='Pad', size_divisor=32),
            dict(type='DefaultFormatBundle'),
            dict(
                type='Collect',
                keys=['img', 'gt_bboxes', 'gt_labels', 'gt_bboxes_ignore', 'gt_masks'])
        ],
        **arguments)


def test_mix_dataset_makes_batches(coco_folder):
    dataset = build_dataset(mix_config(coco_folder))
    assert len(dataset) == len(dataset.dataset) == len(dataset.flag)
    assert dataset.CLASSES == ('person', 'stop sign', 'zebra')
    np.random.seed(0)
    data = dataset[1]
    assert data['img'].shape == (3, 96, 128)
    assert len(data['gt_bboxes']) == len(data['gt_labels']) == len(data['gt_masks']) > 0
    assert dataset.get_cat_ids(1) == dataset.dataset.get_cat_ids(1)
    loader = build_dataloader(dataset, samples_per_gpu=2, workers_per_gpu=0, seed=3)
    first = [batch.images.float().mean().item() for batch in loader]
    loader.sampler.set_epoch(0)
    assert first == [batch.images.float().mean().item() for batch in loader]


def test_mix_dataset_skips_types_and_can_be_told_so_later(coco_folder):
    dataset = build_dataset(mix_config(coco_folder, skip_type_keys=['Mosaic', 'MixUp']))
    plain_shape = dataset[0]['img_metas']['img_shape']
    assert plain_shape == (48, 64, 3)
    dataset.update_skip_type_keys(('MixUp', ))
    assert dataset[0]['img_metas']['img_shape'] == (96, 128, 3)
    with pytest.raises(TypeError, match='Mosaic'):
        dataset.update_skip_type_keys('Mosaic')


def test_mix_dataset_tries_again_and_gives_up_after_max_refetch(coco_folder):
    calls = []

    def fussy(results):
        calls.append(results['gt_bboxes'].copy())
        results['gt_bboxes'][:] = 0  # must not reach the next try
        return None if len(calls) < 3 else results

    dataset = build_dataset(mix_config(coco_folder, [fussy], skip_type_keys=['Mosaic', 'MixUp']))
    dataset[0]
    assert len(calls) == 3 and (calls[2] == calls[0]).all() and calls[0].any()
    dataset = build_dataset(mix_config(coco_folder, [lambda results: None], max_refetch=2))
    with pytest.raises(RuntimeError, match='gave None 2 times'):
        dataset[0]


def test_mix_dataset_refuses_the_retired_argument(coco_folder):
    with pytest.raises(ValueError, match='dynamic_scale'):
        build_dataset(mix_config(coco_folder, dynamic_scale=(640, 640)))


# packages that are not needed otherwise
def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'albumentations', None)
    monkeypatch.setitem(sys.modules, 'imagecorruptions', None)
    with pytest.raises(ImportError, match=r'mmdet_ft\[albu\]'):
        Albu(transforms=[])
    with pytest.raises(ImportError, match='imagecorruptions'):
        Corrupt('fog')


BOXES_FOR_ALBU = dict(
    type='BboxParams', format='pascal_voc', label_fields=['gt_labels'], filter_lost_elements=True)
KEYS_FOR_ALBU = dict(img='image', gt_masks='masks', gt_bboxes='bboxes', gt_semantic_seg='mask')


@pytest.mark.parametrize('number', [4, 0])
def test_albu_keeps_objects_together_through_a_crop(number):
    pytest.importorskip('albumentations')
    albu = Albu([dict(type='Crop', x_min=10, y_min=5, x_max=40, y_max=25, p=1.)], BOXES_FOR_ALBU,
                KEYS_FOR_ALBU)
    before = sample(number)
    after = albu(copy.deepcopy(before))
    np.testing.assert_array_equal(after['img'], before['img'][5:25, 10:40])
    check_objects(after)
    assert after['gt_labels'].tolist() == labels_seen(after)
    assert after['gt_labels'].dtype == np.int64 and after['gt_bboxes'].dtype == np.float32
    np.testing.assert_allclose(
        after['gt_bboxes_ignore'], [[20, 0, 30, 1]], atol=1e-5)  # the other one is out
    assert after['filename'] == before['filename']


def test_albu_gives_up_a_sample_without_objects_where_asked():
    pytest.importorskip('albumentations')
    crop = [dict(type='Crop', x_min=0, y_min=0, x_max=1, y_max=1, p=1.)]
    assert Albu(crop, BOXES_FOR_ALBU, KEYS_FOR_ALBU, skip_img_without_anno=True)(sample(2)) is None
    assert len(Albu(crop, BOXES_FOR_ALBU, KEYS_FOR_ALBU)(sample(2))['gt_masks']) == 0


def test_albu_draws_from_the_seed_of_the_sample():
    pytest.importorskip('albumentations')
    albu = Albu([
        dict(
            type='OneOf',
            transforms=[
                dict(type='RandomBrightnessContrast', p=1.),
                dict(type='ChannelShuffle', p=1.)
            ],
            p=.9)
    ], BOXES_FOR_ALBU)
    images = [seeded(albu, sample(), seed)['img'] for seed in (1, 2, 3, 1)]
    assert (images[0] == images[3]).all() and not (images[0] == images[1]).all()


def test_albu_names_what_it_does_not_know():
    pytest.importorskip('albumentations')
    with pytest.raises(KeyError, match='Blurr'):
        Albu([dict(type='Blurr')])
    with pytest.raises(NotImplementedError, match='poly2mask=True'):
        Albu([], BOXES_FOR_ALBU)(sample(polygons=True))
