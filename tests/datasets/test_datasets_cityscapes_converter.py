"""The Cityscapes converter on a drawn folder in the official layout."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.loading.collate import collate
from .conftest import train_pipeline

SCRIPT = Path(__file__).parents[2] / 'tools/dataset_converters/cityscapes.py'


def draw_city(root, split, city, number=2):
    """Images with two persons, a car in two parts, a group of bicycles, a caravan, sky and road."""
    images, truth = root / 'leftImg8bit' / split / city, root / 'gtFine' / split / city
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    for frame in range(number):
        ids = np.zeros((60, 100), dtype=np.uint16)
        ids[:20] = 23  # sky
        ids[40:] = 7
        ids[20:50, 5:15] = 24000
        ids[20:50, 20:30 + frame] = 24001
        ids[30:45, 40:50] = 26003
        ids[30:45, 55:60] = 26003
        ids[30:50, 70:80] = 33  # a group
        ids[30:50, 85:95] = 29001  # caravan: not evaluated
        stem = f'{city}_{frame:06d}_000019_'
        cv2.imwrite(
            str(images / f'{stem}leftImg8bit.png'), np.full((60, 100, 3), 90 + frame, np.uint8))
        cv2.imwrite(str(truth / f'{stem}gtFine_instanceIds.png'), ids)
        cv2.imwrite(str(truth / f'{stem}gtFine_labelIds.png'), (ids // 1000).astype(np.uint8))


def convert(root, *arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(root), *arguments], capture_output=True, text=True)


@pytest.fixture
def city_root(tmp_path):
    draw_city(tmp_path, 'train', 'b-town')
    draw_city(tmp_path, 'train', 'aachen', 1)
    draw_city(tmp_path, 'val', 'c-city', 1)
    return tmp_path


def test_the_official_layout_becomes_v2s_json(city_root):
    done = convert(city_root, '-o', str(city_root / 'annotations'), '--nproc', '2')
    assert done.returncode == 0, done.stderr
    assert 'train: 3 images, 12 instances (3 groups)' in done.stdout and 'test: skipped' in done.stdout
    content = json.loads(
        (city_root / 'annotations/instancesonly_filtered_gtFine_train.json').read_text())
    assert [image['file_name'] for image in content['images']] == [
        f'{city}/{city}_{frame:06d}_000019_leftImg8bit.png'
        for city, frame in (('aachen', 0), ('b-town', 0), ('b-town', 1))
    ]
    first = content['images'][0]
    assert (first['width'], first['height'], first['id']) == (100, 60, 0)
    assert first['segm_file'] == 'aachen/aachen_000000_000019_gtFine_labelIds.png'
    assert [category['id']
            for category in content['categories']] == [24, 25, 26, 27, 28, 31, 32, 33]
    assert [category['name']
            for category in content['categories']] == list(CityscapesDataset.CLASSES)
    found = [item for item in content['annotations'] if item['image_id'] == 0]
    assert [(item['category_id'], item['iscrowd'], item['bbox'], item['area'])
            for item in found] == [(33, 1, [70, 30, 10, 20], 200), (24, 0, [5, 20, 10, 30], 300),
                                   (24, 0, [20, 20, 10, 30], 300), (26, 0, [40, 30, 20, 15], 225)]
    expected = np.zeros((60, 100), np.uint8)
    expected[30:45, 40:50] = expected[30:45, 55:60] = 1
    np.testing.assert_array_equal(mask_api.decode(found[3]['segmentation']), expected)
    ids = [item['id'] for item in content['annotations']]
    assert ids == list(range(1, 13))  # never 0

    dataset = CityscapesDataset(
        ann_file=str(city_root / 'annotations/instancesonly_filtered_gtFine_train.json'),
        img_prefix=str(city_root / 'leftImg8bit/train'),
        pipeline=train_pipeline(
            keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks', 'gt_bboxes_ignore']))
    batch = collate([dataset[index] for index in range(3)])
    assert batch.gt.labels[0, :3].tolist() == [0, 0, 2] and batch.gt.ignore_valid.sum() == 3
    assert dataset.get_ann_info(0)['seg_map'] == first['segm_file']


def test_the_output_goes_beside_the_data_by_default(city_root):
    assert convert(city_root).returncode == 0
    assert (city_root / 'instancesonly_filtered_gtFine_val.json').is_file()


def test_wrong_layouts_are_explained(city_root, tmp_path_factory):
    empty = tmp_path_factory.mktemp('empty')
    done = convert(empty)
    assert done.returncode != 0 and f'no folder {empty}/leftImg8bit' in done.stderr
    (empty / 'leftImg8bit').mkdir(), (empty / 'gtFine').mkdir()
    done = convert(empty)
    assert done.returncode != 0 and 'nothing to convert' in done.stderr
    next((city_root / 'gtFine/train/b-town').glob('*000001*instanceIds.png')).unlink()
    done = convert(city_root)
    assert done.returncode != 0 and 'b-town_000001_000019_gtFine_instanceIds.png is missing' in done.stderr


def test_a_split_without_truth_is_skipped(city_root):
    (city_root / 'leftImg8bit/test/d-dorf').mkdir(parents=True)
    done = convert(city_root)
    assert done.returncode == 0 and 'test: skipped, there are no instanceIds' in done.stdout


def test_the_official_metric_gives_one_for_the_truth(city_root):
    pytest.importorskip('cityscapesscripts')
    assert convert(city_root, '-o', str(city_root / 'annotations')).returncode == 0
    dataset = CityscapesDataset(
        ann_file=str(city_root / 'annotations/instancesonly_filtered_gtFine_train.json'),
        img_prefix=str(city_root / 'leftImg8bit/train'),
        pipeline=[],
        test_mode=True)
    results = []
    for index in range(len(dataset)):
        info = dataset.get_ann_info(index)
        boxes, masks = [np.zeros((0, 5), np.float32) for _ in range(8)], [[] for _ in range(8)]
        for box, label, mask in zip(info['bboxes'], info['labels'], info['masks']):
            boxes[label] = np.vstack([boxes[label], [[*box, .9]]]).astype(np.float32)
            masks[label].append(mask)
        results.append((boxes, masks))
    values = dataset.evaluate(results, metric=['cityscapes', 'segm'], logger='silent')
    assert values['AP@50'] == pytest.approx(1.0) and values['segm_mAP'] == 1.0
