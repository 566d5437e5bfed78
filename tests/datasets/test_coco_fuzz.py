"""About 1,000 random mutations of jsons in COCO's form: each is read, or refused by one DataError with its place.

What is read can be used: its masks are drawn, and it can be evaluated on. check_data and training agree on each.
"""
import json
import logging

import numpy as np
import pytest

from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.detection.lvis import LVISDataset
from mmdet_ft.datasets.errors import DataError
from tests.datasets.conftest import tiny_coco
from tests.datasets.fuzz import assert_all_agree, limited, mutate

MASKS = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


@pytest.fixture(autouse=True)
def quiet():
    logger = logging.getLogger('mmdet_ft')
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def cityscapes_content():
    content = tiny_coco()
    for category, name in zip(content['categories'], ('person', 'rider', 'car', 'train')):
        category['name'] = name
    for image in content['images']:
        image['segm_file'] = image['file_name'].replace('.png', '_labelIds.png')
    return content


def lvis_content():
    content = tiny_coco()
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/val2017/{image.pop("file_name")}'
        image.update(neg_category_ids=[90], not_exhaustive_category_ids=[])
    for category in content['categories']:
        category['frequency'] = 'f'
    return content


KINDS = dict(
    coco=('CocoDataset', tiny_coco, ('person', 'stop sign', 'zebra'), 500),
    cityscapes=('CityscapesDataset', cityscapes_content, ('person', 'rider', 'car'), 250),
    lvis=('LVISV1Dataset', lvis_content, None, 250))


@pytest.mark.parametrize('name', KINDS)
def test_mutated_jsons_are_read_or_refused_by_training_and_check_data_alike(tmp_path, name):
    kind, make, classes, number = KINDS[name]
    content = make()

    def write(changed):
        (tmp_path / 'train.json').write_text(json.dumps(changed))
        return dict(
            type=kind,
            classes=classes,
            ann_file=str(tmp_path / 'train.json'),
            img_prefix=str(tmp_path),
            pipeline=MASKS)

    messages = assert_all_agree(content, write, number, seed=0, names=['train.json'])
    assert number * .2 < len(messages) < number * .8  # the mutations reach both sides
    assert len({message.split(' has ')[-1][:20] for message in messages}) > 15


@pytest.mark.parametrize('kind, make, classes', [
    (CocoDataset, tiny_coco, ('person', 'stop sign', 'zebra')),
    (CityscapesDataset, cityscapes_content, ('person', 'rider', 'car')),
    (LVISDataset, lvis_content, None),
])
def test_what_is_read_of_mutated_jsons_can_be_drawn_and_evaluated_on(tmp_path, kind, make, classes):
    content = make()
    for position in range(60):
        rng = np.random.default_rng((1, position))
        changed = content
        for _ in range(2):
            changed, what = mutate(changed, rng)
        (tmp_path / 'train.json').write_text(json.dumps(changed))
        settings = dict(
            ann_file=str(tmp_path / 'train.json'), img_prefix=str(tmp_path), classes=classes)
        with limited():
            try:
                dataset = kind(pipeline=MASKS, **settings)
                for index in range(len(dataset)):
                    sample = dataset.prepare_train_img(index)
                    assert len(sample['gt_masks'].to_ndarray()) == len(sample['gt_labels'])
                    assert np.isfinite(sample['gt_bboxes']).all()
                truth = kind(pipeline=[], test_mode=True, **settings)
                truth.check_metrics(metric=['bbox', 'segm'])
                boxes = [np.array([[1, 1, 20, 20, .5]], dtype=np.float32)] * len(truth.CLASSES)
                results = []
                for info in truth.data_infos:
                    shape = info['height'], info['width']
                    if shape[0] * shape[1] > 1e6:
                        break
                    masks = [[np.ones(shape, dtype=np.uint8)] for _ in truth.CLASSES]
                    results.append((boxes, masks))
                if len(results) == len(truth) and results and truth.CLASSES:
                    CocoDataset.evaluate(truth, results, ['bbox', 'segm'], 'silent')
            except DataError as error:
                assert 'train.json' in str(error), what
