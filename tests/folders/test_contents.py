"""Each format is recognized, divided where it has no split, and read as what it is."""
import json

import numpy as np
import pytest

from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.recognize import keys, recognize
from mmdet_ft.errors import UserError
from mmdet_ft.folders.choosing import Machine, base_config, choose
from mmdet_ft.folders.contents import read_contents
from mmdet_ft.folders.describing import describe
from mmdet_ft.folders.run import write_config
from tests.datasets import formats
from . import helpers
from .helpers import LAYOUTS, NAMES

CPU = Machine(has_gpu=False, is_offline=True)
CLASSES = dict(
    wider_face=['face'],
    cityscapes=['person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'],
    masks=['object'])


def images_of(contents):
    """Paths of the images of each split."""
    return {split: set(found.paths) for split, found in contents.splits.items()}


def test_every_format_has_a_test():
    assert sorted(keys()) == sorted(LAYOUTS)


@pytest.mark.parametrize('key', LAYOUTS)
def test_a_format_is_recognized_and_divided(key, tmp_path):
    root, out = helpers.write(key, tmp_path / 'photos'), str(tmp_path / 'out')
    layout = recognize(str(root))
    assert layout.key == key
    contents = read_contents(layout, out)
    assert contents.classes == CLASSES.get(key, sorted(NAMES))
    train, val = images_of(contents)['train'], images_of(contents)['val']
    number = {'folders': 36, 'cityscapes': 13}.get(key, 12)
    assert len(train) + len(val) == number and not train & val
    assert contents.has_boxes == (key != 'folders')
    masks = {True: [contents.num_objects], False: [0], None: range(1, contents.num_objects)}
    assert contents.num_masks in masks[LAYOUTS[key][1]]
    if key != 'cityscapes':
        assert 1 <= len(val) <= number // 4 + 1
        assert any('the split is new' in note for note in contents.notes)
    assert read_contents(layout, out).settings == contents.settings  # the same files again


@pytest.mark.parametrize('key', LAYOUTS)
def test_training_reads_the_written_config_as_it_was_described(key, tmp_path):
    """The dataset of the config has the images, classes and objects that were counted."""
    root = helpers.write(key, tmp_path / 'photos')
    prepared = write_config(str(root), str(tmp_path / 'out'), CPU)
    config = Config.fromfile(prepared.path)
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    for split in ('train', 'val', 'test'):
        settings = {
            key: value
            for key, value in config.data[split].items() if key != 'samples_per_gpu'
        }
        dataset = build_dataset({**settings, 'pipeline': [], 'test_mode': True})
        counted = contents.splits[split if split in contents.splits else 'val']
        assert len(dataset) == len(counted.paths) and list(dataset.CLASSES) == contents.classes
    said = '\n'.join(prepared.lines)
    assert 'Model: ' in said and prepared.path in said and str(len(
        contents.splits['train'].paths)) in said


def test_the_split_is_the_same_for_a_seed_and_another_for_another(tmp_path):
    layout = recognize(str(helpers.write('voc', tmp_path / 'a', 40)))
    found = [
        images_of(read_contents(layout, str(tmp_path / f'out{index}'), seed))['val']
        for index, seed in enumerate((0, 0, 1))
    ]
    assert found[0] == found[1] != found[2]


def test_classes_are_shared_by_both_sides(tmp_path):
    """Of six images of a class in sixty, one or two validate."""
    images = [[formats.Thing('cat' if index % 10 else 'hen', (10, 10, 60, 60))]
              for index in range(60)]
    helpers.write_voc(tmp_path / 'a', images)
    helpers.recolor(tmp_path / 'a')
    contents = read_contents(recognize(str(tmp_path / 'a/JPEGImages/..')), str(tmp_path / 'out'))
    val = contents.splits['val']
    counts = np.bincount(val.labels, minlength=2)
    assert contents.classes == ['cat', 'hen'] and len(
        val.paths) == 12 and counts.tolist() == [11, 1]


def rename(root, name_of):
    """Rename the images of an xml set, and their files."""
    for index, path in enumerate(sorted((root / 'JPEGImages').iterdir())):
        name = name_of(index)
        (root / 'Annotations' / f'{path.stem}.xml').rename(root / 'Annotations' / f'{name}.xml')
        path.rename(path.with_name(f'{name}.jpg'))
    (root / 'ImageSets/Main/train.txt').unlink()


def test_scenes_stay_whole_where_there_are_several(tmp_path):
    root = helpers.write('voc', tmp_path / 'a', 40)
    rename(root, lambda index: f'street{index // 4}_{index % 4:04d}')
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    assert any("10 scenes stay whole, such as 'JPEGImages/street0'" in note
               for note in contents.notes)
    scenes = [{path.rsplit('_', 1)[0] for path in paths} for paths in images_of(contents).values()]
    assert not scenes[0] & scenes[1] and len(scenes[1]) == 2


def test_one_running_number_is_no_scene(tmp_path):
    root = helpers.write('voc', tmp_path / 'a', 40)
    rename(root, lambda index: f'IMG_{index:04d}')
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    assert len(contents.splits['val'].paths) == 8 and 'scenes' not in ' '.join(contents.notes)


def test_copies_of_roboflow_are_on_the_side_of_their_original(tmp_path):
    root = helpers.write('voc', tmp_path / 'a', 30)
    rename(root, lambda index: f'photo{index // 3}_jpg.rf.{index:032x}')
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    originals = [{path.split('.rf.')[0]
                  for path in paths} for paths in images_of(contents).values()]
    assert not originals[0] & originals[1] and len(contents.splits['val'].paths) == 6


def test_splits_in_the_folder_are_taken_as_they_are(tmp_path):
    for split, number in (('train', 6), ('valid', 3), ('test', 2)):
        helpers.write_coco(tmp_path / split, helpers.draw(number), '_annotations.coco.json')
        helpers.recolor(tmp_path / split)
    contents = read_contents(recognize(str(tmp_path)), str(tmp_path / 'out'))
    assert {
        split: len(paths)
        for split, paths in images_of(contents).items()
    } == dict(
        train=6, val=3, test=2)
    assert not (tmp_path / 'out').exists() and not any('new' in note for note in contents.notes)


def test_val_is_divided_from_train_and_test_stays(tmp_path):
    for split, number in (('train', 20), ('test', 4)):
        helpers.write_voc_flat(tmp_path / split, helpers.draw(number))
        helpers.recolor(tmp_path / split)
    contents = read_contents(recognize(str(tmp_path)), str(tmp_path / 'out'))
    assert {
        split: len(paths)
        for split, paths in images_of(contents).items()
    } == dict(
        train=16, val=4, test=4)


def test_lists_beside_xml_files_are_the_splits(tmp_path):
    root = helpers.write('voc', tmp_path / 'a', 20)
    names = formats.stems(range(20))
    for name, part in (('train', names[:12]), ('val', names[12:16]), ('test', names[16:]),
                       ('cat_train', names), ('trainval', names[:16])):
        (root / f'ImageSets/Main/{name}.txt').write_text('\n'.join(part) + '\n')
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    assert {
        split: len(paths)
        for split, paths in images_of(contents).items()
    } == dict(
        train=12, val=4, test=4)


def test_subsets_of_a_cvat_project_are_the_splits(tmp_path):
    formats.write_cvat(tmp_path, formats.draw_things())
    helpers.recolor(tmp_path)
    path = tmp_path / 'annotations.xml'
    text = path.read_text()
    for index in range(5):
        text = text.replace(f'id="{index}"',
                            f'id="{index}" subset="{"Validation" if index == 2 else "Train"}"')
    path.write_text(text)
    contents = read_contents(recognize(str(tmp_path)), str(tmp_path / 'out'))
    assert {
        split: len(paths)
        for split, paths in images_of(contents).items()
    } == dict(
        train=4, val=1)
    assert contents.settings['val']['subset'] == 'Validation'


def test_what_was_found_is_described_with_defects(tmp_path):
    root = helpers.write('labelme', tmp_path / 'a')
    content = json.loads((root / 'image_0.json').read_text())
    content['shapes'][1] = content['shapes'][0]
    content['shapes'].append(dict(content['shapes'][0], shape_type='point', points=[[3, 3]]))
    (root / 'image_0.json').write_text(json.dumps(content))
    contents = read_contents(recognize(str(root)), str(tmp_path / 'out'))
    said = '\n'.join(describe(contents))
    assert said.startswith('Data: labelme json (.)') and '  cat' in said
    assert '1 shapes without an area (point) left out' in said and 'defect, ' in said


def test_a_config_of_other_data_or_of_the_user_is_kept(tmp_path):
    root, out = helpers.write('voc', tmp_path / 'a'), tmp_path / 'out'
    path = write_config(str(root), str(out), CPU).path
    before = open(path).read()
    assert write_config(str(root), str(out), CPU).path == path and open(path).read() == before
    with open(path, 'a') as file:
        file.write('log_level = "DEBUG"\n')
    with pytest.raises(UserError, match='config.py is there already, with another content'):
        write_config(str(root), str(out), CPU)
    assert open(path).read().endswith('"DEBUG"\n')
    other = helpers.write('coco', tmp_path / 'b')
    with pytest.raises(UserError, match='is there already'):
        write_config(str(other), str(out), CPU)


def test_a_work_dir_among_the_data_is_not_read_as_data(tmp_path):
    root = helpers.write('coco', tmp_path / 'a')
    out = root / 'work_dirs/a'
    path = write_config(str(root), str(out), CPU).path
    before = open(path).read()
    write_config(str(root), str(out), CPU)
    assert open(path).read() == before and (out / 'annotations/val.json').is_file()
    with pytest.raises(UserError, match='is the folder of the data'):
        write_config(str(root), str(root), CPU)


def test_objects_of_which_some_have_masks_are_learned_as_boxes(tmp_path):
    helpers.write_coco(tmp_path / 'a', helpers.draw(12))
    path = tmp_path / 'a/annotations.json'
    content = json.loads(path.read_text())
    del content['annotations'][0]['segmentation']
    path.write_text(json.dumps(content))
    helpers.recolor(tmp_path / 'a')
    prepared = write_config(str(tmp_path / 'a'), str(tmp_path / 'out'), CPU)
    assert 'Faster R-CNN' in '\n'.join(prepared.lines)
    assert '32 of 33 objects have masks: boxes are learned' in '\n'.join(prepared.lines) or any(
        'objects have masks' in line for line in prepared.lines)


def test_nothing_to_learn_is_refused(tmp_path):
    helpers.write_coco(tmp_path / 'a', [[], [], []])
    content = json.loads((tmp_path / 'a/annotations.json').read_text())
    content['annotations'] = [dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 20, 20], iscrowd=1)]
    (tmp_path / 'a/annotations.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match='no object to learn|two that differ'):
        read_contents(recognize(str(tmp_path / 'a')), str(tmp_path / 'out'))


@pytest.mark.parametrize('has_gpu, number, depth, size', [(False, 5000, 18, 112),
                                                          (True, 100, 18, 224),
                                                          (True, 5000, 50, 224)])
def test_the_classifier_follows_the_machine_and_the_number_of_images(has_gpu, number, depth, size):
    choice = choose(number, False, False, Machine(has_gpu, is_offline=True))
    base = base_config(choice.base)
    assert choice.values['model']['backbone']['depth'] == depth and f'ResNet-{depth}' in choice.text
    assert base.data.train.pipeline[1].size == base.data.val.pipeline[2].crop_size == size
