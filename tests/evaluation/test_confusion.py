"""What a detector takes for what."""
import numpy as np

from mmdet_ft.evaluation.confusion import detection_confusion
from mmdet_ft.evaluation.recall import pairwise_iou


def slowly(results, annotations, num_classes, score_thr, iou_thr):
    """One detection and one truth at a time."""
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for classes, annotation in zip(results, annotations):
        found = set()
        for label, rows in enumerate(classes):
            for row in rows:
                if row[4] < score_thr:
                    continue
                met = 0
                for place, box in enumerate(annotation['bboxes']):
                    if pairwise_iou(row[None], box[None])[0, 0] >= iou_thr:
                        matrix[annotation['labels'][place], label] += 1
                        met += 1
                        if annotation['labels'][place] == label:
                            found.add(place)
                if not met:
                    matrix[num_classes, label] += 1
        for place, label in enumerate(annotation['labels']):
            if place not in found:
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
        assert expected.sum() > 10


def test_a_box_taken_for_another_class_counts_for_both():
    result = [np.zeros((0, 5)), np.array([[0, 0, 10, 10, .9]])]
    matrix = detection_confusion([(result, None)],
                                 [dict(bboxes=np.array([[0, 0, 10, 11.]]), labels=np.array([0]))],
                                 2)
    assert matrix.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
