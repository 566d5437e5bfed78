"""Seesaw loss and normed predictors: formulas, padding, counts, and what follows the number of classes."""
import math

import pytest
import torch
from mmcv.cnn import build_conv_layer

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.models.losses.entropy import cross_entropy
from mmdet_ft.models.losses.seesaw import SeesawLoss, seesaw_cross_entropy
from mmdet_ft.models.normed_layers import NormedConv2d, NormedLinear
from mmdet_ft.parts import find_prediction_layers, rows_of
from mmdet_ft.registry import MODELS
from tests.reference.losses import seesaw
from tools.benchmarks.no_sync import NoSync

K = 4
SEESAW = dict(type='SeesawLoss', num_classes=K)
NORMED = dict(type='NormedLinear', tempearture=20)


def draw(number=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, K + 2, generator=generator) * 3
    return logits, torch.randint(0, K + 1, (number, ), generator=generator)


def head(num_classes=K, **settings):
    return MODELS.build(
        dict(
            type='Shared2FCBBoxHead',
            in_channels=2,
            fc_out_channels=8,
            roi_feat_size=3,
            num_classes=num_classes,
            cls_predictor_cfg=NORMED,
            loss_cls=dict(SEESAW, num_classes=num_classes),
            **settings))


@pytest.mark.parametrize('p, q, eps', [(.8, 2., 1e-2), (0., 2., .3), (.8, 0., 1e-2), (1.5, 1., .5)])
def test_each_row_equals_the_formula(p, q, eps):
    logits, labels = draw(20)
    labels = labels.clamp(max=K - 1)
    counts = torch.tensor([0., 1., 40., 700.])
    found = seesaw_cross_entropy(logits[:, :K], labels, counts, p, q, eps)
    expected = [
        seesaw(row, label, counts.tolist(), p, q, eps)
        for row, label in zip(logits[:, :K].tolist(), labels.tolist())
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_both_losses_are_averages_and_labels_are_counted_first():
    logits, labels = draw()
    loss = SeesawLoss(num_classes=K, loss_weight=2.)
    found = loss(logits, labels, avg_factor=9)
    counts = torch.bincount(labels, minlength=K + 1)
    assert torch.equal(loss.cum_samples, counts.float())
    rows = [
        seesaw(row, label, counts.tolist(), .8, 2., 1e-2)
        for row, label in zip(logits[:, :K].tolist(), labels.tolist()) if label < K
    ]
    assert found['loss_cls_classes'].item() == pytest.approx(2 * sum(rows) / 9, rel=1e-5)
    objectness = 2 * cross_entropy(logits[:, K:], (labels == K).long())
    assert found['loss_cls_objectness'].item() == pytest.approx(objectness.item(), rel=1e-5)
    loss.cum_samples.zero_()
    loss.return_dict = False
    assert loss(
        logits, labels, avg_factor=9).item() == pytest.approx(
            sum(found.values()).item(), rel=1e-6)


def test_rows_of_weight_zero_have_no_part_and_are_not_counted():
    logits, labels = draw()
    weight = torch.ones(12)
    weight[9:] = 0
    padded = torch.cat([logits, torch.full((3, K + 2), math.nan)]).requires_grad_()
    loss = SeesawLoss(num_classes=K)
    found = loss(padded, torch.cat([labels, torch.full((3, ), K)]), weight, avg_factor=9)
    alone = SeesawLoss(num_classes=K)
    expected = alone(logits, labels, avg_factor=9)
    assert {
        name: value.item()
        for name, value in found.items()
    } == pytest.approx({
        name: value.item()
        for name, value in expected.items()
    }, rel=1e-6)
    assert torch.equal(loss.cum_samples, alone.cum_samples)
    sum(found.values()).backward()
    assert padded.grad.isfinite().all() and not padded.grad[9:].any()


def test_without_objects_the_loss_of_classes_is_zero_with_a_slope():
    logits = draw()[0].requires_grad_()
    found = SeesawLoss(num_classes=K)(logits, torch.full((9, ), K), avg_factor=9)
    assert found['loss_cls_classes'] == 0 and found['loss_cls_objectness'] > 0
    sum(found.values()).backward()
    assert not logits.grad[:, :K].any()


def test_ranking_regions_counts_nothing():
    logits, labels = draw()
    loss = SeesawLoss(num_classes=K)
    found = loss(logits, labels, reduction_override='none')
    assert not loss.cum_samples.any() and {len(value) for value in found.values()} == {9}


def test_probabilities_are_a_distribution_of_the_classes_and_the_background():
    logits, labels = draw()
    found = SeesawLoss(num_classes=K).get_activation(logits)
    assert found.shape == (9, K + 1) and torch.allclose(found.sum(1), torch.ones(9))
    objects = logits[:, K:].softmax(1)[:, :1]
    assert torch.allclose(found[:, :K], logits[:, :K].softmax(1) * objects)


def test_accuracies_of_objects_and_of_their_classes():
    logits = torch.full((4, K + 2), -9.)
    for row, (column, objectness) in enumerate([(1, 4), (2, 4), (0, 5), (3, 5)]):
        logits[row, [column, objectness]] = 9.
    found = SeesawLoss(num_classes=K).get_accuracy(logits, torch.tensor([1, 3, K, 0]))
    assert {
        name: round(value.item(), 3)
        for name, value in found.items()
    } == dict(
        acc_objectness=75., acc_classes=33.333)
    valid = torch.tensor([True, False, False, False])
    assert {
        value.item()
        for value in SeesawLoss(
            num_classes=K).get_accuracy(logits, torch.tensor([1, 3, K, 0]), valid).values()
    } == {100.}


@pytest.mark.parametrize('settings, message', [
    (dict(use_sigmoid=True), 'use_sigmoid=False'),
    (dict(num_classes=80),
     r'num_classes=80, and its head has 4; write loss_cls=dict\(num_classes=4\)'),
])
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(
            dict(
                type='Shared2FCBBoxHead',
                in_channels=2,
                num_classes=K,
                loss_cls=dict(SEESAW, **settings)))


def test_a_step_does_not_wait_for_the_device():
    logits, labels = draw()
    loss, factor = SeesawLoss(num_classes=K), torch.tensor(9.)
    with NoSync():
        found = loss(logits.requires_grad_(), labels, torch.ones(9), avg_factor=factor)
        loss.get_accuracy(logits, labels)
        sum(found.values()).backward()


@pytest.mark.parametrize('power', [1., .5])
def test_normed_layers_compare_directions(power):
    torch.manual_seed(0)
    layer = NormedLinear(5, 3, tempearture=7, power=power)
    x = torch.randn(4, 5)
    expected = [[
        7 * sum(a * b
                for a, b in zip(row, column)) / math.hypot(*row)**power / math.hypot(*column)**power
        for column in layer.weight.tolist()
    ] for row in x.tolist()]
    assert torch.allclose(layer(x), torch.tensor(expected), rtol=1e-3)
    conv = NormedConv2d(5, 3, 1, tempearture=7, power=power)
    with torch.no_grad():
        conv.weight.copy_(layer.weight[..., None, None])
        conv.bias.zero_()
    maps = x[:, :, None, None].expand(-1, -1, 2, 3)
    assert torch.allclose(conv(maps)[:, :, 1, 2], layer(x), atol=1e-5)
    wide = build_conv_layer(dict(type='NormedConv2d', norm_over_kernel=True), 5, 3, 3, padding=1)
    norms = wide.weight.flatten(1).norm(dim=1)
    plain = torch.conv2d(20 * maps / maps.norm(dim=1, keepdim=True),
                         wide.weight / norms[:, None, None, None], wide.bias, 1, 1)
    assert torch.allclose(wide(maps), plain, atol=1e-3)


def test_the_classes_of_a_checkpoint_keep_their_rows_and_counts(tmp_path):
    """Of old classes a, b, c, d the new ones c, x, a take rows 2 and 0; object and background stay."""
    old, new = head(), head(3)
    torch.nn.init.normal_(old.fc_cls.weight)
    old.loss_cls.cum_samples.copy_(torch.arange(5.) + 1)
    torch.save(
        dict(state_dict=old.state_dict(), meta=dict(CLASSES=('a', 'b', 'c', 'd'))),
        tmp_path / 'old.pth')
    new.CLASSES = ('c', 'x', 'a')
    start = new.fc_cls.weight[1].clone()
    fit(new, read(str(tmp_path / 'old.pth')), heads='by_class')
    assert torch.equal(new.fc_cls.weight[[0, 2, 3, 4]], old.fc_cls.weight[[2, 0, 4, 5]])
    assert torch.equal(new.fc_cls.weight[1], start)
    assert new.loss_cls.cum_samples.tolist() == [3, 0, 1, 5]


def test_the_layers_that_follow_the_classes_are_named():
    layers = find_prediction_layers(head())
    assert rows_of('fc_cls.weight', layers).background == 2
    assert rows_of('loss_cls.cum_samples', layers).background == 1
    assert rows_of('fc_cls_more.weight', layers) is None
