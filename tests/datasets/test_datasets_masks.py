"""Masks as crops and polygons do what the same steps on full bitmaps do."""
import cv2
import mmcv
import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.datasets.annotations.masks import (BitmapMasks, PolygonMasks, bitmaps_of_runs,
                                                 nearest_source, polygon_runs)

DIRECTIONS = ('horizontal', 'vertical', 'diagonal')


def random_polygons(rng, height, width, number=5):
    """Instances of one or two parts, some sticking out of the image, one of them a hair."""
    instances = []
    for _ in range(number):
        parts = []
        for _ in range(rng.integers(1, 3)):
            centre = rng.uniform(0, (width, height))
            points = centre + rng.normal(0, max(height, width) / 4, (rng.integers(3, 12), 2))
            parts.append(points.round(int(rng.integers(0, 3))).reshape(-1))
        instances.append(parts)
    instances.append([np.array([1., 1, 1.2, 5, 1.4, 1])])
    return instances


def reference_bitmap(parts, height, width):
    """The way of V2: pycocotools on the whole image."""
    return mask_api.decode(
        mask_api.merge(mask_api.frPyObjects([part.tolist() for part in parts], height, width)))


def full_bitmaps(rng, height, width):
    masks = (rng.random((4, height, width)) > .8).astype(np.uint8)
    masks[1] = 0
    masks[2] = 0
    masks[2, height // 3:height // 2 + 1, width // 4:width // 2 + 1] = 1
    masks[3] = 1
    return masks


@pytest.mark.parametrize('seed', range(20))
def test_polygons_are_drawn_as_pycocotools_draws_them_on_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 90, 2))
    polygons = random_polygons(rng, height, width)
    drawn = PolygonMasks(polygons, height, width).to_ndarray()
    expected = np.stack([reference_bitmap(parts, height, width) for parts in polygons])
    np.testing.assert_array_equal(drawn, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_run_lengths_of_any_bitmap_decode_to_it(height, width, seed):
    rng = np.random.default_rng(seed)
    bitmaps = (rng.random((3, height, width)) < rng.random()).astype(np.uint8)
    runs = [mask_api.encode(np.asfortranarray(bitmap)) for bitmap in bitmaps]
    masks = bitmaps_of_runs(runs, height, width)
    np.testing.assert_array_equal(masks.masks, bitmaps)
    for crop in masks.crops:  # tight: nothing of the size of the image is kept
        assert not crop.size or (crop.any(axis=0)[[0, -1]].all()
                                 and crop.any(axis=1)[[0, -1]].all())


def test_long_runs_need_several_characters_and_a_sign():
    bitmap = np.zeros((500, 700), dtype=np.uint8)
    bitmap[3:490, 100:600] = 1
    bitmap[:, 300:420] = 1  # columns from top to bottom are one run
    bitmap[200, 5] = 1
    runs = mask_api.encode(np.asfortranarray(bitmap))
    np.testing.assert_array_equal(
        bitmaps_of_runs([runs, runs], 500, 700).masks, np.stack([bitmap, bitmap]))


def test_run_lengths_with_empty_runs_decode():
    all_counts = [0, 2, 0, 1, 4, 0, 5], [12], [3, 0, 9], [5, 1, 2, 4], [4, 0, 8, 0]
    runs = [mask_api.frPyObjects(dict(size=[4, 3], counts=item), 4, 3) for item in all_counts]
    masks = bitmaps_of_runs(runs, 4, 3)
    np.testing.assert_array_equal(masks.masks, mask_api.decode(runs).transpose(2, 0, 1))
    assert bitmaps_of_runs(runs[1:3], 4, 3).areas.tolist() == [0, 0]
    assert len(bitmaps_of_runs([], 4, 3)) == 0


def test_run_lengths_of_another_size_are_refused():
    runs = mask_api.encode(np.zeros((4, 5), dtype=np.uint8, order='F'))
    with pytest.raises(ValueError, match=r'\[4, 5\].*\[5, 4\]'):
        bitmaps_of_runs([runs], 5, 4)


def test_parts_of_under_three_points_are_left_out():
    square = np.array([1., 1, 6, 1, 6, 6, 1, 6])
    runs = polygon_runs([np.array([0., 0, 9, 9]), square], 10, 10)
    np.testing.assert_array_equal(mask_api.decode(runs), reference_bitmap([square], 10, 10))
    assert mask_api.area(polygon_runs([np.array([0., 0, 9, 9])], 10, 10)) == 0


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 700), st.integers(1, 1500))
def test_nearest_source_is_that_of_opencv(source, size):
    ramp = np.arange(source, dtype=np.uint16)[None].repeat(2, axis=0)
    expected = cv2.resize(ramp, (size, 2), interpolation=cv2.INTER_NEAREST)[0]
    np.testing.assert_array_equal(nearest_source(source, size), expected)


@pytest.mark.parametrize('out', [(37, 53), (11, 7), (30, 41), (61, 20), (1, 1)])
@pytest.mark.parametrize('seed', range(3))
def test_resize_equals_opencv_on_full_bitmaps(out, seed):
    masks = full_bitmaps(np.random.default_rng(seed), 23, 31)
    resized = BitmapMasks(masks, 23, 31).resize(out)
    expected = [cv2.resize(mask, out[::-1], interpolation=cv2.INTER_NEAREST) for mask in masks]
    np.testing.assert_array_equal(resized.masks, np.stack(expected))
    assert (resized.height, resized.width) == out


def test_rescale_equals_mmcv_on_full_bitmaps():
    masks = full_bitmaps(np.random.default_rng(0), 23, 31)
    for scale in ((64, 40), (10, 99), 1.7):
        rescaled = BitmapMasks(masks, 23, 31).rescale(scale)
        expected = [mmcv.imrescale(mask, scale, interpolation='nearest') for mask in masks]
        np.testing.assert_array_equal(rescaled.masks, np.stack(expected))


def test_other_interpolations_go_by_the_full_bitmap():
    masks = full_bitmaps(np.random.default_rng(0), 23, 31)
    resized = BitmapMasks(masks, 23, 31).resize((40, 60), interpolation='bilinear')
    expected = [mmcv.imresize(mask, (60, 40), interpolation='bilinear') for mask in masks]
    np.testing.assert_array_equal(resized.masks, np.stack(expected))


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_flip_equals_a_flip_of_full_bitmaps(direction):
    masks = full_bitmaps(np.random.default_rng(0), 23, 31)
    axes = {'horizontal': 2, 'vertical': 1, 'diagonal': (1, 2)}[direction]
    flipped = BitmapMasks(masks, 23, 31).flip(direction)
    np.testing.assert_array_equal(flipped.masks, np.flip(masks, axes))
    np.testing.assert_array_equal(flipped.flip(direction).masks, masks)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 40), min_size=4, max_size=4))
def test_crop_equals_a_slice_of_full_bitmaps(corners):
    masks = full_bitmaps(np.random.default_rng(1), 23, 31)
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    cropped = BitmapMasks(masks, 23, 31).crop(np.array([x1, y1, x2, y2]))
    x1, x2, y1, y2 = np.clip(x1, 0, 31), np.clip(x2, 0, 31), np.clip(y1, 0, 23), np.clip(y2, 0, 23)
    width, height = max(x2 - x1, 1), max(y2 - y1, 1)
    expected = np.zeros((4, height, width), dtype=np.uint8)
    part = masks[:, y1:y1 + height, x1:x1 + width]
    expected[:, :part.shape[1], :part.shape[2]] = part
    np.testing.assert_array_equal(cropped.masks, expected)


def test_pad_and_expand_put_the_bitmap_where_they_should():
    masks = full_bitmaps(np.random.default_rng(0), 23, 31)
    padded = np.zeros((4, 32, 64), dtype=np.uint8)
    padded[:, :23, :31] = masks
    np.testing.assert_array_equal(BitmapMasks(masks, 23, 31).pad((32, 64)).masks, padded)
    ones = np.ones_like(padded)
    ones[:, :23, :31] = masks
    np.testing.assert_array_equal(BitmapMasks(masks, 23, 31).pad((32, 64), pad_val=1).masks, ones)
    expanded = np.zeros((4, 50, 60), dtype=np.uint8)
    expanded[:, 7:30, 9:40] = masks
    np.testing.assert_array_equal(BitmapMasks(masks, 23, 31).expand(50, 60, 7, 9).masks, expanded)


def test_indexing_measuring_and_iterating_equal_the_full_bitmaps():
    masks = full_bitmaps(np.random.default_rng(0), 23, 31)
    bitmaps = BitmapMasks(list(masks), 23, 31)
    for index in (2, slice(1, 3), np.array([3, 0]), np.array([True, False, True, False]), [1]):
        expected = masks[index].reshape(-1, 23, 31)
        np.testing.assert_array_equal(bitmaps[index].masks, expected)
    np.testing.assert_array_equal(bitmaps.areas, masks.sum((1, 2)))
    np.testing.assert_array_equal(np.stack(list(bitmaps)), masks)
    np.testing.assert_array_equal(bitmaps.to_ndarray(), masks)
    assert torch.equal(bitmaps.to_tensor(torch.float32, 'cpu'), torch.from_numpy(masks).float())
    np.testing.assert_array_equal(
        bitmaps.get_bboxes()[[1, 2, 3]],
        [[0, 0, 0, 0], [31 // 4, 23 // 3, 31 // 2 + 1, 23 // 2 + 1], [0, 0, 31, 23]])
    assert len(bitmaps) == 4


def test_no_instances_go_through_everything():
    for masks in (BitmapMasks([], 5, 6), PolygonMasks([], 5, 6)):
        for changed in (masks.resize((10, 12)), masks.rescale(
            (24, 10)), masks.flip('diagonal').resize((10, 12)), masks.pad(
                (10, 12)), masks.expand(10, 12, 1, 1), masks[np.zeros(0, dtype=int)].pad((10, 12))):
            assert changed.to_ndarray().shape == (0, 10, 12)
        assert masks.areas.shape == (0, ) and masks.get_bboxes().shape == (0, 4)


def test_masks_of_another_size_than_said_are_refused():
    with pytest.raises(ValueError, match='does not fit'):
        BitmapMasks(np.zeros((1, 4, 5)), 5, 4)


def test_polygons_move_by_the_plain_formulas():
    part = np.array([1., 2, 11, 2, 6, 9])
    masks = PolygonMasks([[part]], 20, 30)

    def moved(result):
        return result.masks[0][0]

    np.testing.assert_allclose(moved(masks.resize((40, 90))), part * np.tile([3, 2], 3))
    np.testing.assert_allclose(moved(masks.flip('horizontal'))[0::2], 30 - part[0::2])
    np.testing.assert_allclose(moved(masks.flip('vertical'))[1::2], 20 - part[1::2])
    np.testing.assert_allclose(moved(masks.flip('diagonal')), np.tile([30, 20], 3) - part)
    np.testing.assert_allclose(
        moved(masks.crop(np.array([1, 2, 12, 10]))), part - np.tile([1, 2], 3))
    np.testing.assert_allclose(moved(masks.expand(60, 70, 5, 4)), part + np.tile([4, 5], 3))
    np.testing.assert_array_equal(part, [1, 2, 11, 2, 6, 9])
    assert masks.areas[0] == 35
    np.testing.assert_array_equal(masks.get_bboxes(), [[1, 2, 11, 9]])
    assert (masks.pad((32, 32)).height, masks.crop(np.array([1, 2, 12, 10])).width) == (32, 11)
