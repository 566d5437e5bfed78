"""tools/misc/check_data.py and browse_dataset.py, as a user runs them."""
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_ft.config import Config
from mmdet_ft.datasets.annotations.coco_file import CocoFile
from mmdet_ft.datasets.checks.report import verdict
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.engine.run_check.data import check_data
from tests.tools.test_train_command import call
from tests.tools.tiny_world import write_world


@pytest.fixture
def world(tmp_path):
    write_world(tmp_path, num_train=12, num_val=4)
    for index in range(12):  # as photographs are stored
        image = cv2.imread(str(tmp_path / f'train/{index}.png'))
        cv2.imwrite(str(tmp_path / f'train/{index}.jpg'), image)
        (tmp_path / f'train/{index}.png').unlink()
    text = (tmp_path / 'train.json').read_text().replace('.png', '.jpg')
    (tmp_path / 'train.json').write_text(text)
    return tmp_path


def check(world, *words, expect):
    out, err = call('misc/check_data.py', world / 'tiny.py', *words, expect=expect)
    assert 'Traceback' not in out + err, err
    return out


def test_clean_data_has_no_defect_and_an_html_report(world):
    out = check(world, '--html', world / 'report.html', expect=0)
    assert 'no defect found in train, val' in out and 'defect:' not in out
    pictures = (world / 'report.html').read_text().split('Pictures of ')[1:]
    assert [part.count('data:image/jpeg;base64,') for part in pictures] == [6, 4]
    for split in ('train', 'val'):
        content = json.loads((world / f'{split}.json').read_text())
        for index, name in enumerate(('box', 'bar', 'dot')):
            count = sum(item['category_id'] == index + 1 for item in content['annotations'])
            column = -3 if split == 'train' else -2
            row = next(line for line in out.splitlines() if line.startswith(f'| {name} '))
            assert int(row.split('|')[column]) == count, (split, name)


def test_every_planted_defect_is_found_in_one_run(world):
    content = json.loads((world / 'train.json').read_text())
    images, annotations = content['images'], content['annotations']
    expected = set()

    def plant(kind):
        expected.add(kind)

    (world / 'train/0.jpg').unlink()
    plant('image missing (train')
    whole = (world / 'train/2.jpg').read_bytes()
    (world / 'train/2.jpg').write_bytes(whole[:len(whole) // 2])
    plant('image broken (train')
    images[3]['height'] += 7
    plant('image size differs (train')
    picture = Image.open(world / 'train/4.jpg')
    exif = picture.getexif()
    exif[0x112] = 6
    picture.save(world / 'train/4.jpg', exif=exif)
    plant('image turned by EXIF (train')
    annotations[0]['bbox'][2] = 0
    plant('box without area (train')
    annotations[1]['bbox'][0] = 4000
    plant('box outside its image (train')
    annotations[2]['bbox'][1] = float('nan')
    plant('box not a number (train')
    annotations[3]['bbox'][3] += 200
    plant('box reaching out of its image (train')
    annotations[5]['id'] = annotations[4]['id']
    plant('annotation id twice (train')
    annotations.append({**annotations[6], 'id': 500})
    plant('object twice (train')
    shutil.copy(world / 'train/6.jpg', world / 'train/20.jpg')
    images.append({**images[5], 'file_name': '20.jpg'})
    plant('image id twice (train')
    plant('image twice (train')
    content['categories'][1]['name'] = 'Bar'
    plant('class not in the file (train')
    annotations[8]['segmentation'] = [[1, 2, 3, 4]]
    plant('mask of nothing (train')
    annotations[9]['segmentation'] = []
    plant('object without a mask (train')
    annotations[10]['segmentation'] = [[0, 0, 2, 0, 2, 2, 0, 2]]
    plant('mask elsewhere than its box (train')
    annotations[11]['category_id'] = 77
    plant('unknown category id (train')
    annotations.append({**annotations[12], 'id': 501, 'image_id': 4242})
    plant('annotation without image (train')
    (world / 'val/1.png').write_bytes(b'<html>404</html>')
    plant('image broken (val')
    shutil.copy(world / 'val/2.png', world / 'train/copy.png')
    images.append(dict(id=900, file_name='copy.png', width=96, height=64))
    plant('image in two splits (train, val')
    annotations[13]['segmentation'] = {'size': [4, 4], 'counts': [3, 13]}
    plant('segmentation malformed (train')
    (world / 'train.json').write_text(json.dumps(content))

    out = check(world, '--html', world / 'report.html', expect=1)
    found = {
        line.split('defect: ')[1].rsplit(', ', 1)[0]
        for line in out.splitlines() if 'defect: ' in line
    }
    assert found == expected
    assert out.count('  fix: ') >= len(expected)
    page = (world / 'report.html').read_text()
    for kind in expected:
        assert kind.split(' (')[0] in page


def test_what_stops_a_split_does_not_hide_the_others(world):
    (world / 'train.json').write_text('{"images": [')
    out = check(world, '--no-images', expect=1)
    assert 'cannot be read (train' in out and 'not a complete json file' in out
    assert '| val ' in out  # its table stands


def test_validation_on_the_training_set_is_a_defect(world):
    out = check(
        world,
        '--no-images',
        '--cfg-options',
        f'data.val.ann_file={world}/train.json',
        f'data.val.img_prefix={world}/train/',
        expect=1)
    assert 'defect: image in two splits (train, val, 12)' in out


def test_browsing_writes_what_the_network_sees(world):
    call('misc/browse_dataset.py', world / 'tiny.py', '--not-show', '--output-dir',
         world / 'pictures', '--cfg-options', 'data.train.pipeline.3.flip_ratio=1.0')
    content = json.loads((world / 'train.json').read_text())
    with_objects = {item['image_id'] for item in content['annotations']}
    names = sorted(item['file_name'] for item in content['images'] if item['id'] in with_objects)
    assert sorted(path.name for path in (world / 'pictures').iterdir()) == names
    shown = cv2.imread(str(world / 'pictures' / names[0]))
    source = cv2.imread(str(world / 'train' / names[0]))
    assert shown.shape == (192, 288, 3)  # small ones are drawn three times as large
    shown = shown[1::3, 1::3]
    # the same picture, mirrored, but for what is drawn on it
    same = np.abs(shown.astype(int) - source[:, ::-1]).max(2) < 40
    assert same.mean() > .5 > (np.abs(shown.astype(int) - source).max(2) < 40).mean() - .2


def test_xml_files_and_class_folders_are_checked_too(tmp_path):
    voc = tmp_path / 'VOC2007'
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (voc / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        boxes = [(10, 10, 40, 30), (20, 5, 50, 44)]
        if index == 1:
            boxes[0] = (30, 10, 30, 40)
        items = ''.join(
            f'<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>'
            '</bndbox></object>' for x1, y1, x2, y2 in boxes)
        width = 70 if index == 2 else 64
        (voc / f'Annotations/{index}.xml').write_text(
            f'<annotation><size><width>{width}</width><height>48</height></size>{items}</annotation>'
        )
        cv2.imwrite(
            str(voc / f'JPEGImages/{index}.jpg'), rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        folder = tmp_path / f'photos/{"ab"[index % 2]}'
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(voc / f'JPEGImages/{index}.jpg', folder / f'{index}.jpg')
    (voc / 'JPEGImages/3.jpg').write_bytes(b'no picture')
    (tmp_path / 'photos/b/3.jpg').write_bytes(b'')
    (voc / 'ImageSets/Main/all.txt').write_text('0\n1\n2\n3\n')
    names = f"ann_file='{voc}/ImageSets/Main/all.txt', img_prefix='{voc}/'"

    def found(data, *words):
        (tmp_path / 'config.py').write_text(f'data = dict(train=dict({data}))')
        out, _ = call('misc/check_data.py', tmp_path / 'config.py', *words, expect=1)
        return {line.split('defect: ')[1]
                for line in out.splitlines() if 'defect: ' in line} - {'config (config, 1)'}

    assert found(f"type='VOCDataset', {names}, classes=('cat', ), pipeline=[]") == {
        'box without area (train, 1)', 'image size differs (train, 1)', 'image broken (train, 1)'
    }
    assert found(f"type='CustomDataset', data_prefix='{tmp_path}/photos', pipeline=[]") == {
        'image broken (train, 1)'
    }


def test_a_type_of_one_s_own_may_read_other_files(tmp_path):

    class Csv(CocoDataset):

        def load_annotations(self, ann_file):
            name, x, y, width, height = open(ann_file).read().strip().split(',')
            box = [int(value) for value in (x, y, width, height)]
            self._read_file = CocoFile(
                ann_file,
                dict(
                    images=[dict(id=1, file_name=name, width=90, height=90)],
                    categories=[dict(id=1, name='cat')],
                    annotations=[dict(id=1, image_id=1, category_id=1, bbox=box)]))
            return self._use_file()

    (tmp_path / 'a.csv').write_text('a.jpg,1,2,30,40\n')
    train = dict(type=Csv, ann_file=str(tmp_path / 'a.csv'), classes=('cat', ), pipeline=[])
    report = check_data(Config(dict(data=dict(train=train))), ['train'], images=False)
    assert not any(problem.stops for problem in report.problems) and len(report.splits) == 1


def test_crowds_of_other_categories_are_not_counted(tmp_path):
    config = Config.fromfile(write_world(tmp_path))
    content = json.loads((tmp_path / 'val.json').read_text())
    own = [item for item in content['annotations'] if item['category_id'] == 1]
    for item in content['annotations']:
        item['iscrowd'] = int(item['category_id'] != 1 or item is own[0])
    (tmp_path / 'val.json').write_text(json.dumps(content))
    for part in ('train', 'val', 'test'):
        config.data[part].classes = ('box', )
    split, = check_data(config, names=['val'], images=False).splits
    assert int(split.ignored.sum()) == 1


def test_what_is_left_out_begins_with_the_most_and_kinds_count_once(tmp_path):
    config = Config.fromfile(write_world(tmp_path, num_train=12, num_val=4))
    for split in ('train', 'val'):
        content = json.loads((tmp_path / f'{split}.json').read_text())
        first = content['annotations'][0]
        content['annotations'].append({**first, 'id': 900})
        for index, item in enumerate(content['annotations'][1:-1]):
            item['category_id'] = 1 if index < 2 else 2 if index < 4 else 3
        first['category_id'] = content['annotations'][-1]['category_id'] = 1
        (tmp_path / f'{split}.json').write_text(json.dumps(content))
    for part in ('train', 'val', 'test'):
        config.data[part].classes = ('box', )
    report = check_data(config, names=['train', 'val'], images=False)
    assert verdict(report) == '1 kind of defects, in 2 locations'
    left_out = next(item for item in report.problems if item.kind == 'category not in classes')
    assert [item.text.split(':')[0] for item in left_out.examples] == ["'dot'", "'bar'"]
