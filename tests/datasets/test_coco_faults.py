"""COCO jsons as other tools write them: read where they can mean one thing, refused with their place otherwise.

Each is read by training and by check_data; the two agree.
"""
import gzip
import json
import logging
import re

import cv2
import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.engine.run_check.data import check_data, log_data_report
from mmdet_ft.engine.settings.read import read_test_settings
from tests.datasets.fuzz import assert_agreement, limited, read_by_both

WIDTH, HEIGHT = 192, 128
MASKS = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


def content_of(num_images=3):
    """A cat and a dog in each image, with gaps between the ids of the categories."""
    annotations = []
    for image_id in range(1, num_images + 1):
        for category_id, x in ((3, 10), (7, 90)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category_id,
                    bbox=[x, 20, 40, 30],
                    area=1200,
                    iscrowd=0,
                    segmentation=[[x, 20, x + 40, 20, x + 40, 50, x, 50]]))
    return dict(
        images=[
            dict(id=index, file_name=f'{index}.jpg', width=WIDTH, height=HEIGHT)
            for index in range(1, num_images + 1)
        ],
        annotations=annotations,
        categories=[dict(id=3, name='cat'), dict(id=7, name='dog')])


def every(key, value):
    """Set a key of all annotations to a value, or to what a function makes of each."""

    def change(content):
        for annotation in content['annotations']:
            annotation[key] = value(annotation) if callable(value) else value

    return change


def last(**changes):

    def change(content):
        content['annotations'][-1].update(changes)

    return change


def settings_of(folder, content, pipeline=MASKS, **more):
    (folder / 'train.json').write_text(json.dumps(content))
    return dict(
        dict(
            type='CocoDataset',
            classes=('cat', 'dog'),
            ann_file=str(folder / 'train.json'),
            img_prefix=str(folder),
            pipeline=pipeline), **more)


def as_objects(dataset):
    """Boxes and labels of each image, and the pixels of the masks."""
    found = []
    for index in range(len(dataset)):
        info = dataset.get_ann_info(index)
        found.append((info['bboxes'].tolist(), info['labels'].tolist(), len(info['bboxes_ignore'])))
    return found, dataset._file.areas.tolist()


def runs_of(height, width, size=None):
    """Compressed run lengths of a rectangle in an image of some size, said to be of another."""
    mask = np.zeros((height, width), np.uint8, order='F')
    mask[10:40, 10:50] = 1
    return dict(size=size or [HEIGHT, WIDTH], counts=mask_api.encode(mask)['counts'].decode())


def ids_as_texts(content):
    for category in content['categories']:
        category['id'] = str(category['id'])
    every('category_id', lambda item: str(item['category_id']))(content)


def padded_image_ids(content):
    for image in content['images']:
        image['id'] = f'{image["id"]:06d}'


def huge_image_ids(content):
    for image in content['images']:
        image['id'] += 2**100
    every('image_id', lambda item: item['image_id'] + 2**100)(content)


def sizes_as(kind):

    def change(content):
        for image in content['images']:
            image.update(width=kind(image['width']), height=kind(image['height']))

    return change


def placeholder(content):
    content['categories'].insert(0, dict(id=0, name='cat', supercategory='none'))


READ_ALIKE = dict(
    category_ids_that_are_texts=(ids_as_texts, '6 annotations have a category_id that is a text'),
    category_ids_that_are_texts_in_annotations=(
        every('category_id', lambda item: str(item['category_id'])), 'read as a number'),
    category_ids_that_are_floats=(every('category_id', lambda item: float(item['category_id'])), ''),
    image_ids_that_are_texts_in_annotations=(
        every('image_id', lambda item: str(item['image_id'])),
        '6 annotations have an image_id of another type than "images": matched (\'1\' is 1)'),
    image_ids_with_zeros_before=(padded_image_ids, "(1 is '000001')"),
    image_ids_of_100_bits=(huge_image_ids, ''),
    annotation_ids_of_128_bits=(every('id', lambda item: 2**127 + item['id']), ''),
    annotation_ids_that_are_texts=(every('id', lambda item: f'a{item["id"]}'), ''),
    iscrowd_as_text=(every('iscrowd', '0'), ''),
    iscrowd_null=(every('iscrowd', None), ''),
    iscrowd_false=(every('iscrowd', 'False'), ''),
    ignore_as_text=(every('ignore', '0'), ''),
    area_0=(every('area', 0), '6 annotations have an area of 0'),
    area_below_0=(every('area', -5), 'computed from mask or box'),
    area_not_a_number=(every('area', float('nan')), 'computed from mask or box'),
    area_null=(every('area', None), ''),
    area_as_text=(every('area', '1200.0'), ''),
    box_of_texts=(every('bbox', lambda item: [str(side) for side in item['bbox']]), ''),
    polygon_of_texts=(every('segmentation', lambda item: [[str(v) for v in item['segmentation'][0]]]),
                      ''),
    sizes_that_are_floats=(sizes_as(float), ''),
    sizes_that_are_texts=(sizes_as(str), ''),
    a_placeholder_of_the_same_name=(placeholder, 'of which one has annotations'),
)  # yapf: disable


@pytest.mark.parametrize('name', READ_ALIKE)
def test_values_of_another_type_are_read(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    change, text = READ_ALIKE[name]
    usual = as_objects(_build(settings_of(tmp_path, content_of())))
    content = content_of()
    change(content)
    settings = settings_of(tmp_path, content)
    assert as_objects(_build(settings))[0] == usual[0]
    assert np.allclose(
        as_objects(_build(settings))[1], usual[1], rtol=.06)  # drawn: 1200 or a little less
    assert text in caplog.text
    verdicts = read_by_both(settings)
    assert_agreement(verdicts)
    assert not [problem for problem in verdicts.problems if problem.is_defect]
    assert not text or any(text in f'{problem.count} {problem.text}' or text in problem.text
                           for problem in verdicts.problems)


def _build(settings):
    return CocoDataset(**{key: value for key, value in settings.items() if key != 'type'})


def images_of(**changes):

    def change(content):
        content['images'][1].update(changes)

    return change


def put(key, value):

    def change(content):
        content[key] = value(content[key]) if callable(value) else value

    return change


REFUSED = dict(
    category_id_holds_the_name=(
        every('category_id', lambda item: {3: 'cat', 7: 'dog'}[item['category_id']]),
        "annotation 1 of image 1 has a fault: category_id is 'cat', expected the id of a category (the category of "
        "this name has the id 3)"),
    category_ids_above_64_bits=(
        lambda content: content['categories'][0].update(id=2**70), 'expected a whole number of at most 64 bits'),
    annotation_id_a_list=(last(id=[6]), 'annotation [6] of image 3 has a fault: id is [6], expected a whole number'),
    image_id_a_list=(last(image_id=[3]), 'annotation 6 of image [3] has a fault: image_id is [3]'),
    image_id_a_dict=(images_of(id={}), "images[1] '2.jpg' has a fault: id is {}, expected a whole number or a text"),
    iscrowd_of_words=(last(iscrowd='no'), "iscrowd is 'no', expected 0 or 1"),
    iscrowd_two=(last(iscrowd=2), 'iscrowd is 2, expected 0 or 1'),
    area_of_words=(last(area='n/a'), "annotation 6 of image 3 has a fault: area is 'n/a', expected a number"),
    area_a_list=(last(area=[5]), 'area is [5], expected a number'),
    box_as_text=(last(bbox='1,2,3,4'), "has a bbox of '1,2,3,4', expected four numbers [x, y, width, height]"),
    box_as_dict=(last(bbox=dict(x=1)), 'expected four numbers'),
    box_a_number=(last(bbox=7), 'has a bbox of 7, expected four numbers'),
    box_missing=(last(bbox=None), '(its segmentation is in [90, 20, 40, 30]); write "bbox": [x, y, width, height]'),
    polygon_flat=(last(segmentation=[1, 2, 30, 2, 30, 40]), 'write [[x0, y0, x1, y1, ...]], with one more pair'),
    polygon_of_pairs=(last(segmentation=[[[1, 2], [30, 2], [30, 40]]]), 'points in brackets of their own'),
    polygon_of_points=(last(segmentation=[[1, 2], [30, 2], [30, 40]]), 'a polygon for each point'),
    polygon_null=(last(segmentation=[None]), 'has None where a polygon'),
    polygon_far=(last(segmentation=[[1, 2, 3.5e8, 2, 30, 40]]), 'coordinate 3.5e+08, far outside; the image has 192'),
    polygon_negative=(last(segmentation=[[1, 2, -400, 2, 30, 40]]), 'coordinate -400, far outside'),
    polygon_infinite=(last(segmentation=[[1, 2, float('inf'), 2, 30, 40]]), 'coordinate inf, far outside'),
    polygon_nan=(last(segmentation=[[1, 2, float('nan'), 2, 30, 40]]), 'coordinate nan, no number'),
    polygon_with_null=(last(segmentation=[[1, 2, None, 2, 30, 40]]), 'coordinate nan, no number'),
    segmentation_text=(last(segmentation='[[1, 2]]'), 'found \'[[1, 2]]\''),
    segmentation_empty_dict=(last(segmentation={}), 'is neither a list of polygons'),
    runs_too_long=(last(segmentation=dict(size=[128, 192], counts=[100, 50, 128 * 192])),
                   'run lengths of 24726 pixels, the image has 128 x 192 = 24576'),
    runs_too_short_in_text=(last(segmentation=runs_of(60, 60)), 'run lengths of 3600 pixels, the image has 128'),
    runs_too_long_in_text=(last(segmentation=runs_of(300, 300)), 'run lengths of 90000 pixels'),
    runs_of_garbage=(last(segmentation=dict(size=[128, 192], counts='hello world')), 'no compressed run lengths'),
    runs_of_nothing=(last(segmentation=dict(size=[128, 192], counts='')), 'no compressed run lengths'),
    runs_of_umlauts=(last(segmentation=dict(size=[128, 192], counts='äöü')), 'no compressed run lengths'),
    runs_null=(last(segmentation=dict(size=[128, 192], counts=None)), 'has counts of None'),
    runs_negative=(last(segmentation=dict(size=[128, 192], counts=[-100, 50, 24626])), 'has a count that is -100'),
    runs_of_exchanged_size=(last(segmentation=runs_of(192, 128, [192, 128])),
                            'size [192, 128] in an image of [height, width] [128, 192] (height and width are exch'),
    size_with_a_fraction=(images_of(width=192.5),
                          "images[1] '2.jpg' has a size that cannot be read: width is 192.5, expected a whole number"),
    size_null=(images_of(width=None, height=None), "images[1] '2.jpg' has no width and no height"),
    size_zero=(images_of(width=0), 'width is 0, expected a whole number of pixels'),
    size_of_millions=(images_of(width=10**9), 'width is 1000000000, expected a whole number of pixels from 1 to'),
    file_name_null=(images_of(file_name=None), 'train.json: images[1] has no file_name; give every'),
    file_name_number=(images_of(file_name=7), 'images[1] has a fault: file_name is 7, expected the name of a file'),
    file_name_zero_byte=(images_of(file_name='a\0b'), 'expected the name of a file'),
    images_null=(put('images', None), '"images" is None, expected a list of dicts'),
    images_dict=(put('images', {}), '"images" is {}, expected a list of dicts'),
    images_texts=(put('images', ['1.jpg']), "images[0] is '1.jpg', expected a dict"),
    annotations_dict=(put('annotations', dict(a=1)), '"annotations" is {\'a\': 1}, expected a list of dicts'),
    annotation_null=(lambda content: content['annotations'].insert(0, None), 'annotations[0] is None, expected a dict'),
    categories_texts=(put('categories', ['cat', 'dog']), "categories[0] is 'cat', expected a dict"),
    categories_dict=(put('categories', {'1': 'cat'}), '"categories" is {\'1\': \'cat\'}, expected a list of dicts'),
    categories_missing=(put('categories', None), 'the file has annotations but no categories'),
    category_id_null=(lambda content: content['categories'].append(dict(id=None, name='x')), 'has no id'),
    category_id_of_words=(lambda content: content['categories'].append(dict(id='x', name='x')), "an id that is 'x'"),
    category_id_of_two=(lambda content: content['categories'].append(dict(id=3, name='cow')),
                        "category id 3 belongs to both 'cat' and 'cow'"),
    all_crowd=(every('iscrowd', 1), "all 3 objects of class 'cat', all 3 objects of class 'dog' are crowd (iscrowd 1), "
               'and nothing is left to learn; set iscrowd to 0'),
    all_ignored=(every('ignore', '1'), 'are ignored (ignore 1), and nothing is left to learn'),
    mask_missing=(last(segmentation=[]), '1 of 6 objects have no mask (no segmentation)'),
    mask_of_two_points=(last(segmentation=[[1, 2, 30, 40]]), '1 of 6 objects have a mask without a pixel'),
    mask_of_an_odd_count=(last(segmentation=[[1, 2, 30, 2, 30, 40, 3]]), 'or of an odd count of numbers'),
    mask_of_zeros=(last(segmentation=dict(size=[128, 192], counts=[128 * 192])), 'annotation ids 6. Complete them'),
    all_of_unlisted_images=(every('image_id', 99), 'all 6 annotations are of images that the file does not list'),
    no_annotations=(put('annotations', []), 'no image to train on'),
)  # yapf: disable


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place_by_both(tmp_path, name):
    change, message = REFUSED[name]
    content = content_of()
    change(content)
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert verdicts.error is not None and message in str(verdicts.error), verdicts.error
    assert_agreement(verdicts, ['train.json'])


@pytest.mark.parametrize('segmentation, message', [
    ([], 'have no mask'),
    (runs_of(60, 60), 'run lengths of 3600 pixels'),
    ([[1, 2, 3.5e8, 2, 30, 40]], 'far outside'),
    ([[1, 2, 3, 4]], 'a mask without a pixel'),
])
def test_masks_of_a_validation_set_are_looked_at_before_the_first_epoch(
        tmp_path, segmentation, message):
    content = content_of()
    last(segmentation=segmentation)(content)
    settings = settings_of(tmp_path, content, pipeline=[], test_mode=True)
    with limited(), pytest.raises(DataError, match=message):
        _build(settings).check_metrics(metric=['bbox', 'segm'])
    config = Config(dict(data=dict(val=settings), evaluation=dict(metric=['bbox', 'segm'])))
    problems = check_data(config, ('val', ), images=False).problems
    first = next(problem for problem in problems if problem.stops)
    assert message in ' '.join([first.text, *(example.text for example in first.examples)])
    if segmentation in ([], [[1, 2, 3, 4]]):
        dataset = _build(settings)
        dataset.check_metrics(metric='bbox')  # masks are not asked for
        with pytest.raises(DataError, match=message):
            dataset.evaluate([[np.zeros((0, 5))] * 2] * len(dataset), 'segm', 'silent')


def test_a_validation_set_without_images_is_refused_in_one_message(tmp_path):
    settings = settings_of(
        tmp_path, dict(content_of(), images=[], annotations=[]), [], test_mode=True)
    with pytest.raises(DataError, match='has no image.*train.json'):
        build_dataloader(_build(settings), 1, 0)


def test_a_crowd_needs_no_mask_in_training(tmp_path):
    content = content_of()
    last(segmentation=[], iscrowd=1)(content)
    assert read_by_both(settings_of(tmp_path, content)).error is None


@pytest.mark.parametrize('changes', [dict(annotations=[]), 'crowd'])
def test_a_validation_set_without_objects_is_told(tmp_path, caplog, monkeypatch, changes):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    content = content_of()
    every('iscrowd', 1)(content) if changes == 'crowd' else content.update(changes)
    settings = settings_of(tmp_path, content, pipeline=[], test_mode=True)
    _build(settings).check_metrics(metric='bbox')
    assert 'there are no objects' in caplog.text and 'AP is not defined' in caplog.text
    report = check_data(Config(dict(data=dict(val=settings))), ('val', ), images=False)
    problem = next(item for item in report.defects if item.kind == 'no objects')
    assert problem.text.startswith(
        'data.val has no objects') and 'AP is not defined' in problem.text
    assert ('(all 6 are crowd' in problem.text) == (changes == 'crowd')
    test = check_data(Config(dict(data=dict(test=settings))), ('test', ), images=False)
    assert not test.defects  # one to predict on


def test_a_training_set_without_objects_is_refused_although_its_images_are_kept(tmp_path):
    settings = settings_of(tmp_path, dict(content_of(), annotations=[]), filter_empty_gt=False)
    dataset = _build(settings)
    for image in content_of()['images']:
        cv2.imwrite(str(tmp_path / image['file_name']), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataError, match='data.train has no objects to learn'):
        log_data_report(
            read_test_settings(Config(dict(data=dict(train=settings)))), dict(train=dataset),
            logging.getLogger('x'))
    problems = check_data(
        Config(dict(data=dict(train=settings))), ('train', ), images=False).problems
    assert [problem.kind for problem in problems if problem.stops] == ['no objects']


def test_a_class_of_crowds_alone_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    content = content_of()
    for annotation in content['annotations'][::2]:
        annotation['iscrowd'] = 1
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert verdicts.error is None
    assert "all 3 objects of class 'cat' are crowd (iscrowd 1): not learned; set iscrowd to 0" in caplog.text
    problem = next(item for item in verdicts.problems if item.kind == 'class of crowds alone')
    assert problem.examples[
        0].text == "all 3 objects of class 'cat'" and 'set iscrowd' in problem.fix
    assert 'class without objects' not in [item.kind for item in verdicts.problems]


@pytest.mark.parametrize('change, text', [
    (last(bbox=[float('nan')] * 4), 'box not a number'),
    (last(bbox=[150, 20, 90, 30]), 'box reaching out of its image'),
    (every('bbox',
           lambda item: [item['bbox'][0], 20, item['bbox'][0] + 100, 120]), 'boxes as corners'),
])
def test_the_start_of_a_run_looks_at_the_boxes(tmp_path, caplog, monkeypatch, change, text):
    """It said that no defect was found in them, and had not looked."""
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    content = content_of()
    for image in content['images']:
        cv2.imwrite(str(tmp_path / image['file_name']), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    change(content)
    dataset = _build(settings_of(tmp_path, content, test_mode=True))
    log_data_report(
        read_test_settings(Config(dict(data=dict()))), dict(val=dataset),
        logging.getLogger('mmdet_ft'))
    assert f'defect: {text} (val' in caplog.text


def test_a_validation_set_of_crowds_alone_is_told_with_the_flag(tmp_path):
    content = content_of()
    every('iscrowd', 1)(content)
    settings = settings_of(tmp_path, content, pipeline=[], test_mode=True)
    problems = check_data(Config(dict(data=dict(val=settings))), ('val', ), images=False).problems
    assert {item.fix
            for item in problems if item.kind in ('no objects', 'class of crowds alone')
            } == {'set iscrowd and ignore to 0 for single objects'}


@pytest.mark.parametrize('key, value, fix', [
    ('id', [1], 'number the annotations 1, 2, 3, ...'),
    ('image_id', [1], 'write the id that its image has in "images"'),
    ('category_id', 'cat', 'write the id that its class has in "categories"'),
    ('category_id', 2**70, 'number the categories 1, 2, 3, ...'),
    ('area', 'n/a', 'leave "area" out'),
    ('iscrowd', 'no', 'write "iscrowd": 0'),
    ('ignore', 2, 'write "ignore": 0'),
])
def test_a_value_that_cannot_be_read_is_told_with_what_to_write(tmp_path, key, value, fix):
    content = content_of()
    every(key, value)(content)
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert fix in str(verdicts.error)
    problems = {item.kind: item for item in verdicts.problems}
    assert fix in problems[f'{key} unreadable'].fix
    # all annotations are left out, which is no reason to add some
    assert 'add annotations' not in problems['no objects'].fix


def test_a_box_that_cannot_be_read_is_told_with_its_form(tmp_path):
    content = content_of()
    every('bbox', 7)(content)
    every('segmentation', [])(content)
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert 'write "bbox": [x, y, width, height] in pixels' in str(verdicts.error)


def test_a_file_without_categories_is_told_once_and_by_its_own_name(tmp_path):
    verdicts = read_by_both(settings_of(tmp_path, dict(content_of(), categories=[])))
    problem, = [item for item in verdicts.problems if item.is_defect]
    assert problem.kind == 'no categories' and not problem.examples


def test_a_size_that_is_missing_is_shown_by_the_file(tmp_path):
    content = content_of(1)
    content['images'][0]['width'] = None
    cv2.imwrite(str(tmp_path / '1.jpg'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    problem = next(
        item for item in read_by_both(settings_of(tmp_path, content)).problems
        if item.kind == 'image size missing')
    assert problem.examples[
        0].text == "images[0] '1.jpg' has no width (the file has 192 x 128, width x height)"


def test_shifted_category_ids_are_told_with_the_shift(tmp_path):
    content = content_of()
    ids_of = {3: 1, 7: 2}
    for category in content['categories']:
        category['id'] = ids_of[category['id']]
    every('category_id', lambda item: ids_of[item['category_id']] - 1)(content)
    problem = next(
        item for item in read_by_both(settings_of(tmp_path, content)).problems
        if item.kind == 'category ids shifted')
    assert problem.fix.startswith('add 1 to each category_id')


def test_a_mask_that_cannot_be_read_is_told_once(tmp_path):
    content = content_of()
    every('segmentation', lambda item: item['segmentation'][0])(content)
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert [item.kind for item in verdicts.problems if item.is_defect] == ['segmentation malformed']


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-32'])
def test_a_byte_order_mark_hides_nothing_from_check_data(tmp_path, encoding):
    content = content_of()
    last(area='n/a')(content)
    content['images'][0]['width'] = None
    settings = settings_of(tmp_path, content)
    (tmp_path / 'train.json').write_bytes(json.dumps(content).encode(encoding))
    verdicts = read_by_both(settings)
    assert_agreement(verdicts, ["images[0] '1.jpg'"])
    assert {'image size missing', 'area unreadable'} <= {item.kind for item in verdicts.problems}


@pytest.mark.parametrize('text, message', [
    (b'', 'is empty'),
    (b'{"images": [', 'not a complete json file'),
    (gzip.compress(b'{}', mtime=0), 'compressed by gzip'),
    ('{"images": "\xe4"}'.encode('latin-1'), 'not written in UTF-8: byte 0xe4 at position 12'),
    (b'{"a": 1}\n{"a": 2}\n', 'another one begins in line 2, as in JSON lines'),
    (b'[' * 100000, 'nested too deep'),
    (b'{"images": ' + b'9' * 5000 + b'}', 'not a complete json file'),
])
def test_a_file_that_is_no_json_says_what_it_is(tmp_path, text, message):
    settings = settings_of(tmp_path, content_of())
    (tmp_path / 'train.json').write_bytes(text)
    verdicts = read_by_both(settings)
    assert message in str(verdicts.error)
    assert_agreement(verdicts, ['train.json'])


@pytest.mark.parametrize('change, message', [
    (every('category_id', lambda item: {
        3: 0,
        7: 1
    }[item['category_id']]), 'add 1 to each category_id'),
    (every('category_id', lambda item: {
        3: 1,
        7: 2
    }[item['category_id']]), 'subtract 1 from each category_id'),
])
def test_shifted_categories_are_refused_both_ways(tmp_path, change, message):
    content = content_of()
    change(content)
    first = 1 if 'add' in message else 0
    for index, category in enumerate(content['categories']):
        category['id'] = first + index
    verdicts = read_by_both(settings_of(tmp_path, content))
    assert message in str(verdicts.error).lower()
    assert any(message in problem.fix.lower() and problem.stops for problem in verdicts.problems)


def test_names_in_another_unicode_form_are_matched(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    content = content_of()
    content['categories'][0]['name'] = 'Ka\u0308se'
    settings = settings_of(tmp_path, content, classes=('K\xe4se', 'dog'))
    verdicts = read_by_both(settings)
    assert verdicts.error is None and 'other Unicode characters' in caplog.text
    assert not [problem for problem in verdicts.problems if problem.is_defect]
    assert len(_build(settings).get_ann_info(0)['labels']) == 2


def test_a_class_that_one_of_several_files_lacks_is_not_dropped(tmp_path):
    content = content_of()
    content['categories'].pop()
    content['annotations'] = content['annotations'][::2]
    verdicts = read_by_both(settings_of(tmp_path, content))
    line = 'add to "categories" of this file: {"id": 4, "name": "dog"}'
    assert line in str(verdicts.error).replace('Add', 'add') and 'num_classes=1' not in str(
        verdicts.error)
    problem = next(item for item in verdicts.problems if item.stops)
    assert line in problem.fix and 'num_classes' not in problem.fix


def test_without_classes_there_is_one_verdict_and_no_name_is_guessed(tmp_path):
    content = content_of()
    content['categories'] = [
        dict(id=0, name='amenity'),
        dict(id=3, name='Sofa'),
        dict(id=7, name='Towel')
    ]
    settings = settings_of(tmp_path, content, classes=None)
    for image in content['images']:
        image['file_name'] = f'val{image["file_name"]}'
    (tmp_path / 'val.json').write_text(json.dumps(content))
    val = dict(settings, ann_file=str(tmp_path / 'val.json'), pipeline=[])
    report = check_data(Config(dict(data=dict(train=settings, val=val))), images=False)
    assert [problem.kind for problem in report.problems
            if problem.is_defect] == ['class not in the file', 'class not in the file']
    for problem in report.problems[:2]:
        assert "classes=('Sofa', 'Towel')" in problem.fix and 'sheep' not in problem.fix
    assert [row.counts for row in report.classes] == [(3, 3), (3, 3)]


def test_a_list_of_images_to_predict_on_is_no_defect(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    settings = settings_of(
        tmp_path, dict(images=content_of()['images']), pipeline=[], test_mode=True)
    assert _build(settings).cat_ids == [1, 2]
    assert 'results are written with the category ids 1 to 2' in caplog.text
    report = check_data(Config(dict(data=dict(test=settings))), ('test', ), images=False)
    assert not report.defects and not any('num_classes=0' in problem.fix
                                          for problem in report.problems)


def test_a_box_that_is_no_number_is_left_out_and_told_by_both(tmp_path):
    for box in ([None, 1, 20, 20], [float('nan')] * 4, [1, 1, 1e300, 20], ['inf', 1, 20, 20]):
        content = content_of()
        last(bbox=box)(content)
        settings = settings_of(tmp_path, content)
        verdicts = read_by_both(settings)
        assert verdicts.error is None
        assert 'box not a number' in [problem.kind for problem in verdicts.problems]
        assert len(_build(settings).get_ann_info(2)['labels']) == 1


def test_no_defect_found_says_what_was_read(tmp_path):
    from rich.console import Console

    from mmdet_ft.datasets.checks.report import render
    settings = settings_of(tmp_path, content_of())
    report = check_data(Config(dict(data=dict(train=settings))), ('train', ), images=False)
    console = Console(width=200, record=True, file=open(tmp_path / 'out', 'w'))
    render(report, console)
    assert re.search(
        r'no defect found in train; checked: the annotations \(6 boxes, 6 masks\), no image',
        console.export_text())
