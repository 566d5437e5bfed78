"""FSAF, and the matching by center regions."""
import math

import pytest
import torch

from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_one_stage import SQUARES, config_of, model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.reference.boxes import overlap
from tests.reference.dense import distances
from tests.reference.losses import focal, iou_loss

ASSIGNER = dict(type='CenterRegionAssigner', pos_scale=.2, neg_scale=.5, min_pos_iof=.01)


def middle(box):
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]


def scaled(box, scale):
    (x, y), width, height = middle(box), (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def match_region(anchor, gts, labels, wins=False, ignored=()):
    """(object or None, label, classes that are not learned) of one anchor (FSAF, sec. 3.1)."""
    inside = [min(distances(middle(anchor), gt)) > 0 for gt in gts]
    core = [
        i for i, gt in enumerate(gts) if overlap(anchor, scaled(gt, .2), 'iof') > .01 and inside[i]
    ]
    others = [
        i for i, gt in enumerate(gts)
        if overlap(anchor, scaled(gt, .5), 'iof') > .01 and i not in core
    ]
    own = min(
        core, key=lambda i: ((gts[i][2] - gts[i][0]) * (gts[i][3] - gts[i][1]), -i), default=None)
    others += [i for i in core if i != own]
    if any(min(distances(middle(anchor), scaled(region, .5))) > 0 for region in ignored):
        return None, -1, {labels[i] for i in others}
    clash = own is not None and labels[own] in [labels[i] for i in others]
    if clash and wins:
        others = [i for i in others if labels[i] != labels[own]]
    elif clash:
        own = None
    return own, int(own is not None), {labels[i] for i in others}


@pytest.mark.parametrize('wins', [False, True])
def test_anchors_are_matched_by_regions_as_the_paper_tells_it(wins):
    generator = MODELS.build(dict(SQUARES, octave_base_scale=1))
    batch = tiny_batch((8, 1, 0), num_classes=2)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    grid = generator.grid(sizes)
    ignore = torch.tensor([[[0., 0., 30., 30.]]]).repeat(3, 1, 1)
    gt = batch.gt._replace(ignore=ignore, ignore_valid=torch.tensor([[True], [False], [True]]))
    usable = generator.valid_flags(sizes, torch.tensor([[64., 96.], [50., 70.], [64., 96.]]))
    assigner = MODELS.build(dict(ASSIGNER, foreground_dominate=wins))
    found = assigner.match_classes(grid.anchors, gt, usable, 3)
    clashes = 0
    for image, num_objects in enumerate((8, 1, 0)):
        gts = gt.boxes[image, :num_objects].tolist()
        labels = gt.labels[image, :num_objects].tolist()
        ignored = ignore[image][gt.ignore_valid[image]].tolist()
        for j, anchor in enumerate(grid.anchors.tolist()):
            own, label, others = match_region(anchor, gts, labels, wins, ignored)
            if not usable[image, j]:
                label = -1
            assert found.label[image, j] == label
            assert set(found.shadowed[image, j].nonzero().flatten().tolist()) == others
            assert label != 1 or found.gt_index[image, j] == own
            clashes += own != match_region(anchor, gts, labels, True, ignored)[0]
    assert bool(clashes) != wins
    assert torch.equal(assigner(grid.anchors, gt, usable).label, found.label)


def test_fsaf_losses_are_those_of_the_paper():
    model, batch = model_of('fsaf'), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs, logged = outputs_of(model, batch), model(batch).metrics
    grid = head.grid(outputs.sizes, batch.images.device)
    level = [i for i, count in enumerate(grid.counts) for _ in range(count)]
    loss_cls = loss_bbox = count = right = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        labels = batch.gt.labels[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        raw = torch.cat([x[image] for x in outputs.boxes]).clamp(min=1e-4)
        boxes = head.decode(grid.anchors, raw).tolist()
        matched = [match_region(anchor, gts, labels) for anchor in grid.anchors.tolist()]
        of_classes = [[
            focal(x, own is not None and labels[own] == k, 2., .25) if k not in others else 0.
            for k, x in enumerate(row)
        ] for row, (own, _, others) in zip(logits, matched)]
        means = {}
        for j, (own, label, _) in enumerate(matched):
            if label == 1:
                loss = sum(of_classes[j]) + iou_loss(boxes[j], gts[own])
                means.setdefault((own, level[j]), []).append(loss)
        means = {key: sum(values) / len(values) for key, values in means.items()}
        for j, (own, label, _) in enumerate(matched):
            loss_cls += sum(of_classes[j])
            if label != 1:
                continue
            best = min((i for o, i in means if o == own), key=lambda i: means[own, i])
            if level[j] == best:
                loss_bbox += iou_loss(boxes[j], gts[own])
                count += 1
                right += max(range(3), key=lambda k: logits[j][k]) == labels[own]
            else:
                loss_cls -= of_classes[j][labels[own]]
    assert count > 3
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / count, rel=1e-4)
    assert set(losses) == {'loss_cls', 'loss_bbox'}
    assert logged['num_pos'].item() == count / 2
    assert logged['pos_recall'].item() == pytest.approx(100 * right / count)


def test_without_objects_losses_are_divided_by_the_anchors():
    model, batch = model_of('fsaf'), tiny_batch((0, 0))
    losses, _ = step(model, batch)
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    rows = torch.cat(outputs.logits, 1).flatten(0, 1).tolist()
    total = sum(focal(x, False, 2., .25) for row in rows for x in row)
    assert losses['loss_cls'] == pytest.approx(total / len(rows), rel=1e-4)


def test_a_box_far_from_any_prediction_still_gives_a_finite_loss():
    model = model_of('fsaf')
    model.bbox_head.retina_reg.bias.data.fill_(-9)  # distances of 0
    losses, grads = step(model, tiny_batch((2, 1)))
    assert math.isfinite(losses['loss_bbox']) and losses['loss_bbox'] > 0
    assert all(grad.isfinite().all() for grad in grads.values())


def test_new_boxes_begin_with_a_size():
    model = MODELS.build(config_of('fsaf'))
    model.init_weights()
    assert model.bbox_head.retina_reg.bias.tolist() == [.25] * 4
    assert model.bbox_head.retina_cls.bias.sigmoid().mean().item() == pytest.approx(.01)


@pytest.mark.parametrize('change, message', [
    (dict(bbox_head=dict(loss_cls=dict(type='CrossEntropyLoss'))), 'loss_cls is a softmax'),
    (dict(train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9))), 'assigner is ATSSAssigner'),
])
def test_fsaf_refuses_what_it_cannot_learn_from(change, message):
    config = config_of('fsaf')
    for part, values in change.items():
        config[part].update(values)
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('normalizer', [4., (1., 2., 3., 4.)])
def test_distances_from_a_center_are_relative_to_the_size(normalizer):
    coder = MODELS.build(dict(type='TBLRBBoxCoder', normalizer=normalizer))
    boxes, gts = torch.tensor([[0., 0., 10., 20.]]), torch.tensor([[1., 2., 30., 40.]])
    factors = [normalizer] * 4 if isinstance(normalizer, float) else normalizer
    sides = [(10 - 2) / 20, (40 - 10) / 20, (5 - 1) / 10, (30 - 5) / 10]  # top, bottom, left, right
    code = coder.encode(boxes, gts)
    expected = [[side / factor for side, factor in zip(sides, factors)]]
    assert torch.allclose(code, torch.tensor(expected))
    assert torch.allclose(coder.decode(boxes, code), gts)
    clipped = coder.decode(boxes[None], code[None], max_shape=torch.tensor([[25., 28.]]))
    assert torch.allclose(clipped, torch.tensor([[[1., 2., 28., 25.]]]))
    with pytest.raises(ValueError, match='write a number, or four'):
        MODELS.build(dict(type='TBLRBBoxCoder', normalizer=(1., 2.)))
