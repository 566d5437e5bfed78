"""YOLO's text files and data.yaml: what becomes a sample, and what is refused with file and line."""
import os

import numpy as np
import pytest

from mmdet_ft.datasets.annotations.data_yaml import folders_of, parse_data_yaml
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.detection.yolo import YOLODataset, label_path, read_yolo_label
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from . import formats
from .conftest import train_pipeline
from .formats import HEIGHT, WIDTH, Thing

IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Tram', (60, 20, 90, 60))], [Thing('Pedestrian', (5, 5, 30, 50))], []]


def dataset(root, outlines=False, **settings):
    paths = formats.write_yolo(root, IMAGES, outlines)
    return YOLODataset(**{**dict(pipeline=[], test_mode=True), **paths, **settings})


def labels_of(text, tmp_path, **settings):
    path = tmp_path / 'a.txt'
    path.write_text(text)
    return read_yolo_label(str(path), **settings)


# Lines


def test_a_box_is_its_center_and_size_and_an_outline_its_points(tmp_path):
    found = labels_of('1 0.5 0.4 0.2 0.1\n\n 0 0.1 0.2 0.3 0.2 0.3 0.6\n', tmp_path)
    assert found.classes == [1, 0] and found.lines == [1, 3]
    assert np.allclose(found.boxes, [[.4, .35, .6, .45], [.1, .2, .3, .6]])
    assert found.outlines[0] is None
    assert found.outlines[1].tolist() == [[.1, .2], [.3, .2], [.3, .6]]


@pytest.mark.parametrize('line, message', [
    ('0 0.5 0.5 0.1', "found '0 0.5 0.5 0.1', expected class x y width height"),
    ('0 0.5 0.5 0.1 0.1 0.93', '6 columns, of which the last is a score: these are predictions'),
    ('0 0.1 0.1 0.2 0.2 0.3 0.3 0.4', '7 numbers after the class: points are pairs'),
    ('car 0.5 0.5 0.1 0.1', "the class is 'car', expected the number of a class"),
    ('-1 0.5 0.5 0.1 0.1', "the class is '-1'"),
    ('1.5 0.5 0.5 0.1 0.1', "the class is '1.5'"),
    ('0 320 240 64 48', "a coordinate is '320', .*divide pixels by width and height"),
    ('0 0.5 0.5 0.1 -0.005', 'width and height are 0.1 and -0.005'),
    ('0 0.5 0.5 0.1 nan', "a coordinate is 'nan'"),
    ('0 -0.2 0.5 0.1 0.1', "a coordinate is '-0.2'"),
    ('0,0.5,0.5,0.1,0.1', 'found .*expected class x y width height'),
])
def test_a_bad_line_is_refused_with_its_number(line, message, tmp_path):
    with pytest.raises(DataError, match=f'a.txt:2: {message}'):
        labels_of(f'0 0.5 0.5 0.1 0.1\n{line}\n', tmp_path)


def test_coordinates_outside_by_rounding_and_classes_written_as_floats_are_read(tmp_path):
    found = labels_of('0.0 1.0000001 0.5 0.1 1.005\n', tmp_path)
    assert found.classes == [0] and found.boxes[0, 2] > 1


def test_keypoints_after_a_box_are_not_read_where_data_yaml_has_them(tmp_path):
    line = '0 0.5 0.5 0.2 0.2 ' + '0.1 0.1 2 ' * 3
    assert len(labels_of(line, tmp_path, num_keypoints=9).boxes) == 1
    with pytest.raises(DataError, match='keypoints need kpt_shape'):
        labels_of('0 0.5 0.5 0.2 0.2 ' + '0.1 0.1 2 ' * 17, tmp_path)


@pytest.mark.parametrize('image, label', [
    ('d/images/train/a.jpg', 'd/labels/train/a.txt'),
    ('images/a.b.png', 'labels/a.b.txt'),
    ('/x/images/images/a.jpg', '/x/images/labels/a.txt'),
    ('/x/myimages/a.jpg', '/x/myimages/a.txt'),
    ('a.jpg', 'a.txt'),
])
def test_the_last_folder_images_becomes_labels(image, label):
    assert label_path(image) == label


# data.yaml


@pytest.mark.parametrize('names', [
    'names: [cat, "no", 3]', "names: ['cat', 'no', '3']", 'names:\n- cat\n- no\n- 3',
    'names:\n  0: cat\n  1: no\n  2: 3', 'names: {2: 3, 0: cat, 1: no}  # a comment'
])
def test_names_are_a_list_or_a_dict_and_always_texts(names):
    data = parse_data_yaml(f'train: a\n{names}\nnc: 3\ndownload: |\n  import os\n', 'data.yaml')
    assert data.names == ['cat', 'no', '3'] and data.splits == {'train': [('a', 1)]}


@pytest.mark.parametrize('text, message', [
    ('train: a\n', 'data.yaml has no names'),
    ('names: [a]\nnc: 2\n', r'data.yaml:2: nc is 2, and names \(line 1\) has 1'),
    ('names:\n  0: a\n  2: b\n', 'data.yaml:2: names has 2 classes and no number 1'),
    ('names:\n  1: a\n  2: b\n', 'data.yaml:2: names has 2 classes and no number 0'),
    ('names: [a,\n  b, a]', "data.yaml:2: the classes 0 and 2 are both called 'a'"),
    ('names: []', 'no class in names'),
    ('names: [a]\ntrain: {x: 1}', 'data.yaml:2: train is a list or a dict, expected a path'),
    ('names: [a]\n\tx: 1', 'data.yaml:2: not a complete yaml file'),
    ('names: [[a]]', 'data.yaml:1: a name is a list or a dict'),
    ('- a', 'data.yaml is not the data.yaml of a YOLO dataset'),
    ('names: [a]\nkpt_shape: 5', "data.yaml:2: kpt_shape is '5'"),
])
def test_a_bad_data_yaml_is_refused_with_its_line(text, message):
    with pytest.raises(DataError, match=message):
        parse_data_yaml(text, 'data.yaml')


def test_aliases_that_repeat_themselves_take_no_time():
    lines = ['a: &a [x, x]'] + [
        f'{chr(98 + index)}: &{chr(98 + index)} [*{chr(97 + index)}, *{chr(97 + index)}]'
        for index in range(24)
    ]
    with pytest.raises(DataError, match='has no names'):
        parse_data_yaml('\n'.join(lines), 'data.yaml')


@pytest.mark.parametrize('path, train, folder', [
    ('', 'images/train', 'images/train'),
    ('path: ../datasets/pets\n', 'images/train', 'images/train'),
    ('', '../images/train', 'images/train'),
    ('', '../../somewhere/images/train', 'images/train'),
    ('path: sub\n', 'images', 'sub/images'),
    ('', '.\\images\\train', 'images/train'),
])
def test_folders_are_found_as_the_tools_write_them(path, train, folder, tmp_path):
    for name in ('images/train', 'sub/images'):
        (tmp_path / name).mkdir(parents=True)
    data = parse_data_yaml(f'{path}train: {train}\nnames: [a]', str(tmp_path / 'data.yaml'))
    assert folders_of(data, 'train') == [str(tmp_path / folder)]
    with pytest.raises(DataError, match='has no val: it has train'):
        folders_of(data, 'val')


def test_a_missing_folder_is_refused_with_the_line(tmp_path):
    data = parse_data_yaml('names: [a]\nval: images/vall\n', str(tmp_path / 'data.yaml'))
    with pytest.raises(DataError, match="data.yaml:2: val: there is no 'images/vall'"):
        folders_of(data, 'val')


# The dataset


def test_boxes_and_outlines_are_those_of_the_files(tmp_path):
    for outlines in (False, True):
        found = dataset(tmp_path / str(outlines), outlines)
        assert found.CLASSES == formats.NAMES and len(found) == 3
        annotation = found.get_ann_info(0)
        assert np.allclose(annotation['bboxes'], [[10, 20, 50, 60], [60, 20, 90, 60]])
        assert annotation['labels'].tolist() == [1, 3]
        assert (annotation['masks'][0] is not None) == outlines
        assert not len(found.get_ann_info(2)['bboxes'])  # an empty label file
        assert found.data_infos[0]['width'] == WIDTH and found.data_infos[0]['height'] == HEIGHT
    assert dataset(
        tmp_path / 'c', classes=('Tram', 'Car')).get_ann_info(0)['labels'].tolist() == [1, 0]


def test_outlines_train_with_masks_and_boxes_are_refused_there(tmp_path):
    settings = dict(test_mode=False, pipeline=train_pipeline(flip=0.))
    found = dataset(tmp_path / 'a', True, **settings)
    batch = collate([found[0], found[1]])
    assert batch.gt.masks is not None and batch.gt.labels[batch.gt.valid].tolist() == [1, 3, 2]
    with pytest.raises(DataError, match='3 of 3 objects have no mask'):
        dataset(tmp_path / 'b', **settings)


def test_a_folder_or_a_list_in_place_of_data_yaml_needs_classes(tmp_path):
    paths = formats.write_yolo(tmp_path, IMAGES)
    with pytest.raises(DataError, match='needs classes for'):
        YOLODataset(str(tmp_path / 'images'), [])
    found = YOLODataset(str(tmp_path / 'images'), [], classes=formats.NAMES)
    assert found.data_infos[0]['filename'] == 'train/image_0.jpg'
    (tmp_path / 'list.txt').write_text('./images/train/image_1.jpg\nimages/train/image_2.jpg\n')
    found = YOLODataset(str(tmp_path / 'list.txt'), [], classes=formats.NAMES, test_mode=True)
    assert [info['filename'] for info in found.data_infos
            ] == [f'images/train/image_{index}.jpg' for index in (1, 2)]
    (tmp_path / 'list.txt').write_text('images/train/image_1.jpg\nimages/train/image_9.jpg\n')
    with pytest.raises(DataError, match="list.txt:2: there is no image 'images/train/image_9.jpg'"):
        YOLODataset(str(tmp_path / 'list.txt'), [], classes=formats.NAMES)
    with pytest.raises(DataError, match="split is None; write one of 'train', which"):
        YOLODataset(paths['ann_file'], [])


def test_lists_in_data_yaml_are_joined(tmp_path):
    paths = formats.write_yolo(tmp_path, IMAGES)
    formats.write_images(tmp_path / 'images/more', IMAGES)
    (tmp_path / 'labels/more').mkdir()
    for stem in formats.stems(IMAGES):
        (tmp_path / f'labels/more/{stem}.txt').write_text('1 .5 .5 .5 .5\n')
    text = (tmp_path / 'data.yaml').read_text()
    (tmp_path / 'data.yaml').write_text(
        text.replace('train: images/train', 'train: [images/train, images/more]'))
    assert len(YOLODataset(pipeline=[], test_mode=True, **paths)) == 6
    assert len(YOLODataset(pipeline=[], **paths)) == 5  # one image of train has no object


def test_classes_that_count_from_1_are_told_from_missing_names(tmp_path):
    paths = formats.write_yolo(tmp_path, [[Thing('Tram',
                                                 (9, 9, 60, 60))], [Thing('Car', (9, 9, 60, 60))]])
    label = tmp_path / 'labels/train/image_0.txt'
    label.write_text(label.read_text().replace('3 ', '4 '))
    with pytest.raises(DataError, match='image_0.txt:1: the class is 4.*count from 1: subtract 1'):
        YOLODataset(pipeline=[], **paths)
    label.write_text(label.read_text().replace('4 ', '7 '))
    with pytest.raises(DataError, match='image_0.txt:1: the class is 7.*name all classes'):
        YOLODataset(pipeline=[], **paths)


def test_images_and_label_files_without_each_other_are_counted(tmp_path, caplog):
    paths = formats.write_yolo(tmp_path, IMAGES)
    os.remove(tmp_path / 'labels/train/image_1.txt')
    os.remove(tmp_path / 'images/train/image_2.jpg')
    (tmp_path / 'labels/train/image_2.txt').write_text('0 .5 .5 .1 .1\n')
    (tmp_path / 'labels/train/classes.txt').write_text('Car\n')
    found = YOLODataset(pipeline=[], test_mode=True, **paths)
    assert found.left_out == [
        "1 images have no label file, such as 'image_1.jpg': taken as images without objects",
        "1 label files have no image, such as 'image_2.txt': left out"
    ]
    assert all(text in caplog.text for text in found.left_out)
    for name in ('image_0', 'image_2'):
        os.remove(tmp_path / f'labels/train/{name}.txt')
    with pytest.raises(DataError, match='no image has a label file: .*labels/train/image_0.txt'):
        YOLODataset(pipeline=[], **paths)


def test_label_files_beside_the_images_and_with_odd_names_are_found(tmp_path):
    paths = formats.write_yolo(tmp_path / 'a', IMAGES)
    for stem in formats.stems(IMAGES):
        (tmp_path / f'a/labels/train/{stem}.txt').rename(tmp_path / f'a/images/train/{stem}.txt')
    assert len(YOLODataset(pipeline=[], test_mode=True, **paths).get_ann_info(0)['labels']) == 2
    formats.write_yolo(tmp_path / 'b ü', IMAGES)
    for kind, ending in (('images', 'jpg'), ('labels', 'txt')):
        (tmp_path / f'b ü/{kind}/train/image_0.{ending}').rename(tmp_path /
                                                                 f'b ü/{kind}/train/ä b.{ending}')
    found = YOLODataset(str(tmp_path / 'b ü/data.yaml'), [], split='train', test_mode=True)
    assert sorted(info['filename'] for info in found.data_infos)[-1] == 'images/train/ä b.jpg'
    assert sum(len(found.get_ann_info(index)['labels']) for index in range(3)) == 3


def test_the_metric_is_cocos_and_boxes_in_shares_come_back_exactly(tmp_path):
    found = dataset(tmp_path, True)
    values = found.evaluate(formats.fed_back(found, True), ['bbox', 'segm'], logger='silent')
    assert values['bbox_mAP'] == 1 and values['segm_mAP'] == 1


def test_lists_of_files_become_one_dataset_each(tmp_path):
    paths = formats.write_yolo(tmp_path, IMAGES)
    both = build_dataset(
        dict(
            type='YOLODataset',
            classes=formats.NAMES,
            ann_file=[str(tmp_path / 'images'),
                      str(tmp_path / 'images/train')],
            pipeline=[],
            test_mode=True))
    assert len(both) == 6 and paths
