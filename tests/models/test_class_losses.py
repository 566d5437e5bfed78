"""Losses of classification against their formulas, one number at a time."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.models.classification_defaults import build_for_classification
from mmdet_ft.models.heads.cls_head import ClsHead, MultiLabelClsHead
from mmdet_ft.models.losses.entropy import CrossEntropyLoss
from mmdet_ft.models.losses.focal import FocalLoss
from mmdet_ft.models.losses.label_smooth import LabelSmoothLoss
from mmdet_ft.registry import MODELS
from tests.reference.losses import focal, sigmoid_entropy, softmax_entropy
from tools.benchmarks.no_sync import NoSync

N, K = 6, 4


def draw(seed=0):
    """Logits, whole labels and shares of rows."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, K, generator=generator) * 3
    labels = torch.randint(0, K, (N, ), generator=generator)
    return logits, labels, torch.rand(N, K, generator=generator).softmax(1)


def soft(logits, shares):
    return sum(share * softmax_entropy(logits, k) for k, share in enumerate(shares))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), weighted=st.booleans())
def test_soft_cross_entropy_is_the_sum_over_the_shares(seed, weighted):
    logits, _, shares = draw(seed)
    weight = torch.rand(N) if weighted else None
    loss = CrossEntropyLoss(use_soft=True)(logits, shares, weight, avg_factor=N)
    rows = [soft(*row) for row in zip(logits.tolist(), shares.tolist())]
    if weighted:
        rows = [row * factor for row, factor in zip(rows, weight.tolist())]
    assert loss.item() == pytest.approx(sum(rows) / N, rel=1e-4, abs=1e-6)


def test_a_whole_label_is_a_share_of_one():
    logits, labels, _ = draw()
    for settled in (CrossEntropyLoss(use_soft=True), LabelSmoothLoss(0.)):
        assert torch.allclose(settled(logits, labels), CrossEntropyLoss()(logits, labels))
    one_hot = torch.eye(K)[labels]
    for loss in (CrossEntropyLoss(use_soft=True), LabelSmoothLoss(.1), FocalLoss(),
                 LabelSmoothLoss(.1, mode='multi_label'), CrossEntropyLoss(use_sigmoid=True)):
        assert torch.allclose(loss(logits, labels), loss(logits, one_hot)), loss


@pytest.mark.parametrize('mode', ['original', 'classy_vision', 'multi_label'])
def test_labels_are_smoothed_as_the_mode_says(mode):
    logits, labels, _ = draw()
    share, total = .1, 0.
    for row, label in zip(logits.tolist(), labels.tolist()):
        for k in range(K):
            hit = float(k == label)
            if mode == 'multi_label':
                total += sigmoid_entropy(row[k], 1 - share if hit else share)
            else:
                target = ((1 - share) * hit + share / K if mode == 'original' else
                          (hit + share / K) / (1 + share))
                total += target * softmax_entropy(row, k)
    loss = LabelSmoothLoss(share, mode=mode, loss_weight=2.)(logits, labels, avg_factor=N)
    assert loss.item() == pytest.approx(2 * total / N, rel=1e-4)


def test_class_weights_of_shares_weigh_each_class():
    logits, _, shares = draw()
    factors = [.5, 1., 2., 3.]
    expected = sum(share * factor * softmax_entropy(row, k)
                   for row, line in zip(logits.tolist(), shares.tolist())
                   for k, (share, factor) in enumerate(zip(line, factors)))
    loss = CrossEntropyLoss(use_soft=True, class_weight=factors)(logits, shares, avg_factor=N)
    assert loss.item() == pytest.approx(expected / N, rel=1e-4)


@pytest.mark.parametrize('whole', [True, False])
def test_class_weights_of_a_classifiers_sigmoid_are_for_negatives_too(whole):
    logits, labels, _ = draw()
    config = dict(
        type='CrossEntropyLoss',
        use_sigmoid=True,
        class_weight=[.5, 1., 2., 3.],
        pos_weight=[1., 2., 1., .5])
    expected = sum(
        factor * sigmoid_entropy(x, float(k == label), positive)
        for row, label in zip(logits.tolist(), labels.tolist())
        for k, (x, factor,
                positive) in enumerate(zip(row, config['class_weight'], config['pos_weight'])))
    labels = labels if whole else torch.eye(K)[labels]
    loss = build_for_classification(config)(logits, labels, avg_factor=N)
    assert loss.item() == pytest.approx(expected / N, rel=1e-4)
    detection = MODELS.build(dict(config, pos_weight=None))(logits, labels, avg_factor=N)
    positives = sum(
        sigmoid_entropy(x, float(k == label), factor)
        for row, label in zip(logits.tolist(),
                              draw()[1].tolist())
        for k, (x, factor) in enumerate(zip(row, config['class_weight'])))
    assert detection.item() == pytest.approx(positives / N, rel=1e-4)


def test_focal_loss_takes_several_labels():
    logits = draw()[0]
    labels = (torch.rand(N, K) > .5).float()
    expected = sum(
        focal(x, y > 0, 2., .25) for row, line in zip(logits.tolist(), labels.tolist())
        for x, y in zip(row, line))
    assert FocalLoss()(logits, labels, avg_factor=N).item() == pytest.approx(expected / N, rel=1e-4)


@pytest.mark.parametrize('garbage', [math.nan, math.inf, 1e30])
@pytest.mark.parametrize('loss', [CrossEntropyLoss(use_soft=True), LabelSmoothLoss(.1)])
def test_garbage_of_weight_zero_is_not_seen(loss, garbage):
    logits, labels, _ = draw()
    weight = torch.ones(N)
    weight[2] = 0
    results = []
    for value in (0., garbage):
        pred = logits.clone()
        pred[2] = value
        pred.requires_grad_()
        value = loss(pred, labels, weight, avg_factor=N)
        value.backward()
        results.append((value.detach(), pred.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1]) and (results[1][1][2] == 0).all()


@pytest.mark.parametrize('loss', [
    CrossEntropyLoss(use_soft=True, class_weight=[1., 2., 3., 4.]),
    LabelSmoothLoss(.1),
    LabelSmoothLoss(.1, mode='multi_label'),
    FocalLoss()
])
def test_no_loss_waits_for_the_device(loss):
    logits, labels, shares = draw()
    with NoSync():
        loss(logits.requires_grad_(), labels, avg_factor=N).backward()
        loss(logits, shares, avg_factor=N)


@pytest.mark.parametrize('make, message', [
    (lambda: LabelSmoothLoss(1.), 'label_smooth_val is 1.0'),
    (lambda: LabelSmoothLoss(.1, mode='keras'), "mode is 'keras'"),
    (lambda: LabelSmoothLoss(.1, reduction='max'), "reduction is 'max'"),
    (lambda: LabelSmoothLoss(.1, num_classes=3)(*draw()[:2]), 'but the head has 4'),
    (lambda: CrossEntropyLoss(use_soft=True, use_sigmoid=True), 'use_soft is a softmax'),
])
def test_settings_that_mean_nothing_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_a_loss_of_each_image_is_averaged_by_the_head(use_sigmoid):
    logits, labels, shares = draw()
    kind, truth = (MultiLabelClsHead, shares) if use_sigmoid else (ClsHead, labels)
    each = kind(loss=dict(type='CrossEntropyLoss', use_sigmoid=use_sigmoid, reduction='none'))
    loss = each.loss(logits, truth).total
    assert loss.shape == ()
    expected = each.compute_loss(logits, truth).mean()
    torch.testing.assert_close(loss, expected)
