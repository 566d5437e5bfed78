"""COCO files, their classes and filters, and the wrappers around datasets."""
import json
import logging
import math
import pickle
import re

import numpy as np
import pytest

from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.coco_api import COCO
from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.loading.sample_images import image_files, leaf_of
from mmdet_ft.datasets.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset
from .conftest import train_pipeline


def rewrite(folder, change):
    """Change the annotation file of a folder."""
    path = folder / 'annotations.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_labels_are_positions_in_classes(coco_dataset, coco_folder):
    for classes in (('person', 'stop sign', 'zebra'), ('zebra', 'person', 'stop sign')):
        for order in (1, -1):
            rewrite(coco_folder,
                    lambda content: content.update(categories=content['categories'][::order]))
            dataset = coco_dataset(classes=classes)
            assert dataset.cat_ids == [{
                'person': 1,
                'stop sign': 13,
                'zebra': 90
            }[name] for name in classes]
            labels = dataset.get_ann_info(0)['labels'].tolist()
            assert [classes[label] for label in labels] == ['zebra', 'person']
            assert [dataset.cat2label[i] for i in dataset.get_cat_ids(0)
                    ] == [classes.index(n) for n in ('zebra', 'person', 'person')]


def test_annotations_are_selected_as_in_v2(coco_dataset):
    dataset = coco_dataset()
    assert len(dataset) == 3 and dataset.img_ids == [7, 3, 12]
    info = dataset.get_ann_info(0)
    np.testing.assert_array_equal(info['bboxes'], np.float32([[4, 5, 24, 35], [30, 10, 55, 30]]))
    np.testing.assert_array_equal(info['bboxes_ignore'], np.float32([[10, 2, 50, 42]]))  # the crowd
    assert info['bboxes'].dtype == np.float32 and info['labels'].dtype == np.int64
    assert len(info['masks']) == 2 and info['seg_map'] == '7.png'
    np.testing.assert_array_equal(dataset.get_ann_info(2)['labels'],
                                  [0, 2])  # without the one to ignore
    empty = coco_dataset(test_mode=True).get_ann_info(3)
    assert empty['bboxes'].shape == empty['bboxes_ignore'].shape == (
        0, 4) and empty['labels'].shape == (0, )


@pytest.mark.parametrize('change', [
    dict(bbox=[64, 5, 10, 10]),
    dict(bbox=[-10, 5, 10, 10]),
    dict(bbox=[4, 5, .9, 10]),
    dict(bbox=[4, 5, 10, .9]),
    dict(ignore=1),
    dict(category_id=4),
])
def test_useless_annotations_are_dropped(coco_dataset, coco_folder, change):
    rewrite(coco_folder, lambda content: content['annotations'][0].update(change))
    assert coco_dataset().get_ann_info(0)['labels'].tolist() == [0]


def test_training_leaves_out_small_and_empty_images(coco_dataset):
    dataset = coco_dataset()
    assert [info['id'] for info in dataset.data_infos] == [7, 3, 12]
    assert sorted(dataset.filter_counts.values()) == [1, 1]
    assert dataset.flag.tolist() == [1, 0, 1]
    with_empty = coco_dataset(filter_empty_gt=False)
    assert with_empty.img_ids == [7, 3, 12, 5] and with_empty.flag.tolist() == [1, 0, 1, 0]
    assert coco_dataset(classes=('stop sign', )).img_ids == [3]
    assert len(coco_dataset(test_mode=True)) == 5
    assert len(with_empty[3]['gt_bboxes']) == 0 and len(with_empty[3]['gt_masks']) == 0


def test_nothing_left_names_the_filter(coco_dataset, coco_folder):
    with pytest.raises(
            ValueError,
            match='5 images all are left out.*without an instance.*filter_empty_gt=False'):
        coco_dataset(classes=('unused', ))
    rewrite(coco_folder, lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(ValueError, match='lists no image'):
        coco_dataset()


def test_a_misspelt_class_gets_the_line_to_write(coco_dataset):
    with pytest.raises(DataError) as error:
        coco_dataset(classes=('Person', 'stop-sign', 'zebra'))
    assert "did you mean 'person', 'stop sign'?" in str(error.value)
    assert "classes=('person', 'stop sign', 'zebra')" in str(error.value)
    assert "\n  stop-sign   - did you mean 'stop sign'?" in str(error.value)
    with pytest.raises(DataError, match=r'(?s)The file has:.*num_classes=4'):
        coco_dataset(classes=('submarine', ))


def test_a_file_of_other_classes_gets_the_line_to_write(coco_dataset):
    with pytest.raises(DataError) as error:
        coco_dataset(classes=None)
    assert "expects its own 80 classes" in str(error.value)
    assert "classes=('person', 'unused', 'stop sign', 'zebra')" in str(error.value)


def test_classes_come_from_a_file_too(coco_dataset, coco_folder):
    (coco_folder / 'names.txt').write_text('zebra\nperson\n')
    assert coco_dataset(classes=str(coco_folder / 'names.txt')).CLASSES == ['zebra', 'person']
    with pytest.raises(FileNotFoundError, match=r"classes=\('zebra', \)"):
        coco_dataset(classes='zebra')
    with pytest.raises(ValueError, match='twice'):
        coco_dataset(classes=['zebra', 'zebra'])
    with pytest.raises(ValueError, match='int'):
        coco_dataset(classes=3)


def test_bare_files_are_understood(coco_dataset, coco_folder):
    full = coco_dataset()

    def strip(content):
        for annotation in content['annotations']:
            for key in ('id', 'area'):
                annotation.pop(key, None)
            if not annotation.get('iscrowd'):
                annotation.pop('iscrowd', None)

    rewrite(coco_folder, strip)
    bare = coco_dataset()
    for index in range(3):
        for key in ('bboxes', 'labels', 'bboxes_ignore'):
            np.testing.assert_array_equal(
                bare.get_ann_info(index)[key],
                full.get_ann_info(index)[key])
    assert bare._file.areas[0] == pytest.approx(600, abs=40)  # drawn: 20 x 30
    rewrite(coco_folder, lambda content: content.pop('annotations'))
    assert len(coco_dataset(test_mode=True)) == 5


@pytest.mark.parametrize('change,message', [
    (lambda c: c['images'][0].pop('width'), r"'7\.png' has no width"),
    (lambda c: c['images'][1].update(id=7), r"image id 7 belongs to both '7\.png' and '3\.png'"),
    (lambda c: c['annotations'][0].pop('bbox'), 'annotation 100 of image 7 has no bbox'),
    (lambda c: c['annotations'][0].update(bbox=[1, 2, 3]),
     r'annotation 100 of image 7 has a bbox of \[1, 2, 3\]'),
    (lambda c: c['annotations'][1].update(id=100), 'ids are not unique'),
    (lambda c: c['annotations'][0].update(segmentation='mask.png'),
     "annotation 100.*found 'mask.png'"),
    (lambda c: c['annotations'][0].update(segmentation=[1, 2, 3, 4, 5, 6]),
     'annotation 100.*flat list'),
    (lambda c: c['annotations'][0].update(segmentation=dict(size=[48, 64], counts=[3])),
     'annotation 100.*3 pixels'),
    (lambda c:
     (c['categories'].append(dict(id=5, name='person')), c['annotations'][1].update(category_id=5)),
     r"'person' has the category ids \[1, 5\]"),
    (lambda c: c.pop('images'), 'not a COCO annotation file'),
])
def test_broken_files_are_named_with_the_record(coco_dataset, coco_folder, change, message):
    rewrite(coco_folder, change)
    with pytest.raises(ValueError, match=message) as error:
        coco_dataset()
    assert 'annotations.json' in str(error.value)


def test_missing_and_cut_off_files_are_named(coco_dataset, coco_folder):
    with pytest.raises(
            FileNotFoundError, match=r"ann_file '.*none\.json' is not there \(data_root is"):
        coco_dataset(ann_file='none.json')
    (coco_folder / 'annotations.json').write_text('{"images": [')
    with pytest.raises(ValueError, match='not a complete json'):
        coco_dataset()


def test_annotations_of_unlisted_images_are_left_out(coco_dataset, coco_folder):
    rewrite(coco_folder, lambda content: content['annotations'][0].update(image_id=999))
    dataset = coco_dataset()
    assert dataset._file.num_orphans == 1 and dataset.get_ann_info(0)['labels'].tolist() == [0]


def test_a_transform_cannot_move_the_polygons_of_the_file(coco_dataset):
    part = coco_dataset().get_ann_info(0)['masks'][0][0]
    with pytest.raises(ValueError):
        part += 1


def test_datasets_travel_to_workers_by_pickle(coco_dataset):
    dataset = coco_dataset(train_pipeline(flip=0.0))
    dataset.coco.getImgIds()  # not to be sent along
    again = pickle.loads(pickle.dumps(dataset))
    assert again._coco is None and (again[1]['img'] == dataset[1]['img']).all()
    assert dataset.coco.imgs.keys() == again.coco.imgs.keys()


def test_names_of_v2_are_there(coco_dataset):
    dataset = coco_dataset()
    assert dataset.data_infos[0]['filename'] == '7.png' and len(dataset.data_infos[:2]) == 2
    assert dataset.get_cat2imgs() == {0: [0, 2], 1: [1], 2: [0, 1, 2]}
    assert 'number of images 3' in repr(dataset)
    with pytest.raises(IndexError):
        dataset.data_infos[3]


def test_another_image_is_drawn_where_the_pipeline_gives_none(coco_dataset):
    dataset = coco_dataset(
        [lambda results: None if results['img_info']['id'] == 7 else results['img_info']['id']])
    assert {dataset[0] for _ in range(5)} == {12}  # of the same aspect group
    with pytest.raises(DataError, match="in a row, the last time in <lambda>"):
        coco_dataset([lambda results: None])[0]


# Cityscapes
def test_a_subclass_that_reads_by_coco_as_v2_taught_works(coco_folder):
    """load_annotations and get_ann_info written over, with V2's names, and one image left out."""

    class Own(CocoDataset):

        def load_annotations(self, ann_file):
            self.coco = COCO(ann_file)
            self.cat_ids = self.coco.get_cat_ids(cat_names=self.CLASSES)
            self.cat2label = {cat_id: i for i, cat_id in enumerate(self.cat_ids)}
            self.img_ids = self.coco.get_img_ids()[1:]
            infos = [self.coco.load_imgs([i])[0] for i in self.img_ids]
            return [dict(info, filename=info['file_name']) for info in infos]

        def get_ann_info(self, idx):
            ids = self.coco.get_ann_ids(img_ids=[self.data_infos[idx]['id']])
            return self._parse_ann_info(self.data_infos[idx], self.coco.load_anns(ids))

    arguments = dict(
        ann_file=str(coco_folder / 'annotations.json'),
        pipeline=[],
        classes=('stop sign', 'person'))
    own, ours = Own(**arguments), CocoDataset(**arguments)
    assert own.cat_ids == sorted(ours.cat_ids) and len(own) == len(ours) - 1
    for index, info in enumerate(own.data_infos):
        expected = ours.get_ann_info(ours.img_ids.index(info['id']))['bboxes']
        np.testing.assert_array_equal(own.get_ann_info(index)['bboxes'], expected)
    assert own.flag.tolist() == [ours.flag[ours.img_ids.index(i)] for i in own.img_ids]


def test_cityscapes_leaves_out_images_of_groups_alone(coco_folder):

    def change(content):
        content['categories'] = [
            dict(id=id_, name=name)
            for id_, name in zip((24, 25, 26, 27, 28, 31, 32, 33), CityscapesDataset.CLASSES)
        ]
        for annotation in content['annotations']:
            annotation['category_id'] = 26
            annotation['iscrowd'] = int(annotation['image_id'] == 3)
        content['images'][0]['segm_file'] = 'city/7_labelIds.png'
        content['annotations'][0]['bbox'] = [-30, 5, 20,
                                             20]  # V2 keeps it here, for a loss without end

    rewrite(coco_folder, change)
    arguments = dict(
        ann_file=str(coco_folder / 'annotations.json'), img_prefix=str(coco_folder), pipeline=[])
    dataset = CityscapesDataset(**arguments)
    assert dataset.img_ids == [7, 12]
    assert dataset.get_ann_info(0)['seg_map'] == 'city/7_labelIds.png'
    assert dataset.get_ann_info(0)['labels'].tolist() == [2, 2]
    assert CityscapesDataset(filter_empty_gt=False, **arguments).img_ids == [7, 3, 12, 5]
    with pytest.raises(ImportError, match='pip install cityscapesscripts'):
        _without_scripts(dataset)


def _without_scripts(dataset):
    import sys
    saved = {
        name: sys.modules.pop(name)
        for name in list(sys.modules) if name.startswith('cityscapesscripts')
    }
    sys.modules['cityscapesscripts'] = None
    try:
        dataset.evaluate([], metric='cityscapes')
    finally:
        del sys.modules['cityscapesscripts']
        sys.modules.update(saved)


# CustomDataset
def test_the_middle_format_is_read(coco_folder):
    records = [
        dict(
            filename='7.png',
            width=64,
            height=48,
            ann=dict(bboxes=[[1, 2, 30, 40]], labels=[1], bboxes_ignore=[])),
        dict(filename='3.png', width=48, height=64, ann=dict(bboxes=[], labels=[])),
        dict(filename='9.png', width=20, height=20, ann=dict(bboxes=[[1, 2, 3, 4]], labels=[0])),
    ]
    (coco_folder / 'middle.json').write_text(json.dumps(records))
    steps = [step for step in train_pipeline(keys=['img', 'gt_bboxes', 'gt_labels'])]
    steps[1] = dict(type='LoadAnnotations')
    dataset = CustomDataset(
        ann_file='middle.json',
        pipeline=steps,
        classes=('a', 'b'),
        data_root=str(coco_folder),
        img_prefix='')
    assert len(dataset) == 1 and dataset.get_cat_ids(0) == [1] and dataset.get_cat2imgs() == {
        0: [],
        1: [0]
    }
    assert dataset[0]['gt_labels'].tolist() == [1]
    with pytest.raises(ValueError, match="type='CocoDataset'"):
        CustomDataset(ann_file=str(coco_folder / 'annotations.json'), pipeline=[], classes=('a', ))


# Wrappers
def test_wrappers_nest_and_forward(coco_dataset):
    dataset = coco_dataset(train_pipeline(flip=0.0))
    nested = ConcatDataset(
        [RepeatDataset(dataset, 2),
         ClassBalancedDataset(RepeatDataset(dataset, 1), 1e-3)])
    outer = RepeatDataset(nested, 3)
    assert len(nested) == 9 and len(outer) == 27
    assert outer.CLASSES == dataset.CLASSES and outer.PALETTE == dataset.PALETTE
    assert outer.flag.tolist() == dataset.flag.tolist() * 9
    assert outer.get_cat_ids(10) == dataset.get_cat_ids(1)
    assert outer.get_ann_info(26)['labels'].tolist() == dataset.get_ann_info(2)['labels'].tolist()
    assert nested[-1]['img_metas']['filename'] == dataset[2]['img_metas']['filename']
    for wrapped in (nested, outer):
        with pytest.raises(IndexError):
            wrapped[len(wrapped)]
    assert len(build_dataloader(outer, 2, 0, seed=0)) == math.ceil(18 / 2) + math.ceil(9 / 2)


def test_a_sample_under_wrappers_is_found_in_its_own_data_set(coco_dataset):
    first, second = coco_dataset(), coco_dataset(classes=('zebra', 'person'))
    second.CLASSES = first.CLASSES
    nested = ConcatDataset([RepeatDataset(first, 2), ConcatDataset([second, first])])
    assert [leaf_of(nested, index) for index in (0, 2, 4, 6, 9)] == [
        (first, 0), (first, 2), (first, 1), (second, 0), (first, 0)]  # yapf: disable
    files = image_files(nested)
    for index, file in enumerate(files):
        leaf, position = leaf_of(nested, index)
        assert image_files(leaf)[position] == file


class Counted:
    CLASSES = ('a', 'b', 'c')

    def __init__(self, categories):
        self.categories = categories
        self.flag = np.arange(len(categories)) % 2

    def __len__(self):
        return len(self.categories)

    def get_cat_ids(self, idx):
        return self.categories[idx]


def test_rare_classes_come_more_often():
    categories = [[0], [0, 0], [0], [0, 1], [0], [], [2, 1], [0]]
    dataset = ClassBalancedDataset(Counted(categories), oversample_thr=0.9)
    share = {0: 6 / 8, 1: 2 / 8, 2: 1 / 8}
    expected = [
        max([max(1, math.sqrt(0.9 / share[c])) for c in image] or [1]) for image in categories
    ]
    times = [math.ceil(factor) for factor in expected]
    assert times[6] == 3 and times[5] == 1
    assert dataset.repeat_indices == [
        index for index, number in enumerate(times) for _ in range(number)
    ]
    assert dataset.flag.tolist() == [index % 2 for index in dataset.repeat_indices]
    with_empty = ClassBalancedDataset(Counted(categories), 0.9, filter_empty_gt=False)
    assert with_empty.repeat_indices.count(5) == math.ceil(math.sqrt(0.9 * 8))


def test_concat_refuses_labels_of_two_meanings(coco_dataset):
    with pytest.raises(ValueError, match='same classes'):
        ConcatDataset([coco_dataset(), coco_dataset(classes=('zebra', 'person', 'stop sign'))])
    with pytest.raises(DataError, match='separate_eval=True'):
        ConcatDataset([coco_dataset(), coco_dataset()], separate_eval=False)


def test_configs_build_what_they_say(coco_folder):
    leaf = dict(
        type='CocoDataset',
        ann_file='annotations.json',
        classes=('person', 'zebra'),
        data_root=str(coco_folder),
        pipeline=train_pipeline())
    assert isinstance(build_dataset(leaf), CocoDataset)
    assert len(build_dataset(leaf, dict(test_mode=True))) == 5
    both = build_dataset([leaf, leaf])
    assert isinstance(both, ConcatDataset) and len(both) == 6
    repeated = build_dataset(
        dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[leaf])))
    assert isinstance(repeated, RepeatDataset) and len(repeated) == 6
    balanced = build_dataset(dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=leaf))
    assert isinstance(balanced, ClassBalancedDataset) and len(balanced) == 3
    listed = dict(leaf, ann_file=['annotations.json'] * 2, img_prefix=['', ''], separate_eval=True)
    listed = build_dataset(listed, dict(test_mode=True))
    assert isinstance(listed, ConcatDataset) and len(listed) == 10
    assert build_dataset(balanced) is balanced
    with pytest.raises(ValueError, match='2 paths in ann_file but 1 in img_prefix'):
        build_dataset(dict(leaf, ann_file=['a', 'b'], img_prefix=['']))
    with pytest.raises(DataError, match='RepeatDataset needs dataset='):
        build_dataset(dict(type='RepeatDataset', times=2))


# What the log tells
def test_the_log_counts_what_is_left_out(coco_dataset, coco_folder, caplog, monkeypatch):
    """Boxes without area, outside, reaching out and not numbers; classes without a box; categories not asked for."""
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)

    def spoil(content):
        for change, annotation in zip(
            (dict(bbox=[-20, 5, 10, 10]), dict(bbox=[4, float('nan'), 9, 9])),
                content['annotations']):
            annotation.update(change)

    rewrite(coco_folder, spoil)
    with caplog.at_level(logging.INFO, 'mmdet_ft'):
        dataset = coco_dataset(classes=('person', 'zebra', 'unused'))
    assert 'boxes are wholly outside the image: left out' in caplog.text
    assert 'under one pixel wide, high or in area: left out' in caplog.text
    assert "no box of 'unused': this class cannot be learned from it" in caplog.text
    assert "annotations of categories that `classes` does not name are left out: 'stop sign' (" in caplog.text
    for index in range(len(dataset)):
        boxes = dataset.get_ann_info(index)['bboxes']
        assert np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all()


@pytest.mark.parametrize('change, message', [
    (lambda item: item.update(category_id=0),
     'are of category_id 0, which `categories` does not list: left out'),
    (lambda item: item.update(bbox=[item['bbox'][0], item['bbox'][1], 99, 99]),
     'bbox is (x, y, width, height) in COCO\'s form'),
])  # yapf: disable
def test_boxes_and_ids_in_another_form_are_told(coco_dataset, coco_folder, caplog, monkeypatch,
                                                change, message):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    rewrite(coco_folder, lambda content: [change(item) for item in content['annotations'][1:]])
    coco_dataset()
    assert message in caplog.text


def test_boxes_as_shares_of_the_image_are_refused(coco_dataset, coco_folder):
    rewrite(
        coco_folder, lambda content: [
            item.update(bbox=[value / 100 for value in item['bbox']])
            for item in content['annotations']
        ])
    with pytest.raises(DataError, match='look like shares of the image, and are pixels'):
        coco_dataset()


def test_a_metric_is_looked_up_before_anything_is_computed(coco_dataset):
    dataset = coco_dataset()
    dataset.check_metrics(metric=['bbox', 'segm', 'proposal'])
    for metric, message in (
        ('mAP',
         "evaluation.metric='mAP' (--eval): CocoDataset does not know 'mAP'; there are bbox, segm, "
         ), (['bbox,segm'], "write ['bbox', 'segm'], --eval bbox segm")):
        with pytest.raises(DataError, match=re.escape(message)):
            dataset.check_metrics(metric=metric)
        with pytest.raises(DataError):
            ConcatDataset([dataset, dataset]).check_metrics(metric=metric)

    class Counted(CocoDataset):

        def evaluate(self, results, metric='count', logger=None):
            return dict(count=len(results))

    dataset.__class__ = Counted
    dataset.check_metrics(metric='count')  # metrics of a user are not known here
