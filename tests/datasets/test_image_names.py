"""Images that are there under another name than is listed."""
import re
import unicodedata

import pytest

from mmdet_ft.datasets.images.names import (causes_of, find_image, missing_folder, plain_name_hint,
                                            same_name)


@pytest.fixture
def folder(tmp_path):
    for name in ('000.jpg', 'sub/deep/001.jpg', 'Photo.JPG',
                 unicodedata.normalize('NFD', 'über.jpg'), '../other/9.jpg'):
        path = tmp_path / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'train'


@pytest.mark.parametrize('name, there, reason', [
    ('images\\000.jpg', '000.jpg', 'backslashes, other folders before it'),
    ('sub\\deep\\001.jpg', 'sub/deep/001.jpg', 'backslashes'),
    ('..\\train\\000.jpg', '../train/000.jpg', 'backslashes'),
    ('C:\\Users\\me\\000.jpg', '000.jpg', 'backslashes, other folders before it'),
    ('images/1/000.jpg', '000.jpg', 'other folders before it'),
    ('/home/me/train/sub/deep/001.jpg', 'sub/deep/001.jpg', 'other folders before it'),
    ('/000.jpg', '000.jpg', 'a slash before it'),
    ('./000.JPG', '000.jpg', 'another case'),
    ('photo.jpg', 'Photo.JPG', 'another case'),
    ('SUB/deep/001.jpg', 'sub/deep/001.jpg', 'another case'),
    ('000.png', '000.jpg', 'another ending'),
    ('000', '000.jpg', 'another ending'),
    ('000.jpg ', '000.jpg', 'blanks around it'),
    ('%30%300.jpg', '000.jpg', 'quoted signs (%20)'),
    ('http://localhost:8080/data/upload/1/000.jpg?d=4', '000.jpg', 'an address'),
    ('s3://bucket/set/sub/deep/001.jpg', 'sub/deep/001.jpg', 'an address'),
    ('001.jpg', 'sub/deep/001.jpg', 'in a folder below'),
    (unicodedata.normalize('NFC', 'über.jpg'), unicodedata.normalize(
        'NFD', 'über.jpg'), 'another Unicode form'),
])
def test_a_file_of_nearly_the_name_is_found_with_what_differs(folder, name, there, reason):
    assert find_image(str(folder), name) == (there, reason)
    assert find_image(f'{folder}/', name) == (there, reason)


@pytest.mark.parametrize(
    'name', ['777.jpg', '', 'sub', 'sub/deep', 'http://x', 'a\0b.jpg'.replace('\0', ''), '../..'])
def test_nothing_is_found_where_nothing_is_like_it(folder, name):
    assert find_image(str(folder), name) is None and same_name(str(folder), name) is None


def test_two_files_that_could_be_meant_are_none(folder):
    (folder / 'sub' / '001.jpg').touch()
    (folder / 'photo.jpg').touch()
    assert find_image(str(folder), 'PHOTO.jpg') is None
    assert find_image(str(folder), '001.jpg') is None


def test_only_slashes_and_unicode_forms_are_one_name(folder):
    assert same_name(str(folder), 'sub\\deep\\001.jpg') == str(folder / 'sub/deep/001.jpg')
    assert same_name(None, f'{folder}\\000.jpg') == str(folder / '000.jpg')
    composed = unicodedata.normalize('NFC', 'über.jpg')
    assert same_name(str(folder), composed).endswith(unicodedata.normalize('NFD', composed))
    assert same_name('', f'{folder}/{composed}').endswith(unicodedata.normalize('NFD', composed))
    for other in ('000.JPG', '/000.jpg', 'images/000.jpg', '000'):
        assert same_name(str(folder), other) is None, other


def test_a_file_that_is_put_there_later_is_found(folder):
    assert find_image(str(folder), 'new.jpg') is None
    (folder / 'new.JPG').touch()
    assert find_image(str(folder), 'new.jpg').name == 'new.JPG'


def test_a_path_by_itself_is_looked_up_in_its_folder(folder):
    assert find_image(None, f'{folder}/000.JPG').name == '000.jpg'


def test_a_missing_folder_is_named_with_its_neighbour(folder):
    assert missing_folder(str(folder)) == '' and missing_folder('') == ''
    text = missing_folder(f'{folder}/../trian/images/')
    assert text.startswith('there is no folder') and text.endswith(f"did you mean '{folder}'?")


def test_missing_images_are_grouped_by_cause(folder):
    names = ['a/000.jpg', 'gone.jpg', 'b/c/Photo.JPG', '000.JPG']
    causes = causes_of([(str(folder), name) for name in names])
    assert [(cause.reason, cause.count) for cause in causes] == [('other folders before it', 2),
                                                                 ('another case', 1), ('', 1)]
    assert causes[0].examples == [('a/000.jpg', '000.jpg'), ('b/c/Photo.JPG', 'Photo.JPG')]


@pytest.mark.parametrize('line, text', [
    ('000001 -1', 'a list of one class.* take train.txt'),
    ('000001  1', 'a list of one class'),
    ('000001.jpg', "without ending.* write '000001' for '000001.jpg'"),
    ('/data/JPEGImages/000001', "write '000001' for"),
])
def test_a_line_of_a_list_that_is_no_plain_name_is_told(line, text):
    assert re.search(text, plain_name_hint(line))


def test_a_name_with_a_blank_is_plain():
    assert not plain_name_hint('street 12') and not plain_name_hint('000001')
