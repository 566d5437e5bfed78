"""WIDER FACE's easy, medium and hard against the steps of its program."""
import json

import numpy as np
import pytest

from mmdet_ft.evaluation.wider_face import LEVELS, evaluate_wider_face, read_lists
from tests.reference.box_metrics import wider_ap


def scene(seed, num_images=6):
    """Truth as the json has it, and detections with scores from 0 to 1."""
    draw = np.random.default_rng(seed)
    lists, detections = {}, {}
    for image in range(num_images):
        number = int(draw.integers(0, 8))
        boxes = np.stack([
            30 * np.arange(number),
            draw.integers(0, 9, number),
            draw.integers(10, 25, number),
            draw.integers(10, 25, number)
        ],
                         axis=1)
        lists[f'face_{image}'] = dict(
            boxes=boxes.tolist(),
            **{
                level: np.flatnonzero(draw.random(number) < share).tolist()
                for level, share in zip(LEVELS, (.4, .7, .9))
            })
        near = np.repeat(boxes, 2, axis=0).astype(float) + draw.normal(0, 1.5, (2 * number, 4))
        near = np.concatenate([near, [[300, 300, 20, 20]]])
        scores = draw.integers(1, 999, (len(near), 1)) / 1000 + draw.random((len(near), 1)) / 9000
        detections[f'face_{image}'] = np.concatenate(
            [near[:, :2], near[:, :2] + near[:, 2:], scores], axis=1)
    detections['face_0'][-1, 4], detections['face_1'][-1, 4] = 0, 1
    return lists, detections


@pytest.mark.parametrize('seed', range(3))
def test_ap_equals_the_reference(seed, tmp_path):
    lists, detections = scene(seed)
    path = tmp_path / 'lists.json'
    path.write_text(json.dumps(lists))
    values = evaluate_wider_face(detections, str(path), 'silent')
    faces = read_lists(str(path))
    for level in LEVELS:
        images = [(detections[name].tolist(), item.boxes.tolist(), item.counted[level].tolist())
                  for name, item in faces.items()]
        assert values[f'{level}_AP'] == pytest.approx(wider_ap(images), abs=1e-9)
    assert values['mAP'] == pytest.approx(sum(values[f'{level}_AP'] for level in LEVELS) / 3)


def test_truth_fed_back_scores_one(tmp_path):
    lists, _ = scene(0)
    path = tmp_path / 'lists.json'
    path.write_text(json.dumps(lists))
    detections = {
        name: np.concatenate([item.boxes, np.ones((len(item.boxes), 1))], axis=1)
        for name, item in read_lists(str(path)).items()
    }
    values = evaluate_wider_face(detections, str(path), 'silent')
    assert values == dict(easy_AP=1, medium_AP=1, hard_AP=1, mAP=1)


def test_the_mat_files_say_the_same_as_the_json(tmp_path):
    io = pytest.importorskip('scipy.io')
    lists, detections = scene(1)
    (tmp_path / 'lists.json').write_text(json.dumps(lists))
    names = np.empty((len(lists), 1), dtype=object)
    boxes, indices = names.copy(), {level: names.copy() for level in LEVELS}
    for row, (name, item) in enumerate(lists.items()):
        names[row, 0] = name
        boxes[row, 0] = np.array(item['boxes'], dtype=float).reshape(-1, 4)
        for level in LEVELS:
            indices[level][row, 0] = np.array(item[level]).reshape(-1, 1) + 1

    def of_one_event(cells):
        event = np.empty((1, 1), dtype=object)
        event[0, 0] = cells
        return event

    io.savemat(
        str(tmp_path / 'wider_face_val.mat'),
        dict(file_list=of_one_event(names), face_bbx_list=of_one_event(boxes)))
    for level in LEVELS:
        io.savemat(
            str(tmp_path / f'wider_{level}_val.mat'), dict(gt_list=of_one_event(indices[level])))
    of_json = evaluate_wider_face(detections, str(tmp_path / 'lists.json'), 'silent')
    assert evaluate_wider_face(detections, str(tmp_path), 'silent') == of_json


def test_images_that_were_not_predicted_lower_the_recall(tmp_path, capsys):
    lists = dict(
        a=dict(boxes=[[0, 0, 9, 9]], easy=[0], medium=[0], hard=[0]),
        b=dict(boxes=[[0, 0, 9, 9]], easy=[0], medium=[0], hard=[0]))
    (tmp_path / 'lists.json').write_text(json.dumps(lists))
    values = evaluate_wider_face(dict(a=np.array([[0, 0, 9, 9, 1.]])), str(tmp_path / 'lists.json'))
    assert values['mAP'] == .5
    assert '1 of 2 images' in capsys.readouterr().out
