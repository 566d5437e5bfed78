"""What it means that an image has another size than its annotations say."""
import numpy as np
import pytest

from mmdet_ft.datasets.images.sizes import choose_fitting_size, mismatch


@pytest.mark.parametrize('box, fit', [
    ([150, 10, 190, 60], 'loaded'),
    ([10, 150, 60, 190], 'listed'),
    ([10, 10, 60, 60], ''),
    ([10, 10, 190, 190], ''),
    ([10, 10, 60, 128.9], ''),
    ([np.nan, 10, 190, 60], ''),
])
def test_boxes_tell_which_of_two_sizes_is_theirs(box, fit):
    assert choose_fitting_size(np.array([box]), (128, 192), (192, 128)) == fit
    assert choose_fitting_size(np.array([[1, 1, 5, 5], box]), (128, 192), (192, 128)) == fit


def test_no_box_tells_nothing():
    assert choose_fitting_size(np.zeros((0, 4)), (1, 2), (2, 1)) == ''


@pytest.mark.parametrize('listed, loaded, orientation, fit, kind, words', [
    ((128, 192),
     (192, 128), 6, 'loaded', 'width and height exchanged', 'exchange width and height'),
    ((128, 192), (192, 128), 8, 'listed', 'image turned by EXIF', 'exiftool -Orientation='),
    ((128, 192), (192, 128), 5, '', 'image turned by EXIF', '--html report.html'),
    ((128, 192),
     (192, 128), 1, 'loaded', 'width and height exchanged', 'exchange width and height'),
    ((128, 192), (192, 128), 3, 'listed', 'width and height exchanged', 'turn the boxes and masks'),
    ((128, 192), (192, 128), 1, '', 'width and height exchanged', 'exchange width and height'),
    ((192, 128), (96, 64), 1, 'listed', 'image size differs', 'scale boxes and masks'),
    ((192, 128), (96, 64), 1, '', 'image size differs', 'scale boxes and masks'),
    ((101, 67), (50, 33), 1, 'listed', 'image size differs', 'scale boxes and masks'),
    ((96, 64), (192, 128), 1, 'loaded', 'image size differs', 'write the true width and height'),
    ((192, 128), (100, 100), 6, 'listed', 'image size differs',
     'take the pictures in the size that was annotated'),
])
def test_each_case_has_its_own_remedy(listed, loaded, orientation, fit, kind, words):
    found = mismatch(listed, loaded, orientation, fit)
    assert found.kind == kind and words in found.fix


def test_right_boxes_are_never_advised_away():
    for orientation in (1, 6):
        fix = mismatch((128, 192), (192, 128), orientation, 'loaded').fix
        assert 'turn' not in fix and 'exiftool' not in fix
    assert 'of another picture' not in mismatch((192, 128), (96, 64), 1, 'listed').text
