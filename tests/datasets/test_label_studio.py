"""Exports of Label Studio: shapes in percent, several annotations, and what is refused with task and result."""
import json

import cv2
import numpy as np
import pycocotools.mask as mask_api
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.datasets.annotations.brush import decode_brush, encode_brush
from mmdet_ft.datasets.detection.label_studio import LabelStudioDataset, read_label_studio
from mmdet_ft.datasets.errors import DataError
from . import formats
from .formats import HEIGHT, WIDTH, Thing

IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Tram', (60, 20, 90, 60))], [Thing('Pedestrian', (5, 5, 30, 50))], []]


def result(kind='rectanglelabels', label='car', size=(WIDTH, HEIGHT), **value):
    value = value or dict(x=10, y=20, width=30, height=40)
    return dict(
        type=kind,
        id='a',
        original_width=size[0],
        original_height=size[1],
        value={
            **value, kind: [label]
        })


def task(*results, url='/data/upload/3/0a1b2c3d-image_0.jpg', **more):
    return {
        **dict(id=5, data=dict(image=url), annotations=[dict(id=1, result=list(results))]),
        **more
    }


def read(tasks, tmp_path, **settings):
    formats.write_images(tmp_path, [[]])
    (tmp_path / 'a.json').write_text(json.dumps(tasks))
    return read_label_studio(str(tmp_path / 'a.json'), str(tmp_path), **settings)


def test_every_shape_with_an_area_becomes_an_object(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:50, 60:90] = True
    (found, ), notes = read([
        task(result(), result('polygonlabels', points=[[0, 0], [50, 0], [50, 50]]),
             result('brushlabels', format='rle', rle=encode_brush(mask)),
             result('ellipselabels', x=50, y=50, radiusX=10, radiusY=20, rotation=90),
             result('keypointlabels', x=1, y=1, width=1),
             dict(type='choices', value=dict(choices=['x'])))
    ], tmp_path)
    assert found.names == ['car'] * 4 and found.file_name == 'image_0.jpg' and not notes
    assert np.allclose(found.boxes,
                       [[16, 24, 64, 72], [0, 0, 80, 60], [60, 30, 90, 50], [56, 44, 104, 76]])
    assert found.segmentations[0] is None and found.segmentations[1] == [[0, 0, 80, 0, 80, 60]]
    runs = found.segmentations[2]
    assert (mask_api.decode({**runs, 'counts': runs['counts'].encode()}) == mask).all()
    assert found.left_out == {
        'shapes without an area (keypointlabels)': 1,
        'results that are no shapes (choices)': 1
    }


def test_a_rotated_box_turns_around_its_corner_and_is_taken_as_the_box_around_it(tmp_path):
    """Clockwise around the upper left corner: a quarter turn goes to the left of it."""
    (found, ), _ = read([
        task(
            result(x=50, y=50, width=10, height=20, rotation=90),
            result(x=50, y=50, width=10, height=20))
    ], tmp_path)
    assert np.allclose(found.boxes, [[80 - 24, 60, 80, 76], [80, 60, 96, 84]])
    assert sum(found.changed.values()) == 1


def test_shapes_whose_label_is_in_a_second_result_are_one_object(tmp_path):
    shape = dict(x=10, y=20, width=30, height=40)
    bare = dict(type='rectangle', id='a', value=shape)
    (found, ), _ = read([task(bare, result('labels', **shape))], tmp_path)
    assert found.names == ['car'] and len(found.boxes) == 1
    with pytest.raises(DataError, match=r"task 5: result 1 \('rectangle'\) has no label"):
        read([task(bare)], tmp_path)


def test_predictions_cancelled_and_unlabelled_tasks_are_counted(tmp_path):
    cancelled = dict(id=2, was_cancelled=True, result=[result(label='wrong')])
    images, notes = read([
        task(result(), predictions=[dict(result=[result(label='wrong')])]),
        task(annotations=[cancelled]),
        task(annotations=[], predictions=[dict(result=[result(label='wrong')])]),
        task(annotations=[cancelled, dict(id=1, result=[])])
    ], tmp_path)
    assert [image.names for image in images] == [['car'], []]
    assert notes == [
        '2 tasks have predictions, which are not read', '1 tasks are skipped (cancelled): left out',
        '1 tasks have no annotation: left out'
    ]


@pytest.mark.parametrize('annotations, label', [
    ([dict(id=1, result=[result(label='old')]),
      dict(id=2, result=[result(label='new')])], 'new'),
    ([dict(id=9, result=[result(label='old')]),
      dict(id=10, result=[result(label='new')])], 'new'),
    ([
        dict(id=1, ground_truth=True, result=[result(label='true')]),
        dict(id=2, result=[result(label='new')])
    ], 'true'),
    ([
        dict(id=1, updated_at='2024-05-01T10:00:00Z', result=[result(label='new')]),
        dict(id=2, updated_at='2024-04-01T10:00:00Z', result=[result(label='old')])
    ], 'new'),
])
def test_of_several_annotations_the_true_or_the_newest_one_is_taken(annotations, label, tmp_path):
    (found, ), notes = read([task(annotations=annotations)], tmp_path)
    assert found.names == [label] and notes[0].startswith('1 tasks have several annotations')


def test_json_min_is_the_same(tmp_path):
    region = {**result()['value'], 'original_width': WIDTH, 'original_height': HEIGHT}
    (found, ), _ = read([dict(id=1, image='image_0.jpg', box=[region], annotator=1, lead_time=3.)],
                        tmp_path)
    assert found.names == ['car'] and np.allclose(found.boxes, [[16, 24, 64, 72]])


@pytest.mark.parametrize('url, name', [
    ('/data/upload/3/0a1b2c3d-my%20photo.jpg', '0a1b2c3d-my photo.jpg'),
    ('/data/upload/3/0a1b2c3d-my%20photo.jpg', 'my photo.jpg'),
    ('/data/local-files/?d=sub/a%20b.jpg', 'sub/a b.jpg'),
    ('s3://bucket/sub/a.jpg', 'sub/a.jpg'),
    ('s3://bucket/sub/a.jpg', 'a.jpg'),
    ('https://x.org/i/a.jpg?sign=b.png&c=1', 'a.jpg'),
    ('C:\\photos\\a.jpg', 'a.jpg'),
])
def test_images_are_found_under_the_addresses_of_label_studio(url, name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (found, ), _ = read([task(result(), url=url)], tmp_path)
    assert found.file_name == name


def test_two_uploads_that_would_be_one_file_are_refused(tmp_path):
    tasks = [
        task(result(), url=f'/data/upload/3/0a1b2c3{key}-image_0.jpg', id=key) for key in (4, 5)
    ]
    with pytest.raises(
            DataError, match="task 5: its image .* and that of task 4.* same file 'image_0.jpg'"):
        read(tasks, tmp_path)


def test_another_size_of_the_image_is_counted_and_another_shape_refused(tmp_path):
    (found, ), _ = read([task(result(size=(2 * WIDTH, 2 * HEIGHT)))], tmp_path)
    assert np.allclose(found.boxes, [[16, 24, 64, 72]]) and sum(found.changed.values()) == 1
    with pytest.raises(
            DataError, match='task 5: .*annotated as 120 x 160 .* is 160 x 120: width and height'):
        read([task(result(size=(HEIGHT, WIDTH)))], tmp_path)
    with pytest.raises(DataError, match='images of several sizes'):
        read([task(result(), result(size=(50, 50)))], tmp_path)


@pytest.mark.parametrize('bad, message', [
    (result(x='left', y=1, width=2, height=3), "has a fault: x is 'left'"),
    (result(y=1, width=2, height=3), "has no 'x'"),
    (result(x=1, y=1, width=-2, height=3), 'has width -3.2 and height 3.6 pixels'),
    (result('polygonlabels', points=[[1, 1], [2, 2]]), 'expected 3 or more'),
    (result('polygonlabels', points=[[1, 1], [2, 2], [3]]), r'has the point \[3\]'),
    (result('brushlabels', rle=[1, 2, 3]), 'cut off'),
    (result('brushlabels', rle=encode_brush(np.zeros(
        (3, 3), bool))), 'has an rle of 36 values, expected'),
    (result('brushlabels', rle='abc'), 'no list of bytes'),
    (result(x=5000, y=1, width=2, height=3), 'far outside'),
    (dict(result(), image_rotation=90), 'image_rotation'),
    (dict(type='rectanglelabels', value=dict(x=1, rectanglelabels=['a', 'b'])), 'has 2 labels'),
    (dict(type='rectanglelabels', value=dict(x=1, rectanglelabels=[7])), 'a label that is 7'),
    (dict(type='rectanglelabels', value=3), 'has the value 3'),
])
def test_a_bad_result_is_refused_with_file_task_and_number(bad, message, tmp_path):
    with pytest.raises(DataError, match=rf'a.json: task 5: result 2 \(.*{message}'):
        read([task(result(), bad)], tmp_path)


@pytest.mark.parametrize('content, message', [
    ({}, 'not an export of Label Studio'), ([], 'not an export'), ([3], 'not an export'),
    ([dict(id=1, data=dict(text='x'), annotations=[dict(result=[])])], "no image; write image_key="),
    ([dict(id=1, data=dict(a='a.jpg', b='b.jpg'), annotations=[dict(result=[])])], "keys with images: 'a', 'b'"),
    ([dict(id=1, data=dict(image='a.jpg'), annotations=3)], 'annotations is 3, expected a list'),
    ([dict(id=1, data=dict(image='a.jpg'), annotations=[dict(result=[])])], 'no image .* and the task has no'),
])  # yapf: disable
def test_other_files_are_refused(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(content, tmp_path)


def test_the_key_of_the_image_can_be_named(tmp_path):
    tasks = [dict(task(result()), data=dict(left='image_0.jpg', right='other.jpg'))]
    assert read(tasks, tmp_path, image_key='left')[0][0].file_name == 'image_0.jpg'


def test_the_dataset_reads_as_the_others(tmp_path):
    paths = formats.write_label_studio(tmp_path, IMAGES)
    with pytest.raises(
            DataError, match=r"needs classes=.*classes=\('Car', 'Pedestrian', 'Tram', \)"):
        LabelStudioDataset(pipeline=[], **paths)
    found = LabelStudioDataset(
        pipeline=[], test_mode=True, classes=('Tram', 'Car', 'Pedestrian'), **paths)
    assert np.allclose(found.get_ann_info(0)['bboxes'], [[10, 20, 50, 60], [60, 20, 90, 60]])
    assert found.get_ann_info(0)['labels'].tolist() == [1, 0] and found.img_prefix == str(tmp_path)


# Brushes


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_brush_comes_back_from_its_bytes(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < .5
    assert (decode_brush(encode_brush(mask), height, width) == mask).all()


def test_runs_longer_than_one_length_can_be_written_come_back():
    mask = np.zeros((300, 400), bool)
    mask[100:] = True
    assert (decode_brush(encode_brush(mask), 300, 400) == mask).all()


def test_values_one_by_one_are_read_as_the_format_describes_them():
    """Two pixels, the second drawn: 8 values of 8 bits, one literal run, written by hand."""
    text = format(8, '032b') + format(7, '05b') + format(2, '04b') * 4 + '0' + '00' + format(
        7, '03b')
    text += ''.join(format(value, '08b') for value in (0, 0, 0, 0, 9, 9, 9, 255))
    text += '0' * (-len(text) % 8)
    stream = [int(text[index:index + 8], 2) for index in range(0, len(text), 8)]
    assert decode_brush(stream, 1, 2).tolist() == [[False, True]]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 255), max_size=40))
def test_any_bytes_are_a_mask_or_refused(content):
    try:
        mask = decode_brush(content, 3, 4)
    except ValueError:
        return
    assert mask.shape == (3, 4)
