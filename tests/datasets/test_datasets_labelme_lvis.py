"""labelme's folders and LVIS's files: what becomes a sample, and what is refused."""
import base64
import importlib.util
import io
import json
import sys

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.detection.labelme import LabelmeDataset, read_labelme
from mmdet_ft.datasets.detection.lvis import LVISDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.engine.run_check.data import check_data
from . import formats
from .conftest import train_pipeline
from .formats import Thing

IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Tram', (60, 20, 90, 60))], [Thing('Pedestrian', (5, 5, 30, 50))]]


def write_shapes(folder, *shapes, **settings):
    formats.write_images(folder, [[]])
    content = dict(formats.labelme_content('image_0', []), shapes=list(shapes), **settings)
    (folder / 'image_0.json').write_text(json.dumps(content))
    return str(folder / 'image_0.json')


def shape(kind, points, label='nut', group_id=None, **more):
    return dict(shape_type=kind, points=points, label=label, group_id=group_id, **more)


def area(segmentation):
    runs = segmentation if isinstance(segmentation, dict) else mask_api.merge(
        mask_api.frPyObjects(segmentation, formats.HEIGHT, formats.WIDTH))
    return int(mask_api.area(runs))


def test_every_shape_with_an_area_becomes_an_object(tmp_path):
    picture = io.BytesIO()
    Image.fromarray(np.array([[0, 255, 255], [255, 255, 0]], np.uint8)).save(picture, 'PNG')
    path = write_shapes(
        tmp_path, shape('polygon', [[10, 10], [30, 10], [30, 20], [10, 20]]),
        shape('rectangle', [[60, 50], [40, 30]]), shape('circle', [[100, 60], [100, 80]]),
        shape('point', [[3, 3]]), shape('linestrip', [[3, 3], [9, 9], [3, 9]]),
        shape('mask', [[70, 100], [72, 101]], mask=base64.b64encode(picture.getvalue()).decode()))
    found = read_labelme(path)
    assert found.names == ['nut'] * 4
    assert np.allclose(found.boxes,
                       [[10, 10, 30, 20], [40, 30, 60, 50], [80, 40, 120, 80], [70, 100, 73, 102]])
    assert [area(item) for item in found.segmentations[:2]] == [200, 400]
    assert area(found.segmentations[2]) == pytest.approx(np.pi * 400, rel=.02)
    bitmap = mask_api.decode(found.segmentations[3])
    assert bitmap.sum() == 4 and bitmap[100:102, 70:73].tolist() == [[0, 1, 1], [1, 1, 0]]


def test_shapes_of_one_group_are_one_object(tmp_path):
    left, right = [[10, 10], [20, 10], [20, 20], [10, 20]], [[40, 30], [50, 30], [50, 40], [40, 40]]
    path = write_shapes(tmp_path, shape('polygon', left, group_id=1),
                        shape('polygon', right, group_id=1),
                        shape('polygon', right, 'bolt', group_id=1), shape('polygon', left))
    found = read_labelme(path)
    assert found.names == ['nut', 'bolt', 'nut']
    assert found.boxes[0].tolist() == [10, 10, 50, 40] and area(found.segmentations[0]) == 200


@pytest.mark.parametrize('bad, message', [
    (shape('polygon', [[1, 1], [2, 2]]), r"shape 1 \('nut', 'polygon'\).*polygon of 2 points"),
    (shape('star', [[1, 1], [2, 2], [3, 3]]), 'polygon, rectangle, circle and mask'),
    (shape('mask', [[1, 1], [2, 2]], mask='no png'), r"shape 1 \('nut', 'mask'\)"),
    (shape('rectangle', [[1, 1], [9, 9]], label=None), 'shape 1 has no label'),
])
def test_a_bad_shape_is_named(bad, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        read_labelme(write_shapes(tmp_path, bad))
    assert 'image_0.json' in str(caught.value)


def test_paths_of_windows_and_missing_sizes_are_understood(tmp_path):
    found = read_labelme(
        write_shapes(
            tmp_path / 'json', imagePath='..\\photos\\image_0.jpg', imageWidth=160,
            imageHeight=120))
    assert found.file_name == '../photos/image_0.jpg'
    found = read_labelme(write_shapes(tmp_path, imageWidth=None, imageHeight=None))
    assert (found.width, found.height) == (formats.WIDTH, formats.HEIGHT)


def test_a_folder_of_labelme_trains_with_masks(tmp_path):
    paths = formats.write_labelme(tmp_path / 'a', IMAGES)
    dataset = build_dataset(
        dict(
            type='LabelmeDataset',
            classes=('Pedestrian', 'Car'),
            pipeline=train_pipeline(flip=0.),
            **paths))
    batch = collate([dataset[0], dataset[1]])
    assert batch.gt.labels[batch.gt.valid].tolist() == [1, 0] and batch.gt.masks is not None


def test_a_list_of_files_takes_a_part_of_the_folder(tmp_path):
    formats.write_labelme(tmp_path / 'a', IMAGES)
    (tmp_path / 'a/val.txt').write_text('image_1.json\n')
    dataset = LabelmeDataset(
        str(tmp_path / 'a/val.txt'), [], classes=('Pedestrian', 'Car'), test_mode=True)
    assert [info['file_name'] for info in dataset.data_infos] == ['image_1.jpg']
    assert dataset.img_prefix == str(tmp_path / 'a')


def test_check_data_reads_labelme_as_training_does_and_says_what_is_left_out(tmp_path, caplog):
    paths = formats.write_labelme(tmp_path / 'a', IMAGES)
    write_shapes(tmp_path / 'a', shape('point', [[3, 3]]),
                 shape('polygon', [[1, 1], [9, 9], [20, 20]], 'Car'),
                 shape('polygon', [[1, 1], [9, 1], [9, 9]], '__ignore__'),
                 shape('rectangle', [[1, 1], [9, 9]], 'Car'))
    (tmp_path / 'a/val.txt').write_text('image_0.json\nimage_1.json\n')
    for ann_file in (paths['ann_file'], str(tmp_path / 'a/val.txt')):
        train = dict(
            type='LabelmeDataset', ann_file=ann_file, classes=['Car', 'Pedestrian'], pipeline=[])
        dataset = build_dataset(train)
        assert '1 shapes of __ignore__ left out' in caplog.text
        report = check_data(Config(dict(data=dict(train=train))), ['train'], images=False)
        assert not any(problem.stops for problem in report.problems)
        text = [problem.text for problem in report.problems if problem.kind == 'not read']
        assert text == dataset.left_out == [
            '1 shapes without an area (point) left out', '1 shapes of __ignore__ left out'
        ]
        caplog.clear()


def test_labelme_needs_classes_and_says_which_there_are(tmp_path):
    paths = formats.write_labelme(tmp_path / 'a', IMAGES)
    with pytest.raises(DataError, match=r"classes=\('Car', 'Pedestrian', 'Tram', \)"):
        LabelmeDataset(pipeline=[], **paths)
    with pytest.raises(DataError, match="'car' is 'Car' in the files"):
        LabelmeDataset(pipeline=[], classes=('car', ), **paths)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='no json file in'):
        LabelmeDataset(str(tmp_path / 'empty'), [], classes=('Car', ))


# LVIS


def lvis(root, **settings):
    paths = formats.write_lvis(root, IMAGES) if not root.exists() else dict(
        ann_file=str(root / 'lvis.json'), img_prefix=str(root))
    return LVISDataset(**{**dict(pipeline=[], test_mode=True), **paths, **settings})


def test_lvis_takes_its_classes_from_the_file_in_the_order_of_their_ids(tmp_path):
    dataset = lvis(tmp_path / 'a')
    assert dataset.CLASSES == ('Car', 'Cyclist', 'Tram', 'Pedestrian')  # 3, 7, 12, 90
    assert dataset.get_ann_info(0)['labels'].tolist() == [0, 2]
    assert lvis(tmp_path / 'a', classes=('Tram', )).get_ann_info(0)['labels'].tolist() == [0]


def test_images_of_v1_are_named_by_their_url_and_those_of_v05_without_their_prefix(tmp_path):
    dataset = lvis(tmp_path / 'a')
    assert dataset.data_infos[0]['filename'] == 'val2017/image_0.jpg'
    content = json.loads((tmp_path / 'a/lvis.json').read_text())
    for image in content['images']:
        image['file_name'] = 'COCO_val2014_000000000042.jpg'
    (tmp_path / 'a/lvis.json').write_text(json.dumps(content))
    assert lvis(tmp_path / 'a').data_infos[0]['filename'] == '000000000042.jpg'


def test_without_the_package_the_metric_is_cocos_and_said_to_be(tmp_path, monkeypatch, caplog,
                                                                capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with caplog.at_level('WARNING', 'mmdet_ft'):
        dataset = lvis(tmp_path / 'a')
    assert 'pip install lvis' in caplog.text
    values = dataset.evaluate(formats.fed_back(dataset))
    assert values['bbox_mAP'] == 1 and "COCO's, not LVIS's" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec('lvis') is None, reason='the package lvis is missing')
def test_lvis_forgives_what_it_has_not_annotated(tmp_path):
    dataset = lvis(tmp_path / 'a')
    results = formats.fed_back(dataset)
    wrong = np.array([[100, 60, 140, 110, 1.5]], dtype=np.float32)
    results[1][0] = np.concatenate([results[1][0], wrong])  # a car where there is none
    path = tmp_path / 'a/lvis.json'
    content = json.loads(path.read_text())
    assert dataset.evaluate(results, logger='silent')['bbox_AP'] < 1
    content['images'][1]['neg_category_ids'] = []  # nobody looked for cars here
    path.write_text(json.dumps(content))
    values = lvis(tmp_path / 'a').evaluate(results, ['bbox', 'proposal_fast'], logger='silent')
    assert values['bbox_AP'] == 1 and values['bbox_AP50'] == 1 and 'bbox_APr' in values
    assert values['bbox_mAP_copypaste'].startswith('AP:1.0000 AP50:1.0000')
    assert values['AR@100'] == 1
    for image in content['images']:
        del image['neg_category_ids']
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="neg_category_ids.*type='CocoDataset'"):
        lvis(tmp_path / 'a').evaluate(results, logger='silent')
    assert 'float' not in vars(sys.modules['numpy'])


def test_check_data_knows_lvis_by_its_urls(tmp_path):
    from mmdet_ft.datasets.checks.coco_json import CocoJson
    content = json.loads(open(formats.write_lvis(tmp_path / 'a', IMAGES)['ann_file']).read())
    checked = CocoJson(content, 'train', str(tmp_path / 'a'), ['Car', 'Pedestrian', 'Tram'], True,
                       lambda path: (formats.WIDTH, formats.HEIGHT))
    assert not checked.is_mended


@pytest.fixture
def substitute(monkeypatch):
    """A package lvis that computes nothing and notes what it is asked."""
    import types
    from importlib.machinery import ModuleSpec
    calls = []
    package = types.ModuleType('lvis')
    package.__spec__ = ModuleSpec('lvis', None)

    class LVIS:

        def __init__(self, path):
            self.dataset = json.loads(open(path).read())

    class LVISResults:

        def __init__(self, truth, records):
            self.records = records

    class LVISEval:

        def __init__(self, truth, results, metric):
            self.params = types.SimpleNamespace()
            calls.append((metric, results.records, self.params))
            self.eval = dict(precision=np.full((10, 101, 4, 4), .5))

        def run(self):
            np.float(1.)  # the name that lvis 0.5.3 calls and NumPy has no more

        def get_results(self):
            return dict(AP=.5, AP50=.75, APr=.25, APc=-1., AR=.9)

    package.LVIS, package.LVISResults, package.LVISEval = LVIS, LVISResults, LVISEval
    monkeypatch.setitem(sys.modules, 'lvis', package)
    return calls


def test_the_package_lvis_is_given_all_detections_and_the_chosen_classes(
        tmp_path, substitute, capsys):
    dataset = lvis(tmp_path / 'a', classes=('Tram', 'Car'))
    results = formats.fed_back(dataset, with_masks=True)
    values = dataset.evaluate(results, ['bbox', 'segm'], classwise=True)
    assert values['bbox_AP'] == .5 and values['segm_APr'] == .25 and 'bbox_AR' not in values
    assert values['bbox_mAP_copypaste'] == 'AP:0.5000 AP50:0.7500 APr:0.2500 APc:-1.0000'
    (metric, records, params), (other, masks, _) = substitute
    assert (metric, other) == ('bbox', 'segm') and len(records) == len(masks) > 0
    assert params.img_ids == dataset.img_ids and params.cat_ids == [3, 12
                                                                    ]  # Car and Tram in the file
    assert {record['category_id'] for record in records} <= {3, 12} and 'bbox' in records[0]
    assert 'bbox' not in masks[0] and 'counts' in masks[0]['segmentation']
    said = capsys.readouterr().out
    assert 'Evaluating segm' in said and 'Tram' in said and "COCO's, not" not in said
    assert not hasattr(np, 'float')


def test_the_package_lvis_is_not_asked_about_nothing(tmp_path, substitute, capsys):
    dataset = lvis(tmp_path / 'a')
    nothing = [[np.zeros((0, 5), np.float32)] * len(dataset.CLASSES)] * len(dataset)
    assert not dataset.evaluate(nothing) and not substitute
    assert 'results of the whole dataset is empty' in capsys.readouterr().out
