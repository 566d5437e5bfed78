"""VOC's mean average precision against a reference that walks one detection at a time."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.evaluation.mean_ap import average_precision, eval_map, evaluate_map, match_detections
from mmdet_ft.evaluation.recall import evaluate_recall
from tests.reference.box_metrics import voc_ap


def boxes(draw, number, size=40):
    corner = draw.integers(0, size, (number, 2))
    return np.concatenate([corner, corner + draw.integers(2, size, (number, 2))], axis=1)


def scene(seed, num_images=4, num_classes=3):
    """Results and annotations: truths moved a little, and noise; every score but once."""
    draw = np.random.default_rng(seed)
    results, annotations = [], []
    for _ in range(num_images):
        truths, ignored = (boxes(draw, int(draw.integers(0, 7))) for _ in range(2))
        labels, labels_ignore = (
            draw.integers(0, num_classes, len(part)) for part in (truths, ignored))
        annotations.append(
            dict(
                bboxes=truths.astype(np.float32),
                labels=labels,
                bboxes_ignore=ignored.astype(np.float32),
                labels_ignore=labels_ignore))
        result = []
        for label in range(num_classes):
            near = np.concatenate([truths[labels == label], ignored[labels_ignore == label]])
            near = np.repeat(near, 2, axis=0) + draw.integers(-3, 4, (2 * len(near), 4))
            found = np.concatenate([near, boxes(draw, 2)])
            scores = draw.random((len(found), 1))
            result.append(np.concatenate([found, scores], axis=1).astype(np.float32))
        results.append(result)
    return results, annotations


def reference(results, annotations, label, iou_thr, eleven_points, extra, **limits):
    images = [(result[label].tolist(), annotation['bboxes'][annotation['labels'] == label].tolist(),
               annotation['bboxes_ignore'][annotation['labels_ignore'] == label].tolist())
              for result, annotation in zip(results, annotations)]
    return voc_ap(images, iou_thr, eleven_points, extra, **limits)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([.3, .5, .75]), st.booleans(), st.booleans())
def test_ap_equals_the_reference(seed, iou_thr, eleven_points, legacy):
    results, annotations = scene(seed)
    mean, found = eval_map(
        results,
        annotations,
        'abc',
        iou_thr=iou_thr,
        mode='11points' if eleven_points else 'area',
        use_legacy_coordinate=legacy,
        logger='silent')
    wanted = [
        reference(results, annotations, label, iou_thr, eleven_points, int(legacy))
        for label in range(3)
    ]
    for result, value in zip(found, wanted):
        if value is None:
            assert result.num_gts == 0
        else:
            assert result.ap[0] == pytest.approx(value, abs=1e-5)
    known = [value for value in wanted if value is not None]
    assert mean == pytest.approx(np.mean(known) if known else 0, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_ranges_of_size_equal_the_reference(seed):
    results, annotations = scene(seed)
    ranges = [(0, 16), (16, 32), (32, 100)]
    means, found = eval_map(results, annotations, 'abc', scale_ranges=ranges, logger='silent')
    for index, (low, high) in enumerate(ranges):
        wanted = [
            reference(results, annotations, label, .5, False, 0, low=low**2, high=high**2)
            for label in range(3)
        ]
        known = [value for value in wanted if value is not None]
        assert means[index] == pytest.approx(np.mean(known) if known else 0, abs=1e-5)
        assert [result.num_gts[index] > 0
                for result in found] == [value is not None for value in wanted]


def test_difficult_objects_are_neither_right_nor_wrong():
    detections = np.array([[0, 0, 9, 9, .9], [0, 0, 9, 9, .8], [50, 50, 59, 59, .7]], np.float32)
    difficult = np.array([[0, 0, 9, 9]], dtype=np.float32)
    truth = np.array([[50, 50, 59, 59]], dtype=np.float32)
    true, false = match_detections(detections, truth, difficult)
    assert true.tolist() == [[False, False, True]] and not false.any()
    true, false = match_detections(detections, difficult, truth)
    assert true.tolist() == [[True, False, False]]  # a second find of the same object is wrong
    assert false.tolist() == [[False, True, False]]


def test_the_pixel_at_the_end_counts_in_voc():
    detection = np.array([[0, 0, 9, 4, 1]], dtype=np.float32)
    truth = np.array([[0, 0, 9, 9]], dtype=np.float32)
    none = np.zeros((0, 4), dtype=np.float32)
    assert match_detections(
        detection, truth, none, use_legacy_coordinate=True)[0].all()  # 50 of 100
    assert not match_detections(detection, truth, none)[0].any()  # 36 of 81


def test_eleven_points_and_area_by_hand():
    recall, precision = np.array([.5, .5, 1]), np.array([1, .5, 2 / 3])
    assert average_precision(recall, precision) == pytest.approx(.5 * 1 + .5 * 2 / 3)
    assert average_precision(recall, precision, '11points') == pytest.approx(
        (6 * 1 + 5 * 2 / 3) / 11)
    with pytest.raises(ValueError, match="'area' or '11points'"):
        average_precision(recall, precision, '11point')


def test_the_table_has_v2s_columns(capsys):
    results, annotations = scene(3)
    mean, _ = eval_map(results, annotations, ['ant', 'bee', 'cat'])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line]
    assert rows[0] == ['class', 'gts', 'dets', 'recall', 'ap']
    assert [row[0] for row in rows if len(row) == 5][1:] == ['ant', 'bee', 'cat', 'mAP']
    assert rows[-1][-1] == f'{mean:.3f}'


def test_results_of_another_number_of_classes_are_refused():
    results, annotations = scene(0)
    with pytest.raises(ValueError, match='results of 3 classes for a dataset of 2'):
        eval_map(results, annotations, 'ab', logger='silent')
    with pytest.raises(ValueError, match='3 results for 4 images'):
        eval_map(results[:3], annotations, 'abc', logger='silent')


def test_no_detection_at_all_is_zero():
    _, annotations = scene(1)
    empty = [[np.zeros((0, 5), dtype=np.float32)] * 3 for _ in annotations]
    mean, found = eval_map(empty, annotations, 'abc', logger='silent')
    assert mean == 0 and all(result.num_dets == 0 for result in found)


def test_without_a_truth_every_figure_is_minus_one_and_said_to_be_undefined(capsys):
    results, annotations = scene(1)
    none = [
        dict(annotation, bboxes=annotation['bboxes'][:0], labels=annotation['labels'][:0])
        for annotation in annotations
    ]
    values = evaluate_map(results, none, 'abc', [.5, .75], [(0, 16), (16, 99)], 'area', False, None)
    assert set(values) == {
        'AP50', 'AP50_0_16', 'AP50_16_99', 'AP75', 'AP75_0_16', 'AP75_16_99', 'mAP'
    }
    assert set(values.values()) == {-1}
    assert 'no object to find: AP is not defined, and reported as -1' in capsys.readouterr().out
    assert evaluate_recall(results, none, [100], [.5, .75]) == {
        'recall@100@0.5': -1,
        'recall@100@0.75': -1,
        'AR@100': -1
    }
    values = evaluate_map(results, [*none[1:], annotations[0]], 'abc', [.5], None, 'area', False,
                          'silent')
    assert 0 <= values['mAP'] <= 1
