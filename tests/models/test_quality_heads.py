"""Heads that learn the quality of a box as its score: GFL, VFNet, TOOD."""
import math
from types import SimpleNamespace

import pytest
import torch

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.epoch_info import SetEpochInfoHook
from mmdet_ft.models.dense_heads.tood_head import GeometricMean, TaskDecomposition, sample_sides
from mmdet_ft.models.dense_heads.vfnet_head import star_offsets
from mmdet_ft.models.losses.gfocal import quality_focal_loss
from mmdet_ft.models.losses.varifocal import plain_varifocal_loss
from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_one_stage import ANCHORS, config_of, model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.ops.helpers import GARBAGE
from tests.reference import dense as reference
from tests.reference.boxes import overlap
from tests.reference.losses import focal, giou_loss

# --- GFL


@pytest.mark.parametrize('kind', ['FocalLoss', 'QualityFocalLoss'])
def test_certain_scores_have_a_finite_slope(kind):
    pred = torch.tensor([[1., 0., .5], [0., 1., 1.]], requires_grad=True)
    labels = torch.tensor([1, 3])
    loss = MODELS.build(dict(type=kind, activated=True))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(pred, labels if kind == 'FocalLoss' else (labels, torch.tensor([.7, 0.])))
    value.backward()
    assert value.isfinite() and pred.grad.isfinite().all()


def test_gfl_losses_are_those_of_the_paper():
    model, batch = model_of('gfl'), tiny_batch((2, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
        distances = torch.cat(head.distances(outputs), 1)
    grid = head.grid(outputs.sizes, batch.images.device)
    stride = [s[0] for s, n in zip(head.anchor_generator.strides, grid.counts) for _ in range(n)]
    anchors = grid.anchors.tolist()
    loss_cls = loss_bbox = loss_dfl = total = count = 0
    for image, num_objects in enumerate((2, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        sides = torch.cat([x[image] for x in outputs.boxes]).unflatten(1, (4, 9)).tolist()
        boxes = head.decode(grid.anchors, distances[image]).tolist()
        matched = reference.match_adaptively(anchors, grid.counts, gts, 9, [True] * len(anchors))
        for j, (gt, label) in enumerate(matched):
            goal, quality = -1, 0.
            if label == 1:
                goal, quality = int(batch.gt.labels[image, gt]), overlap(boxes[j], gts[gt])
                best = max(map(reference.sigmoid, logits[j]))
                loss_bbox += 2 * best * giou_loss(boxes[j], gts[gt])
                point = [(anchors[j][i] + anchors[j][i + 2]) / 2 for i in range(2)]
                for row, distance in zip(sides[j], reference.distances(point, gts[gt])):
                    loss_dfl += best * reference.distribution_focal(row, distance / stride[j]) / 4
                total, count = total + best, count + 1
            loss_cls += sum(
                reference.quality_focal(x, quality if i == goal else 0.)
                for i, x in enumerate(logits[j]))
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / max(total, 1), rel=1e-4)
    assert losses['loss_dfl'] == pytest.approx(.25 * loss_dfl / max(total, 1), rel=1e-4)


@pytest.mark.parametrize('garbage', GARBAGE)
def test_losses_of_quality_do_not_see_what_has_no_weight(garbage):
    weight = torch.tensor([1., 0.])
    pair = torch.tensor([1, 2]), torch.tensor([.5, garbage])
    matrix = torch.tensor([[0., .5, 0.], [garbage] * 3])
    for kind, target in (('QualityFocalLoss', pair), ('VarifocalLoss', pair),
                         ('VarifocalLoss', matrix), ('DistributionFocalLoss',
                                                     torch.tensor([1.5, garbage]))):
        pred = torch.tensor([[.1, .2, .3], [garbage] * 3], requires_grad=True)
        loss = MODELS.build(dict(type=kind))
        value = loss(pred, target, weight, avg_factor=1)
        value.backward()
        assert value.isfinite() and pred.grad[0].abs().min() > 0 and (pred.grad[1] == 0).all()


def test_quality_focal_loss_takes_probabilities():
    logits, target = torch.tensor([[.1, -2.]]), (torch.tensor([0]), torch.tensor([.7]))
    loss = MODELS.build(dict(type='QualityFocalLoss', activated=True))
    plain = MODELS.build(dict(type='QualityFocalLoss'))
    assert loss(logits.sigmoid(), target).item() == pytest.approx(plain(logits, target).item())


@pytest.mark.parametrize('name', ['gfl', 'vfnet', 'tood'])
def test_such_heads_take_one_anchor_a_cell(name):
    config = config_of(name)
    config['bbox_head']['anchor_generator'] = ANCHORS
    with pytest.raises(ValueError, match='9 anchors per cell'):
        MODELS.build(config)


@pytest.mark.parametrize('kind', ['QualityFocalLoss', 'VarifocalLoss'])
def test_losses_of_quality_keep_only_the_logits(kind):
    kept = []
    pred = torch.randn(500, 40, requires_grad=True)
    target = torch.arange(500) % 41, torch.rand(500)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        MODELS.build(dict(type=kind))(pred, target, torch.ones(500), avg_factor=3)
    assert [x.shape for x in kept if x.numel() >= pred.numel()] == [pred.shape]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_slopes_of_losses_of_quality_are_those_of_autograd(dtype):
    torch.manual_seed(0)
    pred, weight = torch.randn(40, 5).to(dtype) * 3, (torch.rand(40) * 3 - 1).clamp(min=0).double()
    label, score = torch.arange(40) % 6, (torch.rand(40) * 1.2 - .1).clamp(0, 1).double()
    matrix = torch.zeros(40, 6).double().scatter(1, label[:, None], score[:, None])[:, :5]

    def quality(x):
        return quality_focal_loss(x.double().sigmoid(), (label, score), weight, activated=True)

    pairs = [(MODELS.build(dict(type='QualityFocalLoss')), quality)]
    for iou_weighted in (True, False):
        kind = dict(type='VarifocalLoss', iou_weighted=iou_weighted)
        pairs.append((MODELS.build(kind), lambda x, iou_weighted=iou_weighted: plain_varifocal_loss(
            x.double(), matrix, weight, .75, 2., iou_weighted)))
    for loss, plain in pairs:
        a, b = (pred.clone().requires_grad_() for _ in range(2))
        value, expected = loss(a, (label, score), weight, avg_factor=7), plain(b).sum() / 7
        value.backward()
        expected.backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        assert torch.allclose(a.grad, b.grad, rtol=1e-5 if dtype == torch.float64 else 2e-3)


def test_varifocal_loss_is_that_of_the_paper():
    logits, goals = [[.3, -1.2], [2., .1]], [[0., .7], [0., 0.]]
    expected = sum(
        reference.varifocal(x, q) for row, goal in zip(logits, goals) for x, q in zip(row, goal))
    loss = MODELS.build(dict(type='VarifocalLoss', reduction='sum'))
    assert loss(torch.tensor(logits), torch.tensor(goals)).item() == pytest.approx(expected)
    pair = torch.tensor([1, 2]), torch.tensor([.7, .4])
    assert loss(torch.tensor(logits), pair).item() == pytest.approx(expected)


# --- VFNet


def test_vfnet_losses_are_those_of_the_paper():
    model, batch = model_of('vfnet'), tiny_batch((2, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    anchors = grid.anchors.tolist()
    both = torch.cat(outputs.boxes, 1).split(4, -1)
    loss_cls = count = 0
    sums = [[0., 0.], [0., 0.]]  # loss and weight of the first and of the refined boxes
    for image, num_objects in enumerate((2, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        boxes = [head.decode(grid.anchors, part[image]).tolist() for part in both]
        matched = reference.match_adaptively(anchors, grid.counts, gts, 9, [True] * len(anchors))
        for j, (gt, label) in enumerate(matched):
            goal, quality = -1, 0.
            if label == 1:
                goal, count = int(batch.gt.labels[image, gt]), count + 1
                for part, total in zip(boxes, sums):
                    quality = overlap(part[j], gts[gt])
                    total[0] += quality * giou_loss(part[j], gts[gt])
                    total[1] += quality
            loss_cls += sum(
                reference.varifocal(x, quality if i == goal else 0.)
                for i, x in enumerate(logits[j]))
    assert count > 5
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(1.5 * sums[0][0] / max(sums[0][1], 1), rel=1e-4)
    assert losses['loss_bbox_rf'] == pytest.approx(2 * sums[1][0] / max(sums[1][1], 1), rel=1e-4)


def test_a_star_samples_corners_and_middles_of_the_sides():
    distances = torch.tensor([8., 4., 24., 12.]).view(1, 4, 1, 1).requires_grad_()
    offsets = star_offsets(distances, 4., .25)
    grid = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    points = [(y + float(dy), x + float(dx))
              for (y, x), (dy, dx) in zip(grid,
                                          offsets.detach().view(9, 2))]
    assert points == [(y, x) for y in (-1, 0, 3) for x in (-2, 0, 6)]
    offsets[:, 0].sum().backward()  # the first point's y
    assert distances.grad.flatten().tolist() == [0, -.25 / 4, 0, 0]


def test_units_of_vfnet_are_the_ends_of_the_ranges_or_the_strides():
    assert model_of('vfnet').bbox_head.units == [16, 32, 64, 128, 256]
    assert model_of('vfnet_by_points').bbox_head.units == [4, 8, 16, 32, 64]
    config = config_of('vfnet')
    config['bbox_head']['regress_ranges'] = ((-1, 16), (16, 1e8))
    with pytest.raises(ValueError, match='2 regress_ranges for 5 strides'):
        MODELS.build(config)
    config = config_of('vfnet')
    config['bbox_head']['bbox_norm_type'] = 'pixels'
    with pytest.raises(ValueError, match="bbox_norm_type is 'pixels'"):
        MODELS.build(config)


# --- TOOD


@pytest.mark.parametrize('name', ['tood', 'tood_aligned'])
def test_tood_losses_are_those_of_the_paper(name):
    model, batch = model_of(name), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
        predicted = torch.cat(head.distances(outputs), 1).tolist()
    grid = head.grid(outputs.sizes, batch.images.device)
    anchors = grid.anchors.tolist()
    points = [[(a[0] + a[2]) / 2, (a[1] + a[3]) / 2] for a in anchors]
    loss_cls = loss_bbox = total = count = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        labels = batch.gt.labels[image].tolist()
        scores = torch.cat([x[image] for x in outputs.logits]).tolist()
        boxes = predicted[image]
        if name == 'tood':
            matched = reference.match_adaptively(anchors, grid.counts, gts, 9,
                                                 [True] * len(anchors))
            matched = [(gt, 1.) if label == 1 else None for gt, label in matched]
        else:
            matched = reference.match_by_alignment(scores, boxes, points, gts, labels, 13)
        for j, pair in enumerate(matched):
            goal, quality = (-1, 0.) if pair is None else (labels[pair[0]], pair[1])
            logits = [math.log(p / (1 - p)) for p in scores[j]]
            loss_cls += sum(
                focal(x, i == goal, 2., .25) if name ==
                'tood' else reference.quality_focal(x, quality if i == goal else 0.)
                for i, x in enumerate(logits))
            if pair is not None:
                gt = gts[pair[0]]
                weight = reference.centerness(points[j], gt) if name == 'tood' else quality
                loss_bbox += 2 * weight * giou_loss(boxes[j], gt)
                total, count = total + weight, count + quality
    assert count > 1
    assert losses['loss_cls'] == pytest.approx(loss_cls / max(count, 1), rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / max(total, 1), rel=1e-4)


def test_predictions_match_as_the_paper_tells_it():
    torch.manual_seed(0)
    batch, num = tiny_batch((3, 1, 0)), 60
    center, size = torch.rand(3, num, 2) * 50 + 10, torch.rand(3, num, 2) * 40
    boxes, points = torch.cat([center - size / 2, center + size / 2], -1), torch.rand(num, 2) * 60
    scores, usable = torch.rand(3, num, 3), torch.rand(3, num) < .9
    anchors = torch.cat([points - 3, points + 3], -1)
    assigner = MODELS.build(dict(type='TaskAlignedAssigner', topk=13))
    match, quality = assigner(scores, boxes, anchors, batch.gt, usable, 1, 6)
    for image, num_objects in enumerate((3, 1, 0)):
        expected = reference.match_by_alignment(scores[image].tolist(), boxes[image].tolist(),
                                                points.tolist(),
                                                batch.gt.boxes[image, :num_objects].tolist(),
                                                batch.gt.labels[image].tolist(), 13,
                                                usable[image].tolist())
        positive = [j for j, pair in enumerate(expected) if pair is not None]
        assert (match.label[image] == 1).nonzero()[:, 0].tolist() == positive
        assert torch.equal(match.label[image] == -1, ~usable[image])
        assert match.gt_index[image, positive].tolist() == [expected[j][0] for j in positive]
        assert quality[image,
                       positive].tolist() == pytest.approx([expected[j][1] for j in positive],
                                                           rel=1e-4)
        assert (num_objects == 0) == (not positive)


def test_a_geometric_mean_of_scores_has_a_finite_slope():
    a, b = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 1, 4, 5).double()
    a.requires_grad_(), b.requires_grad_()
    assert torch.allclose(GeometricMean.apply(a, b), (a.sigmoid() * b.sigmoid()).sqrt())
    assert torch.autograd.gradcheck(GeometricMean.apply, (a, b))
    low = torch.full((1, 1), -1e3, requires_grad=True)
    GeometricMean.apply(low, low).sum().backward()
    assert low.grad.isfinite().all()


def test_sides_are_sampled_one_by_one_and_never_past_each_other():
    boxes = torch.tensor([[0., 10.], [0., 10.], [20., 40.], [20., 40.]]).view(1, 4, 1, 2)
    offsets = torch.zeros(1, 8, 1, 2)
    offsets[0, 5, 0, 0] = .5  # x of the right side of the first box
    assert sample_sides(boxes, offsets)[0, :, 0].T.tolist() == [[0, 0, 30, 20], [10, 10, 40, 40]]
    offsets[0, 1, 0, 1] = -1  # the left side of the second box is the first's
    offsets[0, 7, 0, 1] = 9  # and its lower side is outside of the map, where there is nothing
    assert sample_sides(boxes, offsets)[0, :, 0].T.tolist() == [[0, 0, 30, 20], [10, 10, 40, 40]]


def test_decomposition_is_a_convolution_of_weighted_maps():
    torch.manual_seed(0)
    part = TaskDecomposition(8, 3, 4, norm_cfg=dict(type='GN', num_groups=2))
    maps = torch.randn(2, 24, 4, 5)
    mean = maps.mean((2, 3), keepdim=True)
    weighted = maps.unflatten(1, (3, 8)) * part.layer_attention(mean)[:, :, None]
    assert torch.allclose(part(maps, mean), part.reduction_conv(weighted.flatten(1, 2)), atol=1e-5)


def test_new_scores_of_tood_begin_near_one_in_a_hundred():
    model = MODELS.build(config_of('tood'))
    model.init_weights()
    head = model.bbox_head
    for conv in (head.tood_cls, head.cls_prob_module[2]):
        assert conv.bias.sigmoid().mean().item() == pytest.approx(.01)
    assert head.inter_convs[1].conv.weight.std().item() == pytest.approx(.01, rel=.1)
    assert head.reg_offset_module[0].weight.std().item() == pytest.approx(.001, rel=.2)
    assert head.cls_decomp.layer_attention[0].weight.std().item() == pytest.approx(.001, rel=.6)


def test_the_hook_tells_tood_when_predictions_match():
    model, hook = model_of('tood'), SetEpochInfoHook()
    told = []
    for epoch in (0, 3, 4):
        hook.before_train_epoch(SimpleNamespace(model=model, epoch=epoch))
        told.append(model.bbox_head.is_initial)
    assert told == [True, True, False]
    with pytest.raises(UserError, match='GFL has no set_epoch'):
        hook.before_train_epoch(SimpleNamespace(model=model_of('gfl'), epoch=0))


def test_tood_names_what_it_cannot_take():
    config = config_of('tood')
    config['bbox_head']['anchor_type'] = 'points'
    with pytest.raises(ValueError, match="anchor_type is 'points'"):
        MODELS.build(config)
    with pytest.raises(ValueError, match='topk is 0'):
        MODELS.build(dict(type='TaskAlignedAssigner', topk=0))
