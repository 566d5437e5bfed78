import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.models.losses.entropy import CrossEntropyLoss
from mmdet_ft.models.losses.focal import FocalLoss, plain_focal_loss, sigmoid_focal_loss
from mmdet_ft.models.losses.iou import BoundedIoULoss, CIoULoss, DIoULoss, GIoULoss, IoULoss
from mmdet_ft.models.losses.reduction import masked, weight_reduce_loss
from mmdet_ft.models.losses.smooth_l1 import L1Loss, MSELoss, SmoothL1Loss
from mmdet_ft.models.losses.top_k_accuracy import Accuracy, accuracy
from mmdet_ft.registry import MODELS
from tests.reference import losses as reference
from tools.benchmarks.no_sync import NoSync

GARBAGE = [float('nan'), float('inf'), -float('inf'), 1e30]
N, C = 7, 5


def draw(kind: str, seed: int = 0):
    """(prediction, target) of N rows."""
    generator = torch.Generator().manual_seed(seed)
    if kind == 'boxes':
        corner = torch.rand(N, 2, generator=generator) * 20
        pred = torch.cat([corner, corner + 5 + torch.rand(N, 2, generator=generator) * 20], -1)
        target = pred + torch.rand(N, 4, generator=generator) * 4
        target[0] = pred[0] + 100  # apart
        return pred, target
    if kind == 'numbers':
        return torch.randn(N, 4, generator=generator) * 2, torch.randn(N, 4, generator=generator)
    if kind == 'masks':
        return torch.randn(
            N, 6, 6, generator=generator), (torch.rand(N, 6, 6, generator=generator) > .5).float()
    pred = torch.randn(N, C, generator=generator) * 3
    background = int(kind == 'background')
    return pred, torch.randint(0, C + background, (N, ), generator=generator)


# name: loss, kind of input, the reference's rows of one number each.
CASES = {
    'softmax': (CrossEntropyLoss(), 'classes', lambda p, t: [[reference.softmax_entropy(p, t)]]),
    'sigmoid':
    (CrossEntropyLoss(use_sigmoid=True), 'background',
     lambda p, t: [[reference.sigmoid_entropy(x, float(i == t)) for i, x in enumerate(p)]]),
    'focal': (FocalLoss(gamma=1.5, alpha=.3), 'background',
              lambda p, t: [[reference.focal(x, i == t, 1.5, .3) for i, x in enumerate(p)]]),
    'l1': (L1Loss(), 'numbers', lambda p, t: [[abs(a - b) for a, b in zip(p, t)]]),
    'smooth_l1': (SmoothL1Loss(beta=.7), 'numbers',
                  lambda p, t: [[reference.smooth_l1(a - b, .7) for a, b in zip(p, t)]]),
    'mse': (MSELoss(), 'numbers', lambda p, t: [[(a - b)**2 for a, b in zip(p, t)]]),
    'iou_log': (IoULoss(), 'boxes', lambda p, t: [[reference.iou_loss(p, t)]]),
    'iou_linear':
    (IoULoss(mode='linear'), 'boxes', lambda p, t: [[reference.iou_loss(p, t, 'linear')]]),
    'iou_square':
    (IoULoss(mode='square'), 'boxes', lambda p, t: [[reference.iou_loss(p, t, 'square')]]),
    'giou': (GIoULoss(), 'boxes', lambda p, t: [[reference.giou_loss(p, t)]]),
    'diou': (DIoULoss(), 'boxes', lambda p, t: [[reference.diou_loss(p, t)]]),
    'ciou': (CIoULoss(), 'boxes', lambda p, t: [[reference.ciou_loss(p, t)]]),
    'bounded_iou': (BoundedIoULoss(), 'boxes', lambda p, t: [reference.bounded_iou_loss(p, t)]),
}
cases = pytest.mark.parametrize('name', CASES)


@cases
@pytest.mark.parametrize('weighted, avg_factor, reduction', [
    (False, None, 'mean'),
    (False, None, 'sum'),
    (False, 3., 'mean'),
    (True, None, 'mean'),
    (True, None, 'sum'),
    (True, 3., 'mean'),
    (True, 0., 'mean'),
])
def test_loss_equals_its_formula(name, weighted, avg_factor, reduction):
    loss, kind, formula = CASES[name]
    pred, target = draw(kind)
    weight = torch.tensor([0., 1., .5, 0., 2., 1., 1.]) if weighted else None
    rows = [formula(p, t)[0] for p, t in zip(pred.tolist(), target.tolist())]
    weights = [[w] * len(row) for w, row in zip(weight.tolist(), rows)] if weighted else None
    expected = reference.average(
        list(itertools.chain(*rows)), weights and list(itertools.chain(*weights)), avg_factor,
        reduction)
    value = loss(pred, target, weight, avg_factor=avg_factor, reduction_override=reduction)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=2e-5, abs=1e-6)


@cases
def test_average_of_a_tensor_is_that_of_a_number(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    assert loss(
        pred, target, avg_factor=torch.tensor(3)).item() == loss(
            pred, target, avg_factor=3).item()


@cases
def test_loss_weight_scales_and_none_keeps_elements(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    settings_ = {
        key: getattr(loss, key)
        for key in ('use_sigmoid', 'gamma', 'alpha', 'beta', 'mode') if hasattr(loss, key)
    }
    double = type(loss)(loss_weight=2., **settings_)
    elements = loss(pred, target, reduction_override='none')
    assert elements.shape[0] == N
    assert torch.allclose(double(pred, target), 2 * elements.mean())


@cases
@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_of_weight_zero_is_not_seen(name, garbage):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    weight = torch.tensor([1., 0., 1., 0., 1., 1., 0.])
    clean = pred.clone().requires_grad_()
    expected = loss(clean, target, weight, avg_factor=4)
    expected.backward()
    absent = weight == 0
    dirty = pred.clone()
    dirty[absent] = garbage
    target = target.clone()
    target[absent] = garbage if target.is_floating_point() else -77
    dirty.requires_grad_()
    value = loss(dirty, target, weight, avg_factor=4)
    value.backward()
    assert value.item() == expected.item()
    assert torch.equal(dirty.grad, clean.grad)
    assert (dirty.grad[absent] == 0).all()


@cases
def test_all_weights_zero_give_zero_and_no_gradient(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    pred.requires_grad_()
    value = loss(pred, target, torch.zeros(N), avg_factor=torch.tensor(0.))
    value.backward()
    assert value.item() == 0 and (pred.grad == 0).all()


@cases
def test_no_rows_give_zero(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    pred = pred[:0].requires_grad_()
    value = loss(pred, target[:0], torch.zeros(0))
    value.backward()
    assert value.item() == 0 and pred.grad.shape == pred.shape


@cases
def test_no_loss_waits_for_the_device(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    weight, avg_factor = torch.ones(N), torch.tensor(5)
    pred.requires_grad_()
    with NoSync():
        loss(pred, target, weight, avg_factor=avg_factor).backward()
        loss(pred, target)


@cases
def test_loss_is_traced_without_data(name):
    loss, kind, _ = CASES[name]
    with FakeTensorMode(allow_non_fake_inputs=True):
        pred, target = (torch.empty_like(x, device='meta') for x in draw(kind))
        pred.requires_grad_()
        weight = torch.empty(N, device='meta')
        value = loss(pred, target, weight, avg_factor=weight.sum())
        value.backward()
    assert value.shape == () and pred.grad.shape == pred.shape


@cases
def test_half_precision_is_computed_in_full(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    pred = pred.bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(pred, target, torch.ones(N), avg_factor=3)
    assert value.dtype == torch.float32
    assert value.item() == loss(pred.float(), target, torch.ones(N), avg_factor=3).item()


@cases
def test_gradient_is_the_slope(name):
    loss, kind, _ = CASES[name]
    pred, target = draw(kind)
    pred = pred.double()[1:].requires_grad_()
    target = target.double()[1:] if target.is_floating_point() else target[1:]
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target, torch.ones(N - 1, dtype=torch.float64)), pred)


def test_a_sum_has_no_average():
    with pytest.raises(ValueError, match='mean'):
        L1Loss()(torch.ones(2), torch.ones(2), avg_factor=2, reduction_override='sum')


def test_an_unknown_reduction_is_named():
    with pytest.raises(ValueError, match="'average'"):
        L1Loss(reduction='average')


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r'\(2, 4\)'):
        L1Loss()(torch.ones(2, 4), torch.ones(2))


def test_weights_of_four_a_box_count_by_their_mean():
    pred, target = draw('boxes')
    weight = torch.rand(N, 4)
    assert torch.allclose(GIoULoss()(pred, target, weight),
                          GIoULoss()(pred, target, weight.mean(-1)))


def test_the_loss_of_a_perfect_large_box_is_finite():
    box = torch.tensor([[0., 0., 3000., 2000.]], requires_grad=True)
    for loss in (IoULoss(), GIoULoss(), DIoULoss(), CIoULoss()):
        value = loss(box, box.detach())
        value.backward()
        assert abs(value.item()) < 1e-6 and box.grad.isfinite().all()


# --- cross entropy ------------------------------------------------------------


def test_background_is_no_class_of_a_sigmoid():
    pred = torch.tensor([[0.], [0.], [0.]])
    loss = CrossEntropyLoss(use_sigmoid=True)(
        pred, torch.tensor([0, 1, -1]), reduction_override='none')
    assert loss.flatten().tolist() == pytest.approx([math.log(2), math.log(2), 0.])
    pred = torch.tensor([[10.], [10.]])
    loss = CrossEntropyLoss(use_sigmoid=True)(pred, torch.tensor([0, 1]), reduction_override='none')
    assert loss.flatten().tolist() == pytest.approx([4.54e-5, 10.], abs=1e-4)


def test_ignored_labels_weigh_nothing_and_may_leave_the_average():
    pred, label = draw('classes')
    label[2] = 3
    label[5] = 255
    kept = label != 255
    expected = CrossEntropyLoss()(pred[kept], label[kept], reduction_override='sum')
    by_all = CrossEntropyLoss(ignore_index=255)(pred, label)
    by_kept = CrossEntropyLoss(ignore_index=255, avg_non_ignore=True)(pred, label)
    assert by_all.item() == pytest.approx(expected.item() / N)
    assert by_kept.item() == pytest.approx(expected.item() / (N - 1))
    assert CrossEntropyLoss(avg_non_ignore=True)(
        pred, label, ignore_index=255).item() == by_kept.item()


def test_ignored_labels_of_a_sigmoid_weigh_nothing():
    pred, label = draw('classes')
    label[5] = 2
    label[0] = 2
    kept = label != 2
    expected = CrossEntropyLoss(use_sigmoid=True)(pred[kept], label[kept], reduction_override='sum')
    loss = CrossEntropyLoss(use_sigmoid=True, ignore_index=2)
    assert loss(pred, label, reduction_override='sum').item() == pytest.approx(expected.item())
    loss = CrossEntropyLoss(use_sigmoid=True, ignore_index=2, avg_non_ignore=True)
    assert loss(pred, label).item() == pytest.approx(expected.item() / (kept.sum().item() * C))


def test_ignored_garbage_has_no_gradient():
    pred = torch.full((2, C), float('nan'))
    pred[0] = 1
    pred.requires_grad_()
    CrossEntropyLoss(ignore_index=255)(pred, torch.tensor([1, 255])).backward()
    assert pred.grad.isfinite().all()


def test_class_weights_follow_the_label_and_are_no_state():
    pred, label = draw('classes')
    weights = [1., 2., 3., 4., 5.]
    loss = CrossEntropyLoss(class_weight=weights)
    expected = [
        weights[t] * reference.softmax_entropy(p, t) for p, t in zip(pred.tolist(), label.tolist())
    ]
    assert loss(
        pred, label, reduction_override='none').tolist() == pytest.approx(
            expected, rel=1e-5)
    assert len(loss.state_dict()) == 0
    with NoSync():
        loss(pred, label)


def test_class_weights_of_a_sigmoid_are_for_positives():
    pred, label = draw('background')
    weights = [1., 2., 3., 4., 5.]
    loss = CrossEntropyLoss(
        use_sigmoid=True, class_weight=weights)(
            pred, label, reduction_override='none')
    for row, logits, target in zip(loss.tolist(), pred.tolist(), label.tolist()):
        for i in range(C):
            assert row[i] == pytest.approx(
                reference.sigmoid_entropy(logits[i], float(i == target), weights[i]), rel=1e-4)


def test_a_sigmoid_takes_targets_of_the_same_shape():
    pred, _ = draw('classes')
    target = torch.rand(N, C)
    target[0] = -1
    loss = CrossEntropyLoss(use_sigmoid=True)(
        pred, target, torch.ones(N, 1), reduction_override='none')
    assert (loss[0] == 0).all()
    assert loss[1, 2].item() == pytest.approx(
        reference.sigmoid_entropy(pred[1, 2].item(), target[1, 2].item()), rel=1e-5)


def test_sigmoid_and_mask_exclude_each_other():
    with pytest.raises(ValueError, match='use_sigmoid=False'):
        CrossEntropyLoss(use_sigmoid=True, use_mask=True)


def masks_of_classes():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(
        N, C, 6, 6, generator=generator), draw('masks')[1], torch.randint(
            0, C, (N, ), generator=generator)


def test_a_mask_is_judged_by_its_class_alone():
    pred, target, label = masks_of_classes()
    expected = [
        reference.sigmoid_entropy(pred[n, label[n], y, x].item(), target[n, y, x].item())
        for n in range(N) for y in range(6) for x in range(6)
    ]
    loss = CrossEntropyLoss(use_mask=True)
    assert loss(pred, target, label).item() == pytest.approx(
        sum(expected) / len(expected), rel=1e-5)
    chosen = torch.stack([pred[n, label[n]] for n in range(N)])
    assert loss(chosen, target).item() == loss(pred, target, label).item()


@pytest.mark.parametrize('garbage', GARBAGE)
def test_masks_that_are_not_valid_are_not_seen(garbage):
    pred, target, label = masks_of_classes()
    loss = CrossEntropyLoss(use_mask=True, loss_weight=2.)
    valid = torch.tensor([True, False, True, True, False, False, True])
    expected = loss(pred[valid], target[valid], label[valid])
    pred[~valid], target[~valid] = garbage, garbage
    pred.requires_grad_()
    with NoSync():
        value = loss(pred, target, label, valid=valid)
        value.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (pred.grad[~valid] == 0).all() and pred.grad[valid].abs().sum() > 0


def test_no_mask_or_no_valid_mask_gives_zero():
    pred, target, label = masks_of_classes()
    loss = CrossEntropyLoss(use_mask=True)
    assert loss(pred[:0], target[:0], label[:0]).item() == 0
    assert loss(pred, target, label, valid=torch.zeros(N, dtype=torch.bool)).item() == 0


# --- the others ------------------------------------------------------------


@pytest.mark.parametrize('shape', [(N, ), (N, C), (N * C, )])
def test_focal_weights_come_in_three_shapes(shape):
    pred, target = draw('background')
    weight = torch.rand(shape)
    full = weight[:, None].expand(N, C) if shape == (N, ) else weight.reshape(N, C)
    elements = FocalLoss()(pred, target, reduction_override='none')
    assert torch.allclose(FocalLoss()(pred, target, weight), (elements * full).mean())


FOCAL = [(2., .25), (1.5, .6), (0., .5)]


@pytest.mark.parametrize('gamma, alpha', FOCAL)
@pytest.mark.parametrize('shape', [None, (N, 1), (N, C)])
def test_focal_loss_is_that_of_autograd(gamma, alpha, shape):
    pred, target = draw('background')
    weight = None if shape is None else torch.rand(shape).round(decimals=1)
    factor = torch.tensor(3.)
    a, b = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    loss = sigmoid_focal_loss(a, target, weight, gamma, alpha, 'mean', factor)
    plain = plain_focal_loss(b, target, weight, gamma, alpha, 'mean', factor, False)
    loss.backward()
    plain.backward()
    assert torch.allclose(loss, plain, rtol=1e-5)
    assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('gamma, alpha', FOCAL)
def test_focal_loss_has_the_gradient_of_its_values(gamma, alpha):
    pred, target = draw('background')
    pred = torch.cat([pred, pred * 10]).double().requires_grad_()
    weight = torch.rand(2 * N, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target.repeat(2), weight, gamma, alpha, 'none'), (pred, ))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_focal_loss_keeps_its_logits_only(dtype):
    pred, target = torch.randn(64, 80, dtype=dtype, requires_grad=True), torch.arange(64)
    weight, kept = torch.ones(64), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        loss = FocalLoss()(pred, target, weight, avg_factor=torch.tensor(5))
    large = [x for x in kept if x.numel() >= pred.numel()]
    assert [x.data_ptr() for x in large] == [pred.data_ptr()]
    loss.backward()
    assert pred.grad.dtype == dtype and pred.grad.isfinite().all()


def test_focal_loss_of_extreme_logits_is_finite():
    pred = torch.tensor([[1e4, -1e4, 0.]] * 2, requires_grad=True)
    loss = FocalLoss()(pred, torch.tensor([1, 3]))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()
    assert pred.grad[0,
                     1].item() == pytest.approx(-.25 / 6)  # a certain miss falls with slope alpha


def test_focal_takes_probabilities():
    pred, target = draw('background')
    assert torch.allclose(
        FocalLoss(activated=True)(pred.sigmoid(), target), FocalLoss()(pred, target), rtol=1e-4)
    certain = torch.tensor([[1., 0.]], requires_grad=True)
    loss = FocalLoss(activated=True)(certain, torch.tensor([0]))
    assert loss.item() == 0
    assert FocalLoss(activated=True)(certain, torch.tensor([1])).item() == pytest.approx(
        (.25 + .75) * 100 / 2)


def test_focal_loss_has_no_softmax():
    with pytest.raises(ValueError, match='use_sigmoid=True'):
        FocalLoss(use_sigmoid=False)


def test_smooth_l1_needs_a_beta():
    with pytest.raises(ValueError, match='L1Loss'):
        SmoothL1Loss(beta=0)


def test_masking_hides_value_and_gradient():
    x = torch.tensor([[1., float('nan')], [2., float('inf')]], requires_grad=True)
    hidden = masked(x[:, 1], torch.tensor([False, False]), 1.)
    (hidden.log().sum() + masked(x, torch.tensor([True, False])).sum(1)[1]).backward()
    assert hidden.tolist() == [1., 1.] and x.grad.isfinite().all()


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_padding_changes_no_average(values, padding):
    loss = torch.tensor(values + [7.] * padding)
    weight = torch.tensor([1.] * len(values) + [0.] * padding)
    bare = weight_reduce_loss(loss[:len(values)], None, 'mean', len(values))
    assert torch.allclose(weight_reduce_loss(loss, weight, 'mean', weight.sum()), bare, atol=1e-6)


def test_every_loss_is_built_by_its_name():
    for name in ('CrossEntropyLoss', 'FocalLoss', 'L1Loss', 'SmoothL1Loss', 'MSELoss', 'IoULoss',
                 'GIoULoss', 'DIoULoss', 'CIoULoss', 'BoundedIoULoss'):
        assert type(MODELS.build(dict(type=name, loss_weight=2.))).__name__ == name


# --- accuracy ------------------------------------------------------------


def test_accuracy_is_a_share_in_percent():
    pred = torch.tensor([[.1, .7, .2], [.5, .3, .2], [.2, .3, .5], [.4, .35, .25]])
    target = torch.tensor([1, 1, 0, 0])
    assert accuracy(pred, target).item() == 50
    assert [share.item() for share in accuracy(pred, target, topk=(1, 2, 3))] == [50, 75, 100]
    assert accuracy(pred, target, thresh=.5).item() == 25
    assert Accuracy(topk=(1, 2))(pred, target)[1].item() == 75


def test_accuracy_of_valid_rows_only():
    pred = torch.tensor([[.9, .1], [.9, .1], [float('nan'), 1]])
    target, valid = torch.tensor([0, 1, 1]), torch.tensor([True, False, False])
    with NoSync():
        share = accuracy(pred, target, valid=valid)
    assert share.item() == 100
    assert accuracy(pred, target, valid=torch.zeros(3, dtype=torch.bool)).item() == 0
    assert accuracy(pred[:0], target[:0]).item() == 0


def test_accuracy_among_too_many_is_refused():
    with pytest.raises(ValueError, match='best 5 of 2'):
        accuracy(torch.ones(1, 2), torch.zeros(1, dtype=torch.long), topk=5)
