"""Datasets in COCO's form with classes, file names or metrics of their own."""
import json
import pickle

import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.datasets import (DeepFashionDataset, Objects365V1Dataset, Objects365V2Dataset,
                               OccludedSeparatedCocoDataset)
from mmdet_ft.datasets.errors import DataError


def write(folder, classes, files, size=(40, 30)):
    """Write a json with one object of each of the first classes in every image; returns its path."""
    width, height = size
    images = [
        dict(id=i, file_name=name, width=width, height=height) for i, name in enumerate(files)
    ]
    annotations = [
        dict(
            id=i,
            image_id=i,
            category_id=i % 3 + 1,
            bbox=[2, 3, 10, 12],
            area=120,
            iscrowd=0,
            segmentation=[[2, 3, 12, 3, 12, 15, 2, 15]]) for i in range(len(files))
    ]
    # in another order than their ids, as in Objects365
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)][::-1]
    path = folder / 'truth.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return str(path)


@pytest.mark.parametrize('cls, number, first, last', [
    (Objects365V1Dataset, 365, 'person', 'flashlight'),
    (Objects365V2Dataset, 365, 'Person', 'Table Tennis '),
    (DeepFashionDataset, 15, 'top', 'face'),
])
def test_labels_follow_the_ids_of_the_categories(cls, number, first, last, tmp_path):
    assert len(cls.CLASSES) == len(set(cls.CLASSES)) == number
    assert (cls.CLASSES[0], cls.CLASSES[-1]) == (first, last)
    data = cls(write(tmp_path, cls.CLASSES, ['a.jpg', 'b.jpg', 'c.jpg']), [], test_mode=True)
    assert data.cat_ids == list(range(1, number + 1))
    assert [data.get_ann_info(index)['labels'].tolist() for index in range(3)] == [[0], [1], [2]]


@pytest.mark.parametrize('test_mode', [True, False])
def test_objects365_v2_is_read_from_its_patches_without_the_images_that_are_not_there(
        test_mode, tmp_path):
    files = [
        'images/v1/patch8/objects365_v1_00420917.jpg',
        'images/v2/patch16/objects365_v2_00908726.jpg',
        'images/v2/patch16/objects365_v2_00908727.jpg'
    ]
    path = write(tmp_path, Objects365V2Dataset.CLASSES, files, size=(64, 48))
    data = Objects365V2Dataset(path, [], test_mode=test_mode)
    names = ['patch8/objects365_v1_00420917.jpg', 'patch16/objects365_v2_00908727.jpg']
    assert [info['filename'] for info in data.data_infos] == names and data.img_ids == [0, 2]
    assert data.get_ann_info(1)['labels'].tolist() == [2]
    found = [[np.zeros((0, 5), np.float32)] * 365 for _ in names]
    for index, label in enumerate((0, 2)):
        found[index][label] = np.array([[2, 3, 12, 15, .9]], np.float32)
    assert data.evaluate(found, logger='silent')['bbox_mAP'] == 1


CLASSES = ('cat', 'dog', 'bird')


def square(left, top, right, bottom):
    mask = np.zeros((30, 40), np.uint8, order='F')
    mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture
def occluded(tmp_path):
    """Two images; a set of two occluded objects, and one of a separated one."""

    def build(*more):
        sets = dict(
            occluded=[('a.jpg', 'cat', 0, [2, 3, 10, 12], mask_api.encode(square(2, 3, 12, 15))),
                      ('b.jpg', 'dog', 0, [2, 3, 10, 12], mask_api.encode(square(2, 3, 12, 15)))],
            separated=[('b.jpg', 'dog', 0, [0, 0, 9, 9], mask_api.encode(square(0, 0, 9, 9))),
                       *more])
        for name, items in sets.items():
            (tmp_path / f'{name}.pkl').write_bytes(pickle.dumps(items))
        return OccludedSeparatedCocoDataset(
            write(tmp_path, CLASSES, ['a.jpg', 'b.jpg']), [],
            classes=CLASSES,
            data_root=str(tmp_path),
            test_mode=True,
            occluded_ann='occluded.pkl',
            separated_ann='separated.pkl')

    return build


def result(label, mask, score, as_runs=False):
    boxes, masks = [np.zeros((0, 5), np.float32) for _ in CLASSES], [[] for _ in CLASSES]
    boxes[label] = np.array([[0, 0, 9, 9, score]], np.float32)
    masks[label] = [mask_api.encode(mask) if as_runs else mask.astype(bool)]
    return boxes, masks


def test_the_recall_of_occluded_and_separated_objects(occluded):
    data = occluded()
    near = square(2, 3, 12, 12)  # IoU 0.75
    found = [result(0, near, .3, as_runs=True), result(1, square(0, 0, 9, 9), .9)]
    values = data.evaluate(found, logger='silent')
    assert values == dict(occluded_recall=50., separated_recall=100.)
    assert data.evaluate(found, logger='silent', iou_thr=.76)['occluded_recall'] == 0
    assert data.evaluate(found, logger='silent', score_thr=.31)['occluded_recall'] == 0
    other_class = [result(1, near, .9), result(0, square(0, 0, 9, 9), .9)]
    assert data.evaluate(
        other_class, logger='silent') == dict(
            occluded_recall=0., separated_recall=0.)
    values = data.evaluate(found, metric=['bbox', 'segm'], logger='silent')
    assert {'bbox_mAP', 'segm_mAP', 'occluded_recall'} <= set(values)


def test_results_and_sets_that_do_not_fit_are_named(occluded, tmp_path):
    boxes = [result(0, square(2, 3, 12, 15), .9)[0]] * 2
    with pytest.raises(DataError, match='needs masks'):
        occluded().evaluate(boxes, logger='silent')
    data = occluded(('z.jpg', 'dog', 0, [0, 0, 9, 9], mask_api.encode(square(0, 0, 9, 9))))
    with pytest.raises(DataError, match="does not list 'z.jpg'"):
        data.evaluate([result(0, square(2, 3, 12, 15), .9)] * 2, logger='silent')
    (tmp_path / 'occluded.pkl').write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match='is not a list of'):
        OccludedSeparatedCocoDataset(
            str(tmp_path / 'truth.json'), [],
            classes=CLASSES,
            test_mode=True,
            occluded_ann=str(tmp_path / 'occluded.pkl'))
