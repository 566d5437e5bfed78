"""CVAT's own xml: shapes of images, tracks of a video, and what is refused with file and line."""
import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.datasets.detection.cvat import CVATDataset, read_cvat
from mmdet_ft.datasets.errors import DataError
from . import formats
from .formats import HEIGHT, WIDTH, Thing

IMAGES = [[Thing('Car', (10, 20, 50, 60)),
           Thing('Tram', (60, 20, 90, 60))], [Thing('Pedestrian', (5, 5, 30, 50), ignored=True)],
          []]


def read(shapes, tmp_path, size=f'width="{WIDTH}" height="{HEIGHT}"', **settings):
    """The objects of one image with these elements, the first in line 3."""
    path = tmp_path / 'a.xml'
    path.write_text(f'<annotations>\n<image id="0" name="image_0.jpg" {size}>\n' +
                    '\n'.join(shapes) + '\n</image>\n</annotations>')
    formats.write_images(tmp_path, [[]])
    return read_cvat(str(path), str(tmp_path), **settings)[0][0]


def element(tag, inside='', label='car', **attributes):
    words = ' '.join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} label="{label}" occluded="0" z_order="0" {words}>{inside}</{tag}>'


def box(x1=10, y1=20, x2=50, y2=40, inside='', **attributes):
    return element('box', inside, xtl=x1, ytl=y1, xbr=x2, ybr=y2, **attributes)


def bitmap(image, index):
    runs = image.segmentations[index]
    return mask_api.decode({**runs, 'counts': runs['counts'].encode()})


def test_every_shape_with_an_area_becomes_an_object(tmp_path):
    found = read([
        box(),
        element('polygon', points='1.5,2.5;30.0,2.0;30,20'),
        element('mask', rle='1, 2, 1, 2', left=70, top=100, width=3, height=2),
        element('ellipse', cx=100, cy=60, rx=30, ry=10, rotation=90),
        element('points', points='1,1'),
        element('polyline', points='1,1;5,5'),
        element('cuboid', xtl1=1), '<tag label="night"/>'
    ], tmp_path)
    assert found.names == ['car'] * 4 and (found.width, found.height) == (WIDTH, HEIGHT)
    assert np.allclose(found.boxes, [[10, 20, 50, 40], [1.5, 2, 30, 20], [71, 100, 73, 102],
                                     [90, 30, 110, 90]])  # yapf: disable
    assert found.segmentations[0] is None and found.segmentations[1] == [[1.5, 2.5, 30, 2, 30, 20]]
    assert bitmap(found, 2)[100:102, 70:73].tolist() == [[0, 1, 1], [0, 1, 1]]
    assert found.left_out == {
        f'shapes without an area ({kind})': 1
        for kind in ('points', 'polyline', 'cuboid', 'tag')
    }


def test_run_lengths_go_row_by_row_as_in_cvats_own_example(tmp_path):
    """A disk of 13 x 15 pixels, from CVAT's description of the format."""
    counts = (
        '3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3'
    )
    found = read([element('mask', rle=counts, left=47, top=81, width=13, height=15)], tmp_path)
    rows = bitmap(found, 0)[81:96, 47:60]
    assert rows.sum() == sum(map(int, counts.split(', ')[1::2]))
    assert rows[0].tolist() == [0] * 3 + [1] * 5 + [0] * 5 and rows[7].all()
    assert found.boxes[0].tolist() == [47, 81, 60, 96]


def test_rotated_boxes_are_taken_as_the_boxes_around_them_and_counted(tmp_path):
    found = read([box(10, 20, 50, 40, rotation=90),
                  box(10, 20, 50, 40, rotation=180),
                  box()], tmp_path)
    assert np.allclose(found.boxes, [[20, 10, 40, 50], [10, 20, 50, 40], [10, 20, 50, 40]])
    assert found.boxes[2].tolist() == [10, 20, 50, 40]  # not turned at all
    assert list(found.changed.values()) == [1] and 'rotated boxes' in list(found.changed)[0]


def test_polygons_and_masks_of_a_group_are_one_object_and_boxes_are_not(tmp_path):
    part = dict(group_id=3)
    found = read([
        element('polygon', points='1,1;20,1;20,20', **part),
        box(**part),
        element('polygon', points='40,1;60,1;60,20', **part),
        element('polygon', label='bus', points='40,1;60,1;60,20', **part),
        box(**part)
    ], tmp_path)
    assert found.names == ['car', 'car', 'bus', 'car']
    assert len(found.segmentations[0]) == 2 and found.boxes[0].tolist() == [1, 1, 60, 20]


@pytest.mark.parametrize('name, value, is_ignored', [('is_crowd', 'true', True),
                                                     ('ignore', 'True', True),
                                                     ('difficult', '1', True),
                                                     ('ignore', 'false', False),
                                                     ('color', 'true', False)])
def test_attributes_are_kept_and_some_mean_to_ignore(name, value, is_ignored, tmp_path):
    found = read([box(inside=f'<attribute name="{name}">{value}</attribute>')], tmp_path)
    assert found.crowd.tolist() == [is_ignored] and found.attributes == [{name: value}]


@pytest.mark.parametrize('shape, message', [
    (box(x1='left'), "a box of 'image_0.jpg' has a fault: xtl is 'left'"),
    (element('box', xtl=1), 'has no ytl'),
    (box(label=''), "has a label that is ''"),
    (element('polygon', points='1,2;3,4'), 'has 2 points, expected 3 or more'),
    (element('polygon', points='1,2;3;4,5'), "has the point '3', expected x,y"),
    (element('mask', rle='1, 2', left=1, top=1, width=3, height=2), 'run lengths of 3 pixels'),
    (element('mask', rle='6', left=1, top=1, width=300,
             height=2), 'a width in pixels, inside the image'),
    (box(x1=-9000), 'far outside the image'),
    (box(inside='<attribute name="ignore">perhaps</attribute>'), "an attribute 'ignore' that"),
])
def test_a_bad_shape_is_refused_with_file_and_line(shape, message, tmp_path):
    with pytest.raises(DataError, match=f'a.xml:4: .*{message}'):
        read([box(), shape], tmp_path)


@pytest.mark.parametrize('content, message', [
    (b'<annotations>\n<image>\n', 'a.xml:3: not a complete xml file'),
    (b'<annotation></annotation>', "a.xml:1: it is not CVAT's xml: it is <annotation>"),
    (b'<!DOCTYPE a [<!ENTITY b "c">\n]><annotations/>', "declares the entity 'b'"),
    (b'<annotations>\n<image width="5" height="5"/></annotations>',
     'a.xml:2: an image has a fault'),
    (b'<?xml version="1.0" encoding="x-odd"?><annotations/>', 'a.xml'),
    (b'<a>' * 500, 'nested too deep'),
])
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / 'a.xml').write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_cvat(str(tmp_path / 'a.xml'), str(tmp_path))


def test_sizes_are_those_of_the_images_where_the_file_has_none(tmp_path):
    found = read([box()], tmp_path, size='')
    assert (found.width, found.height) == (WIDTH, HEIGHT)


# The dataset


def test_classes_and_folder_of_the_images_are_those_of_the_file(tmp_path):
    found = CVATDataset(pipeline=[], test_mode=True, **formats.write_cvat(tmp_path, IMAGES))
    assert found.CLASSES == formats.NAMES and found.img_prefix == str(tmp_path / 'images')
    annotation = found.get_ann_info(0)
    assert annotation['labels'].tolist() == [1, 3]
    assert annotation['bboxes'].tolist() == [[10, 20, 50, 60], [60, 20, 90, 60]]
    assert annotation['masks'][0] is None and annotation['masks'][1] is not None
    assert found.get_ann_info(1)['bboxes_ignore'].tolist() == [[5, 5, 30, 50]]
    assert not len(found.get_ann_info(2)['bboxes'])


def test_subsets_of_a_project_are_told_apart(tmp_path):
    paths = formats.write_cvat(tmp_path, IMAGES)
    path = tmp_path / 'annotations.xml'
    text = path.read_text()
    for index, subset in enumerate(('Train', 'Train', 'Val')):
        text = text.replace(f'id="{index}"', f'id="{index}" subset="{subset}"')
    path.write_text(text)
    (tmp_path / 'images/Val').mkdir()
    (tmp_path / 'images/image_2.jpg').rename(tmp_path / 'images/Val/image_2.jpg')
    settings = dict(pipeline=[], test_mode=True, **paths)
    assert len(CVATDataset(subset='Train', **settings)) == 2 and len(CVATDataset(**settings)) == 3
    assert CVATDataset(subset='Val', **settings).data_infos[0]['filename'] == 'Val/image_2.jpg'
    with pytest.raises(DataError, match="no image of subset 'Test'; it has 'Train', 'Val'"):
        CVATDataset(subset='Test', **settings)


# Tracks


def track(shapes, label='car', number=0):
    inside = '\n'.join(
        f'<box frame="{frame}" outside="{outside}" keyframe="1" occluded="0" xtl="{x}" ytl="5" xbr="{x + 20}" '
        f'ybr="40"><attribute name="ignore">false</attribute></box>'
        for frame, outside, x in shapes)
    return f'<track id="{number}" label="{label}">\n{inside}\n</track>'


def write_video(root, tracks, names, size=True):
    for name in names:
        path = root / 'images' / name
        formats.write_images(path.parent, [[]])
        (path.parent / 'image_0.jpg').rename(path)
    listed = f'<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>' if size else ''
    (root / 'annotations.xml').write_text(
        '<annotations>\n<meta><job><labels><label><name>car</name></label><label><name>bus</name></label>'
        f'</labels>{listed}</job></meta>\n' + '\n'.join(tracks) + '</annotations>')
    return str(root / 'annotations.xml'), str(root / 'images')


@pytest.mark.parametrize('names', [[f'frame_{index:06d}.PNG'
                                    for index in range(4)], ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg']])
def test_tracks_become_the_objects_of_frames_that_are_images(names, tmp_path):
    paths = write_video(tmp_path, [
        track([(0, 0, 10), (1, 0, 12), (2, 1, 12)]),
        track([(1, 0, 60), (2, 0, 62), (3, 0, 64)], 'bus', 1)
    ], names)
    images, labels = read_cvat(*paths)
    assert labels == ['car', 'bus'] and [image.file_name for image in images] == names
    assert [image.names for image in images] == [['car'], ['car', 'bus'], ['bus'], ['bus']]
    assert images[1].boxes.tolist() == [[12, 5, 32, 40], [60, 5, 80, 40]]
    assert (images[3].width, images[3].height) == (WIDTH, HEIGHT)


def test_only_frames_that_are_images_count_and_key_frames_alone_are_refused(tmp_path):
    tracks = [track([(0, 0, 10), (10, 0, 30), (20, 1, 30)])]
    paths = write_video(tmp_path / 'a', tracks, ['f_0.jpg', 'f_10.jpg', 'f_20.jpg'], size=False)
    images, _ = read_cvat(*paths)
    assert [len(image.names) for image in images] == [1, 1, 0]
    paths = write_video(tmp_path / 'b', tracks, ['f_0.jpg', 'f_5.jpg', 'f_10.jpg'])
    with pytest.raises(
            DataError, match='annotations.xml:5: track 0 has no shape between the frames 0 and 10'):
        read_cvat(*paths)


def test_frames_that_are_no_images_are_an_error(tmp_path):
    paths = write_video(tmp_path, [track([(0, 0, 10), (1, 0, 11)])], ['a.jpg'])
    with pytest.raises(DataError, match='tracks up to frame 1, and the 1 images'):
        read_cvat(*paths)
    (tmp_path / 'images/a.jpg').unlink()
    with pytest.raises(DataError, match='there is no image in'):
        read_cvat(*paths)
