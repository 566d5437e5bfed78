"""Ground truth fed back as predictions scores 1.000, for every kind of data set and metric."""
import importlib.util
import json
import pickle

import numpy as np
import pytest

from mmdet_ft.datasets.build import build_dataset
from . import formats

CLASSES = ('Pedestrian', 'Car', 'Cyclist')
# another order than any file has, and a part of them
CHOICES = [CLASSES, ('Car', 'Cyclist', 'Pedestrian'), ('Cyclist', 'Car'), ('Pedestrian', )]


def write_custom(root, images, classes, as_json):
    formats.write_images(root, images)
    content = formats.middle_content(images, classes)
    if as_json:
        path = root / 'middle.json'
        path.write_text(json.dumps(content, default=np.ndarray.tolist))
    else:
        path = root / 'middle.pkl'
        path.write_bytes(pickle.dumps(content))
    return dict(ann_file=str(path), img_prefix=str(root))


def write_wider(root, images):
    return formats.write_voc(root, images, img_subdir='0--Parade')


def write_yolo_outlines(root, images):
    return formats.write_yolo(root, images, outlines=True)


KINDS = {
    'VOC2007': ('VOCDataset', formats.write_voc, 'mAP', 'mAP', 'VOC2007'),
    'VOC2012': ('VOCDataset', formats.write_voc, 'mAP', 'mAP', 'VOC2012'),
    'xml': ('XMLDataset', formats.write_voc, 'mAP', 'mAP', 'cells'),
    'wider': ('WIDERFaceDataset', write_wider, 'mAP', 'mAP', 'WIDER_train'),
    'recall': ('XMLDataset', formats.write_voc, 'recall', 'recall@100@0.5', 'cells'),
    'kitti': ('KittiDataset', formats.write_kitti, 'kitti', 'moderate_mAP', 'training'),
    'kitti VOC': ('KittiDataset', formats.write_kitti, 'mAP', 'mAP', 'training'),
    'coco bbox': ('CocoDataset', formats.write_coco_json, 'bbox', 'bbox_mAP', 'coco'),
    'coco segm': ('CocoDataset', formats.write_coco_json, 'segm', 'segm_mAP', 'coco'),
    'labelme bbox': ('LabelmeDataset', formats.write_labelme, 'bbox', 'bbox_mAP', 'labelme'),
    'labelme segm': ('LabelmeDataset', formats.write_labelme, 'segm', 'segm_mAP', 'labelme'),
    'yolo bbox': ('YOLODataset', formats.write_yolo, 'bbox', 'bbox_mAP', 'yolo'),
    'yolo segm': ('YOLODataset', write_yolo_outlines, 'segm', 'segm_mAP', 'yolo'),
    'cvat bbox': ('CVATDataset', formats.write_cvat, 'bbox', 'bbox_mAP', 'cvat'),
    'label studio':
    ('LabelStudioDataset', formats.write_label_studio, 'bbox', 'bbox_mAP', 'export'),
    'lvis': ('LVISV1Dataset', formats.write_lvis, 'bbox', 'bbox_AP', 'lvis'),
    'lvis segm': ('LVISV1Dataset', formats.write_lvis, 'segm', 'segm_AP', 'lvis'),
}


@pytest.mark.parametrize('classes', CHOICES, ids='-'.join)
@pytest.mark.parametrize('kind', KINDS)
def test_truth_fed_back_scores_one(kind, classes, tmp_path):
    name, write, metric, key, folder = KINDS[kind]
    if name.startswith('LVIS') and importlib.util.find_spec('lvis') is None:
        key = key.replace('_AP', '_mAP')  # COCO's metric takes its place
    paths = write(tmp_path / folder, formats.draw_things())
    dataset = build_dataset(dict(type=name, classes=classes, pipeline=[], test_mode=True, **paths))
    assert dataset.CLASSES == classes and len(dataset) == 5
    values = dataset.evaluate(formats.fed_back(dataset, metric == 'segm'), metric, logger='silent')
    assert values[key] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('as_json', [True, False])
@pytest.mark.parametrize('classes', CHOICES, ids='-'.join)
def test_truth_in_the_middle_format_fed_back_scores_one(classes, as_json, tmp_path):
    paths = write_custom(tmp_path, formats.draw_things(), classes, as_json)
    dataset = build_dataset(
        dict(type='CustomDataset', classes=classes, pipeline=[], test_mode=True, **paths))
    values = dataset.evaluate(formats.fed_back(dataset), iou_thr=[.5, .75], logger='silent')
    assert values == {'AP50': 1.0, 'AP75': 1.0, 'mAP': 1.0}


@pytest.mark.parametrize('write, kind', [(formats.write_coco_json, 'CocoDataset'),
                                         (formats.write_voc, 'XMLDataset'),
                                         (formats.write_kitti, 'KittiDataset')])
def test_a_label_means_the_same_in_train_and_val_whatever_their_order(write, kind, tmp_path):
    images = formats.draw_things()
    train = write(tmp_path / 'train', images)
    if kind == 'CocoDataset':  # the same ids, listed the other way round
        val = write(tmp_path / 'val', images[::-1], names=formats.NAMES[::-1])
        other_ids = write(tmp_path / 'other', images, ids=(1, 2, 3, 4))
    else:
        val = write(tmp_path / 'val', images[::-1])
        other_ids = None
    sets = [
        build_dataset(dict(type=kind, classes=CLASSES, pipeline=[], test_mode=True, **paths))
        for paths in (train, val, other_ids) if paths
    ]
    things = {
        thing.box: thing.name
        for image in images
        for thing in image if thing.name in CLASSES and not thing.ignored
    }
    for dataset in sets:
        found = {}
        for index in range(len(dataset)):
            annotation = dataset.get_ann_info(index)
            found.update({
                tuple(box): CLASSES[label]
                for box, label in zip(annotation['bboxes'].tolist(), annotation['labels'].tolist())
            })
        assert found == things


def test_both_years_of_voc_are_one_set_and_are_evaluated_apart_or_together(tmp_path):
    first, second = formats.draw_things(4, seed=1), formats.draw_things(3, seed=2)
    paths = [
        formats.write_voc(tmp_path / 'VOC2007', first),
        formats.write_voc(tmp_path / 'VOC2012', second)
    ]
    for separately in (True, False):
        dataset = build_dataset(
            dict(
                type='VOCDataset',
                classes=CLASSES,
                pipeline=[],
                test_mode=True,
                separate_eval=separately,
                ann_file=[item['ann_file'] for item in paths],
                img_prefix=[item['img_prefix'] for item in paths]))
        assert [part.year for part in dataset.datasets] == [2007, 2012] and len(dataset) == 7
        values = dataset.evaluate(formats.fed_back(dataset), logger='silent')
        names = ('0_mAP', '0_AP50', '1_mAP', '1_AP50') if separately else ('mAP', 'AP50')
        assert {key: round(value, 6) for key, value in values.items()} == dict.fromkeys(names, 1.0)


def test_wrappers_nest_around_lists_of_voc(tmp_path):
    lists = [
        formats.write_voc(tmp_path / f'VOC{year}', formats.draw_things(3, seed=year))
        for year in (2007, 2012)
    ]
    both = dict(
        type='VOCDataset',
        classes=CLASSES,
        pipeline=[],
        ann_file=[item['ann_file'] for item in lists],
        img_prefix=[item['img_prefix'] for item in lists])
    dataset = build_dataset(
        dict(
            type='ClassBalancedDataset',
            oversample_thr=1e-3,
            dataset=dict(type='RepeatDataset', times=3, dataset=[both, both])))
    inner = dataset.dataset.dataset
    assert len(inner) == 8 and len(dataset) == 24 and dataset.CLASSES == CLASSES
    assert [len(dataset.get_ann_info(index)['labels']) for index in range(8)
            ] == [len(inner.get_ann_info(index)['labels']) for index in range(8)]
    assert set(dataset.get_cat_ids(23)) <= {0, 1, 2}
