"""Each converter's json is what the data set itself reads; bad input and existing files are refused."""
import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdet_ft.datasets.build import build_dataset
from tests.datasets import formats
from tests.datasets.formats import Thing

CLASSES = ('Pedestrian', 'Car', 'Cyclist')


def truth(dataset):
    """What samples would get: (image, ignored or not) -> sorted (label, box)."""
    found = {}
    for index in range(len(dataset)):
        name = Path(dataset.data_infos[index]['filename']).name
        annotation = dataset.get_ann_info(index)
        rows = zip(annotation['labels'].tolist(), annotation['bboxes'].tolist())
        found[name, False] = sorted((label, tuple(box)) for label, box in rows)
        found[name, True] = sorted({tuple(box) for box in annotation['bboxes_ignore'].tolist()})
    return found


def coco(path, prefix, classes=CLASSES):
    return build_dataset(
        dict(
            type='CocoDataset',
            ann_file=str(path),
            img_prefix=str(prefix),
            classes=classes,
            pipeline=[],
            test_mode=True))


@pytest.mark.parametrize('kind, name, write, words', [
    ('XMLDataset', 'voc', formats.write_voc, ['--list', 'ImageSets/Main/train.txt']),
    ('XMLDataset', 'voc', formats.write_voc, []),
    ('KittiDataset', 'kitti', formats.write_kitti, []),
    ('LabelmeDataset', 'labelme', formats.write_labelme, []),
])
def test_the_json_has_the_boxes_of_the_data_set_itself(kind, name, write, words, convert, tmp_path,
                                                       capsys):
    root, out = tmp_path / 'data', tmp_path / 'out' / 'train.json'
    paths = write(root, formats.draw_things())
    convert(name, root, '--out', out, *words, '--classes', *CLASSES)
    itself = build_dataset(dict(type=kind, classes=CLASSES, pipeline=[], test_mode=True, **paths))
    converted = coco(out, root)
    assert truth(converted) == truth(itself)
    for info in converted.data_infos:
        assert (root / info['filename']).is_file()
    said = capsys.readouterr().out
    assert '5 images' in said and str(out) in said and f'classes = {CLASSES!r}' in said
    assert "left out: 'Tram'" in said


def test_an_existing_json_is_kept_without_force(convert, tmp_path, capsys):
    root, out = tmp_path / 'data', tmp_path / 'train.json'
    formats.write_labelme(root, formats.draw_things())
    out.write_text('precious')
    with pytest.raises(SystemExit):
        convert('labelme', root, '--out', out)
    assert '--force' in capsys.readouterr().err and out.read_text() == 'precious'
    convert('labelme', root, '--out', out, '--force')
    assert sorted(item['name'] for item in json.loads(out.read_text())['categories']) == sorted(
        {thing.name
         for things in formats.draw_things()
         for thing in things if not thing.ignored})


BAD = {
    'voc': ('Annotations/image_1.xml', '<annotation><object>', 'image_1.xml:1: not a complete xml'),
    'kitti':
    ('label_2/image_1.txt', 'Car 0 0 -10 1 2 3 4\nCar 0 0 one\n', 'image_1.txt:2: a label'),
    'labelme': ('image_1.json', '{"shapes": [', 'image_1.json is not a complete json'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_named_with_its_file(name, convert, tmp_path, capsys):
    write = getattr(formats, f'write_{name}')
    write(tmp_path / 'data', formats.draw_things())
    index, content, message = BAD[name]
    (tmp_path / 'data' / index).write_text(content)
    with pytest.raises(SystemExit):
        convert(name, tmp_path / 'data', '--out', tmp_path / 'out.json')
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error
    assert not (tmp_path / 'out.json').exists()


# VIA


def via_regions(things):
    regions = []
    for index, thing in enumerate(things):
        x1, y1, x2, y2 = thing.box
        if index % 2:
            shape = dict(name='rect', x=x1, y=y1, width=x2 - x1, height=y2 - y1)
        else:
            shape = dict(
                name='polygon', all_points_x=[x1, x2, x2, x1], all_points_y=[y1, y1, y2, y2])
        regions.append(dict(shape_attributes=shape, region_attributes=dict(kind=thing.name)))
    return regions


@pytest.mark.parametrize('version', [1, 2, 'project'])
def test_via_regions_become_boxes_and_polygons(version, convert, tmp_path):
    images = [[thing for thing in things if not thing.ignored] for things in formats.draw_things()]
    formats.write_images(tmp_path, images)
    content = {
        f'{stem}.jpg123': dict(filename=f'{stem}.jpg', size=123, regions=via_regions(things))
        for stem, things in zip(formats.stems(images), images)
    }
    if version == 1:
        for item in content.values():
            item['regions'] = {str(index): region for index, region in enumerate(item['regions'])}
    if version == 'project':
        content = dict(_via_settings={}, _via_img_metadata=content, _via_attributes={})
    (tmp_path / 'via.json').write_text(json.dumps(content))
    convert('via', tmp_path / 'via.json', '--out', tmp_path / 'out.json', '--classes', *CLASSES)
    converted = coco(tmp_path / 'out.json', tmp_path)
    paths = formats.write_labelme(tmp_path / 'other', images)
    assert truth(converted) == truth(
        build_dataset(
            dict(type='LabelmeDataset', classes=CLASSES, pipeline=[], test_mode=True, **paths)))


def test_via_circles_and_ellipses_reach_as_far_as_drawn(convert, tmp_path):
    formats.write_images(tmp_path, [[]])
    shapes = [
        dict(name='circle', cx=50, cy=40, r=20),
        dict(name='ellipse', cx=100, cy=60, rx=30, ry=10, theta=np.pi / 2),
        dict(name='point', cx=3, cy=3)
    ]
    regions = [dict(shape_attributes=shape, region_attributes={}) for shape in shapes]
    content = dict(a=dict(filename='image_0.jpg', regions=regions))
    (tmp_path / 'via.json').write_text(json.dumps(content))
    convert('via', tmp_path / 'via.json', '--out', tmp_path / 'out.json', '--class-name', 'nut')
    annotations = json.loads((tmp_path / 'out.json').read_text())['annotations']
    boxes = [item['bbox'] for item in annotations]
    assert np.allclose(boxes, [[30, 20, 40, 40], [90, 30, 20, 60]])
    # a polygon of 36 corners is a little smaller than the curve
    assert np.allclose([item['area'] for item in annotations], [np.pi * 400, np.pi * 300], rtol=.03)


def test_via_asks_which_attribute_is_the_class(convert, tmp_path, capsys):
    formats.write_images(tmp_path, [[]])
    region = dict(
        shape_attributes=dict(name='rect', x=1, y=2, width=30, height=40),
        region_attributes=dict(kind={
            'nut': True,
            'bolt': False
        }, note='x'))
    content = dict(a=dict(filename='image_0.jpg', regions=[region]))
    (tmp_path / 'via.json').write_text(json.dumps(content))
    words = (tmp_path / 'via.json', '--out', tmp_path / 'out.json')
    with pytest.raises(SystemExit):
        convert('via', *words)
    assert 'kind, note' in capsys.readouterr().err
    convert('via', *words, '--attribute', 'kind')
    assert json.loads((tmp_path / 'out.json').read_text())['categories'] == [dict(id=1, name='nut')]


# WIDER FACE


def write_wider_list(root, images):
    """The official text and folders; the faces of the last image are none."""
    lines = []
    for stem, things in zip(formats.stems(images), images):
        lines += [f'0--Parade/{stem}.jpg', str(len(things))]
        for thing in things:
            x1, y1, x2, y2 = thing.box
            lines.append(f'{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 {int(thing.ignored)} 0 0 ')
        if not things:
            lines.append('0 0 0 0 0 0 0 0 0 0')
    formats.write_images(root / 'images' / '0--Parade', images)
    (root / 'list.txt').write_text('\n'.join(lines) + '\n')
    return root / 'list.txt', root / 'images'


def test_wider_face_becomes_the_same_json_and_xml(convert, tmp_path):
    images = [[thing._replace(name='face') for thing in things] for things in formats.draw_things()]
    listed, folder = write_wider_list(tmp_path, images)
    convert('wider_face', listed, folder, '--out', tmp_path / 'val.json')
    convert('wider_face', listed, folder, '--out', tmp_path / 'val.txt', '--voc', tmp_path)
    of_xml = build_dataset(
        dict(
            type='WIDERFaceDataset',
            ann_file=str(tmp_path / 'val.txt'),
            img_prefix=str(tmp_path),
            pipeline=[],
            test_mode=True))
    of_json = coco(tmp_path / 'val.json', folder, ('face', ))
    assert truth(of_json) == truth(of_xml) and len(of_json) == 5
    assert sum(len(rows) for (_, ignored), rows in truth(of_xml).items() if ignored) == 4
    assert all((tmp_path / info['filename']).is_file() for info in of_xml.data_infos)


def test_a_cut_off_wider_list_is_named_with_its_line(convert, tmp_path, capsys):
    listed, folder = write_wider_list(tmp_path, formats.draw_things(2))
    lines = listed.read_text().splitlines()
    listed.write_text('\n'.join(lines[:5]))
    with pytest.raises(SystemExit):
        convert('wider_face', listed, folder, '--out', tmp_path / 'val.json')
    assert f'{listed}:6: expected a face' in capsys.readouterr().err


def test_a_wider_list_is_never_written_over_nor_xml_files_without_force(convert, tmp_path, capsys):
    listed, folder = write_wider_list(tmp_path, formats.draw_things(2))
    before = listed.read_text()
    for words in ([], ['--voc', tmp_path]):
        refused(capsys, 'would overwrite', convert, 'wider_face', listed, folder, '--out', listed,
                '--force', *words)
    assert listed.read_text() == before
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'Annotations/image_0.xml').write_text('precious')
    refused(capsys, 'image_0.xml is there already', convert, 'wider_face', listed, folder, '--out',
            tmp_path / 'a.txt', '--voc', tmp_path)
    assert (tmp_path / 'Annotations/image_0.xml').read_text() == 'precious'


# What people have


def refused(capsys, message, convert, *words):
    """A converter ends in one message."""
    with pytest.raises(SystemExit):
        convert(*words)
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error, error


def write_turned(path):
    """A photo that EXIF 6 turns: stored 120 x 160, loaded 160 x 120."""
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.zeros((formats.WIDTH, formats.HEIGHT, 3), np.uint8)).save(path, exif=exif)


def labelme(root, stem='a', image='jpg', **settings):
    root.mkdir(parents=True, exist_ok=True)
    if image:
        Image.fromarray(np.zeros((formats.HEIGHT, formats.WIDTH, 3),
                                 np.uint8)).save(root / f'{stem}.{image}')
    content = dict(formats.labelme_content(stem, [Thing('cat', (100, 10, 150, 40))]), **settings)
    (root / f'{stem}.json').write_text(json.dumps(content))


def shape(label='cat', kind='polygon', points=((10, 10), (50, 10), (30, 40)), **more):
    return dict(label=label, shape_type=kind, points=points, **more)


def converted(convert, capsys, *words):
    """(content of the json, what was said)."""
    out = next(word for before, word in zip(words, words[1:]) if before == '--out')
    convert(*words)
    return json.loads(Path(out).read_text()), capsys.readouterr().out


def sizes(content):
    return [(image['file_name'], image['width'], image['height']) for image in content['images']]


def test_sizes_are_those_of_the_loaded_photo_in_every_converter(convert, tmp_path, capsys):
    labelme(tmp_path / 'a', imageWidth=None, imageHeight=None)
    write_turned(tmp_path / 'a/a.jpg')
    content, _ = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out', tmp_path / 'a.json')
    assert sizes(content) == [('a.jpg', 160, 120)] and content['annotations'][0]['area'] == 1500
    region = dict(
        shape_attributes=dict(name='rect', x=100, y=10, width=50, height=30),
        region_attributes=dict(name=' cat '))
    (tmp_path / 'a/via.txt').write_text(
        json.dumps(dict(a=dict(filename='a.jpg', regions=[region]))))
    content, _ = converted(convert, capsys, 'via', tmp_path / 'a/via.txt', '--out',
                           tmp_path / 'v.json')
    assert sizes(content) == [('a.jpg', 160, 120)] and content['annotations'][0]['area'] == 1500
    assert content['categories'] == [dict(id=1, name='cat')]
    for size in ('', '<size><width>0</width><height>0</height></size>'):
        (tmp_path / 'a/a.xml').write_text(
            f'<annotation>{size}<object><name>\n cat </name><bndbox><xmin>101</xmin><ymin>11</ymin>'
            '<xmax>151</xmax><ymax>41</ymax></bndbox></object></annotation>')
        content, _ = converted(convert, capsys, 'voc', tmp_path / 'a', '--ann-subdir', '.',
                               '--img-subdir', '.', '--out', tmp_path / 'x.json', '--force')
        assert sizes(content) == [('a.jpg', 160, 120)] and content['annotations'][0]['area'] == 1500
        assert content['categories'] == [dict(id=1, name='cat')]
    (tmp_path / 'a/0.txt').write_text('Car 0 0 0 100 10 150 40\n')
    write_turned(tmp_path / 'a/0.jpg')
    (tmp_path / 'a/list').write_text('0')
    content, _ = converted(convert, capsys, 'kitti', tmp_path / 'a', '--ann-subdir', '.',
                           '--img-subdir', '.', '--list', tmp_path / 'a/list', '--out',
                           tmp_path / 'k.json')
    assert sizes(content) == [('0.jpg', 160, 120)]
    (tmp_path / 'a/wider').write_text('a.jpg\n1\n100 10 50 30 0 0 0 0 0 0\n')
    content, _ = converted(convert, capsys, 'wider_face', tmp_path / 'a/wider', tmp_path / 'a',
                           '--out', tmp_path / 'w.json')
    assert sizes(content) == [('a.jpg', 160, 120)]


@pytest.mark.parametrize('written, there', [
    ('..\\img\\a.jpg', 'a.jpg'),
    ('C:\\Users\\me\\a.jpg', 'a.jpg'),
    ('a.png', 'a.jpg'),
    ('a.JPG', 'a.jpg'),
    (None, 'a.jpg'),
    ('http://x.org/pets/a.jpg', 'a.jpg'),
])
def test_images_are_found_under_the_names_of_other_machines(written, there, convert, tmp_path,
                                                            capsys):
    labelme(tmp_path / 'a', imagePath=written)
    content, said = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out',
                              tmp_path / 'a.json')
    assert sizes(content)[0][0] == there and (written is None or 'found under another name' in said)


def test_images_that_are_not_there_are_counted_and_left_out_and_all_of_them_are_an_error(
        convert, tmp_path, capsys):
    labelme(tmp_path / 'a')
    labelme(tmp_path / 'a', 'b', image=None)
    content, said = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out',
                              tmp_path / 'a.json')
    assert [name for name, *_ in sizes(content)] == ['a.jpg']
    assert "they are not in" in said and "1 images ('b.jpg')" in said
    labelme(tmp_path / 'n', 'b', image=None)
    refused(capsys, 'not one of the 1 images is in', convert, 'labelme', tmp_path / 'n', '--out',
            tmp_path / 'n.json')
    assert not (tmp_path / 'n.json').exists()


def test_shapes_that_are_no_objects_are_counted(convert, tmp_path, capsys):
    shapes = [
        shape('cat', 'point'),
        shape('cat', 'line'),
        shape('cat', 'line'),
        shape('__ignore__'),
        shape('_background_'),
        shape(' cat\n'),
        shape('dog', 'rotation'),
        shape('dog', 'quadrilateral')
    ]
    labelme(tmp_path / 'a', shapes=shapes)
    content, said = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out',
                              tmp_path / 'a.json')
    assert [item['name'] for item in content['categories']] == ['cat', 'dog']
    assert len(content['annotations']) == 3
    for text in ('1 shapes without an area (point)', '2 shapes without an area (line)',
                 '1 shapes of __ignore__', '1 shapes of _background_'):
        assert text in said
    regions = [dict(shape_attributes=dict(name='polyline'), region_attributes=dict(name='cat'))]
    (tmp_path / 'a/via').write_text(json.dumps(dict(a=dict(filename='a.jpg', regions=regions))))
    _, said = converted(convert, capsys, 'via', tmp_path / 'a/via', '--out', tmp_path / 'v.json')
    assert '1 regions without an area (polyline)' in said and 'no object' in said


@pytest.mark.parametrize('bad, message', [
    (None, 'a.json: shape 1 is None, expected a dict'),
    (shape(''), 'shape 1 has no label'),
    (shape(3), 'shape 1 has no label: it is 3'),
    (shape(points=((1, 1), (float('nan'), 3), (4, 5))), 'far outside the image'),
    (shape(points=((1, 1), (1e5, 3), (4, 5))), 'its point (100000, 3) is far outside'),
    (shape(kind='circle', points=((1, 1), )), 'a circle of 1 points'),
    (shape(kind='mask', mask=None), 'its mask is None'),
    (shape(kind='mask', mask='AAAA'), "('cat', 'mask') cannot be read"),
    (dict(label='cat'), "it has no 'points'"),
    (shape(kind=7), 'there are polygon, rectangle'),
])
def test_a_shape_that_cannot_be_read_is_named(bad, message, convert, tmp_path, capsys):
    labelme(tmp_path / 'a', shapes=[bad])
    refused(capsys, message, convert, 'labelme', tmp_path / 'a', '--out', tmp_path / 'a.json')


def test_a_mask_that_begins_outside_is_cut_at_the_border(convert, tmp_path, capsys):
    picture = io.BytesIO()
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(picture, 'PNG')
    mask = base64.b64encode(picture.getvalue()).decode()
    indices = [(-10, -5), (150, 110), (200, 10), (-40, 0)]
    labelme(
        tmp_path / 'a',
        shapes=[
            shape(kind='mask', points=[(x, y), (x + 29, y + 19)], mask=mask) for x, y in indices
        ])
    content, said = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out',
                              tmp_path / 'a.json')
    assert [item['bbox'] for item in content['annotations']] == [[0, 0, 20, 15], [150, 110, 10, 10]]
    assert [item['area'] for item in content['annotations']] == [300, 100] and '2 boxes' in said


def test_classes_written_otherwise_are_refused_with_the_line_to_write(convert, tmp_path, capsys):
    labelme(tmp_path / 'a', shapes=[shape('Cat'), shape('dog')])
    words = ('labelme', tmp_path / 'a', '--out', tmp_path / 'a.json', '--classes')
    refused(capsys, "did you mean 'Cat' for 'cat'? Write --classes Cat dog", convert, *words, 'cat',
            'dog')
    refused(capsys, "the files have 'Cat' (1), 'dog' (1)", convert, *words, 'person')
    _, said = converted(convert, capsys, *words[:4])
    assert "classes = ('Cat', 'dog')" in said


def test_json_files_in_subfolders_are_read_or_said_not_to_be(convert, tmp_path, capsys):
    labelme(tmp_path / 'a/x', 'x')
    labelme(tmp_path / 'a/y', 'y')
    labelme(tmp_path / 'a/.trash', 'z')
    content, _ = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out', tmp_path / 'a.json')
    assert [name for name, *_ in sizes(content)] == ['x/x.jpg', 'y/y.jpg']
    dataset = build_dataset(
        dict(type='LabelmeDataset', ann_file=str(tmp_path / 'a'), classes=('cat', ), pipeline=[]))
    assert [info['filename'] for info in dataset.data_infos] == ['x/x.jpg', 'y/y.jpg']
    labelme(tmp_path / 'a', 'top')
    content, said = converted(convert, capsys, 'labelme', tmp_path / 'a', '--out',
                              tmp_path / 'b.json')
    assert [name for name, *_ in sizes(content)
            ] == ['top.jpg'] and 'not read: 2 json files in subfolders' in said


@pytest.mark.parametrize('name', ['labelme', 'voc', 'kitti'])
def test_no_converter_writes_over_what_it_reads(name, convert, tmp_path, capsys):
    getattr(formats, f'write_{name}')(tmp_path / 'a', formats.draw_things(2))
    source = {
        'labelme': 'image_0.json',
        'voc': 'Annotations/image_0.xml',
        'kitti': 'label_2/image_0.txt'
    }[name]
    before = (tmp_path / 'a' / source).read_text()
    refused(capsys, 'would overwrite', convert, name, tmp_path / 'a', '--out',
            tmp_path / 'a' / source, '--force')
    assert (tmp_path / 'a' / source).read_text() == before
    refused(capsys, 'is a folder', convert, name, tmp_path / 'a', '--out', tmp_path)


def test_the_folders_of_annotations_and_images_are_suggested(convert, tmp_path, capsys):
    formats.write_voc(tmp_path / 'a', formats.draw_things(3), 'images')
    os.rename(tmp_path / 'a/Annotations', tmp_path / 'a/annots')
    words = ('voc', tmp_path / 'a', '--out', tmp_path / 'a.json')
    refused(capsys, '; 3 are in annots/: --ann-subdir annots --img-subdir images', convert, *words)
    refused(capsys, '; 3 images are in images/: --img-subdir images', convert, *words,
            '--ann-subdir', 'annots')
    content, said = converted(convert, capsys, *words, '--ann-subdir', 'annots', '--img-subdir',
                              'images')
    assert len(content['images']) == 3 and f"img_prefix = '{tmp_path}/a/'" in said
    formats.write_kitti(tmp_path / 'k', formats.draw_things(2))
    os.rename(tmp_path / 'k/label_2', tmp_path / 'k/labels')
    refused(capsys, 'are in labels/: --ann-subdir labels', convert, 'kitti', tmp_path / 'k',
            '--out', tmp_path / 'k.json')
    refused(capsys, 'there is no folder', convert, 'voc', tmp_path / 'no', '--out',
            tmp_path / 'a.json', '--force')


def test_other_xml_is_recognized(convert, tmp_path, capsys):
    formats.write_images(tmp_path, [[]])
    words = ('voc', tmp_path, '--ann-subdir', '.', '--img-subdir', '.', '--out',
             tmp_path / 'a.json')
    (tmp_path / 'annotations.xml').write_text(
        '<annotations><version>1.1</version><image id="0" name="image_0.jpg" width="9" height="9"/></annotations>'
    )
    refused(capsys, "CVAT's own xml", convert, *words)
    (tmp_path / 'annotations.xml').write_text('<html/>')
    refused(capsys, 'it is <html>, expected <annotation>', convert, *words)


def test_an_unknown_class_of_via_is_refused_or_named(convert, tmp_path, capsys):
    formats.write_images(tmp_path, [[]])
    region = dict(
        shape_attributes=dict(name='rect', x=1, y=2, width=30, height=40),
        region_attributes=dict(name='undefined'))
    (tmp_path / 'via').write_text(
        json.dumps(dict(a=dict(filename='image_0.jpg', regions=[region]))))
    words = ('via', tmp_path / 'via', '--out', tmp_path / 'a.json')
    refused(capsys, "has no class (name is 'undefined'); give one with --class-name", convert,
            *words)
    content, _ = converted(convert, capsys, *words, '--class-name', 'cat')
    assert content['categories'] == [dict(id=1, name='cat')]
    for bad in ([7], dict(shape_attributes=3), dict(region_attributes=[1])):
        regions = bad if isinstance(bad, list) else [dict(region, **bad)]
        (tmp_path / 'via').write_text(
            json.dumps(dict(a=dict(filename='image_0.jpg', regions=regions))))
        refused(capsys, "region 1 of 'image_0.jpg' cannot be read", convert, *words, '--force')


def test_a_folder_of_images_becomes_a_json_to_test_on(convert, tmp_path, capsys):
    formats.write_images(tmp_path / 'photos/deep', [[], []])
    write_turned(tmp_path / 'photos/turned.jpg')
    (tmp_path / 'photos/broken.jpg').write_bytes(b'x')
    formats.write_images(tmp_path / 'photos', [[]], '.png')
    (tmp_path / 'classes.txt').write_text('dog \ncat\n')
    words = ('images2coco', tmp_path / 'photos', tmp_path / 'classes.txt', 'test')
    convert(*words, '-e', 'png')
    path = tmp_path / 'annotations/test.json'
    content, said = json.loads(path.read_text()), capsys.readouterr().out
    assert sizes(content) == [('deep/image_0.jpg', 160, 120), ('deep/image_1.jpg', 160, 120),
                              ('turned.jpg', 160, 120)]
    assert [item['name'] for item in content['categories']] == ['dog', 'cat']
    assert '1 files' in said and 'broken.jpg' in said and '--format-only' in said
    assert len(coco(path, tmp_path / 'photos', ('cat', ))) == 3
    refused(capsys, 'is there already', convert, *words)
    convert(*words[:3], 'all.json')
    assert len(json.loads((tmp_path / 'annotations/all.json').read_text())['images']) == 4
    refused(capsys, 'there is no image to list', convert, 'images2coco', tmp_path / 'annotations',
            *words[2:])
    refused(capsys, 'there is no folder', convert, 'images2coco', tmp_path / 'no', *words[2:])


def test_a_file_that_two_records_are_of_becomes_one_image(convert, tmp_path, capsys):
    things = formats.draw_things(2)
    formats.write_labelme(tmp_path / 'a', things)
    content = json.loads((tmp_path / 'a/image_0.json').read_text())
    content['shapes'][0]['points'] = [[1, 70], [20, 70], [20, 90], [1, 90]]
    content['shapes'] = content['shapes'][:2]
    (tmp_path / 'a/more.json').write_text(json.dumps({**content, 'imagePath': './image_0.jpg'}))
    convert('labelme', tmp_path / 'a', '--out', tmp_path / 'a.json')
    written = json.loads((tmp_path / 'a.json').read_text())
    assert len(written['images']) == 2 and len(
        written['annotations']) == 8  # 7, a new one, and one of both
    said = capsys.readouterr().out
    assert 'listed several times, and joined: 1 images' in said and '1 objects are the same in both' in said
    paths = formats.write_kitti(tmp_path / 'b', things)
    with open(paths['ann_file'], 'a') as file:
        file.write('image_0\n')
    convert('kitti', tmp_path / 'b', '--list', paths['ann_file'], '--out', tmp_path / 'b.json')
    assert len(json.loads((tmp_path / 'b.json').read_text())['images']) == 2


def test_a_folder_of_annotations_with_images_beside_it_says_what_to_give(convert, tmp_path, capsys):
    formats.write_voc(tmp_path / 'x', formats.draw_things(2), 'images')
    (tmp_path / 'x/Annotations').rename(tmp_path / 'x/annots')
    with pytest.raises(SystemExit):
        convert('voc', tmp_path / 'x/annots', '--out', tmp_path / 'a.json')
    root = tmp_path / 'x'
    words = f'write {root} --ann-subdir annots --img-subdir images'
    assert words in capsys.readouterr().err
    convert('voc', *words.split()[1:], '--out', tmp_path / 'a.json')
    assert len(json.loads((tmp_path / 'a.json').read_text())['images']) == 2


def test_odd_lists_and_shapes_are_answered(convert, tmp_path, capsys):
    formats.write_images(tmp_path, formats.draw_things(1))
    (tmp_path / 'list.txt').write_text('image_0.jpg\n0\nimage_1.jpg\n')
    (tmp_path / 'none.txt').write_text('\n')
    shape = dict(name='polygon', all_points_x=[1, 20, 30], all_points_y=[1, 20])
    region = dict(shape_attributes=shape, region_attributes=dict(kind='cat'))
    (tmp_path / 'via.json').write_text(
        json.dumps(dict(a=dict(filename='image_0.jpg', regions=[region]))))
    for name, words, message in (('wider_face', ['list.txt',
                                                 '.'], 'an image without a face has this line too'),
                                 ('via', ['via.json'], 'a polygon with 3 x and 2 y')):
        with pytest.raises(SystemExit):
            convert(name, *(tmp_path / word for word in words), '--out', tmp_path / 'a.json')
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert('images2coco', tmp_path, tmp_path / 'none.txt', 'over')
    assert 'names no class' in capsys.readouterr().err
