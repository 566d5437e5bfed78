"""Figures of classifiers against counting by hand, and torch's topk."""
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.evaluation.classification import (confusion_matrix, evaluate_scores,
                                                precision_recall_f1, topk_accuracy)


def made(number, classes, seed):
    """Scores without ties, a third of them right, and labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, number)
    scores = draw.permuted(np.arange(1, number * classes + 1)).reshape(
        number, classes) / (1.1 * number * classes)
    scores[::3][np.arange(len(labels[::3])), labels[::3]] = .999
    return scores.astype(np.float32), labels


@settings(max_examples=50, deadline=None)
@given(
    number=st.integers(1, 40),
    classes=st.integers(2, 8),
    seed=st.integers(0, 999),
    k=st.integers(1, 10))
def test_topk_accuracy_is_torchs(number, classes, seed, k):
    scores, labels = made(number, classes, seed)
    best = torch.from_numpy(scores).topk(min(k, classes)).indices.numpy()
    right = [label in row for label, row in zip(labels, best)]
    assert topk_accuracy(scores, labels, [k], [0.])[0, 0] == pytest.approx(100 * np.mean(right))


@settings(max_examples=50, deadline=None)
@given(
    number=st.integers(1, 40),
    classes=st.integers(2, 6),
    seed=st.integers(0, 999),
    threshold=st.sampled_from([0., .5, .9]))
def test_precision_recall_and_f1_by_counting(number, classes, seed, threshold):
    scores, labels = made(number, classes, seed)
    taken = [int(row.argmax()) if row.max() > threshold else None for row in scores]
    ours = precision_recall_f1(scores, labels, threshold)
    for label in range(classes):
        right = sum(a == b == label for a, b in zip(taken, labels))
        precision = 100 * right / max(taken.count(label), 1)
        recall = 100 * right / max(list(labels).count(label), 1)
        f1 = 2 * precision * recall / (precision + recall) if right else 0
        assert [part[label] for part in ours] == pytest.approx([precision, recall, f1])


def test_confusion_matrix_has_the_truth_in_rows():
    scores = np.eye(3)[[0, 1, 1, 2]]
    assert confusion_matrix(scores, np.array([0, 0, 1, 1])).tolist() == [[1, 1, 0], [0, 1, 1],
                                                                         [0, 0, 0]]


def test_equal_scores_favour_the_first_class_and_nan_no_one():
    scores = np.array([[.5, .5], [.5, .5], [np.nan, np.nan]])
    assert topk_accuracy(scores, np.array([0, 1, 0]), [1], [0.])[0, 0] == pytest.approx(100 / 3)


def test_keys_and_scale_are_v2s():
    scores, labels = made(30, 6, 0)
    metrics = ['accuracy', 'precision', 'recall', 'f1_score', 'support']
    values = evaluate_scores(scores, labels, metrics)
    assert set(values) == {
        'accuracy_top-1', 'accuracy_top-5', 'support', 'precision', 'recall', 'f1_score'
    }
    assert all(isinstance(value, float) for value in values.values())
    assert values['accuracy_top-1'] > 30 and values['support'] == 30.
    assert set(evaluate_scores(scores, labels, 'accuracy', dict(topk=1))) == {'accuracy'}
    assert set(evaluate_scores(scores, labels, 'accuracy',
                               dict(topk=[1, 3]))) == {'accuracy_top-1', 'accuracy_top-3'}
    values = evaluate_scores(scores, labels, ['accuracy', 'recall'],
                             dict(topk=(1, ), thrs=(0., .95)))
    assert list(values) == [
        'accuracy_top-1_thr_0.00', 'accuracy_top-1_thr_0.95', 'recall_thr_0.00', 'recall_thr_0.95'
    ]
    assert values['accuracy_top-1_thr_0.00'] > values['accuracy_top-1_thr_0.95'] > 0


def test_figures_of_each_class_can_be_written_down():
    scores, labels = made(30, 6, 0)
    values = evaluate_scores(scores, labels, ['precision', 'support'], dict(average_mode='none'))
    assert values['support'] == np.bincount(labels, minlength=6).tolist()
    mean = evaluate_scores(scores, labels, 'precision')['precision']
    assert np.mean(values['precision']) == pytest.approx(mean)
    json.dumps(values)


def test_the_confusion_matrix_is_told_with_names(capsys):
    scores, labels = made(12, 2, 0)
    values = evaluate_scores(scores, labels, 'confusion_matrix', classes=('cat', 'dog'))
    out = capsys.readouterr().out
    assert sum(map(sum, values['confusion_matrix'])) == 12 and 'cat' in out and 'the truth' in out


@pytest.mark.parametrize('metric, options, message', [
    ('acuracy', None, "unknown metric 'acuracy'; there are accuracy, precision"),
    ('accuracy', dict(top=1), 'metric_options has no top; it knows topk, thrs, average_mode'),
    ('recall', dict(average_mode='micro'), "'macro' or 'none', not 'micro'"),
])
def test_a_wrong_option_is_told(metric, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_scores(np.eye(2), np.arange(2), metric, options)


def test_results_of_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match='2 results for 3 images'):
        evaluate_scores(np.eye(2), np.zeros(3, dtype=int))
