"""Train and val out of one json or one folder: classes alike, equal images and groups together, nothing lost."""
import json
import sys

import numpy as np
import pytest
from PIL import Image

from mmdet_ft.commands.main import run_tool
from mmdet_ft.datasets.build import build_dataset


@pytest.fixture
def split(monkeypatch, capsys):
    """A function that runs the tool; returns what it says."""

    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['split_dataset', *map(str, words)])
        try:
            run_tool('split')
        except SystemExit:
            return capsys.readouterr().err
        return capsys.readouterr().out

    return run


def write(root, number=40, twins=()):
    """A json in which each image shows cats, every second a dog, every tenth a yak; twins have equal files."""
    root.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(number):
        name = f'film{index // 4}_{index}.png'
        shade = next((pair[0] for pair in twins if index in pair), index)
        Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(root / name)
        images.append(dict(id=index * 3, file_name=name, width=32, height=32, camera='x'))
        for category, every in ((5, 1), (2, 2), (9, 10)):
            if index % every == 0:
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index * 3,
                        category_id=category,
                        bbox=[1, 1, 9, 9],
                        area=81,
                        iscrowd=0,
                        score=.5))
    content = dict(
        info=dict(year=2020),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[
            dict(id=5, name='cat'),
            dict(id=2, name='dog'),
            dict(id=9, name='yak'),
            dict(id=11, name='emu')
        ])
    path = root / 'all.json'
    path.write_text(json.dumps(content))
    return path, content


def parts(path, *names):
    return [
        json.loads((path.parent / f'all_{name}.json').read_text())
        for name in names or ('train', 'val')
    ]


def shares(part):
    counts = {}
    for item in part['annotations']:
        counts[item['category_id']] = counts.get(item['category_id'], 0) + 1
    return counts


def test_every_class_has_its_share_and_nothing_is_lost(split, tmp_path):
    path, content = write(tmp_path / 'a')
    said = split(path, '--val', .25)
    train, val = parts(path)
    assert len(train['images']), len(val['images']) == (30, 10)
    assert shares(val) == {5: 10, 2: 5, 9: 1} and shares(train) == {5: 30, 2: 15, 9: 3}
    for part in (train, val):
        assert {
            key: part[key]
            for key in ('info', 'licenses', 'categories')
        } == {
            key: content[key]
            for key in ('info', 'licenses', 'categories')
        }
    order = [item['id'] for item in content['images']]
    assert sorted(
        train['images'] + val['images'],
        key=lambda item: order.index(item['id'])) == content['images']
    assert sorted(
        train['annotations'] + val['annotations'],
        key=lambda item: item['id']) == content['annotations']
    assert 'yak' in said and 'all_train.json' in said
    assert json.loads(path.read_text()) == content
    dataset = build_dataset(
        dict(
            type='CocoDataset',
            ann_file=str(tmp_path / 'a/all_val.json'),
            img_prefix=str(path.parent),
            classes=('dog', 'cat', 'yak'),
            pipeline=[]))
    assert len(dataset) == 10


def test_the_seed_decides_and_repeats(split, tmp_path):
    path, _ = write(tmp_path / 'a')

    def names(seed):
        split(path, '--seed', seed, '--force')
        return [image['file_name'] for image in parts(path)[1]['images']]

    assert names(1) == names(1) != names(2) and len(names(2)) == 8


def test_equal_images_stay_together(split, tmp_path):
    twins = [(0, 7, 22), (3, 4), (10, 39)]
    path, _ = write(tmp_path / 'a', twins=twins)
    for seed in range(4):
        said = split(path, '--seed', seed, '--force')
        in_val = {image['id'] // 3 for image in parts(path)[1]['images']}
        assert all(len(in_val & set(group)) in (0, len(group)) for group in twins)
        assert '36 groups of 40 images: 7 duplicate images' in said
        assert len(in_val) in (7, 8, 9)


def test_groups_by_name_stay_together(split, tmp_path):
    path, _ = write(tmp_path / 'a')
    said = split(path, '--group-by', r'film(\d+)_', '--val', .2)
    train, val = ({image['file_name'].split('_')[0]
                   for image in part['images']} for part in parts(path))
    assert not train & val and len(val) == 2 and '10 groups of 40 images' in said
    assert 'matches no name' in split(path, '--group-by', 'nothing', '--force')
    assert 'no regular expression' in split(path, '--group-by', '(', '--force')


def test_folds_cover_every_image_once(split, tmp_path):
    path, content = write(tmp_path / 'a')
    said = split(path, '--folds', 4, '--out-dir', tmp_path / 'folds')
    names = [path.parent.parent / 'folds' / f'all_fold{fold}_val.json' for fold in range(4)]
    vals = [json.loads(name.read_text()) for name in names]
    ids = [image['id'] for val in vals for image in val['images']]
    assert sorted(ids) == [image['id'] for image in content['images']]
    assert all(shares(val) == {5: 10, 2: 5, 9: 1} for val in vals)
    train = json.loads((tmp_path / 'folds/all_fold0_train.json').read_text())
    assert len(train['images']) == 30 and not {i['id']
                                               for i in train['images']
                                               } & {i['id']
                                                    for i in vals[0]['images']}
    assert 'fold3_val' in said


def test_class_folders_become_label_files(split, tmp_path):
    for index, name in enumerate(('cat', 'dog')):
        for number in range(10 * (index + 1)):
            folder = tmp_path / 'a' / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), number + 50 * index,
                                    np.uint8)).save(folder / f'{number} x.png')
    said = split(tmp_path / 'a', '--val', .2)
    sets = [
        build_dataset(
            dict(
                type='CustomDataset',
                data_prefix=str(tmp_path / 'a'),
                ann_file=str(tmp_path / 'a' / f'{name}.txt'),
                classes=str(tmp_path / 'a/classes.txt'),
                pipeline=[])) for name in ('train', 'val')
    ]
    assert [np.bincount(item.get_gt_labels()).tolist() for item in sets] == [[8, 16], [2, 4]]
    assert sets[0].CLASSES == ['cat', 'dog'] and "classes=" in said
    names = [info['img_info']['filename'] for item in sets for info in item.data_infos]
    assert len(set(names)) == 30 and all((tmp_path / 'a' / name).is_file() for name in names)


def test_what_is_there_is_kept_and_what_cannot_be_split_is_told(split, tmp_path):
    path, content = write(tmp_path / 'a', 5)
    (tmp_path / 'a/all_val.json').write_text('precious')
    assert '--force' in split(path) and (tmp_path / 'a/all_val.json').read_text() == 'precious'
    assert not (tmp_path / 'a/all_train.json').exists()
    assert 'is no share' in split(path, '--val', 20)
    assert 'write 2 or more' in split(path, '--folds', 1)
    assert 'too few for 9 parts' in split(path, '--folds', 9, '--force')
    assert 'there is no' in split(tmp_path / 'no.json')
    assert 'there is no folder' in split(path, '--img-prefix', tmp_path / 'no', '--force')
    assert 'val has no object of' in split(path, '--force')
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/x.json').write_text('{"annotations": []}')
    assert 'is not a COCO annotation file' in split(tmp_path / 'b/x.json')
    # the name of the output is that of the input, by a link
    (tmp_path / 'a/all_train.json').unlink()
    (tmp_path / 'a/all_train.json').symlink_to(path)
    assert 'would overwrite' in split(path, '--force') and json.loads(path.read_text()) == content


def test_images_that_are_not_found_are_said(split, tmp_path):
    path, _ = write(tmp_path / 'a/deep/images', 10)
    (tmp_path / 'b').mkdir()
    path = path.rename(tmp_path / 'b/all.json')
    assert '10 of 10 images were not found' in split(path)
    said = split(path, '--force', '--img-prefix', tmp_path / 'a/deep/images')
    assert 'were not found' not in said and "img_prefix='" in said
    (tmp_path / 'a/deep/annotations').mkdir()  # COCO's own layout
    path = path.rename(tmp_path / 'a/deep/annotations/all.json')
    assert 'were not found' not in split(path)


def test_groups_that_tell_no_names_apart_are_told(split, tmp_path):
    write(tmp_path, 8)
    path = tmp_path / 'all.json'
    for pattern in ('', 'x*', '(x)?'):
        assert 'matches no name' in split(path, '--group-by', pattern)
    said = split(path, '--group-by', 'film')
    assert "8 images in 1 groups that stay together (8 names match --group-by 'film')" in said
    assert sorted(tmp_path.glob('all_*')) == []


def test_seed_and_share_are_checked_before_a_file_is_written(split, tmp_path):
    write(tmp_path, 4)
    path = tmp_path / 'all.json'
    assert '--seed -1: write a whole number from 0' in split(path, '--seed', -1)
    (tmp_path / 'classes/a').mkdir(parents=True)
    (tmp_path / 'classes/b').mkdir()
    for index, name in enumerate(('a/1', 'b/1')):
        Image.new('RGB', (8, 8), (index, 0, 0)).save(tmp_path / 'classes' / f'{name}.png')
    said = split(tmp_path / 'classes')
    assert 'val would have no image: 2 groups are too few for --val 0.2' in said
    assert sorted(tmp_path.glob('all_*')) == []
    (tmp_path / 'file').write_text('')
    Image.new('RGB', (8, 8), (9, 9, 9)).save(tmp_path / 'classes/a/2.png')
    said = split(tmp_path / 'classes', '--val', .5, '--out-dir', tmp_path / 'file')
    assert f'cannot write {tmp_path / "file"}' in said
