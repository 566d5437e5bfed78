"""Folders as people have them: each is read right, or answered with one message."""
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.recognize import recognize
from mmdet_ft.folders.choosing import Machine
from mmdet_ft.folders.contents import read_contents
from mmdet_ft.folders.describing import describe
from mmdet_ft.folders.run import write_config
from tests.datasets import formats
from . import helpers

CPU = Machine(has_gpu=False, is_offline=True)


def read(root, tmp_path):
    return read_contents(recognize(str(root)), str(tmp_path / 'out'))


def sizes(contents):
    return {split: len(found.paths) for split, found in contents.splits.items()}


def said(contents):
    return '\n'.join(describe(contents))


def test_two_splits_of_two_formats_are_one_set(tmp_path):
    helpers.write_coco(tmp_path / 'a/train', helpers.draw(8))
    helpers.write_voc_flat(tmp_path / 'a/val', helpers.draw(4))
    helpers.recolor(tmp_path / 'a')
    contents = read(tmp_path / 'a', tmp_path)
    assert sizes(contents) == dict(train=8, val=4)
    assert [settings['type']
            for settings in contents.settings.values()] == ['CocoDataset', 'XMLDataset']
    assert contents.layout.kind == 'COCO json (train), PASCAL VOC xml (val)'


def test_two_formats_of_the_same_images_are_asked_about(tmp_path):
    root = helpers.write('voc', tmp_path / 'a')
    formats.write_labelme(root / 'JPEGImages', helpers.draw(12))
    with pytest.raises(
            DataError,
            match='has 2 formats. To fix: name one.*--data-format voc.*--data-format labelme'
            '|--data-format labelme.*--data-format voc'):
        read(root, tmp_path)
    assert recognize(str(root), 'voc').key == 'voc' and recognize(str(root),
                                                                  'labelme').key == 'labelme'
    with pytest.raises(DataError, match='has nothing of the format kitti'):
        recognize(str(root), 'kitti')
    with pytest.raises(DataError, match="there is no format 'pascal'; there are .*voc"):
        recognize(str(root), 'pascal')


def test_empty_label_files_are_images_without_objects(tmp_path):
    root = helpers.write('yolo', tmp_path / 'a')
    labels = sorted((root / 'labels').rglob('*.txt'))
    for path in labels[:3]:
        path.write_text('')
    contents = read(root, tmp_path)
    assert sum(sizes(contents).values()) == 12
    train = contents.splits['train']
    number = sum(len(found.labels) for found in contents.splits.values())
    assert number == 33 - 9 and len(np.unique(train.image)) < len(train.paths)


def test_only_empty_label_files_are_nothing_to_learn(tmp_path):
    root = helpers.write('yolo', tmp_path / 'a')
    for path in (root / 'labels').rglob('*.txt'):
        path.write_text('')
    with pytest.raises(DataError, match='no object to learn'):
        read(root, tmp_path)


def test_class_ids_that_begin_with_one_are_refused_with_the_line(tmp_path):
    root = helpers.write('yolo', tmp_path / 'a')
    for path in (root / 'labels').rglob('*.txt'):
        lines = [line.split() for line in path.read_text().splitlines()]
        path.write_text('\n'.join(' '.join([str(int(line[0]) + 1), *line[1:]]) for line in lines))
    with pytest.raises(DataError, match=r'image_\d+.txt.*class 3.*3 classes|image_\d+.txt.*3'):
        read(root, tmp_path)


@pytest.mark.parametrize('name', ['Fotos für Äpfel', '写真 1', 'a b/c d', "it's", 'x#1&y', '100%'])
@pytest.mark.parametrize('key', ['coco', 'voc', 'yolo', 'folders', 'labelme'])
def test_names_of_folders_may_be_anything(key, name, tmp_path):
    contents = read(helpers.write(key, tmp_path / name), tmp_path)
    assert all(os.path.isfile(path) for found in contents.splits.values() for path in found.paths)


def test_names_of_images_may_be_anything(tmp_path):
    root = helpers.write('voc', tmp_path / 'a')
    names = ['Löwe', 'a b', '写真', 'x.y', 'é' * 20, '#1', "it's"]
    for path, name in zip(sorted((root / 'JPEGImages').iterdir()), names):
        (root / 'Annotations' / f'{path.stem}.xml').rename(root / 'Annotations' / f'{name}.xml')
        path.rename(path.with_name(f'{name}.jpg'))
    shutil.rmtree(root / 'ImageSets')
    contents = read(root, tmp_path)
    assert sum(sizes(contents).values()) == 12
    assert sum(len(found.labels) for found in contents.splits.values()) == 33


def test_a_set_may_be_nested(tmp_path):
    helpers.write('coco', tmp_path / 'a/download/v2/dataset')
    assert sum(sizes(read(tmp_path / 'a', tmp_path)).values()) == 12


def test_folders_may_be_links(tmp_path):
    root = helpers.write('voc', tmp_path / 'disk')
    (tmp_path / 'a').mkdir()
    for folder in root.iterdir():
        (tmp_path / 'a' / folder.name).symlink_to(folder)
    assert sum(sizes(read(tmp_path / 'a', tmp_path)).values()) == 12


def test_a_link_to_a_folder_above_ends(tmp_path):
    root = helpers.write('coco', tmp_path / 'a')
    (root / 'again').symlink_to(root)
    assert sum(sizes(read(root, tmp_path)).values()) == 12


def test_an_archive_is_to_be_unpacked(tmp_path):
    helpers.write('coco', tmp_path / 'a')
    archive = shutil.make_archive(str(tmp_path / 'set'), 'zip', tmp_path / 'a')
    with pytest.raises(DataError, match='set.zip. is an archive; unpack it, and name the folder'):
        recognize(archive)
    (tmp_path / 'b').mkdir()
    shutil.move(archive, tmp_path / 'b')
    with pytest.raises(DataError, match="no image below .*1 .zip files; unpack 'set.zip'"):
        recognize(str(tmp_path / 'b'))


def test_one_image_is_no_set(tmp_path):
    root = helpers.write('voc', tmp_path / 'a', 2)
    with pytest.raises(DataError, match='is one image; name a folder'):
        recognize(str(root / 'JPEGImages/image_0.jpg'))
    for path in (root / 'JPEGImages/image_1.jpg', root / 'Annotations/image_1.xml'):
        path.unlink()
    shutil.rmtree(root / 'ImageSets')
    with pytest.raises(DataError, match='has 1 image; two that differ are needed'):
        read(root, tmp_path)


def test_copies_of_one_image_cannot_be_divided(tmp_path):
    root = tmp_path / 'a'
    helpers.write_voc_flat(root, helpers.draw(4))
    for path in root.glob('*.jpg'):
        if path.name != 'image_0.jpg':
            shutil.copy(root / 'image_0.jpg', path)
    with pytest.raises(DataError, match='has 4 images; two that differ are needed'):
        read(root, tmp_path)


@pytest.mark.parametrize('make, message', [
    (lambda root: root.mkdir(), 'no image below .*: no file'),
    (lambda root: formats.write_images(root, helpers.draw(3)),
     'nothing that is read: 3 images in 1 folders.*Expected'),
    (lambda root: (root / 'x').mkdir(parents=True), 'no image below'),
])
def test_images_alone_and_nothing_at_all(make, message, tmp_path):
    make(tmp_path / 'a')
    with pytest.raises(DataError, match=message):
        recognize(str(tmp_path / 'a'))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere'):
        recognize(str(tmp_path / 'nowhere'))


def test_annotations_without_images(tmp_path):
    root = helpers.write('voc', tmp_path / 'a')
    shutil.rmtree(root / 'JPEGImages')
    with pytest.raises(DataError, match='no image below .*12 .xml files'):
        recognize(str(root))


def test_annotations_of_other_images(tmp_path):
    root = helpers.write('voc', tmp_path / 'a')
    for index, path in enumerate(sorted((root / 'JPEGImages').iterdir())):
        path.rename(path.with_name(f'IMG{index}.jpg'))
    with pytest.raises(
            DataError,
            match="12 files of annotations, such as 'image_0.xml', and no image of their names"):
        recognize(str(root))


def test_images_without_annotations_are_counted(tmp_path):
    """Of a detector's set in files of one image each, images without such a file are not used, and that is said."""
    root = helpers.write('labelme', tmp_path / 'a')
    for path in sorted(root.glob('*.json'))[:5]:
        path.unlink()
    contents = read(root, tmp_path)
    assert sum(sizes(contents).values()) == 7
    assert '5 images beside them in no split or without annotations: not used, such as ' in said(
        contents)


def test_a_json_that_is_cut_off_is_named(tmp_path):
    root = helpers.write('coco', tmp_path / 'a')
    path = root / 'annotations.json'
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match='annotations.json'):
        read(root, tmp_path)


def test_images_that_are_missing_are_counted(tmp_path):
    root = helpers.write('coco', tmp_path / 'a')
    (root / 'image_3.jpg').unlink()
    contents = read(root, tmp_path)
    assert 'defect, 1 in ' in said(contents) and 'image_3.jpg' in said(contents)


def test_the_same_image_in_train_and_val_is_a_defect(tmp_path):
    for split in ('train', 'val'):
        helpers.write_coco(tmp_path / 'a' / split, helpers.draw(4))
    helpers.recolor(tmp_path / 'a/train')
    for path in (tmp_path / 'a/train').glob('*.jpg'):
        shutil.copy(path, tmp_path / 'a/val')
    contents = read(tmp_path / 'a', tmp_path)
    assert 'defect' in said(contents) and sizes(contents) == dict(train=4, val=4)


def test_one_annotation_file_may_be_named(tmp_path):
    root = helpers.write('coco', tmp_path / 'a')
    content = json.loads((root / 'annotations.json').read_text())
    content['images'] = content['images'][:5]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] in kept]
    (root / 'few.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match='has 2 .*name one of them: --data .*json'):
        recognize(str(root))
    contents = read_contents(recognize(str(root / 'few.json')), str(tmp_path / 'out'))
    assert sum(sizes(contents).values()) == 5


def test_hidden_files_and_those_of_macos_are_not_data(tmp_path):
    root = helpers.write('voc', tmp_path / 'a')
    (root / '__MACOSX/Annotations').mkdir(parents=True)
    (root / '__MACOSX/Annotations/._image_0.xml').write_bytes(b'\0\5\26\7')
    (root / 'Annotations/._image_0.xml').write_bytes(b'\0\5\26\7')
    (root / 'JPEGImages/._image_0.jpg').write_bytes(b'\0\5\26\7')
    (root / '.ipynb_checkpoints').mkdir()
    formats.write_images(root / '.ipynb_checkpoints', helpers.draw(2))
    assert sum(sizes(read(root, tmp_path)).values()) == 12


def test_one_class_folder_is_no_task(tmp_path):
    formats.write_images(tmp_path / 'a/cat', helpers.draw(4))
    with pytest.raises(DataError, match='cat'):
        read(tmp_path / 'a', tmp_path)


def test_class_folders_in_train_and_val(tmp_path):
    for split, number in (('train', 6), ('val', 2)):
        helpers.write_folders(tmp_path / 'a' / split, helpers.draw(number))
    helpers.recolor(tmp_path / 'a')
    contents = read(tmp_path / 'a', tmp_path)
    assert sizes(contents) == dict(train=18, val=6) and contents.classes == list(helpers.NAMES)


def test_val_has_a_class_more_than_train(tmp_path):
    helpers.write_folders(tmp_path / 'a/train', helpers.draw(6))
    helpers.write_folders(tmp_path / 'a/val', helpers.draw(3))
    formats.write_images(tmp_path / 'a/val/owl', helpers.draw(2))
    helpers.recolor(tmp_path / 'a')
    with pytest.raises(DataError, match='owl'):
        read(tmp_path / 'a', tmp_path)


def test_the_config_writes_into_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_config(str(helpers.write('voc', tmp_path / 'a')), 'out', CPU).path
    assert os.path.samefile(Config.fromfile(path).work_dir, tmp_path / 'out')


def write_yolo_split(root, split, names=('cat', 'dog', 'hen')):
    formats.write_yolo(root / 'x', helpers.draw(4), names=helpers.NAMES)
    for kind, target in (('images', root / 'images' / split), ('labels', root / 'labels' / split)):
        found = [path for path in (root / 'x' / kind).rglob('*') if path.is_file()]
        target.mkdir(parents=True)
        for path in found:
            shutil.move(path, target / f'{split}_{path.name}')
    if names is not None:
        (root / 'labels' / split / 'classes.txt').write_text('\n'.join(names))
    shutil.rmtree(root / 'x')


def test_a_split_in_several_folders_beside_another_split(tmp_path):
    for split in ('train1', 'train2', 'val'):
        write_yolo_split(tmp_path / 'a', split)
    with pytest.raises(
            DataError,
            match="the split 'train' has the image folders images/train1, images/train2, and "
            'images/val is beside them. List the folders of each split in a data.yaml'):
        recognize(str(tmp_path / 'a'))


def test_lists_of_classes_that_differ(tmp_path):
    write_yolo_split(tmp_path / 'a', 'train')
    write_yolo_split(tmp_path / 'a', 'val', ('dog', 'cat', 'hen'))
    with pytest.raises(
            DataError,
            match='two lists of classes that differ: labels/train/classes.txt .cat, dog, hen. and '
            'labels/val/classes.txt .dog, cat, hen.'):
        recognize(str(tmp_path / 'a'))


def test_a_val_that_data_yaml_names_and_is_not_there(tmp_path):
    root = helpers.write('yolo', tmp_path / 'a')
    path = root / 'data.yaml'
    lines = [line for line in path.read_text().splitlines() if not line.startswith('val')]
    path.write_text('\n'.join([*lines, 'val: images/vall']) + '\n')
    with pytest.raises(DataError, match='images/vall'):
        recognize(str(root))
    path.write_text('\n'.join([*lines, 'test: images/tests']) + '\n')
    assert 'no test set: ' in said(read(root, tmp_path)) and 'images/tests' in said(
        read(root, tmp_path))


def test_words_of_a_split_are_one(tmp_path):
    """training.json and validation.json with images of the same names in images/train and images/val."""
    for split, folder in (('training', 'train'), ('validation', 'val')):
        helpers.write_coco(tmp_path / 'x', helpers.draw(4), f'{split}.json')
        (tmp_path / 'a/annotations').mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / f'x/{split}.json', tmp_path / 'a/annotations')
        shutil.move(tmp_path / 'x', tmp_path / f'a/images/{folder}')
    helpers.recolor(tmp_path / 'a')
    settings = read(tmp_path / 'a', tmp_path).settings
    assert [os.path.basename(settings[split]['img_prefix'][:-1])
            for split in ('train', 'val')] == ['train', 'val']


def test_names_that_two_folders_have(tmp_path):
    for name in ('cam1', 'cam2'):
        helpers.write_coco(tmp_path / f'a/{name}', helpers.draw(8), '../a.json')
    helpers.recolor(tmp_path / 'a')
    with pytest.raises(
            DataError, match='names 8 images that are both in cam. and in cam.. To fix: '):
        recognize(str(tmp_path / 'a'))


def mask(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((formats.HEIGHT, formats.WIDTH), np.uint8)
    for index, value in enumerate(values):
        picture[10:40, 10 + 40 * index:40 + 40 * index] = value
    cv2.imwrite(str(path), picture)


@pytest.mark.parametrize('masks, message', [
    ({
        'cat/{}.png': [255],
        'dog/{}.png': [255]
    }, 'the masks are in the folders cat, dog, which may be classes. To fix: '),
    ({
        '{}.png': [1, 2, 1]
    }, 'the values in masks such as .*png may be objects or classes. To fix: '),
])
def test_masks_whose_classes_cannot_be_seen(masks, message, tmp_path):
    formats.write_images(tmp_path / 'a/images', helpers.draw(6))
    for stem in formats.stems(range(6)):
        for name, values in masks.items():
            mask(tmp_path / 'a/masks' / name.format(stem), values)
    helpers.recolor(tmp_path / 'a')
    with pytest.raises(DataError, match=message):
        read(tmp_path / 'a', tmp_path)


def test_a_json_of_no_split_beside_splits_is_named(tmp_path):
    for name in ('train', 'val', 'all'):
        helpers.write_coco(tmp_path / 'x', helpers.draw(4), f'{name}.json')
        (tmp_path / 'a').mkdir(exist_ok=True)
        shutil.move(tmp_path / f'x/{name}.json', tmp_path / 'a')
        for path in (tmp_path / 'x').glob('*.jpg'):
            shutil.move(path, tmp_path / 'a' / f'{path.name}')
    helpers.recolor(tmp_path / 'a')
    assert 'all.json is of no split: not used' in said(read(tmp_path / 'a', tmp_path))


def test_classes_of_val_alone_and_names_that_are_alike_are_said(tmp_path):
    train = [[formats.Thing('Cat', (5, 5, 40, 40)), formats.Thing('cat ', (50, 5, 90, 40))]] * 6
    helpers.write_voc_flat(tmp_path / 'a/train', train)
    helpers.write_voc_flat(tmp_path / 'a/val',
                           [[*train[0][:1], formats.Thing('rare', (50, 50, 90, 90))]] * 2)
    helpers.recolor(tmp_path / 'a')
    text = said(read(tmp_path / 'a', tmp_path))
    assert "note: 'Cat' and 'cat" in text or "'cat' and" in text or "'Cat'" in text
    assert 'note, 2 in val' in text and 'rare' in text


def test_class_folders_beside_loose_images_and_with_the_name_of_a_split(tmp_path):
    helpers.write_folders(tmp_path / 'a', helpers.draw(5))
    formats.write_images(tmp_path / 'a', helpers.draw(2))
    helpers.recolor(tmp_path / 'a')
    with pytest.raises(
            DataError,
            match='has 2 images beside its folders, such as image_0.jpg: they are of no class'):
        recognize(str(tmp_path / 'a'))
    for name in ('train', 'bus', 'car'):
        formats.write_images(tmp_path / 'b' / name, helpers.draw(5))
    helpers.recolor(tmp_path / 'b')
    assert read(tmp_path / 'b', tmp_path / 'b').classes == ['bus', 'car', 'train']


@pytest.mark.parametrize('key', ['voc', 'yolo', 'kitti'])
def test_two_images_of_one_annotation_file(key, tmp_path):
    root = helpers.write(key, tmp_path / 'a')
    path = sorted(root.rglob('image_0.*g'))[0]
    other = {'.jpg': '.png', '.png': '.jpg'}[path.suffix]
    cv2.imwrite(str(path.with_suffix(other)), np.zeros((formats.HEIGHT, formats.WIDTH, 3)))
    with pytest.raises(DataError, match='two images.*image_0.*take one of them away'):
        read(root, tmp_path)


def test_labels_of_cvat_that_its_list_does_not_have(tmp_path):
    helpers.write_cvat(tmp_path / 'a', helpers.draw(12))
    helpers.recolor(tmp_path / 'a')
    path = tmp_path / 'a/annotations.xml'
    path.write_text(path.read_text().replace('<name>hen</name>', '<name>owl</name>'))
    contents = read(tmp_path / 'a', tmp_path)
    assert contents.classes == ['cat', 'dog', 'owl', 'hen']
    assert contents.num_objects + len(contents.splits['val'].labels) == 33
    assert "classes without a single object" in said(contents) and "'owl'" in said(contents)
