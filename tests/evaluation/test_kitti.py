"""KITTI's metric against the steps of the benchmark's program, and by hand."""
import numpy as np
import pytest

from mmdet_ft.evaluation.kitti import Objects, evaluate_kitti
from tests.reference.box_metrics import kitti_ap


def objects(*rows):
    """(name, box, truncated, occluded) each."""
    return Objects(
        names=np.array([row[0] for row in rows], dtype=str),
        boxes=np.array([row[1] for row in rows], dtype=float).reshape(-1, 4),
        truncated=np.array([row[2] for row in rows], dtype=float),
        occluded=np.array([row[3] for row in rows], dtype=int))


def result(*classes):
    return [np.array(boxes, dtype=np.float32).reshape(-1, 5) for boxes in classes]


def scene(seed, num_images=12):
    """Cars, vans, DontCare regions and noise; detections near them."""
    draw = np.random.default_rng(seed)
    truths, results = [], []
    for _ in range(num_images):
        rows, found = [], []
        for index in range(8):
            name = draw.choice(['Car', 'Car', 'Car', 'Van', 'DontCare', 'Pedestrian'])
            left, height = 100 * index, int(draw.integers(20, 60))
            box = (left, 0, left + int(draw.integers(40, 80)), height)
            known = (-1, -1) if name == 'DontCare' else (float(draw.choice([0, .2, .4])),
                                                         int(draw.integers(0, 4)))
            rows.append((name, box, *known))
            for _ in range(int(draw.integers(0, 3))):
                moved = np.array(box) + draw.normal(0, 2, 4)
                found.append([*moved, draw.random()])
        for _ in range(3):
            found.append([0, 100, 50, 100 + draw.integers(20, 60), draw.random()])
        truths.append(objects(*rows))
        results.append(result(found))
    return truths, results


LEVELS = dict(easy=(40, 0, .15), moderate=(25, 1, .3), hard=(25, 2, .5), all=(0, 3, 1))


@pytest.mark.parametrize('seed', range(4))
def test_ap_of_cars_equals_the_reference(seed):
    truths, results = scene(seed, num_images=40)
    values = evaluate_kitti(results, truths, ['Car'], logger='silent')
    for level, (min_height, occluded, truncated) in LEVELS.items():
        images = []
        for item, found in zip(truths, results):
            rows = list(
                zip(item.names.tolist(), item.boxes.tolist(), item.truncated, item.occluded))
            cars = [(box, name == 'Car' and cut <= truncated and hidden <= occluded
                     and box[3] - box[1] >= min_height) for name, box, cut, hidden in rows
                    if name in ('Car', 'Van')]
            regions = [box for name, box, _, _ in rows if name == 'DontCare']
            images.append((found[0].tolist(), cars, regions))
        num_truths = sum(counts for _, cars, _ in images for _, counts in cars)
        assert num_truths > 40 or level != 'all'
        if num_truths > 40:
            wanted = kitti_ap(images, .7, min_height)
            assert values[f'Car_{level}_AP'] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize('number', [1, 2, 5, 19, 40, 41, 100])
def test_all_found_is_one_whatever_their_number(number):
    truth = objects(*[('Car', (60 * index, 0, 60 * index + 50, 50), 0, 0)
                      for index in range(number)])
    found = result([[*box, 1] for box in truth.boxes.tolist()])
    values = evaluate_kitti([found], [truth], ['Car'], logger='silent')
    assert values == pytest.approx(dict.fromkeys(values, 1.0)) and len(values) == 8


def test_half_of_few_is_half():
    truth = objects(*[('Car', (60 * index, 0, 60 * index + 50, 50), 0, 0) for index in range(4)])
    found = result([[*box, .9 - index / 10] for index, box in enumerate(truth.boxes.tolist()[:2])])
    assert evaluate_kitti([found], [truth], ['Car'],
                          logger='silent')['moderate_mAP'] == pytest.approx(.5)


@pytest.mark.parametrize('extra, wrong', [
    (('DontCare', (0, 200, 300, 300), -1, -1), False),
    (('Van', (100, 210, 180, 260), 0, 0), False),
    (('Car', (100, 210, 180, 260), .9, 0), False),
    (('Pedestrian', (100, 210, 180, 260), 0, 0), True),
])
def test_what_is_ignored_is_not_wrong(extra, wrong):
    truth = objects(('Car', (0, 0, 80, 50), 0, 0), extra)
    found = result([[0, 0, 80, 50, .5], [100, 210, 180, 260, .9]])
    value = evaluate_kitti([found], [truth], ['Car'], logger='silent')['Car_moderate_AP']
    assert value == pytest.approx(.5 if wrong else 1)


def test_low_detections_are_not_wrong():
    truth = objects(('Car', (0, 0, 80, 50), 0, 0))
    found = result([[0, 0, 80, 50, .5], [100, 210, 180, 230, .9]])
    values = evaluate_kitti([found], [truth], ['Car'], logger='silent')
    assert values['Car_moderate_AP'] == 1 and values['Car_all_AP'] == .5


def test_pedestrians_need_half_and_cars_more(capsys):
    truth = objects(('Car', (0, 0, 100, 50), 0, 0), ('Pedestrian', (200, 0, 300, 50), 0, 0),
                    ('Truck', (400, 0, 500, 50), 0, 0))
    shifted = [[0, 0, 60, 50, .5]], [[200, 0, 260, 50, .5]], [[400, 0, 460, 50, .5]]
    names = ['Car', 'Pedestrian', 'Truck']
    values = evaluate_kitti([result(*shifted)], [truth], names)
    assert [values[f'{name}_easy_AP'] for name in names] == [0, 1, 1]
    table = capsys.readouterr().out
    assert [line.split('|')[-2].strip() for line in table.splitlines()
            if line.startswith('| ')] == ['IoU', '0.70', '0.50', '0.50']
    values = evaluate_kitti([result(*shifted)], [truth], names, dict(Truck=.7), logger='silent')
    assert values['Truck_easy_AP'] == 0


def test_labels_that_do_not_say_how_occluded_count_at_level_all_alone(capsys):
    truth = objects(('Car', (0, 0, 80, 50), 0, 3))
    values = evaluate_kitti([result([[0, 0, 80, 50, .5]])], [truth], ['Car'])
    assert values == dict(all_mAP=1, Car_all_AP=1)
    assert 'occluded 3 means not known' in capsys.readouterr().out


def test_without_a_truth_the_means_are_minus_one_and_said_to_be_undefined(capsys):
    found = [result([[0, 0, 50, 50, .9]])]
    values = evaluate_kitti(found, [objects(('DontCare', (0, 0, 50, 50), -1, -1))], ['Car'])
    assert list(values) == ['moderate_mAP', 'easy_mAP', 'hard_mAP', 'all_mAP']
    assert set(values.values()) == {-1}
    assert 'AP is not defined' in capsys.readouterr().out
