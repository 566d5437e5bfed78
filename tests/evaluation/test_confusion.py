"""What a detector takes for what."""
import numpy as np

from mmdet_ft.evaluation.confusion import detection_confusion, rates
from mmdet_ft.evaluation.recall import pairwise_iou


def slowly(results, annotations, num_classes, score_thr, iou_thr):
    """One detection and one truth at a time."""
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for classes, annotation in zip(results, annotations):
        found = sorted(((row[4], label, row) for label, rows in enumerate(classes)
                        for row in rows if row[4] >= score_thr),
                       key=lambda one: -one[0])
        free = dict(enumerate(annotation['labels']))

        def near(row, indices):
            iou = {
                index: pairwise_iou(row[None], annotation['bboxes'][index][None])[0, 0]
                for index in indices
            }
            return {index: value for index, value in iou.items() if value >= iou_thr}

        left = []
        for score, label, row in found:
            own = near(row, [index for index in free if free[index] == label])
            if own:
                matrix[free.pop(max(own, key=own.get)), label] += 1
            else:
                left.append((label, row))
        pairs = sorted(((iou, number, index) for number, (_, row) in enumerate(left)
                        for index, iou in near(row, free).items()),
                       reverse=True)
        used = set()
        for _, number, index in pairs:
            if number not in used and index in free:
                used.add(number)
                matrix[free.pop(index), left[number][0]] += 1
        for number, (label, _) in enumerate(left):
            matrix[num_classes, label] += number not in used
        for label in free.values():
            matrix[label, num_classes] += 1
    return matrix


def test_confusion_is_counted_as_by_hand():
    random = np.random.default_rng(0)

    def boxes(count):
        corner = random.uniform(0, 30, (count, 2))
        return np.concatenate([corner, corner + random.uniform(10, 30, (count, 2))], 1)

    annotations = [
        dict(bboxes=boxes(count), labels=random.integers(0, 3, count)) for count in (0, 1, 5, 9)
    ]
    results = [[
        np.concatenate([boxes(count), random.uniform(0, 1, (count, 1))], 1)
        for count in random.integers(0, 6, 3)
    ] for _ in annotations]
    for score_thr, iou_thr in ((0., .3), (.3, .5), (.9, .2)):
        expected = slowly(results, annotations, 3, score_thr, iou_thr)
        assert np.array_equal(
            detection_confusion(results, annotations, 3, score_thr, iou_thr), expected)
        truths = np.bincount(np.concatenate([one['labels'] for one in annotations]), minlength=3)
        assert np.array_equal(expected[:3].sum(1), truths)  # each truth once
        assert expected.sum() > 10


def test_a_box_taken_for_another_class_counts_once():
    result = [np.zeros((0, 5)), np.array([[0, 0, 10, 10, .9]])]
    matrix = detection_confusion([(result, None)],
                                 [dict(bboxes=np.array([[0, 0, 10, 11.]]), labels=np.array([0]))],
                                 2)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_a_truth_that_is_met_twice_counts_once():
    boxes = np.array([[0, 0, 10, 10, .9], [0, 0, 10, 10.5, .8]])
    matrix = detection_confusion([[boxes, np.array([[0, 0, 10, 10, .95]])]],
                                 [dict(bboxes=np.array([[0, 0, 10, 10.]]), labels=np.array([0]))],
                                 2)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_masks_are_compared_where_there_are_masks():
    """Two halves of one box: the boxes agree, the masks do not."""
    left, right = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    left[:, :5], right[:, 5:] = True, True
    result = [np.array([[0, 0, 10, 10, .9]])], [[left]]
    truth = dict(bboxes=np.array([[0, 0, 10, 10.]]), labels=np.array([0]))
    assert detection_confusion([result], [truth], 1).tolist() == [[1, 0], [0, 0]]
    for mask, expected in ((left, [[1, 0], [0, 0]]), (right, [[0, 1], [1, 0]])):
        assert detection_confusion([result], [dict(truth, masks=[mask])], 1).tolist() == expected
    none = dict(bboxes=np.zeros((0, 4)), labels=np.zeros(0, int), masks=[])
    assert detection_confusion([result], [none], 1).tolist() == [[0, 0], [1, 0]]


def test_rates_are_those_of_the_table():
    one, other, every = rates(np.array([[6, 1, 3], [0, 0, 0], [2, 0, 0]]))
    assert np.allclose(one, (10, 8, .75, .6, 2 / 3))
    assert other == (0, 1, 0, 0, 0)
    assert np.allclose(every, (10, 9, 6 / 9, .6, 12 / 19))
