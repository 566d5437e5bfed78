"""YOLO, CVAT and Label Studio to COCO's json and back: the objects are the same."""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pycocotools.mask as mask_api
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdet_ft.commands.main import main
from mmdet_ft.datasets.annotations.from_coco import bitmap_of, read_coco
from mmdet_ft.datasets.build import build_dataset
from tests.datasets import formats
from .test_dataset_converters import coco, refused, truth

CLASSES = ('Pedestrian', 'Car', 'Cyclist')
TYPES = dict(yolo='YOLODataset', cvat='CVATDataset', label_studio='LabelStudioDataset')
NAME = st.sampled_from(['cat', 'no', "d'or", 'a b', 'ä&<"'])


def run(name, *words):
    with mock.patch.object(sys, 'argv', ['mmdet-ft', 'convert', name, *map(str, words)]):
        main()


# To COCO


@pytest.mark.parametrize('name', TYPES)
def test_the_json_has_the_boxes_of_the_dataset_itself(name, tmp_path, capsys):
    root, out = tmp_path / 'data', tmp_path / 'out/train.json'
    paths = getattr(formats, f'write_{name}')(root, formats.draw_things())
    run(name, paths['ann_file'], '--out', out, '--classes', *CLASSES)
    itself = build_dataset(
        dict(type=TYPES[name], classes=CLASSES, pipeline=[], test_mode=True, **paths))
    converted = coco(out, itself.img_prefix)
    assert truth(converted) == truth(itself) and len(converted) == 5
    for info in converted.data_infos:
        assert Path(itself.img_prefix, info['filename']).is_file()
    said = capsys.readouterr().out
    assert '5 images' in said and f'classes = {CLASSES!r}' in said and "left out: 'Tram'" in said


BAD = {
    'yolo':
    ('labels/train/image_1.txt', '0 .5 .5 .1 .1\n0 .5 .5 x .1\n', 'image_1.txt:2: a coordinate'),
    'cvat': ('annotations.xml', '<annotations>\n<image>', 'annotations.xml:2: not a complete xml'),
    'label_studio': ('export.json', '[{"id": 1, ', 'export.json is not a complete json'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_named_and_nothing_written(name, tmp_path, capsys):
    root, out = tmp_path / 'data', tmp_path / 'out.json'
    source = getattr(formats, f'write_{name}')(root, formats.draw_things())['ann_file']
    file, content, message = BAD[name]
    good = (root / file).read_text()
    (root / file).write_text(content)
    refused(capsys, message, run, name, source, '--out', out)
    (root / file).write_text(good)
    assert not out.exists()
    refused(capsys, 'would overwrite', run, name, source, '--out', source, '--force')
    refused(capsys, 'there is no', run, name, root / 'nothing', '--out', out)


@pytest.mark.parametrize('name', ['cvat', 'label_studio'])
def test_images_that_are_not_there_are_left_out_and_all_of_them_are_an_error(
        name, tmp_path, capsys):
    source = getattr(formats, f'write_{name}')(tmp_path, formats.draw_things())['ann_file']
    images = sorted(tmp_path.rglob('*.jpg'))
    images[0].unlink()
    run(name, source, '--out', tmp_path / 'out.json')
    assert 'left out, because they are not in' in capsys.readouterr().out
    assert len(read_coco(str(tmp_path / 'out.json')).images) == 4
    for image in images[1:]:
        image.unlink()
    refused(capsys, 'not one of the 5 images', run, name, source, '--out', tmp_path / 'o.json')


# From COCO


def random_coco(seed, kinds, names, crowds):
    """A json of random boxes, polygons of one part or two, and masks, and the sizes of its images."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(1, 3):
        width, height = rng.integers(20, 60, 2).tolist()
        images.append(dict(id=number, file_name=f'a {number}.png', width=width, height=height))
        for _ in range(rng.integers(0, 4)):
            x1, y1 = rng.uniform(0, .5, 2) * [width, height]
            x2, y2 = [x1, y1] + rng.uniform(.2, .5, 2) * [width, height]
            box = [float(value) for value in (x1, y1, x2 - x1, y2 - y1)]
            kind, more = kinds[int(rng.integers(len(kinds)))], {}
            middle = (x1 + x2) / 2
            if kind == 'polygon':
                more = dict(segmentation=[formats.polygon((x1, y1, x2, y2))])
            elif kind == 'parts':
                more = dict(segmentation=[
                    formats.polygon((x1, y1, middle - .2, y2)),
                    formats.polygon((middle + .2, y1, x2, y2))
                ])
            elif kind == 'mask':
                mask = np.zeros((height, width), np.uint8)
                cv2.ellipse(mask, (int(middle), int((y1 + y2) / 2)), (int(x2 - middle), 4), 20, 0,
                            360, 1, -1)
                runs = mask_api.encode(np.asfortranarray(mask))
                box = mask_api.toBbox(runs).tolist()
                more = dict(segmentation=dict(size=runs['size'], counts=runs['counts'].decode()))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=int(rng.integers(len(names))) + 1,
                    bbox=[float(side) for side in box],
                    iscrowd=int(crowds and rng.random() < .3),
                    **more))
    categories = [dict(id=index, name=name) for index, name in enumerate(names, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def write_random(root, content):
    (root / 'img').mkdir(exist_ok=True)
    for image in content['images']:
        cv2.imwrite(
            str(root / 'img' / image['file_name']),
            np.zeros((image['height'], image['width'], 3), np.uint8))
    (root / 'a.json').write_text(json.dumps(content))
    return root / 'a.json', root / 'img'


def objects(path, skip_crowds=False):
    """Image name -> (name, crowd, box, mask) of each object."""
    found = {}
    for image in read_coco(str(path)).images:
        found[Path(image.file_name).name] = [
            (image.names[index], bool(image.crowd[index]), image.boxes[index],
             None if image.segmentations[index] is None else bitmap_of(
                 image.segmentations[index], image.height, image.width))
            for index in range(len(image.names)) if not (skip_crowds and image.crowd[index])
        ]
    return found


def assert_same(path, other, crowds=True, tolerance=1e-6, pixels=0, has_masks=True):
    first, second = objects(path, not crowds), objects(other)
    assert list(first) == list(second)
    for image in first:
        assert len(first[image]) == len(second[image])
        for a, b in zip(first[image], second[image]):
            assert a[:2] == b[:2]
            np.testing.assert_allclose(a[2], b[2], atol=tolerance)
            assert not has_masks or (a[3] is None) == (b[3] is None)
            if has_masks and a[3] is not None:
                assert (a[3] != b[3]).sum() <= pixels


SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.lists(NAME, min_size=1, max_size=3, unique=True)
SLOW = dict(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


@settings(**SLOW)
@given(SEEDS, NAMES, st.booleans())
def test_boxes_polygons_and_masks_go_to_cvat_and_back(tmp_path_factory, seed, names, crowds):
    root = tmp_path_factory.mktemp('cvat')
    content = random_coco(seed, ['box', 'polygon', 'parts', 'mask'], names, crowds)
    source, images = write_random(root, content)
    run('coco2cvat', source, '--out', root / 'a.xml')
    run('cvat', root / 'a.xml', '--img-dir', images, '--out', root / 'b.json')
    assert_same(source, root / 'b.json')


@settings(**SLOW)
@given(SEEDS, NAMES, st.booleans())
def test_boxes_polygons_and_masks_go_to_label_studio_and_back(tmp_path_factory, seed, names,
                                                              crowds):
    root = tmp_path_factory.mktemp('studio')
    content = random_coco(seed, ['box', 'polygon', 'mask'], names, crowds)
    source, images = write_random(root, content)
    run('coco2label_studio', source, '--out', root / 'b.json', '--image-root',
        '/data/local-files/?d=')
    run('label_studio', root / 'b.json', '--img-dir', images, '--out', root / 'c.json')
    assert_same(source, root / 'c.json', crowds=False)
    config = ElementTree.parse(root / 'b.config.xml').getroot()
    shown = {label.get('value') for label in config.iter('Label')}
    assert shown == set(names) and config.find('Image').get('value') == '$image'


@settings(**SLOW)
@given(SEEDS, NAMES, st.booleans(), st.sampled_from([['box'], ['polygon', 'parts', 'mask']]))
def test_boxes_or_outlines_go_to_yolo_and_back(tmp_path_factory, seed, names, crowds, kinds):
    root = tmp_path_factory.mktemp('yolo')
    source, images = write_random(root, random_coco(seed, kinds, names, crowds))
    run('coco2yolo', '--split', 'train', source, images, '--out', root / 'y')
    assert yaml.safe_load((root / 'y/data.yaml').read_text())['names'] == dict(enumerate(names))
    run('yolo', root / 'y/data.yaml', '--out', root / 'b.json')
    # a mask's outline runs a quarter of a pixel inside the edges of its pixels
    assert_same(source, root / 'b.json', crowds=False, tolerance=.26, pixels=2)
    run('coco2yolo', '--split', 'val', source, images, '--out', root / 'z', '--boxes')
    run('yolo', root / 'z/data.yaml', '--split', 'val', '--out', root / 'c.json')
    assert_same(source, root / 'c.json', crowds=False, has_masks=False)


def test_a_yolo_dataset_has_all_splits_with_copies_or_links(tmp_path, capsys):
    for split in ('train', 'val'):
        formats.write_coco_json(tmp_path / split, formats.draw_things())
    words = [
        item for split in ('train', 'val')
        for item in ('--split', split, tmp_path / split / 'annotations.json', tmp_path / split)
    ]
    run('coco2yolo', *words, '--out', tmp_path / 'a')
    run('coco2yolo', *words, '--out', tmp_path / 'b', '--link', '--boxes')
    said = capsys.readouterr().out
    assert 'objects as outlines, 4 classes' in said and '8 crowds are left out' in said
    assert not (tmp_path / 'a/images/val/image_0.jpg').is_symlink()
    assert os.path.realpath(tmp_path / 'b/images/val/image_0.jpg') == str(tmp_path /
                                                                          'val/image_0.jpg')
    for name in ('a', 'b'):
        found = build_dataset(
            dict(type='YOLODataset', ann_file=str(tmp_path / name / 'data.yaml'), split='val', pipeline=[],
                 test_mode=True))  # yapf: disable
        itself = coco(tmp_path / 'val/annotations.json', tmp_path / 'val', found.CLASSES)
        ours, theirs = truth(found), truth(itself)
        for key, rows in theirs.items():
            if not key[1]:
                assert [label for label, _ in ours[key]] == [label for label, _ in rows]
                assert np.allclose([box for _, box in ours[key]], [box for _, box in rows],
                                   atol=1e-3)


@pytest.mark.parametrize('words, message', [
    (['--split', 'all', 'a', 'b'], '--split all: write each of train, val, test once'),
    (['--split', 'train', 'a', 'b'], "there is no 'a'"),
])
def test_odd_splits_are_refused(words, message, tmp_path, capsys):
    refused(capsys, message, run, 'coco2yolo', *words, '--out', tmp_path / 'out')


def test_splits_with_other_classes_and_folders_in_use_are_refused(tmp_path, capsys):
    formats.write_coco_json(tmp_path / 'a', formats.draw_things())
    formats.write_coco_json(tmp_path / 'b', formats.draw_things(), ids=(1, 2, 3, 4))
    words = [
        item for split, name in (('train', 'a'), ('val', 'b'))
        for item in ('--split', split, tmp_path / name / 'annotations.json', tmp_path / name)
    ]
    refused(capsys, 'a number would mean two things', run, 'coco2yolo', *words, '--out',
            tmp_path / 'c')
    refused(capsys, 'is there already', run, 'coco2yolo', *words, '--out', tmp_path / 'a')


def test_attributes_of_cvat_survive_both_ways(tmp_path):
    paths = formats.write_cvat(tmp_path, formats.draw_things(2))
    path = Path(paths['ann_file'])
    text = path.read_text().replace('</box>', '<attribute name="color">r&amp;b</attribute></box>',
                                    1)
    path.write_text(text)
    run('cvat', path, '--out', tmp_path / 'a.json')
    assert 'r&b' in [
        item.get('attributes', {}).get('color')
        for item in json.loads((tmp_path / 'a.json').read_text())['annotations']
    ]
    run('coco2cvat', tmp_path / 'a.json', '--out', tmp_path / 'b.xml', '--subset', 'Val')
    assert '<attribute name="color">r&amp;b</attribute>' in (tmp_path / 'b.xml').read_text()
    run('cvat', tmp_path / 'b.xml', '--img-dir', tmp_path / 'images', '--subset', 'Val', '--out',
        tmp_path / 'c.json')
    first, second = (json.loads((tmp_path / name).read_text()) for name in ('a.json', 'c.json'))
    assert [item['attributes'] for item in first['annotations'][1:]
            ] == [item['attributes'] for item in second['annotations'][1:]]


@pytest.mark.parametrize('name', ['coco2cvat', 'coco2label_studio'])
def test_an_existing_file_and_the_source_are_kept(name, tmp_path, capsys):
    source = formats.write_coco_json(tmp_path, formats.draw_things(2))['ann_file']
    out = tmp_path / 'out.json'
    out.write_text('precious')
    refused(capsys, '--force', run, name, source, '--out', out)
    refused(capsys, 'would overwrite', run, name, source, '--out', source, '--force')
    assert out.read_text() == 'precious' and json.loads(Path(source).read_text())['images']
    run(name, source, '--out', out, '--force')
    assert out.read_text() != 'precious'
