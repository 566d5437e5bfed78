"""A user's own transform that moves the image and says nothing: a painted picture tells whether the boxes go along."""
import random

import cv2
import numpy as np
import pytest

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.probe import check_own_transforms


class Own:
    """As V2's users write them: with a probability, in place."""

    def __init__(self, change):
        self.change = change

    def __call__(self, results):
        if np.random.rand() < .5:
            results['img'] = self.change(results['img'])
        return results


class Set:

    def __init__(self, *transforms, **loaded):
        self.pipeline = Compose([dict(type='LoadAnnotations', **loaded), *transforms])


def turned(img):
    matrix = cv2.getRotationMatrix2D((img.shape[1] / 2, img.shape[0] / 2), random.uniform(-15, 15),
                                     1)
    return cv2.warpAffine(img, matrix, img.shape[1::-1])


def shifted(img):
    return np.roll(img, 12, axis=1)


@pytest.mark.parametrize('change',
                         [turned, shifted, lambda img: img[:, ::-1], lambda img: img[::-1].copy()])
def test_one_that_leaves_boxes_behind_is_named(change):
    with pytest.raises(CheckError, match='Own moves what is on the image and leaves gt_bboxes'):
        check_own_transforms(Set(dict(type='RandomFlip', flip_ratio=.5), Own(change)))


@pytest.mark.parametrize('change', [
    lambda img: 255 - img, lambda img: cv2.GaussianBlur(img, (5, 5), 2), lambda img: img // 2, lambda img: img * 0,
    lambda img: img + np.random.randint(0, 5, img.shape).astype(np.uint8), lambda img: cv2.equalizeHist(img[..., 0])
])  # yapf: disable
def test_one_that_changes_colours_is_right(change):
    assert check_own_transforms(Set(Own(change))) in (['Own'], [])


class Mirror(Own):

    def __call__(self, results):
        results['img'] = results['img'][:, ::-1]
        boxes, width = results['gt_bboxes'], results['img'].shape[1]
        results['gt_bboxes'] = np.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        return results


def test_one_that_moves_boxes_is_right_and_one_that_declares_is_not_asked():
    assert check_own_transforms(Set(Mirror(None))) == ['Mirror']
    declared = type('Declared', (Own, ), dict(moves=('img', 'bbox')))(shifted)
    assert check_own_transforms(Set(declared)) == []


@pytest.mark.parametrize('loaded, left', [
    (dict(with_mask=True), 'gt_masks'),
    (dict(with_seg=True), 'gt_semantic_seg'),
    (dict(with_mask=True, with_seg=True), 'gt_masks and gt_semantic_seg'),
])  # yapf: disable
def test_one_that_moves_boxes_and_leaves_masks_or_maps_is_named(loaded, left):
    with pytest.raises(CheckError, match=f'leaves {left} as they were'):
        check_own_transforms(Set(Mirror(None), **loaded))


class MirrorOfAll(Mirror):

    def __call__(self, results):
        results = super().__call__(results)
        results['gt_masks'] = results['gt_masks'].flip('horizontal')
        for key in results['seg_fields']:
            results[key] = results[key][:, ::-1]
        return results


def test_one_that_moves_all_that_is_loaded_is_right():
    for loaded in (dict(with_mask=True), dict(with_mask=True, with_seg=True)):
        assert check_own_transforms(Set(MirrorOfAll(None), **loaded)) == ['MirrorOfAll']


def test_those_inside_of_others_and_in_wrapped_data_sets_are_looked_at():

    class Wrapper:
        pipeline = [dict, Own(shifted)]

        def __init__(self):
            self.dataset = Set()
            self.pipeline = [Own(shifted)]

    with pytest.raises(CheckError, match='Own moves'):
        check_own_transforms(Wrapper())
    joined = type('Joined', (), dict(datasets=[Set(), Wrapper()]))()
    with pytest.raises(CheckError, match='Own moves'):
        check_own_transforms(joined)
    with pytest.raises(CheckError, match='Own moves'):
        check_own_transforms(Set(Compose([Own(shifted)])))


def test_one_that_needs_more_than_a_picture_is_left_out_and_nothing_is_drawn():

    class Needs:

        def __call__(self, results):
            return results['something']

    state = np.random.get_state()[1].tolist()
    assert check_own_transforms(Set(Needs())) == []
    assert np.random.get_state()[1].tolist() == state


def test_images_without_boxes_may_be_moved():
    dataset = Set()
    dataset.pipeline = Compose([Own(shifted)])
    assert check_own_transforms(dataset) == []
