"""Open Images' csv and text files, and its metric: groups, the hierarchy of classes, verified labels."""
import csv
import json
import pickle

import cv2
import numpy as np
import pytest

from mmdet_ft.datasets import OpenImagesChallengeDataset, OpenImagesDataset
from mmdet_ft.datasets.checks.objects import check_boxes
from mmdet_ft.datasets.checks.split import split_of
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pictures import draw_truth, pixel_boxes
from mmdet_ft.evaluation.open_images import match_with_groups, tree_of

NUM_CLASSES, NUM_IMAGES = 12, 30
IDS = [f'/m/{i:03d}' for i in range(NUM_CLASSES)]
PARENTS = {1: [0], 2: [0, 1], 3: [0], 5: [4]}
HEADER = (
    'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,'
    'IsDepiction,IsInside')
HIERARCHY = dict(
    LabelName='/m/root',
    Subcategory=[
        dict(
            LabelName=IDS[0],
            Subcategory=[
                dict(LabelName=IDS[1], Subcategory=[dict(LabelName=IDS[2])]),
                dict(LabelName=IDS[3])
            ]),
        dict(LabelName=IDS[4], Subcategory=[dict(LabelName=IDS[5])], Part=[dict(LabelName=IDS[6])]),
        *(dict(LabelName=name) for name in IDS[6:])
    ])


def write_csv(path, rows):
    with open(path, 'w', newline='') as file:
        csv.writer(file).writerows(rows)


def draw_image(rng, name, size):
    """Return the rows of an image, and the detections of each class, many of them inside groups."""
    height, width = size
    sides = np.array([width, height, width, height])
    rows, found = [], [[] for _ in range(NUM_CLASSES)]
    for _ in range(int(rng.integers(1, 8))):
        label, numbers = int(rng.integers(NUM_CLASSES)), rng.random(4)
        group = int(rng.random() < .35)
        x1, x2 = (round(float(value), 6) for value in sorted(numbers[:2]))
        y1, y2 = (round(float(value), 6) for value in sorted(numbers[2:]))
        rows.append([name, 'x', IDS[label], 1, x1, x2, y1, y2, 0, 0, group, 0, 0])
        for _ in range(int(rng.integers(0, 4))):
            noise = rng.normal(0, .03, 4) * sides
            box = np.array([x1, y1, x2, y2]) * sides + noise
            if group:
                inside = [
                    .8 * x1 + .2 * x2, .8 * y1 + .2 * y2, .4 * x1 + .6 * x2, .3 * y1 + .7 * y2
                ]
                box = np.array(inside) * sides + noise * .5
            guess = label if rng.random() < .8 else int(rng.integers(NUM_CLASSES))
            found[guess].append([*box, rng.random()])
    return rows, [np.array(boxes, np.float32).reshape(-1, 5) for boxes in found]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Files of both datasets, and results of a made-up detector."""
    folder = tmp_path_factory.mktemp('open_images')
    rng = np.random.default_rng(3)
    rows, verified, metas, lines, results = [], [], [], [], []
    for i in range(NUM_IMAGES):
        name, size = f'img{i:03d}', (int(rng.integers(200, 500)), int(rng.integers(200, 500)))
        metas.append(dict(filename=f'x/{name}.jpg', ori_shape=(*size, 3)))
        own, result = draw_image(rng, name, size)
        rows += own
        results.append(result)
        lines += [f'validation/{name}.jpg', '0', str(len(own))]
        lines += [
            f'{IDS.index(row[2]) + 1} {row[4]} {row[6]} {row[5]} {row[7]} {row[10]}' for row in own
        ]
        for _ in range(3):
            label = IDS[int(rng.integers(NUM_CLASSES))]
            verified.append([name, 'v', label, int(rng.random() < .5)])
    write_csv(folder / 'labels.csv', [[name, f'class {i}'] for i, name in enumerate(IDS)])
    write_csv(folder / 'labels_c.csv',
              [[name, f'class {i}', i + 1] for i, name in reversed(list(enumerate(IDS)))])
    write_csv(folder / 'boxes.csv', [HEADER.split(','), *rows])
    write_csv(folder / 'verified.csv',
              [['ImageID', 'Source', 'LabelName', 'Confidence'], *verified])
    write_csv(folder / 'verified_c.csv',
              [['ImageID', 'LabelName', 'Confidence'], *([row[0], *row[2:]] for row in verified)])
    (folder / 'boxes.txt').write_text('\n'.join(lines) + '\n')
    (folder / 'hierarchy.json').write_text(json.dumps(HIERARCHY))
    tree = np.eye(NUM_CLASSES + 1)
    for child, parents in PARENTS.items():
        tree[child + 1, [parent + 1 for parent in parents]] = 1
    with open(folder / 'tree.np', 'wb') as file:
        np.save(file, tree)
    (folder / 'metas.pkl').write_bytes(pickle.dumps(metas, protocol=2))
    return folder, results


def build(folder, challenge=False, **arguments):
    names = dict(
        ann_file='boxes.csv',
        label_file='labels.csv',
        hierarchy_file='hierarchy.json',
        image_level_ann_file='verified.csv')
    if challenge:
        names = dict(
            ann_file='boxes.txt',
            label_file='labels_c.csv',
            hierarchy_file='tree.np',
            image_level_ann_file='verified_c.csv')
    cls = OpenImagesChallengeDataset if challenge else OpenImagesDataset
    return cls(
        **{
            'pipeline': [],
            'test_mode': True,
            'meta_file': 'metas.pkl',
            'data_root': str(folder),
            **names,
            **arguments
        })


@pytest.mark.parametrize('challenge', [False, True])
@pytest.mark.parametrize('settings, options, values', [
    ({}, {}, dict(AP50=.395, mAP=.394819587)),
    ({}, dict(iou_thr=[.4, .6], ioa_thr=[.5, .7]), dict(AP40=.419, AP60=.359, mAP=.389324695)),
    (dict(load_image_level_labels=False), {}, dict(AP50=.403, mAP=.403009534)),
    (dict(filter_labels=False), {}, dict(AP50=.365, mAP=.364821315)),
    ({}, dict(use_group_of=False), dict(AP50=.117, mAP=.117156543)),
])  # yapf: disable
def test_the_metric_has_the_values_of_mmdetection_2(world, challenge, settings, options, values):
    """Values of MMDetection 2.28.2 for the same files and results."""
    folder, results = world
    found = build(folder, challenge, **settings).evaluate(results, logger='silent', **options)
    assert found == pytest.approx(values, abs=1e-8) and list(found) == list(values)
    assert sum(len(boxes) for result in results for boxes in result) == 173  # they are not changed


def test_annotations_are_those_of_the_files(world):
    folder, _ = world
    first, challenge = build(folder), build(folder, True)
    assert first.CLASSES == challenge.CLASSES == tuple(f'class {i}' for i in range(NUM_CLASSES))
    assert len(first) == len(challenge) == NUM_IMAGES
    assert first.data_infos[2]['filename'] == 'img002.jpg'
    assert challenge.data_infos[2]['filename'] == 'validation/img002.jpg'
    for index in range(NUM_IMAGES):
        one, other = first.get_ann_info(index), challenge.get_ann_info(index)
        for key in ('bboxes', 'labels', 'gt_is_group_ofs'):
            assert np.array_equal(one[key], other[key])
        assert one['bboxes'].dtype == np.float32 and one['bboxes'].max() <= 1
        assert first.get_cat_ids(index) == one['labels'].tolist()
    assert any(first.get_ann_info(index)['gt_is_group_ofs'].any() for index in range(NUM_IMAGES))


def test_the_hierarchy_has_all_ancestors():
    tree = tree_of(HIERARCHY, {name: i for i, name in enumerate(IDS)}, NUM_CLASSES)
    expected = np.eye(NUM_CLASSES, dtype=bool)
    for child, parents in PARENTS.items():
        expected[child, parents] = True
    assert np.array_equal(tree, expected)


def test_a_group_counts_once_and_only_what_single_objects_leave_belongs_to_it():
    truths = np.array([[0, 0, 10, 10], [0, 0, 100, 100], [200, 200, 300, 300]], np.float32)
    found = np.array([[0, 0, 10, 10, .9], [0, 0, 10, 9, .8], [50, 50, 70, 70, .7], [90, 0, 130, 10, .6]],
                     np.float32)  # yapf: disable
    scores, true, false = match_with_groups(found, truths, np.array([False, True, True]), .5, .5)
    # the single object; the last box, a quarter of it inside; the group of two boxes; the empty group
    assert np.allclose(scores, [.9, .6, .8, 0])
    assert true.tolist() == [True, False, True, False]
    assert false.tolist() == [False, True, False, True]


def test_training_samples_have_boxes_in_pixels(world, tmp_path):
    folder, _ = world
    sizes = {
        meta['filename'][2:]: meta['ori_shape']
        for meta in pickle.loads((folder / 'metas.pkl').read_bytes())
    }
    for name, shape in list(sizes.items())[:2]:
        cv2.imwrite(str(tmp_path / name), np.zeros(shape, np.uint8))
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, denorm_bbox=True)
    ]
    train = build(folder, test_mode=False, pipeline=pipeline, img_prefix=str(tmp_path))
    sample, (height, width, _) = train[1], sizes['img001.jpg']
    expected = train.get_ann_info(1)['bboxes'] * [width, height, width, height]
    assert np.allclose(sample['gt_bboxes'], expected) and len(train.flag) == NUM_IMAGES
    with pytest.raises(DataError, match='denorm_bbox=True'):
        build(folder, test_mode=False, pipeline=[pipeline[0], dict(type='LoadAnnotations')])
    # without meta_file the sizes are those of the images
    write_csv(tmp_path / 'two.csv', list(csv.reader((folder / 'boxes.csv').open()))[:3])
    few = build(folder, ann_file=str(tmp_path / 'two.csv'), meta_file='', img_prefix=str(tmp_path))
    nothing = [np.zeros((0, 5), np.float32)] * NUM_CLASSES
    assert few.evaluate([nothing] * len(few), logger='silent')['mAP'] == 0


def test_shares_of_the_image_are_checked_and_drawn_in_pixels(world, tmp_path):
    folder, _ = world
    data = build(folder, test_mode=False)
    boxes = data.get_ann_info(0)['bboxes']
    found = split_of(data, 'train')
    assert np.allclose(found.boxes[:len(boxes)], 1024 * boxes)
    assert [problem.count for problem in check_boxes(found)] == [1]  # 0.0006 of the width
    metas = pickle.loads((folder / 'metas.pkl').read_bytes())
    height, width, _ = metas[0]['ori_shape']
    expected = boxes * np.float32([width, height, width, height])
    assert np.array_equal(pixel_boxes(data, 0, data.get_ann_info(0)), expected)
    image = np.zeros((height, width, 3), np.uint8)
    assert draw_truth(data, 0, image).any()


@pytest.mark.parametrize('line, words', [
    ('img,x,/m/999,1,0,1,0,1,0,0,0,0,0', "boxes.csv:2: '/m/999' is not a class of"),
    ('img,x,/m/001,1,a,1,0,1,0,0,0,0,0', 'boxes.csv:2: could not convert'),
    ('img,x,/m/001', 'has 3 columns, expected 13'),
])
def test_a_row_that_cannot_be_read_is_named(world, tmp_path, line, words):
    (tmp_path / 'boxes.csv').write_text(f'{HEADER}\n{line}\n')
    with pytest.raises(DataError, match=words):
        build(world[0], ann_file=str(tmp_path / 'boxes.csv'))


def test_settings_that_do_not_fit_are_named(world):
    folder, results = world
    with pytest.raises(DataError, match='write hierarchy_file=..., or get_supercategory=False'):
        build(folder, hierarchy_file=None)
    with pytest.raises(DataError, match='leave `classes` out'):
        build(folder, classes=('cat', ))
    with pytest.raises(DataError, match='write num_classes=12 in the heads'):
        build(folder).evaluate([result[:5] for result in results], logger='silent')
    with pytest.raises(DataError, match='load_image_level_labels=False'):
        build(folder, image_level_ann_file='').evaluate(results, logger='silent')
