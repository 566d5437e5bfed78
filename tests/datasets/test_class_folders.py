"""Class folders and label files as people have them: hidden files, other endings, other encodings, slips."""
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet_ft.config import Config
from mmdet_ft.datasets.classification.folder import ClassFolders
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.engine.run_check.data import check_data


def write(root: Path, *names: str) -> str:
    """Small pictures, or empty files where the ending is of none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in ('.jpg', '.png', '.webp', '.gif', '.tiff'):
            Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)
        else:
            path.write_bytes(b'x')
    return str(root)


def names_of(dataset):
    return [info['img_info']['filename'] for info in dataset.data_infos]


def test_what_systems_and_notebooks_leave_is_no_class_and_no_image(tmp_path):
    root = write(tmp_path, 'cat/0.jpg', 'dog/0.jpg', '.ipynb_checkpoints/0.jpg',
                 '__MACOSX/cat/0.jpg', '.git/x', 'cat/._0.jpg',
                 'cat/.ipynb_checkpoints/0-checkpoint.jpg', 'cat/__MACOSX/0.jpg', 'dog/.DS_Store')
    dataset = ClassFolders(root)
    assert dataset.CLASSES == ['cat', 'dog'] and names_of(dataset) == ['cat/0.jpg', 'dog/0.jpg']


def test_images_of_the_usual_endings_are_taken_and_others_counted(tmp_path, caplog):
    root = write(tmp_path, 'cat/0.webp', 'cat/1.gif', 'cat/2.tiff', 'dog/0.JPG', 'dog/1.heic',
                 'dog/2.HEIC', 'dog/notes', 'cat/Thumbs.db')
    os.rename(tmp_path / 'cat/1.gif', tmp_path / 'cat/1.jfif')
    with caplog.at_level(logging.WARNING, 'mmdet_ft'):
        dataset = ClassFolders(root)
    assert names_of(dataset) == ['cat/0.webp', 'cat/1.jfif', 'cat/2.tiff', 'dog/0.JPG']
    assert 'cat: 1 file is not an image by its ending (.db 1)' in caplog.text
    assert 'dog: 3 files are not images by their endings (.heic 2, no ending 1)' in caplog.text
    report = check_data(
        Config(dict(data=dict(train=dict(type='CustomDataset', data_prefix=root, pipeline=[])))),
        ['train'], False)
    assert [problem.text for problem in report.problems
            if problem.kind == 'not read'] == dataset.left_out
    assert not any(problem.stops for problem in report.problems)


def test_a_folder_without_images_says_which_files_it_has(tmp_path):
    with pytest.raises(DataError, match=r'no image in the class folders.*cat: 1 file .*\.heic 1'):
        ClassFolders(write(tmp_path, 'cat/0.heic', 'dog/notes.txt'))


def test_data_prefix_too_high_or_too_low_is_told(tmp_path):
    root = write(tmp_path, 'train/cat/0.jpg', 'train/dog/0.jpg', 'val/cat/0.jpg', 'val/dog/0.jpg')
    with pytest.raises(DataError, match='train, val, which are splits.*data_prefix=.*train'):
        ClassFolders(root)
    with pytest.raises(DataError, match='it has 1 images and no folder.*predict.py'):
        ClassFolders(f'{root}/train/cat')
    with pytest.raises(DataError, match='cannot be read: Not a directory'):
        ClassFolders(f'{root}/train/cat/0.jpg')
    # a vehicle
    assert ClassFolders(write(tmp_path / 'b', 'train/0.jpg',
                              'bus/0.jpg')).CLASSES == ['bus', 'train']
    assert ClassFolders(write(tmp_path / 'c', 'train/0.jpg',
                              'test/0.jpg')).CLASSES == ['test', 'train']


@pytest.mark.parametrize('names, text', [
    (('Annotations/0.xml', 'ImageSets/Main/train.txt', 'JPEGImages/0.jpg'),
     "folder 'Annotations' .* 1 files of annotations .*voc.py. makes a COCO json"),
    (('image_2/0.png', 'label_2/0.txt'), "folder 'label_2' .*kitti.py"),
    (('annotations/train.json', 'train/0.jpg', 'val/0.jpg'), "folder 'annotations' .*CocoDataset"),
    (('0.jpg', '0.json', '1.jpg'),
     '2 images and no folder, and beside them 1 .json files.*labelme.py'),
    (('0.jpg', 'README.txt'), '1 images and no folder. Put the images'),
])
def test_data_of_a_detector_are_no_class_folders(names, text, tmp_path):
    with pytest.raises(DataError, match=text):
        ClassFolders(write(tmp_path, *names))


def test_a_class_that_is_named_may_be_without_images(tmp_path):
    root = write(tmp_path, 'cat/0.jpg', 'dog/0.txt')
    assert ClassFolders(root, classes=('cat', 'dog')).get_gt_labels().tolist() == [0]
    root = write(tmp_path / 'b', 'cat/0.jpg', 'dog/README.txt')
    assert ClassFolders(root).CLASSES == ['cat', 'dog']


def test_folders_written_nearly_as_the_classes_are_suggested(tmp_path):
    root = write(tmp_path, 'Cat/0.jpg', 'dog/0.jpg')
    with pytest.raises(DataError, match="did you mean 'cat' for the folder 'Cat'"):
        ClassFolders(root, classes=('cat', 'dog'))
    # in turn 'Cat' would be the label of dog
    with pytest.raises(DataError, match="'DOG' for the folder 'dog'"):
        ClassFolders(root, classes=('DOG', 'CAT'))
    assert ClassFolders(root, classes=('CAT', 'DOG')).get_gt_labels().tolist() == [0, 1]


def test_a_link_to_a_folder_above_ends(tmp_path):
    root = write(tmp_path, 'cat/0.jpg', 'dog/0.jpg')
    os.symlink(tmp_path / 'cat', tmp_path / 'cat/again')
    assert names_of(ClassFolders(root)) == ['cat/0.jpg', 'dog/0.jpg']


LINES = 'cat/0.jpg 0\ncat/a b.jpg 0\r\ndog/0.jpg 1\n'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_label_files_in_the_encodings_of_windows_are_read(encoding, tmp_path):
    (tmp_path / 'a.txt').write_bytes(LINES.encode(encoding))
    (tmp_path / 'names.txt').write_bytes('cat \ndog\n'.encode(encoding))
    dataset = ClassFolders(
        str(tmp_path), ann_file=str(tmp_path / 'a.txt'), classes=str(tmp_path / 'names.txt'))
    assert names_of(dataset) == ['cat/0.jpg', 'cat/a b.jpg', 'dog/0.jpg']
    assert dataset.get_gt_labels().tolist() == [0, 0, 1] and dataset.CLASSES == ['cat', 'dog']


@pytest.mark.parametrize('content, message', [
    (LINES.encode() + 'Kätze.jpg 1'.encode('latin-1'), r'a.txt:4: byte 0xe4 is not UTF-8'),
    (LINES.encode('utf-16-le'), 'a.txt:1: a zero byte'),
    ('a.jpg \u00b2'.encode(), 'a.txt:1: .*a label .a number from 0'),
    ('a.jpg \u0663'.encode(), 'a.txt:1'),
    (b'a.jpg 1\nb.jpg -1', 'a.txt:2'),
    (b'a.jpg 1.0', 'a.txt:1'),
    (b'a.jpg,1', 'a.txt:1: .*a space in front of the label, not a comma'),
    (b'a.jpg\t1', 'a.txt:1: .*not a comma or a tab'),
    (b'a.jpg 0 1', 'a.txt:1: .*several labels per image'),
    (b'a.jpg 0,1', 'a.txt:1: .*several labels per image'),
    (b'a.jpg dog', "a.txt:1: .*for the class 'dog' write 1"),
    (b'a.jpg 99999999999999999999', 'a.txt:1: the label 9*.* is too large'),
    (b'a.jpg ' + b'9' * 5000, 'a.txt:1: the label 9*.* is too large'),
    (b'a.jpg 1\nb.jpg 2', 'label 2, and there are 2 classes .*seem to count from 1'),
    (b'\n \n', 'lists no image'),
])
def test_what_is_no_label_file_is_named_with_its_line(content, message, tmp_path):
    (tmp_path / 'a.txt').write_bytes(content)
    with pytest.raises(DataError, match=message):
        ClassFolders(str(tmp_path), ann_file=str(tmp_path / 'a.txt'), classes=('cat', 'dog'))


def test_a_folder_or_nothing_as_label_file_is_told(tmp_path):
    with pytest.raises(DataError, match='ann_file .* cannot be read: Is a directory'):
        ClassFolders(str(tmp_path), ann_file=str(tmp_path))
    with pytest.raises(DataError, match='ann_file .* is not there'):
        ClassFolders(str(tmp_path), ann_file=str(tmp_path / 'no.txt'))


@pytest.mark.parametrize('classes, message', [
    ([False, True], "names False, which is a bool.*in quotes: 'no'"),
    ((1, 2), "names 1, which is a int.*in quotes: '1'"),
    ([['cat'], 'dog'], 'is a list, not a text'),
    (('cat', 'cat'), "'cat' twice"),
])
def test_classes_that_are_no_texts_are_refused(classes, message):
    with pytest.raises(DataError, match=message):
        ClassFolders.get_classes(classes)
