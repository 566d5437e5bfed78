"""Names in other Unicode forms, sizes that are listed wrongly, ids and labels that are shifted, results of others."""
import functools
import json
import logging
import pickle
import unicodedata

import cv2
import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.painting import Painter
from mmdet_ft.engine.reporting.results import read_results
from mmdet_ft.engine.run_check.data import check_data
from tests.datasets import formats
from tests.datasets.formats import Thing

NFC, NFD = (unicodedata.normalize(form, 'Käfer') for form in ('NFC', 'NFD'))
IMAGES = [[Thing(NFD, (10, 10, 50, 60)), Thing('Car', (60, 10, 100, 60))], []]
KINDS = [('XMLDataset', 'voc', formats.write_voc), ('KittiDataset', 'kitti', formats.write_kitti),
         ('LabelmeDataset', 'labelme', formats.write_labelme)]
EXPORTS = [('YOLODataset', 'yolo', functools.partial(formats.write_yolo, names=(NFD, 'Car'))),
           ('CVATDataset', 'cvat', formats.write_cvat),
           ('LabelStudioDataset', 'label_studio', formats.write_label_studio)]


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    return caplog


def built(kind, paths, classes=(NFC, 'Car'), **more):
    return build_dataset(dict(type=kind, classes=classes, pipeline=[], **{**paths, **more}))


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize('kind, name, write', KINDS + EXPORTS)
def test_a_class_in_another_unicode_form_is_that_class(kind, name, write, tmp_path, told):
    dataset = built(kind, write(tmp_path / 'a', IMAGES), test_mode=True)
    assert dataset.get_ann_info(0)['labels'].tolist() == [0, 1]
    assert 'NFC and NFD' in told.text
    told.clear()
    built(kind, write(tmp_path / 'b', IMAGES), classes=(NFD, 'Car'))
    assert 'NFC and NFD' not in told.text


@pytest.mark.parametrize('kind, name, write', KINDS)
def test_a_converter_makes_one_class_of_both_forms(kind, name, write, tmp_path, convert, capsys):
    both = [[*IMAGES[0], Thing(NFC, (110, 10, 150, 60))], []]
    write(tmp_path / 'a', both)
    words = ['--classes', NFC, 'Car'] if name == 'kitti' else []
    convert(name, tmp_path / 'a', '--out', tmp_path / 'a.json', *words)
    content = json.loads((tmp_path / 'a.json').read_text())
    assert len(content['categories']) == 2 and len(content['annotations']) == 3
    assert 'NFC and NFD' in capsys.readouterr().out


@pytest.mark.parametrize('kind, name, write', KINDS[:2])
def test_files_are_found_in_another_unicode_form(kind, name, write, tmp_path, convert):
    paths = write(tmp_path / 'a', IMAGES)
    for path in [*(tmp_path / 'a').rglob('image_0.*')]:
        path.rename(path.with_name(path.name.replace('image_0', NFD)))
    (tmp_path / 'list.txt').write_text(f'{NFC}\nimage_1\n')
    dataset = built(kind, dict(paths, ann_file=str(tmp_path / 'list.txt')), test_mode=True)
    assert len(dataset.get_ann_info(0)['labels']) == 2
    convert(name, tmp_path / 'a', '--list', tmp_path / 'list.txt', '--out', tmp_path / 'a.json',
            '--classes', NFC, 'Car')
    assert len(json.loads((tmp_path / 'a.json').read_text())['images']) == 2


def test_two_categories_that_look_the_same_are_refused(tmp_path):
    paths = formats.write_coco_json(tmp_path, formats.draw_things(2))
    content = json.loads((tmp_path / 'annotations.json').read_text())
    for category, name in zip(content['categories'], (NFC, NFD)):
        category['name'] = name
    (tmp_path / 'annotations.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match='has the category ids'):
        built('CocoDataset', paths, classes=(NFC, ))
    with pytest.raises(DataError, match='twice'):
        built('CocoDataset', paths, classes=(NFC, NFD))


def test_class_folders_are_found_in_another_unicode_form(tmp_path, told):
    for split, names in (('train', (NFC, 'cat', 'Cat')), ('val', (NFD, 'cat', 'Cat'))):
        for name in names:
            formats.write_images(tmp_path / split / name, IMAGES)
    train, val = (
        build_dataset(dict(type='CustomDataset', data_prefix=str(tmp_path / split), pipeline=[]))
        for split in ('train', 'val'))
    assert list(train.CLASSES) == list(val.CLASSES) == ['Cat', NFC, 'cat']
    assert train.get_gt_labels().tolist() == val.get_gt_labels().tolist()
    assert "'Cat' and 'cat'" in told.text
    named = build_dataset(
        dict(
            type='CustomDataset',
            data_prefix=str(tmp_path / 'val'),
            classes=('cat', NFC, 'Cat'),
            pipeline=[]))
    assert sorted(set(named.get_gt_labels().tolist())) == [0, 1, 2]
    formats.write_images(tmp_path / 'val' / NFC, IMAGES)
    with pytest.raises(DataError, match='two folders named'):
        build_dataset(dict(type='CustomDataset', data_prefix=str(tmp_path / 'val'), pipeline=[]))


# ------------------------------------------------------------------------------ sizes


def list_size(name, root, width, height):
    """Write another size into the annotations of the first image."""
    if name == 'labelme':
        path = root / 'image_0.json'
        content = json.loads(path.read_text())
        content.update(imageWidth=width, imageHeight=height)
        path.write_text(json.dumps(content))
    else:
        path = root / 'Annotations' / 'image_0.xml'
        text = path.read_text().replace('<width>160<', f'<width>{width}<')
        path.write_text(text.replace('<height>120<', f'<height>{height}<'))


@pytest.mark.parametrize('kind, name, write', [KINDS[0], KINDS[2]])
def test_the_image_decides_where_the_boxes_are_of_it(kind, name, write, tmp_path, convert, capsys):
    write(tmp_path / 'a', [[Thing('Car', (100, 10, 150, 60))], []])
    list_size(name, tmp_path / 'a', 120, 160)
    convert(name, tmp_path / 'a', '--out', tmp_path / 'a.json')
    image = json.loads((tmp_path / 'a.json').read_text())['images'][0]
    assert (image['width'], image['height']) == (160, 120)
    assert 'another size than the image has, which is taken: 1 images' in capsys.readouterr().out


@pytest.mark.parametrize('kind, name, write', [KINDS[0], KINDS[2]])
@pytest.mark.parametrize('box', [(200, 100, 300, 200), (10, 10, 50, 50)], ids=['listed', 'either'])
def test_boxes_that_may_be_of_the_listed_size_are_not_converted(kind, name, write, box, tmp_path,
                                                                convert, capsys):
    paths = write(tmp_path / 'a', [[Thing('Car', box)], []])
    list_size(name, tmp_path / 'a', 320, 240)
    with pytest.raises(SystemExit):
        convert(name, tmp_path / 'a', '--out', tmp_path / 'a.json')
    said = capsys.readouterr().err
    assert 'is listed as 320 x 240 pixels' in said and 'it is 160 x 120' in said and 'To fix' in said
    config = Config(dict(data=dict(train=dict(type=kind, classes=('Car', ), pipeline=[], **paths))))
    assert 'image size differs' in [
        problem.kind for problem in check_data(config, workers=0).problems
    ]


# ------------------------------------------------------------------------------ ids and labels


def shifted(root, ids, listed):
    """A json whose annotations are of these ids, and whose categories are `listed`."""
    paths = formats.write_coco_json(root, formats.draw_things(2))
    content = json.loads((root / 'annotations.json').read_text())
    content['categories'] = [dict(id=id_, name=name) for id_, name in listed]
    for index, annotation in enumerate(content['annotations']):
        annotation.update(category_id=ids[index % len(ids)], iscrowd=0)
    (root / 'annotations.json').write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize('ids, listed, words', [
    ((0, 1), ((1, 'a'), (2, 'b')), 'Add 1 to each category_id'),
    ((0, ), ((1, 'a'), ), 'Add 1 to each category_id'),
    ((1, 2), ((0, 'a'), (1, 'b')), 'Subtract 1 from each category_id'),
    ((0, 1), ((0, '_background_'), (1, 'a'),
              (2, 'b')), "objects of '_background_'.*[aA]dd 1 to each category_id"),
])
@pytest.mark.parametrize('test_mode', [True, False])
def test_ids_that_are_shifted_by_one_are_refused(ids, listed, words, test_mode, tmp_path):
    paths = shifted(tmp_path, ids, listed)
    classes = [name for _, name in listed if name in 'ab']
    with pytest.raises(DataError, match=words):
        built('CocoDataset', paths, classes=classes, test_mode=test_mode)
    split = dict(type='CocoDataset', classes=classes, pipeline=[], **paths)
    problems = [
        problem for problem in check_data(Config(dict(data=dict(train=split))), workers=0).problems
        if problem.stops
    ]
    assert [problem.kind for problem in problems] == ['category ids shifted']


@pytest.mark.parametrize(
    'ids, listed',
    [
        ((0, 1, 2), ((1, 'a'), (2, 'b'))),  # 0 may stand for what has no class
        ((1, 2), ((0, 'background'), (1, 'a'), (2, 'b'))),
        ((0, 1, 2), ((0, 'background'), (1, 'a'), (2, 'b'))),
        ((0, 1), ((0, 'a'), (1, 'b'))),
        ((5, ), ((5, 'a'), (9, 'b'))),
    ])
def test_ids_that_may_be_right_are_trained_on(ids, listed, tmp_path):
    dataset = built('CocoDataset', shifted(tmp_path, ids, listed), classes=('a', 'b'))
    label = {id_: 'ab'.index(name) for id_, name in listed if name in 'ab'}
    assert set(
        dataset.get_ann_info(0)['labels'].tolist()) == {label[id_]
                                                        for id_ in ids if id_ in label}


@pytest.mark.parametrize('labels, words', [
    ([1], 'name all 2 classes in `classes`, .* or subtract 1'),
    ([3], 'name all 4 classes in `classes`, in the order of the labels\n'),
    ([-1], 'labels below 0 are none'),
])
def test_labels_past_the_classes_say_what_to_write(labels, words, tmp_path):
    record = dict(
        filename='a.png', width=64, height=64, ann=dict(bboxes=[[1, 2, 30, 40]], labels=labels))
    (tmp_path / 'a.json').write_text(json.dumps([record]))
    with pytest.raises(DataError, match=words):
        built('CustomDataset', dict(ann_file=str(tmp_path / 'a.json')), classes=('car', ))


# ------------------------------------------------------------------------------ results

NOTHING = np.zeros((0, 5), np.float32)
BOX = np.array([[1, 2, 30, 40, .5]], np.float32)


@pytest.mark.parametrize('results, words', [
    ([], '0 results and data.test 2 images'),
    ([[BOX, NOTHING]] * 3, '3 results and data.test 2 images'),
    (dict(a=1), 'holds a dict'),
    ([[BOX]] * 2, 'has 1 classes and data.test has 2: .*name all 1 classes'),
    ([[BOX, NOTHING], [BOX, NOTHING, NOTHING]], 'result of image 1 has 3 classes'),
    ([[BOX, NOTHING], dict(bboxes=BOX[:, :4], labels=[0])
      ], 'result of image 1 is .*annotation of the middle format'),
    ([[BOX[:, :4], NOTHING]] * 2, r'expected a list with an array \[n, 5\]'),
    ([None, [BOX, NOTHING]], 'result of image 0 is None'),
])
def test_results_that_are_none_are_refused_by_image(results, words, tmp_path):
    paths = formats.write_kitti(tmp_path / 'a', [[Thing('Car', (10, 10, 50, 60))], []])
    dataset = built('KittiDataset', paths, classes=('Car', 'Cyclist'), test_mode=True)
    (tmp_path / 'r.pkl').write_bytes(pickle.dumps(results))
    with pytest.raises(UserError, match=words):
        read_results(str(tmp_path / 'r.pkl'), dataset, 'c.py')


def test_results_of_a_classifier_with_other_labels_are_refused(tmp_path):
    for name in ('cat', 'dog'):
        (tmp_path / 'all' / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'all' / name / '0.png'), np.zeros((8, 8, 3), np.uint8))
    cfg = dict(type='CustomDataset', data_prefix=str(tmp_path / 'all'), pipeline=[], test_mode=True)
    dataset = build_dataset(cfg)
    path = str(tmp_path / 'r.pkl')
    scores = [np.array([.9, .1]), np.array([.2, .8])]
    with open(path, 'wb') as file:
        pickle.dump(dataset.result_items(scores), file)
    assert np.array_equal(read_results(path, dataset, 'c.py'), scores)
    with pytest.raises(UserError, match="label 0 is 'cat' there, and 'dog' in data.test"):
        read_results(path, build_dataset(dict(cfg, classes=('dog', 'cat'))), 'c.py')


def test_a_picture_of_a_classifiers_test_is_painted(tmp_path):
    (tmp_path / 'all' / 'cat').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'all' / 'cat' / '0.png'), np.full((8, 8, 3), 7, np.uint8))
    dataset = build_dataset(
        dict(type='CustomDataset', data_prefix=str(tmp_path / 'all'), pipeline=[], test_mode=True))
    painter = Painter(dataset, ('cat', 'dog'), None)
    assert painter.paint(0, np.array([.9, .1])).any()


def test_results_of_other_images_are_told_and_empty_ones_evaluated(tmp_path, told):
    paths = formats.write_kitti(tmp_path / 'a', [[Thing('Car', (10, 10, 50, 60))], []])
    cv2.imwrite(str(tmp_path / 'a' / 'image_2' / 'image_1.png'), np.zeros((30, 20, 3), np.uint8))
    dataset = built('KittiDataset', paths, classes=('Car', 'Cyclist'), test_mode=True)
    right = [[np.array([[10, 10, 50, 60, .9]], np.float32), NOTHING], [NOTHING, NOTHING]]
    for results, is_told in ((right, False), (right[::-1], True), ([[NOTHING, NOTHING]] * 2,
                                                                   False)):
        told.clear()
        (tmp_path / 'r.pkl').write_bytes(pickle.dumps(results))
        read = read_results(str(tmp_path / 'r.pkl'), dataset, 'c.py')
        assert ('in its order?' in told.text) == is_told
        for metric in ('mAP', ['mAP'], ('mAP', ), 'recall', 'kitti', ['kitti'], ('kitti', )):
            assert dataset.evaluate(read, metric=metric, logger='silent')
    assert dataset.evaluate(right, metric='mAP', logger='silent')['mAP'] == 1
    with pytest.raises(DataError, match='1 results for the 2 images'):
        dataset.evaluate(right[:1], logger='silent')
