"""Each converter's json is what the data set itself reads; bad input and existing files are refused."""
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mmdet_ft.datasets.build import build_dataset
from tests.datasets import formats

FOLDER = Path(__file__).parents[2] / 'tools/dataset_converters'
CLASSES = ('Pedestrian', 'Car', 'Cyclist')


@pytest.fixture
def convert(monkeypatch):
    """A function that runs a converter with arguments."""

    def run(name, *words):
        spec = importlib.util.spec_from_file_location(f'converter_{name}', FOLDER / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, 'path', list(sys.path))
        monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
        spec.loader.exec_module(module)
        module.main()

    return run


def truth(dataset):
    """What samples would get: (image, ignored or not) -> sorted (label, box)."""
    found = {}
    for place in range(len(dataset)):
        name = Path(dataset.data_infos[place]['filename']).name
        annotation = dataset.get_ann_info(place)
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
    place, content, message = BAD[name]
    (tmp_path / 'data' / place).write_text(content)
    with pytest.raises(SystemExit):
        convert(name, tmp_path / 'data', '--out', tmp_path / 'out.json')
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error
    assert not (tmp_path / 'out.json').exists()


# VIA


def via_regions(things):
    regions = []
    for place, thing in enumerate(things):
        x1, y1, x2, y2 = thing.box
        if place % 2:
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
            item['regions'] = {str(place): region for place, region in enumerate(item['regions'])}
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
    assert f'{listed}:6: a face' in capsys.readouterr().err
