"""The pictures of a test, of data sets of all kinds."""
import json
import unicodedata

import cv2
import numpy as np

from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.engine.reporting.painting import Painter


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', np.full((40, 60, 3), 90, np.uint8))[1].tobytes())


def test_class_folders_are_painted_alone_and_joined(tmp_path):
    for name in ('a/ant/0.png', 'a/bee/1.png', 'b/ant/2.png', 'b/bee/3.png'):
        write_image(tmp_path / name)
    settings = dict(type='CustomDataset', pipeline=[dict(type='LoadImageFromFile')])
    prefixes = [str(tmp_path / 'a'), str(tmp_path / 'b')]
    for prefix, number in ((prefixes[0], 2), (prefixes, 4)):
        dataset = build_dataset(dict(settings, data_prefix=prefix))
        indices = [str(tmp_path / f'out/{number}_{index}.png') for index in range(number)]
        painter = Painter(dataset, dataset.CLASSES, indices)
        painter((), [np.array([.2, .8])] * number)
        assert all(cv2.imread(index) is not None for index in indices)
        # the truth of the second data set is that of its own image
        right, wrong = (cv2.imread(indices[index]) for index in (number - 1, number - 2))
        assert not (right == wrong).all()


def test_an_image_of_another_unicode_form_is_painted(tmp_path):
    write_image(tmp_path / unicodedata.normalize('NFD', 'stra\u00dfe \u00fc.png'))
    name = unicodedata.normalize('NFC', 'stra\u00dfe \u00fc.png')
    content = dict(
        images=[dict(id=1, file_name=name, width=60, height=40)],
        annotations=[],
        categories=[dict(id=1, name='car')])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = build_dataset(
        dict(
            type='CocoDataset',
            classes=('car', ),
            ann_file=str(tmp_path / 'a.json'),
            img_prefix=str(tmp_path),
            test_mode=True,
            pipeline=[dict(type='LoadImageFromFile')]))
    painter = Painter(dataset, dataset.CLASSES, [str(tmp_path / 'out.png')])
    painter((), [[np.array([[5, 5, 30, 30, .9]], np.float32)]])
    assert cv2.imread(str(tmp_path / 'out.png')) is not None
