"""VOC's xml, WIDER FACE, KITTI, and V2's middle format: what becomes a sample, and what is refused."""
import json
import logging
import pickle
import shutil

import cv2
import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.checks.objects import check_classes, check_same
from mmdet_ft.datasets.checks.split import split_of
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.detection.voc import VOCDataset
from mmdet_ft.datasets.detection.xml_style import XMLDataset, read_voc_xml
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.settings.read import read_data
from mmdet_ft.untrusted import UntrustedFileError
from . import formats
from .formats import Thing

CLASSES = ('Pedestrian', 'Car', 'Cyclist')
IMAGES = [[
    Thing('Car', (10, 20, 50, 60)),
    Thing('Tram', (60, 20, 90, 60)),
    Thing('Pedestrian', (100, 20, 112, 60)),
    Thing('Cyclist', (120, 20, 150, 60), ignored=True),
], [Thing('Tram', (60, 20, 90, 60))], [Thing('Car', (5, 5, 30, 30), ignored=True)]]


def xml_dataset(root, kind=XMLDataset, classes=CLASSES, images=IMAGES, **settings):
    paths = formats.write_voc(root, images) if not root.exists() else dict(
        ann_file=str(root / 'ImageSets/Main/train.txt'), img_prefix=f'{root}/')
    return kind(pipeline=[], classes=classes, **paths, **settings)


def same(annotation, **wanted):
    assert {key: annotation[key].tolist() for key in wanted} == wanted
    assert annotation['bboxes'].dtype == np.float32 and annotation['labels'].dtype == np.int64


# XML


def test_an_xml_becomes_boxes_from_zero_and_difficult_ones_apart(tmp_path):
    dataset = xml_dataset(tmp_path / 'a', test_mode=True)
    same(
        dataset.get_ann_info(0),
        bboxes=[[10, 20, 50, 60], [100, 20, 112, 60]],
        labels=[1, 0],
        bboxes_ignore=[[120, 20, 150, 60]],
        labels_ignore=[2])
    assert dataset.get_cat_ids(0) == [1, 0, 2]  # difficult ones too, as in V2
    info = dataset.data_infos[0]
    assert (info['id'], info['filename']) == ('image_0', 'JPEGImages/image_0.jpg')
    assert (info['width'], info['height']) == (formats.WIDTH, formats.HEIGHT)
    assert dataset.name_counts == dict(Car=2, Tram=2, Pedestrian=1, Cyclist=1)


def test_training_leaves_out_images_without_the_classes_unless_told(tmp_path):
    stems = [info['id'] for info in xml_dataset(tmp_path / 'a').data_infos]
    assert stems == ['image_0', 'image_2']  # a difficult object is enough, as in V2
    assert len(xml_dataset(tmp_path / 'a', filter_empty_gt=False)) == 3
    assert len(xml_dataset(tmp_path / 'a', test_mode=True)) == 3


def test_objects_under_min_size_are_ignored_in_training(tmp_path):
    dataset = xml_dataset(tmp_path / 'a', min_size=13)
    same(
        dataset.get_ann_info(0),
        bboxes=[[10, 20, 50, 60]],
        bboxes_ignore=[[100, 20, 112, 60], [120, 20, 150, 60]],
        labels_ignore=[0, 2])
    with pytest.raises(DataError, match='min_size=13 is for training'):
        xml_dataset(tmp_path / 'a', min_size=13, test_mode=True)


def test_coordinates_are_cut_to_whole_pixels_and_sizes_may_come_from_the_image(tmp_path):
    xml_dataset(tmp_path / 'a')
    (tmp_path / 'a/Annotations/image_0.xml').write_text(
        '<annotation><object><name>Car</name><bndbox><xmin>3.9</xmin><ymin>4.2</ymin><xmax>30.99</xmax>'
        '<ymax>40</ymax></bndbox></object></annotation>')
    dataset = xml_dataset(tmp_path / 'a')
    same(dataset.get_ann_info(0), bboxes=[[2, 3, 29, 39]], labels=[1], bboxes_ignore=[])
    assert dataset.data_infos[0]['width'] == formats.WIDTH


def test_images_may_have_another_ending_that_the_xml_tells(tmp_path):
    xml_dataset(tmp_path / 'a')
    image = tmp_path / 'a/JPEGImages/image_0.jpg'
    image.rename(image.with_suffix('.png'))
    path = tmp_path / 'a/Annotations/image_0.xml'
    path.write_text(path.read_text().replace('.jpg', '.png'))
    assert xml_dataset(tmp_path / 'a').data_infos[0]['filename'] == 'JPEGImages/image_0.png'


@pytest.mark.parametrize('content, message', [
    ('<annotation>\n<object>', r'image_1\.xml:2: not a complete xml'),
    ('<annotation><object><name>Car</name></object></annotation>',
     r"image_1\.xml: object 1 \('Car'\) needs numbers in bndbox"),
    ('<annotation><size><width>wide</width></size></annotation>',
     "size: its width is 'wide', expected"),
])
def test_a_bad_xml_is_named(content, message, tmp_path):
    xml_dataset(tmp_path / 'a')
    (tmp_path / 'a/Annotations/image_1.xml').write_text(content)
    with pytest.raises(DataError, match=message):
        xml_dataset(tmp_path / 'a')


def test_a_missing_xml_is_named_with_the_list_that_wants_it(tmp_path):
    xml_dataset(tmp_path / 'a')
    (tmp_path / 'a/Annotations/image_1.xml').unlink()
    with pytest.raises(FileNotFoundError, match=r"image_1\.xml', which .*train\.txt lists"):
        xml_dataset(tmp_path / 'a')


@pytest.mark.parametrize('classes, message', [
    (('car', 'Pedestrian'), "'car' is 'Car' in the files.*classes=\\('Car', 'Pedestrian'\\)"),
    (('cat', 'dog'), "no object is of the classes cat, dog; the files have 'Car' \\(2\\)"),
    (('person', ), "classes=\\('Car', 'Tram', 'Pedestrian', 'Cyclist'\\)"),
])
def test_classes_that_are_not_in_the_files_are_refused_with_the_line_to_write(
        classes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        xml_dataset(tmp_path / 'a', classes=classes, test_mode=True)


def test_a_class_without_an_object_and_objects_without_a_class_are_told(tmp_path, caplog):
    with caplog.at_level(logging.INFO, 'mmdet_ft'):
        xml_dataset(tmp_path / 'a', classes=('Car', 'Pedestrians', 'dog'))
    assert "no object of 'Pedestrians' (did you mean 'Pedestrian'?), 'dog'" in caplog.text
    assert "left out: 'Tram' (2)" in caplog.text


def test_a_class_that_is_written_in_two_ways_is_told(tmp_path, caplog):
    images = [*IMAGES, [Thing('car', (10, 20, 50, 60))]]
    with caplog.at_level(logging.WARNING, 'mmdet_ft'):
        xml_dataset(tmp_path / 'a', images=images)
    assert "named otherwise than in `classes` and left out: 'car' (1)" in caplog.text


def test_voc_takes_its_year_from_the_folder(tmp_path):
    assert xml_dataset(tmp_path / 'VOC2012', VOCDataset).year == 2012
    with pytest.raises(DataError, match="neither 'VOC2007' nor 'VOC2012'.*type='XMLDataset'"):
        xml_dataset(tmp_path / 'cells', VOCDataset)


def test_a_subclass_written_for_v2_may_load_and_annotate_itself(tmp_path):

    class Mine(XMLDataset):
        CLASSES = CLASSES

        def load_annotations(self, ann_file):  # what V2's own did
            return [
                dict(id=line, filename=f'{self.img_subdir}/{line}.jpg', width=160, height=120)
                for line in open(ann_file).read().split()
            ]

    dataset = xml_dataset(tmp_path / 'a', Mine, classes=None)
    same(dataset.get_ann_info(0), bboxes=[[10, 20, 50, 60], [100, 20, 112, 60]], labels=[1, 0])
    assert dataset.cat2label == dict(Pedestrian=0, Car=1, Cyclist=2)


PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.),
    dict(type='Normalize', mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_bboxes_ignore']),
]


@pytest.mark.parametrize('kind, write', [('XMLDataset', formats.write_voc),
                                         ('KittiDataset', formats.write_kitti),
                                         ('CocoDataset', formats.write_coco_json)])
def test_what_is_ignored_reaches_the_batch(kind, write, tmp_path):
    paths = write(tmp_path / 'a', IMAGES)
    dataset = build_dataset(dict(type=kind, classes=CLASSES, pipeline=PIPELINE, **paths))
    batch = collate([dataset[0]])
    assert batch.gt.ignore[batch.gt.ignore_valid].tolist() == [[240, 40, 300, 120]]
    assert batch.gt.boxes[batch.gt.valid].tolist() == [[20, 40, 100, 120], [200, 40, 224, 120]]


# KITTI


def kitti_dataset(root, classes=CLASSES, **settings):
    paths = formats.write_kitti(root, IMAGES) if not root.exists() else dict(
        ann_file=str(root / 'train.txt'), img_prefix=str(root))
    return build_dataset(
        dict(type='KittiDataset', pipeline=[], classes=classes, **paths, **settings))


def test_kitti_labels_become_boxes_and_dont_care_is_ignored(tmp_path):
    dataset = kitti_dataset(tmp_path / 'a')
    same(
        dataset.get_ann_info(0),
        bboxes=[[10, 20, 50, 60], [100, 20, 112, 60]],
        labels=[1, 0],
        bboxes_ignore=[[120, 20, 150, 60]])
    assert dataset.name_counts == dict(Car=1, Tram=2, Pedestrian=1)
    assert [info['id'] for info in dataset.data_infos] == ['image_0']


def test_more_classes_than_colours_are_painted_with_chosen_ones(tmp_path):
    assert len(kitti_dataset(tmp_path / 'a').PALETTE) == 3
    assert kitti_dataset(
        tmp_path / 'a', classes=('Car', 'Tram', 'Pedestrian', 'Truck')).PALETTE is None


def test_a_bad_kitti_line_is_named(tmp_path):
    kitti_dataset(tmp_path / 'a')
    label = tmp_path / 'a/label_2/image_1.txt'
    label.write_text('Car 0 0 0 1 2 3 4\n\nCar 0 0 0 1 2 wide 4\n')
    with pytest.raises(DataError, match=r'image_1\.txt:3: a label is a type'):
        kitti_dataset(tmp_path / 'a')
    label.unlink()
    with pytest.raises(
            FileNotFoundError, match=r"image_1\.txt is missing, and .*ann_subdir 'label_2'"):
        kitti_dataset(tmp_path / 'a')


# V2's middle format


def middle_dataset(root, content, suffix='.pkl', **settings):
    root.mkdir(exist_ok=True)
    path = root / f'middle{suffix}'
    if suffix == '.pkl':
        path.write_bytes(pickle.dumps(content))
    else:
        path.write_text(json.dumps(content, default=np.ndarray.tolist))
    return CustomDataset(ann_file=str(path), pipeline=[], classes=CLASSES, **settings)


def test_pickle_and_json_say_the_same_and_stay_packed(tmp_path):
    content = formats.middle_content(IMAGES, CLASSES)
    for suffix in ('.pkl', '.json'):
        dataset = middle_dataset(tmp_path, content, suffix)
        assert isinstance(dataset.data_infos, PackedList)
        same(
            dataset.get_ann_info(0),
            bboxes=[[10, 20, 50, 60], [100, 20, 112, 60]],
            labels=[1, 0],
            bboxes_ignore=[[120, 20, 150, 60]],
            labels_ignore=[2])


@pytest.mark.parametrize('change, message', [
    (dict(filename=None), 'image 1 has no filename'),
    (dict(width=0), r"image 1 \('image_1.jpg'\) has no width"),
    (dict(ann=dict(bboxes=[[1, 2, 3, 4]], labels=[])), 'has 1 bboxes and 0 labels'),
    (dict(ann=dict(bboxes=[[1, 2, 3, 4]], labels=[3])), r'labels \[3\].*`classes` names 3'),
    (dict(ann=dict(bboxes=[[1, 2, 3, 4]], labels=[-1])), r'labels \[-1\]; they count from 0'),
    (dict(ann=dict(bboxes=[[1, 2, 3]], labels=[1])), 'ann.bboxes is not an array'),
    (dict(ann=dict(bboxes=[])), 'has no ann.labels'),
])
def test_a_bad_record_is_named(change, message, tmp_path):
    content = formats.middle_content(IMAGES, CLASSES)
    content[1].update(change)
    with pytest.raises(DataError, match=message):
        middle_dataset(tmp_path, content)


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path):
    target = tmp_path / 'kept'
    target.mkdir()

    class Trap:

        def __reduce__(self):
            return shutil.rmtree, (str(target), )

    with pytest.raises(UntrustedFileError, match='shutil.*could run code'):
        middle_dataset(tmp_path, [Trap()])
    assert target.is_dir()


def test_useless_boxes_are_left_out_of_training_alone(tmp_path, caplog):
    content = formats.middle_content(IMAGES, CLASSES)
    content[0]['ann']['bboxes'][0] = [20, 20, 20, 40]
    with caplog.at_level(logging.WARNING, 'mmdet_ft'):
        dataset = middle_dataset(tmp_path, content)
    same(dataset.get_ann_info(0), bboxes=[[100, 20, 112, 60]], labels=[0])
    assert 'of 2 boxes 1 without area' in caplog.text
    assert len(middle_dataset(tmp_path, content, test_mode=True).get_ann_info(0)['labels']) == 2


def test_several_thresholds_give_an_ap_each_and_sizes_a_mean(tmp_path):
    dataset = middle_dataset(tmp_path, formats.middle_content(IMAGES, CLASSES), test_mode=True)
    results = formats.fed_back(dataset)
    results[0][1][:, 2] -= 15  # the car: IoU 25 / 40
    values = dataset.evaluate(results, iou_thr=[.5, .75], logger='silent')
    assert values == {'AP50': 1.0, 'AP75': .5, 'mAP': .75}
    values = dataset.evaluate(
        formats.fed_back(dataset), scale_ranges=[(0, 30), (30, 100)], logger='silent')
    assert values['mAP'] == 1 and values['AP50_0_30'] == 1 and values['AP50_30_100'] == 1
    values = dataset.evaluate(results, 'recall', iou_thr=[.5, .75], logger='silent')
    assert values['recall@100@0.5'] == 1 and values['recall@100@0.75'] == .5
    assert values['AR@300'] == .75
    with pytest.raises(KeyError, match="'mAP' and 'recall'"):
        dataset.evaluate(results, 'bbox')
    with pytest.raises(ValueError, match='2 results for the 3 images'):
        dataset.evaluate(results[:2])


def test_a_test_loader_of_the_voc_config_reads_the_layout(tmp_path):
    config = Config.fromfile('configs/pascal_voc/faster_rcnn_r50_fpn_1x_voc0712.py')
    paths = formats.write_voc(tmp_path / 'VOC2007', IMAGES)
    config.merge_from_dict({
        'data.workers_per_gpu': 0,
        'data.test': dict(config.data.test, classes=list(CLASSES), **paths)
    })
    loader = build_test_loader(read_data(config), 'test')
    assert len(loader) == 3 and next(iter(loader))[0].images.shape[-1] % 32 == 0
    image = cv2.imread(str(tmp_path / 'VOC2007/JPEGImages/image_0.jpg'))
    assert image.shape == (formats.HEIGHT, formats.WIDTH, 3)


def test_the_folders_of_xml_files_and_images_are_suggested(tmp_path):
    xml_dataset(tmp_path / 'a')
    (tmp_path / 'a/Annotations').rename(tmp_path / 'a/annots')
    (tmp_path / 'a/JPEGImages').rename(tmp_path / 'a/images')
    with pytest.raises(
            FileNotFoundError,
            match="3 xml files are in annots/: write ann_subdir='annots', img_subdir='images'"):
        xml_dataset(tmp_path / 'a')
    dataset = xml_dataset(tmp_path / 'a', ann_subdir='annots', img_subdir='images')
    assert dataset.data_infos[0]['filename'] == 'images/image_0.jpg'


def test_names_sizes_and_endings_of_xml_files_are_read_as_they_are_written(tmp_path):
    xml_dataset(tmp_path / 'a')
    (tmp_path / 'a/Annotations/image_0.xml').write_text(
        '<annotation><filename>image_0.png</filename><size><width>0</width><height>0</height></size><object>'
        '<name>\n Car </name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>'
        '</annotation>')
    (tmp_path / 'a/JPEGImages/image_0.jpg').rename(tmp_path / 'a/JPEGImages/image_0.JPG')
    dataset = xml_dataset(tmp_path / 'a')
    info = dataset.data_infos[0]
    assert (info['width'], info['height']) == (formats.WIDTH, formats.HEIGHT)
    assert info['filename'] == 'JPEGImages/image_0.JPG' and dataset.name_counts['Car'] == 2
    (tmp_path /
     'a/Annotations/image_0.xml').write_text('<annotations><image name="a.jpg"/></annotations>')
    with pytest.raises(DataError, match="image_0.xml: it is CVAT's own xml"):
        xml_dataset(tmp_path / 'a')


# what the checks say of objects to ignore

ALL_IGNORED = [[Thing('Car', (10, 20, 50, 60), ignored=True)] * 2,
               [Thing('Cyclist', (120, 20, 150, 60), ignored=True)]]


def ignored_dataset(kind, root, **settings):
    if kind == 'xml':
        return xml_dataset(root, images=ALL_IGNORED, **settings)
    if kind == 'kitti':
        root.mkdir()
        paths = formats.write_kitti(root, ALL_IGNORED)
        return build_dataset(
            dict(type='KittiDataset', pipeline=[], classes=CLASSES, **paths, **settings))
    formats.write_images(root, ALL_IGNORED)
    (root / 'a.pkl').write_bytes(pickle.dumps(formats.middle_content(ALL_IGNORED, CLASSES)))
    return CustomDataset(str(root / 'a.pkl'), [], CLASSES, img_prefix=str(root), **settings)


@pytest.mark.parametrize('kind', ['xml', 'kitti', 'middle'])
def test_objects_that_are_all_to_be_ignored_are_told_as_such(tmp_path, kind):
    split = split_of(ignored_dataset(kind, tmp_path / 'val', test_mode=True), 'val')
    problems = {problem.kind: problem for problem in check_classes([split], True)}
    assert '(all 3 are crowd, difficult, DontCare or the like' in problems['no objects'].text
    if kind != 'kitti':  # DontCare has no class
        indices = problems['class of crowds alone'].examples
        assert [index.text for index in indices
                ] == ["all 2 objects of class 'Car'", "all 1 objects of class 'Cyclist'"]
    assert not check_same(split)  # two of them are the same: no evaluation misses one
    if kind != 'xml':  # V2 keeps an image of difficult objects alone
        with pytest.raises(DataError, match='3 objects are marked as to be ignored'):
            ignored_dataset(kind, tmp_path / 'train')


def test_a_split_without_images_is_told_as_such(tmp_path):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps([]))
    dataset = CustomDataset(str(tmp_path / 'a.pkl'), [], CLASSES, test_mode=True)
    problem, = check_classes([split_of(dataset, 'val')], True)
    assert (problem.kind, problem.text, problem.count) == ('no images', 'data.val has no image', 1)


@pytest.mark.parametrize('ending', ['.JPG', '.png'])
def test_a_face_is_found_in_an_image_of_another_ending(tmp_path, ending):
    paths = formats.write_voc(tmp_path, [IMAGES[0]], img_subdir='0--Parade')
    image = tmp_path / '0--Parade' / 'image_0.jpg'
    image.rename(image.with_suffix(ending))
    dataset = build_dataset(
        dict(type='WIDERFaceDataset', pipeline=[], classes=CLASSES, **paths, test_mode=True))
    assert dataset.data_infos[0]['filename'] == f'0--Parade/image_0{ending}'


@pytest.mark.parametrize('kind, write, ending', [('XMLDataset', formats.write_voc, '.jpg'),
                                                 ('XMLDataset', formats.write_voc, '.xml'),
                                                 ('KittiDataset', formats.write_kitti, '.png'),
                                                 ('KittiDataset', formats.write_kitti, '.txt')])
@pytest.mark.parametrize('folder', ['', '/data/pictures/'])
def test_a_list_of_names_with_endings_is_told_the_right_ones(tmp_path, kind, write, ending, folder):
    paths = write(tmp_path, IMAGES)
    with open(paths['ann_file'], 'w') as file:
        file.write(f'{folder}image_0{ending}')
    with pytest.raises(FileNotFoundError, match="names without ending.*write 'image_0' for"):
        build_dataset(dict(type=kind, pipeline=[], classes=CLASSES, **paths, test_mode=True))


def test_an_image_that_kitti_lacks_is_named_once(tmp_path):
    paths = formats.write_kitti(tmp_path, IMAGES)
    (tmp_path / 'image_2' / 'image_0.png').unlink()
    with pytest.raises(FileNotFoundError, match='KittiDataset: there is no image .*image_0.*, and'):
        build_dataset(
            dict(type='KittiDataset', pipeline=[], classes=CLASSES, **paths, test_mode=True))


@pytest.mark.parametrize('box, message', [
    ('<robndbox><cx>5</cx></robndbox>',
     'it has a robndbox, a rotated box of roLabelImg, and no upright one'),
    ('<bndbox><xmin>1</xmin><ymin>2</ymin></bndbox>', 'it has no xmax, ymax'),
    ('', 'it has no xmin, ymin, xmax, ymax'),
])
def test_an_object_of_voc_without_an_upright_box_says_what_it_has(tmp_path, box, message):
    path = tmp_path / 'a.xml'
    path.write_text(f'<annotation><object><name>cat</name>{box}</object></annotation>')
    with pytest.raises(
            DataError, match=f"object 1 .'cat'.* {message}; correct it, or take the object out"):
        read_voc_xml(str(path))
