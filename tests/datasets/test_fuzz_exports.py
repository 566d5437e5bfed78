"""Files of YOLO, CVAT and Label Studio, changed at random: read, or refused by one message with the place."""
import json

import numpy as np

from . import formats, fuzz
from .formats import Thing
from .test_fuzz_formats import TOLD, try_damage

CLASSES = ['Car', 'Pedestrian']
IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Pedestrian', (60, 20, 90, 60))],
          [Thing('Pedestrian', (5, 5, 40, 50)),
           Thing('Tram', (50, 5, 80, 50))]]
UNNAMED = ('classes', 'no image', 'nothing is left', 'not one of the', 'no object')


def is_located(message, *names):
    return any(name in message for name in (*names, *UNNAMED))


def test_label_files_of_yolo(tmp_path):
    for outlines in (False, True):
        root = tmp_path / str(outlines)
        settings = dict(
            type='YOLODataset', classes=CLASSES, **formats.write_yolo(root, IMAGES, outlines))
        messages = try_damage(root / 'labels/train/image_0.txt', settings, 150, 21)
        assert len(messages) > 30
        assert all(is_located(message, 'image_0.txt:') for message in messages), messages


def test_data_yaml_of_yolo(tmp_path):
    paths = formats.write_yolo(tmp_path, IMAGES)
    settings = dict(type='YOLODataset', **paths)
    messages = try_damage(tmp_path / 'data.yaml', settings, 200, 22)
    assert len(messages) > 40
    assert all(is_located(message, 'data.yaml', 'image_') for message in messages), messages
    text = (tmp_path / 'data.yaml').read_text()
    for index in range(200):
        rng = np.random.default_rng((23, index))
        odd = str(fuzz.ODD_VALUES[int(rng.integers(len(fuzz.ODD_VALUES)))])
        old = ('.', 'images/train', 'Cyclist', '2:', 'names:', 'train:', '  3')[index % 7]
        (tmp_path / 'data.yaml').write_bytes(text.replace(old, odd, 1).encode('utf-8', 'replace'))
        fuzz.assert_agreement(fuzz.read_by_both(settings, more_errors=TOLD))


def test_lists_of_images_of_yolo(tmp_path):
    formats.write_yolo(tmp_path, IMAGES)
    path = tmp_path / 'train.txt'
    path.write_text('images/train/image_0.jpg\n./images/train/image_1.jpg\n')
    settings = dict(type='YOLODataset', classes=list(formats.NAMES), ann_file=str(path))
    messages = try_damage(path, settings, 100, 24)
    assert len(messages) > 20 and all(
        is_located(message, 'train.txt', 'image_') for message in messages)


def test_xml_of_cvat(tmp_path):
    settings = dict(type='CVATDataset', classes=CLASSES, **formats.write_cvat(tmp_path, IMAGES))
    messages = try_damage(tmp_path / 'annotations.xml', settings, 300, 25)
    assert len(messages) > 60
    assert all(is_located(message, 'annotations.xml') for message in messages), messages


def attributes_of(text):
    """(start, end) of the value of each attribute in xml."""
    parts = text.split('"')
    starts = np.cumsum([0] + [len(part) + 1 for part in parts])
    return [(int(starts[index]), int(starts[index + 1]) - 1)
            for index in range(1,
                               len(parts) - 1, 2)]


def test_attributes_in_the_xml_of_cvat(tmp_path):
    """Every attribute takes every odd value; also those of masks, ellipses and turned boxes."""
    settings = dict(type='CVATDataset', classes=CLASSES, **formats.write_cvat(tmp_path, IMAGES))
    path = tmp_path / 'annotations.xml'
    more = (
        '<mask label="Car" rle="3, 4, 5" left="5" top="6" width="4" height="3"/>'
        '<ellipse label="Car" cx="40" cy="30" rx="10" ry="5" rotation="30"/>'
        '<box label="Car" xtl="1" ytl="2" xbr="30" ybr="40" rotation="30" group_id="2"/></image>')
    text = path.read_text().replace('</image>', more, 1)
    places, refused = attributes_of(text), 0
    for index in range(400):
        rng = np.random.default_rng((26, index))
        start, end = places[int(rng.integers(len(places)))]
        odd = str(fuzz.ODD_VALUES[int(rng.integers(len(fuzz.ODD_VALUES)))]).replace('"', "'")
        path.write_bytes((text[:start] + odd + text[end:]).encode('utf-8', 'replace'))
        verdicts = fuzz.read_by_both(settings, more_errors=TOLD)
        fuzz.assert_agreement(verdicts)
        refused += verdicts.error is not None
    assert refused > 50


def test_json_of_label_studio(tmp_path):
    settings = dict(
        type='LabelStudioDataset', classes=CLASSES, **formats.write_label_studio(tmp_path, IMAGES))
    path = tmp_path / 'export.json'
    content = json.loads(path.read_text())
    brush = dict(
        type='brushlabels', original_width=formats.WIDTH, original_height=formats.HEIGHT,
        value=dict(format='rle', rle=[0, 1, 44, 0, 57, 36, 255, 255], brushlabels=['Car']))  # yapf: disable
    turned = dict(
        type='ellipselabels',
        value=dict(x=50, y=40, radiusX=10, radiusY=5, rotation=30, ellipselabels=['Car']))
    content[0]['annotations'][0]['result'] += [turned]
    content[1]['annotations'][0]['result'] += [brush]

    def write(changed):
        path.write_text(json.dumps(changed))
        return settings

    messages = fuzz.assert_all_agree(content, write, 400, 27, more_errors=TOLD)
    assert len(messages) > 80
    del content[1]['annotations'][0]['result'][-1]
    messages = fuzz.assert_all_agree(content, write, 200, 28, more_errors=TOLD)
    assert all(is_located(message, 'export.json') for message in messages), messages
    write(content)
    assert len(try_damage(path, settings, 60, 29)) > 10
