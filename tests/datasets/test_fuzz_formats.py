"""Annotation files of every kind but COCO's, changed at random: read, or refused by one message with the place.

Training and check_data agree on each of 1,500: types, missing keys, numbers beyond reason, damaged text, encodings.
"""
import json
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest

from mmdet_ft.datasets.annotations import via, wider_lists
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, to_coco
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.untrusted import UntrustedFileError
from . import formats, fuzz
from .formats import Thing

CONVERTERS = Path(__file__).parents[2] / 'tools/dataset_converters'
CLASSES = ['Car', 'Pedestrian']
IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Pedestrian', (60, 20, 90, 60), ignored=True)],
          [Thing('Pedestrian', (5, 5, 40, 50)),
           Thing('Tram', (50, 5, 80, 50))]]
TOLD = (FileNotFoundError, UntrustedFileError)  # a command tells these in one message, too

# ------------------------------------------------------------------------------ damaged text


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Change the bytes of a text file as editors, disks and people do."""
    text = content.decode()
    lines = text.split('\n')
    index = int(rng.integers(len(lines)))
    words = lines[index].split(' ')
    word = int(rng.integers(len(words)))
    odd = fuzz.ODD_VALUES[int(rng.integers(len(fuzz.ODD_VALUES)))]

    def with_word(value: object) -> bytes:
        changed = [*words[:word], str(value), *words[word + 1:]]
        return '\n'.join([*lines[:index], ' '.join(changed),
                          *lines[index + 1:]]).encode('utf-8', 'replace')

    at = int(rng.integers(len(content)))
    ways = [
        lambda: with_word(odd),
        lambda: with_word(odd),
        lambda: with_word(''),
        lambda: with_word(words[word] * 3),
        lambda: '\n'.join(lines[:index] + lines[index + 1:]).encode(),
        lambda: '\n'.join(lines[:index] + [lines[index]] * 2 + lines[index + 1:]).encode(),
        lambda: content[:at],
        lambda: content[:at] + bytes([int(rng.integers(256))]) + content[at + 1:],
        lambda: text.replace('\n', '\r\n').encode(),
        lambda: text.replace(' ', '\t').encode(),
        lambda: text.replace(' ', ',').encode(),
        lambda: text.encode('utf-8-sig'),
        lambda: text.encode('utf-16'),
        lambda: text.encode('utf-16-le'),
        lambda: text.replace('a', 'ä').encode('latin-1'),
        lambda: b'',
        lambda: b'\0' * 40,
        lambda: b'{"images": []}',
        lambda: b'<html>not found</html>',
    ]
    return ways[int(rng.integers(len(ways)))]()


def try_damage(path, settings, number: int, seed: int) -> list:
    """Damage a file `number` times; returns the messages of the refusals. The file is as before afterwards."""
    content, messages = path.read_bytes(), []
    try:
        for index in range(number):
            changed = damage(content, np.random.default_rng((seed, index)))
            path.write_bytes(changed)
            try:
                verdicts = fuzz.read_by_both(settings, more_errors=TOLD)
                fuzz.assert_agreement(verdicts)
            except Exception as error:
                raise AssertionError(f'damage {index} of seed {seed}, {changed[:200]!r}: '
                                     f'{type(error).__name__}: {error}') from error
            if verdicts.error is not None:
                messages.append(str(verdicts.error))
    finally:
        path.write_bytes(content)
    return messages


# ------------------------------------------------------------------------------ xml


def as_tree(element) -> object:
    """Nested dicts and texts of an xml element; `object` is always a list."""
    if not len(element):
        return element.text
    tree = {child.tag: as_tree(child) for child in element if child.tag != 'object'}
    objects = [as_tree(child) for child in element.findall('object')]
    return {**tree, 'object': objects} if objects else tree


def as_xml(tag: str, tree: object) -> str:
    if isinstance(tree, list):
        return ''.join(as_xml(tag, item) for item in tree)
    tag = tag if tag.isidentifier() and tag.isascii() else 'x'
    inside = ''.join(as_xml(str(key), value) for key, value in tree.items()) if isinstance(tree, dict) \
        else '' if tree is None else escape(str(tree))
    return f'<{tag}>{inside}</{tag}>'


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp('voc')
    return root, dict(type='XMLDataset', classes=CLASSES, **formats.write_voc(root, IMAGES))


def test_xml_files_of_voc(voc):
    root, settings = voc
    path = root / 'Annotations/image_0.xml'
    before = path.read_text()

    def write(tree):
        path.write_bytes(as_xml('annotation', tree).encode('utf-8', 'replace'))
        return settings

    try:
        messages = fuzz.assert_all_agree(
            as_tree(ElementTree.fromstring(before)),
            write,
            200,
            1,
            names=('image_0', 'train.txt'),
            more_errors=TOLD)
    finally:
        path.write_text(before)
    assert len(messages) > 20
    messages = try_damage(path, settings, 60, 2)
    assert len(messages) > 10 and all(
        'image_0' in message or 'no object' in message or 'no image' in message
        for message in messages)


def test_lists_of_names(voc, tmp_path):
    root, settings = voc
    try_damage(root / 'ImageSets/Main/train.txt', settings, 60, 3)


def test_xml_files_of_wider_face(tmp_path):
    images = [[thing._replace(name='face') for thing in things] for things in IMAGES]
    paths = formats.write_voc(tmp_path, images, '0--Parade')
    settings = dict(type='WIDERFaceDataset', **paths)
    path = tmp_path / 'Annotations/image_0.xml'
    before = path.read_text()

    def write(tree):
        path.write_bytes(as_xml('annotation', tree).encode('utf-8', 'replace'))
        return settings

    fuzz.assert_all_agree(as_tree(ElementTree.fromstring(before)), write, 80, 4, more_errors=TOLD)


# ------------------------------------------------------------------------------ KITTI


def test_label_files_of_kitti(tmp_path):
    settings = dict(type='KittiDataset', classes=CLASSES, **formats.write_kitti(tmp_path, IMAGES))
    messages = try_damage(tmp_path / 'label_2/image_0.txt', settings, 150, 5)
    assert len(messages) > 30
    assert all('image_0' in message or 'classes' in message or 'no image' in message
               for message in messages)
    try_damage(tmp_path / 'train.txt', settings, 40, 6)


# ------------------------------------------------------------------------------ labelme


def test_json_files_of_labelme(tmp_path):
    settings = dict(
        type='LabelmeDataset', classes=CLASSES, **formats.write_labelme(tmp_path, IMAGES))
    path = tmp_path / 'image_0.json'
    before = path.read_text()

    def write(content):
        path.write_text(json.dumps(content))
        return settings

    try:
        messages = fuzz.assert_all_agree(json.loads(before), write, 200, 7, more_errors=TOLD)
    finally:
        path.write_text(before)
    assert len(messages) > 40
    try_damage(path, settings, 40, 8)


# ------------------------------------------------------------------------------ the middle format


def plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize('kind, number', [('json', 200), ('pkl', 60)])
def test_the_middle_format(kind, number, tmp_path):
    formats.write_images(tmp_path, IMAGES)
    content = [plain(record) for record in formats.middle_content(IMAGES, CLASSES)]
    path = tmp_path / f'train.{kind}'
    settings = dict(
        type='CustomDataset', ann_file=str(path), img_prefix=str(tmp_path), classes=CLASSES)

    def write(changed):
        path.write_bytes(json.dumps(changed).encode() if kind == 'json' else pickle.dumps(changed))
        return settings

    messages = fuzz.assert_all_agree(
        content, write, number, 9, names=(path.name, ), more_errors=TOLD)
    assert len(messages) > number / 10
    write(content)
    if kind == 'json':
        try_damage(path, settings, 40, 10)


# ------------------------------------------------------------------------------ label files


def test_label_files_of_classifiers(tmp_path):
    for name in ('cat', 'dog'):
        formats.write_images(tmp_path / name, IMAGES)
    path = tmp_path / 'train.txt'
    path.write_text(''.join(f'{name}/{stem}.jpg {label}\n'
                            for label, name in enumerate(('cat', 'dog'))
                            for stem in formats.stems(IMAGES)))
    settings = dict(
        type='CustomDataset', data_prefix=str(tmp_path), ann_file=str(path), classes=['cat', 'dog'])
    messages = try_damage(path, settings, 150, 11)
    assert len(messages) > 40 and all('train.txt' in message for message in messages)


# ------------------------------------------------------------------------------ LVIS


def test_json_files_of_lvis(tmp_path):
    settings = dict(type='LVISDataset', **formats.write_lvis(tmp_path, IMAGES))
    path = tmp_path / 'lvis.json'

    def write(content):
        path.write_text(json.dumps(content))
        return settings

    assert len(
        fuzz.assert_all_agree(json.loads(path.read_text()), write, 80, 13,
                              names=(path.name, ))) > 20


# ------------------------------------------------------------------------------ converters


def test_json_files_of_via(tmp_path):
    """The converter reads them: a json, or one message."""
    formats.write_images(tmp_path, IMAGES)
    regions = [
        dict(shape_attributes=shape, region_attributes=dict(name='cat'))
        for shape in (dict(name='rect', x=1, y=2, width=30, height=40),
                      dict(name='circle', cx=50, cy=40, r=20),
                      dict(name='polygon', all_points_x=[1, 30, 30], all_points_y=[2, 3, 40]),
                      dict(name='ellipse', cx=60, cy=60, rx=30, ry=10, theta=.5))
    ]
    content = {
        f'{stem}.jpg1':
        dict(filename=f'{stem}.jpg', size=1, regions=regions[index:index + 3], file_attributes={})
        for index, stem in enumerate(formats.stems(IMAGES))
    }
    path, refused = tmp_path / 'via.json', 0
    for index in range(150):
        changed, what = fuzz.mutate(content, np.random.default_rng((12, index)))
        path.write_text(json.dumps(changed))
        try:
            with fuzz.limited():
                files = via.read_via(str(path))
                attribute = via.class_attribute(files, str(path))
                folder = ImageFolder(str(tmp_path))
                read = [via.convert(item, folder, attribute, None, str(path)) for item in files]
                to_coco([image for image in read if image is not None])
        except DataError as error:
            refused += 1
            assert str(path) in str(error), error
        except Exception as error:
            raise AssertionError(
                f'mutation {index}, {what}: {type(error).__name__}: {error}') from error
    assert refused > 30


def test_lists_of_wider_face(tmp_path):
    """The converter reads them: faces, or one message with the line."""
    lines = ['0--Parade/a.jpg', '2', '10 20 30 40 0 0 0 0 0 0', '5 6 7 8 0 0 0 1 0 0',
             '0--Parade/b.jpg', '0', '0 0 0 0 0 0 0 0 0 0', '']  # yapf: disable
    content = '\n'.join(lines).encode()
    path, refused = tmp_path / 'list.txt', 0
    for index in range(120):
        changed = damage(content, np.random.default_rng((14, index)))
        path.write_bytes(changed)
        try:
            with fuzz.limited():
                wider_lists.read_list(str(path))
        except DataError as error:
            refused += 1
            assert f'{path}:' in str(error), error
        except Exception as error:
            raise AssertionError(
                f'damage {index}, {changed!r}: {type(error).__name__}: {error}') from error
    assert refused > 30
