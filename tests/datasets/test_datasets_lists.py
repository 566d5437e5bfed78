"""Several paths in a list, and data sets of data sets: training and check_data refuse the same with the same words."""
import re

import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.run_check.data import check_data
from . import formats

CLASSES = ('Pedestrian', 'Car')


@pytest.fixture(scope='module')
def leaf(tmp_path_factory):
    paths = formats.write_coco_json(tmp_path_factory.mktemp('a'), formats.draw_things(3))
    return dict(type='CocoDataset', classes=CLASSES, pipeline=[], **paths)


def both(train):
    """(the data set or what training says, what check_data says stops training)."""
    try:
        built = build_dataset(train)
    except DataError as error:
        built = str(error)
    report = check_data(Config(dict(data=dict(train=train))), ['train'], images=False)
    return built, [problem.text for problem in report.problems if problem.stops]


def test_one_folder_serves_all_files_and_a_list_names_one_each(leaf):
    paths = [leaf['ann_file']] * 2
    for prefix in (leaf['img_prefix'], [leaf['img_prefix']] * 2):
        built, text = both(dict(leaf, ann_file=paths, img_prefix=prefix))
        assert len(built) == 4 and not text


BAD = {
    'one folder in a list':
    (dict(ann_file=['a', 'b'], img_prefix=['x/']),
     "CocoDataset: 2 paths in ann_file but 1 in img_prefix.*for all: img_prefix='x/'"),
    'more folders than files': (dict(ann_file=['a'],
                                     img_prefix=['x',
                                                 'y']), '1 paths in ann_file but 2 in img_prefix'),
    'no file': (dict(ann_file=[]), r'ann_file=\[\] is an empty list'),
    'no folder': (dict(ann_file=['a', 'b'], img_prefix=[]), 'but 0 in img_prefix'),
    'folders alone':
    (dict(img_prefix=['x', 'y']), "img_prefix is a list of 2 paths, and ann_file is one.*'x'"),
    'a number in the list': (dict(ann_file=['a', 5]), 'ann_file holds 5, expected paths'),
    'a list in the list': (dict(ann_file=[['a'], 'b']), r"ann_file holds \['a'\]"),
}


@pytest.mark.parametrize('name', BAD)
def test_lists_that_do_not_fit_are_refused_alike(name, leaf):
    change, message = BAD[name]
    text, problems = both(dict(leaf, **change))
    assert isinstance(text, str) and re.search(message, text), text
    assert problems == [text]


WRAPPED = {
    'nothing repeated': (dict(type='RepeatDataset', times=2), 'RepeatDataset needs dataset='),
    'nothing joined': (dict(type='ConcatDataset', datasets=[]), 'ConcatDataset needs datasets='),
    'no list joined': (dict(type='ConcatDataset',
                            datasets=dict(a=1)), 'datasets is a list of datasets'),
    'no times': (dict(type='RepeatDataset', dataset='LEAF'), 'times=None'),
    'times 0': (dict(type='RepeatDataset', times=0,
                     dataset='LEAF'), 'times=0 is how often.*write times=8'),
    'times a text': (dict(type='RepeatDataset', times='8', dataset='LEAF'), "times='8'"),
    'no share': (dict(type='ClassBalancedDataset', oversample_thr=0,
                      dataset='LEAF'), 'oversample_thr=0 is the share'),
    'a text as share': (dict(type='ClassBalancedDataset', oversample_thr='1e-3',
                             dataset='LEAF'), "'1e-3' is the share"),
}


@pytest.mark.parametrize('name', WRAPPED)
def test_wrappers_of_nothing_or_with_odd_numbers_are_refused_alike(name, leaf):
    train, message = WRAPPED[name]
    train = {key: leaf if value == 'LEAF' else value for key, value in train.items()}
    for nested in (train, dict(type='RepeatDataset', times=2, dataset=train), [train]):
        text, problems = both(nested)
        assert isinstance(text, str) and re.search(message, text), text
        assert problems == [text]


def test_a_list_of_class_folders_is_joined(tmp_path):
    for split in ('a', 'b'):
        for name in ('cat', 'dog'):
            formats.write_images(tmp_path / split / name, [[], []])
    train = dict(
        type='CustomDataset', data_prefix=[str(tmp_path / 'a'),
                                           str(tmp_path / 'b')], pipeline=[])
    built, text = both(train)
    assert len(built) == 8 and list(built.CLASSES) == ['cat', 'dog'] and not text
