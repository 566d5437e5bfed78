"""Files as users have them, a little odd: what check_data says of them, and what training makes of them."""
import json
import os

import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.run_check.data import check_data
from tests.datasets import formats

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
IMAGES = formats.draw_things(3)
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]


def settings(kind, write, root):
    return dict(type=kind, classes=CLASSES, pipeline=PIPELINE, **write(root, IMAGES))


def problems_of(split):
    return {
        problem.kind: problem
        for problem in check_data(Config(dict(data=dict(train=split))), workers=0).problems
    }


def write_middle(root, images):
    formats.write_images(root, images)
    records = formats.middle_content(images, list(CLASSES))
    for record in records:
        record['ann'] = {key: value.tolist() for key, value in record['ann'].items()}
    (root / 'm.json').write_text(json.dumps(records))
    return dict(ann_file=str(root / 'm.json'), img_prefix=str(root))


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def listed_again(name):
    return lambda root: (root / name).write_text((root / name).read_text() + 'image_0\n')


def linked(root):
    (root / 'image_1.jpg').unlink()
    (root / 'image_1.jpg').symlink_to(root / 'image_0.jpg')


@pytest.mark.parametrize('kind, write, spoil', [
    ('XMLDataset', formats.write_voc, listed_again('ImageSets/Main/train.txt')),
    ('KittiDataset', formats.write_kitti, listed_again('train.txt')),
    ('LabelmeDataset', formats.write_labelme, lambda root: change(
        root / 'image_1.json', lambda content: content.update(imagePath='image_0.jpg'))),
    ('CVATDataset', formats.write_cvat, lambda root: (root / 'annotations.xml').write_text(
        (root / 'annotations.xml').read_text().replace('image_1.jpg', 'image_0.jpg'))),
    ('LabelStudioDataset', formats.write_label_studio, lambda root: change(
        root / 'export.json', lambda content: content[1].update(data=content[0]['data']))),
    ('CocoDataset', formats.write_coco_json,
     lambda root: change(root / 'annotations.json', lambda content: content['images'][1].update(
         file_name='./image_0.jpg'))),
    ('CocoDataset', formats.write_coco_json, linked),
    ('CustomDataset', write_middle,
     lambda root: change(root / 'm.json', lambda content: content[1].update(filename='image_0.jpg'))
     ),
])
def test_a_file_that_is_listed_twice_is_told_in_every_format(kind, write, spoil, tmp_path):
    split = settings(kind, write, tmp_path / 'a')
    assert 'image listed twice' not in problems_of(split)
    spoil(tmp_path / 'a')
    problem = problems_of(split)['image listed twice']
    assert problem.count == 1 and problem.is_defect and '(2 times)' in problem.examples[0].text


@pytest.mark.parametrize('kind, write, file',
                         [('XMLDataset', formats.write_voc, 'Annotations/image_0.xml'),
                          ('KittiDataset', formats.write_kitti, 'label_2/image_0.txt'),
                          ('CVATDataset', formats.write_cvat, 'annotations.xml'),
                          ('LabelStudioDataset', formats.write_label_studio, 'export.json'),
                          ('LabelmeDataset', formats.write_labelme, 'image_0.json')])
def test_objects_whose_class_is_written_otherwise_are_a_defect(kind, write, file, tmp_path):
    split = settings(kind, write, tmp_path / 'a')
    path = tmp_path / 'a' / file
    path.write_text('pedestrian'.join(path.read_text().rsplit('Pedestrian', 1)))
    problem = problems_of(split)['class in another spelling']
    assert problem.is_defect and "the class is 'Pedestrian'" in problem.examples[0].text


def test_dont_care_is_one_in_any_case(tmp_path):
    split = settings('KittiDataset', formats.write_kitti, tmp_path / 'a')
    before = build_dataset(split).get_ann_info(0)['bboxes_ignore']
    path = tmp_path / 'a/label_2/image_0.txt'
    path.write_text(path.read_text().replace('DontCare', 'dontcare'))
    np.testing.assert_array_equal(build_dataset(split).get_ann_info(0)['bboxes_ignore'], before)


def test_a_json_in_capitals_is_one(tmp_path):
    split = settings('LabelmeDataset', formats.write_labelme, tmp_path / 'a')
    (tmp_path / 'a/image_0.json').rename(tmp_path / 'a/image_0.JSON')
    assert len(build_dataset(dict(split, test_mode=True))) == 3


def test_labels_to_ignore_are_as_many_as_boxes(tmp_path):
    split = settings('CustomDataset', write_middle, tmp_path)
    change(tmp_path / 'm.json', lambda content: content[0]['ann'].update(labels_ignore=[0] * 9))
    with pytest.raises(DataError, match='bboxes_ignore and 9 labels_ignore'):
        build_dataset(split)
    assert problems_of(split)['cannot be read'].stops


def test_a_list_of_one_class_is_told_from_a_list_of_names(tmp_path):
    split = settings('XMLDataset', formats.write_voc, tmp_path)
    path = tmp_path / 'ImageSets/Main/train.txt'
    path.write_text(path.read_text().replace('\n', ' -1\n'))
    with pytest.raises(FileNotFoundError, match='a list of one class, as VOC has them'):
        build_dataset(split)
    path.write_text(f'{tmp_path}/JPEGImages/image_0.jpg\n')
    with pytest.raises(FileNotFoundError, match="write 'image_0' for"):
        build_dataset(split)


def test_a_link_that_leads_nowhere_is_called_one(tmp_path):
    split = settings('XMLDataset', formats.write_voc, tmp_path)
    path = tmp_path / 'JPEGImages/image_0.jpg'
    path.unlink()
    os.symlink('/nowhere/a.jpg', path)
    with pytest.raises(FileNotFoundError, match="a link to '/nowhere/a.jpg'") as error:
        build_dataset(split)[0]
    assert 'is there (' not in str(error.value)
    assert 'image missing' in problems_of(split)


@pytest.mark.parametrize('kind, write, file',
                         [('XMLDataset', formats.write_voc, 'Annotations/image_0.xml'),
                          ('KittiDataset', formats.write_kitti, 'label_2/image_0.txt'),
                          ('LabelmeDataset', formats.write_labelme, 'image_0.json')])
def test_an_annotation_file_in_another_case_is_named(kind, write, file, tmp_path):
    split = settings(kind, write, tmp_path)
    if kind == 'LabelmeDataset':
        (tmp_path / 'list.txt').write_text('image_0.json\n')
        split['ann_file'] = str(tmp_path / 'list.txt')
    path = tmp_path / file
    path.rename(path.with_name(path.name.replace('image', 'IMAGE')))
    with pytest.raises(
            FileNotFoundError,
            match=f"'{path.name.replace('image', 'IMAGE')}' is there .another case"):
        build_dataset(split)
    assert problems_of(split)['cannot be read'].stops
