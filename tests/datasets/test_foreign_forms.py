"""Annotations that no data set reads are recognized, by training and check_data, and answered with what to do."""
import re

import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.run_check.data import check_data
from . import formats

CVAT = '<?xml version="1.0"?>\n<annotations><version>1.1</version><image id="0" name="a.jpg"/></annotations>'
YAML = 'train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: [cat, dog]\n'
VOC = '<annotation><object><name>cat</name></object></annotation>'


def said(**train):
    """What training says; check_data says the same."""
    train = dict(dict(classes=('cat', 'dog'), pipeline=[]), **train)
    with pytest.raises((DataError, FileNotFoundError)) as caught:
        build_dataset(train)
    report = check_data(Config(dict(data=dict(train=train))), ['train'], images=False)
    assert str(caught.value) in [problem.text for problem in report.problems if problem.stops]
    return str(caught.value)


@pytest.mark.parametrize('kind', ['CocoDataset', 'XMLDataset', 'KittiDataset', 'CustomDataset'])
@pytest.mark.parametrize('name, content, message', [
    ('data.yaml', YAML,
     "data.yaml of a YOLO dataset: write type='YOLODataset' with data.yaml as ann_file"),
    ('a.txt', '0 0.5 0.5 0.1 0.2\n1 0.2 0.2 0.1 0.1\n', "lines of YOLO .*type='YOLODataset'"),
    ('annotations.xml', CVAT, "CVAT's own xml .*write type='CVATDataset'"),
    ('a.xml', VOC, "type='XMLDataset' with ann_file a text file of names.*converters/voc.py"),
])
def test_files_of_other_tools(kind, name, content, message, tmp_path):
    name = f'{name}.json' if kind == 'CustomDataset' else name  # others are pickles there
    (tmp_path / name).write_text(content)
    text = said(type=kind, ann_file=str(tmp_path / name), img_prefix=str(tmp_path))
    assert re.search(message, text) and str(tmp_path / name) in text, text


def test_folders_in_place_of_a_file(tmp_path):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.txt').write_text('0 0.5 0.5 0.1 0.2\n')
    assert "is a folder, not a file with the txt files of a YOLO dataset: write type='YOLODataset'" in said(
        type='CocoDataset', ann_file=str(tmp_path / 'labels'))
    formats.write_voc(tmp_path / 'v', formats.draw_things(2))
    assert "write type='XMLDataset'" in said(
        type='CocoDataset', ann_file=str(tmp_path / 'v/Annotations'))
    formats.write_labelme(tmp_path / 'l', formats.draw_things(2))
    assert "write type='LabelmeDataset'" in said(type='CocoDataset', ann_file=str(tmp_path / 'l'))
    export = formats.write_label_studio(tmp_path / 's', formats.draw_things(2))
    assert "write type='LabelStudioDataset'" in said(type='CocoDataset', **export)
    formats.write_coco_json(tmp_path / 'c', formats.draw_things(2))
    assert 'annotations.json: name one of them' in said(
        type='CocoDataset', ann_file=str(tmp_path / 'c'))


def test_a_json_in_place_of_a_list_of_names_is_told(tmp_path):
    paths = formats.write_coco_json(tmp_path / 'c', formats.draw_things(2))
    assert 'is not a list of names, one per line: it looks like json' in said(
        type='XMLDataset', **paths)


@pytest.mark.parametrize('settings', [
    dict(type='CocoDataset', ann_file=20240105),
    dict(type='CocoDataset', ann_file=None),
    dict(type='CocoDataset', ann_file='a.json', img_prefix=5),
    dict(type='CustomDataset', data_prefix=2020),
    dict(type='CustomDataset', data_prefix='a', ann_file=1e5),
])
def test_numbers_in_place_of_paths_are_refused(settings, tmp_path, monkeypatch):
    formats.write_coco_json(tmp_path, formats.draw_things(2))
    (tmp_path / 'annotations.json').rename(tmp_path / 'a.json')
    monkeypatch.chdir(tmp_path)
    assert 'path' in said(**settings) or 'None' in said(**settings)


def test_names_that_look_like_numbers_are_still_names(tmp_path):
    (tmp_path / 'names.txt').write_text('000001\n2 0\n')
    assert CustomDataset.get_classes(str(tmp_path / 'names.txt')) == ['000001', '2 0']
