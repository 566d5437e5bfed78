"""What holds for every one-stage detector; HEADS has a slim one of each."""
import copy
import re

import pytest
import torch

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.models.assigners import PseudoSampler
from mmdet_ft.models.dense_heads.dense_head import Candidates
from mmdet_ft.models.detectors.views import merge_candidates
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.ops.boxes import flip
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_golden import fixed_weights
from tests.models.tiny import tiny_batch, tiny_dense_config
from tests.ops.helpers import GARBAGE
from tests.reference import dense as reference
from tests.reference.boxes import match
from tests.reference.losses import focal, giou_loss, iou_loss, sigmoid_entropy
from tools.benchmarks.no_sync import NoSync

ANCHORS = dict(
    type='AnchorGenerator',
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[.5, 1., 2.],
    strides=[4, 8, 16, 32, 64])
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2., alpha=.25)
SQUARES = dict(
    type='AnchorGenerator',
    ratios=[1.],
    octave_base_scale=4,
    scales_per_octave=1,
    strides=[4, 8, 16, 32, 64])
POINTS = dict(
    strides=[4, 8, 16, 32, 64],
    regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 128), (128, 1e8)))
FOVEAS = dict(
    strides=[4, 8, 16, 32, 64],
    base_edge_list=[8, 16, 32, 64, 128],
    scale_ranges=((1, 24), (16, 40), (30, 64), (50, 128), (100, 512)))
ALIGNED = dict(type='QualityFocalLoss', activated=True)
# name: (detector, head)
HEADS = {
    'retina': ('RetinaNet',
               dict(
                   type='RetinaHead',
                   anchor_generator=ANCHORS,
                   loss_cls=FOCAL,
                   loss_bbox=dict(type='L1Loss'))),
    'retina_softmax_giou': ('RetinaNet',
                            dict(
                                type='RetinaHead',
                                anchor_generator=ANCHORS,
                                norm_cfg=dict(type='GN', num_groups=4),
                                reg_decoded_bbox=True,
                                loss_cls=dict(type='CrossEntropyLoss'),
                                loss_bbox=dict(type='GIoULoss'))),
    'retina_sepbn': ('RetinaNet',
                     dict(
                         type='RetinaSepBNHead',
                         num_ins=5,
                         norm_cfg=dict(type='BN'),
                         anchor_generator=ANCHORS,
                         loss_cls=FOCAL)),
    'retina_ghm': ('RetinaNet',
                   dict(
                       type='RetinaHead',
                       anchor_generator=ANCHORS,
                       loss_cls=dict(type='GHMC', bins=30, momentum=.75),
                       loss_bbox=dict(type='GHMR', momentum=.7, loss_weight=10.))),
    'fcos': ('FCOS', dict(type='FCOSHead', norm_cfg=None, **POINTS)),
    'fcos_tricks': ('FCOS',
                    dict(
                        type='FCOSHead',
                        norm_cfg=dict(type='GN', num_groups=4),
                        norm_on_bbox=True,
                        centerness_on_reg=True,
                        center_sampling=True,
                        conv_bias=True,
                        dcn_on_last_conv=True,
                        loss_bbox=dict(type='GIoULoss'),
                        **POINTS)),
    'atss': ('ATSS',
             dict(
                 type='ATSSHead',
                 norm_cfg=dict(type='GN', num_groups=4),
                 anchor_generator=SQUARES,
                 bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[.1, .1, .2, .2]),
                 loss_cls=FOCAL,
                 loss_bbox=dict(type='GIoULoss', loss_weight=2.))),
    'gfl': ('GFL',
            dict(
                type='GFLHead',
                norm_cfg=dict(type='GN', num_groups=4),
                anchor_generator=SQUARES,
                reg_max=8,
                loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.),
                loss_bbox=dict(type='GIoULoss', loss_weight=2.))),
    'vfnet': ('VFNet',
              dict(
                  type='VFNetHead',
                  norm_cfg=dict(type='GN', num_groups=4),
                  anchor_generator=SQUARES,
                  dcn_on_last_conv=True,
                  **POINTS)),
    'vfnet_by_points': ('VFNet',
                        dict(
                            type='VFNetHead',
                            norm_cfg=None,
                            anchor_generator=SQUARES,
                            use_vfl=False,
                            use_atss=False,
                            bbox_norm_type='stride',
                            **POINTS)),
    'fsaf': ('FSAF',
             dict(
                 type='FSAFHead',
                 reg_decoded_bbox=True,
                 anchor_generator=dict(SQUARES, octave_base_scale=1),
                 bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.),
                 loss_cls=dict(FOCAL, reduction='none'),
                 loss_bbox=dict(type='IoULoss', reduction='none'))),
    'fovea': ('FOVEA', dict(type='FoveaHead', **FOVEAS)),
    'fovea_align':
    ('FOVEA',
     dict(type='FoveaHead', with_deform=True, norm_cfg=dict(type='GN', num_groups=4), **FOVEAS)),
    'free_anchor': ('RetinaNet',
                    dict(
                        type='FreeAnchorRetinaHead',
                        pre_anchor_topk=20,
                        anchor_generator=ANCHORS,
                        loss_bbox=dict(type='SmoothL1Loss', beta=.11, loss_weight=.75))),
    'paa': ('PAA',
            dict(
                type='PAAHead',
                score_voting=False,
                norm_cfg=dict(type='GN', num_groups=4),
                anchor_generator=SQUARES,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[.1, .1, .2, .2]),
                loss_cls=FOCAL,
                loss_bbox=dict(type='GIoULoss', loss_weight=1.3))),
    'tood': ('TOOD',
             dict(
                 type='TOODHead',
                 norm_cfg=dict(type='GN', num_groups=4),
                 anchor_generator=SQUARES,
                 stacked_convs=2,
                 num_dcn=1,
                 loss_cls=ALIGNED,
                 loss_bbox=dict(type='GIoULoss', loss_weight=2.))),
    'tood_aligned': ('TOOD',
                     dict(
                         type='TOODHead',
                         norm_cfg=dict(type='GN', num_groups=4),
                         anchor_generator=SQUARES,
                         anchor_type='anchor_based',
                         stacked_convs=2,
                         loss_cls=ALIGNED,
                         loss_bbox=dict(type='GIoULoss', loss_weight=2.))),
    'ssd': ('SingleStageDetector',
            dict(
                type='SSDHead',
                in_channels=(16, ) * 5,
                anchor_generator=dict(
                    type='SSDAnchorGenerator',
                    scale_major=False,
                    strides=[4, 8, 16, 32, 64],
                    ratios=[[2], [2, 3], [2], [2], [2]],
                    min_sizes=[8, 16, 24, 32, 48],
                    max_sizes=[16, 24, 32, 48, 64]))),
}
ADAPTIVE = ('atss', 'gfl', 'vfnet', 'vfnet_by_points')
# Printed by the test when they change.
LOSSES = {
    'retina': dict(loss_cls=41.96949, loss_bbox=0.66477),
    'retina_softmax_giou': dict(loss_cls=135.29105, loss_bbox=0.4708),
    'retina_sepbn': dict(loss_cls=38.15641, loss_bbox=0.50181),
    'retina_ghm': dict(loss_cls=3.77503, loss_bbox=1.68821),
    'fcos': dict(loss_cls=14.22765, loss_bbox=3.21083, loss_centerness=1.00994),
    'fcos_tricks': dict(loss_cls=14.02947, loss_bbox=0.76954, loss_centerness=0.72736),
    'atss': dict(loss_cls=24.0748, loss_bbox=0.97533, loss_centerness=0.68926),
    'gfl': dict(loss_cls=36.85257, loss_bbox=1.3811, loss_dfl=0.54674),
    'vfnet': dict(loss_cls=25.01319, loss_bbox=0.97812, loss_bbox_rf=1.31059),
    'paa': dict(loss_cls=10.36448, loss_bbox=0.73706, loss_iou=0.71235),
    'tood': dict(loss_cls=21.42191, loss_bbox=1.53199),
    'tood_aligned': dict(loss_cls=78.87289, loss_bbox=0.93947),
    'vfnet_by_points': dict(loss_cls=12.31963, loss_bbox=1.19288, loss_bbox_rf=1.59001),
    'fsaf': dict(loss_cls=22.62731, loss_bbox=0.54383),
    'fovea': dict(loss_cls=41.62848, loss_bbox=4.01137),
    'fovea_align': dict(loss_cls=40.34041, loss_bbox=4.17735),
    'free_anchor': dict(positive_bag_loss=.486, negative_bag_loss=43.91203),
    'ssd': dict(loss_cls=7.27665, loss_bbox=.07899),
}
# The losses of classes and of boxes, where they are not `loss_cls` and `loss_bbox`.
PAIRS = {'free_anchor': ('negative_bag_loss', 'positive_bag_loss')}
heads = pytest.mark.parametrize('name', HEADS)


def config_of(name):
    kind, head = HEADS[name]
    config = tiny_dense_config(kind, copy.deepcopy(head))
    if name in ADAPTIVE:
        config['train_cfg']['assigner'] = dict(type='ATSSAssigner', topk=9)
    if name == 'fsaf':
        config['train_cfg']['assigner'] = dict(
            type='CenterRegionAssigner', pos_scale=.2, neg_scale=.5, min_pos_iof=.01)
    if name == 'paa':
        config['train_cfg']['assigner'].update(pos_iou_thr=.1, neg_iou_thr=.1)
    if kind == 'TOOD':
        config['train_cfg'].update(
            initial_epoch=0 if name == 'tood_aligned' else 4,
            initial_assigner=dict(type='ATSSAssigner', topk=9),
            assigner=dict(type='TaskAlignedAssigner', topk=13))
    return config


def model_of(name, **head):
    config = config_of(name)
    config['bbox_head'].update(head)
    model = fixed_weights(MODELS.build(config))
    for key, value in model.bbox_head.named_parameters(
    ):  # scores of a trained model: neither 0 nor 1
        if key.endswith('_cls.weight') or re.fullmatch(r'cls_convs\.\d\.1\.weight', key):
            value.data.mul_(.1)
        if key == 'conv_reg.bias' or (name, key) == ('fsaf', 'retina_reg.bias'):  # no empty boxes
            value.data.fill_(1)
    return model.train()


def outputs_of(model, batch):
    return model.bbox_head(model.extract_features(normalize_images(batch)))


@heads
def test_losses_of_fixed_weights_are_the_golden_ones(name):
    losses, grads = step(model_of(name), tiny_batch((2, 1)))
    print(name, {key: round(value, 5) for key, value in losses.items()})
    assert losses == pytest.approx(LOSSES[name], rel=1e-3)
    assert all(grad.isfinite().all() for grad in grads.values())


@heads
def test_every_trained_weight_gets_a_gradient_even_without_any_object(name):
    for objects in ((2, 1), (0, 0)):
        model = model_of(name)
        losses, grads = step(model, tiny_batch(objects))
        assert set(grads) == {key for key, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    of_classes, of_boxes = PAIRS.get(name, ('loss_cls', 'loss_bbox'))
    assert losses[of_boxes] == 0
    assert losses[of_classes] > 0 or name == 'ssd'  # SSD takes backgrounds by the number of objects


@heads
@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(name, garbage):
    batch = tiny_batch((2, 1))
    clean, clean_grads = step(model_of(name), batch)
    boxes = batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage)
    poisoned, grads = step(model_of(name), batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[key], clean_grads[key]) for key in clean_grads)


@heads
def test_more_empty_slots_change_nothing(name):
    few, few_grads = step(model_of(name), tiny_batch((2, 1), slots=8))
    many, many_grads = step(model_of(name), tiny_batch((2, 1), slots=24))
    assert few == pytest.approx(many, rel=1e-5)
    assert all(torch.allclose(few_grads[key], many_grads[key], atol=1e-5) for key in few_grads)


@heads
def test_a_step_never_waits_and_its_operations_do_not_grow_with_the_batch(name):
    model = model_of(name)
    step(model, tiny_batch())  # fills caches
    numbers = []
    for objects in ((2, 1), (3, 1, 0, 2)):
        batch = tiny_batch(objects)
        with NoSync() as seen:
            model(batch).total.backward()
        numbers.append(seen.num_ops)
    assert numbers[0] == numbers[1]


@heads
def test_two_equal_views_tell_the_same_as_one(name):
    model, batch = model_of(name).eval(), tiny_batch((2, 1))
    one, two = model(batch), model((batch, batch))
    both = (one.valid & two.valid)
    assert one.valid.any() and torch.equal(one.valid, two.valid)
    assert torch.equal(one.boxes[both], two.boxes[both])


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_candidates_of_a_mirrored_view_are_mirrored_back(direction):
    batch = tiny_batch((2, 1))
    metas = [dict(meta, flip=True, flip_direction=direction) for meta in batch.metas]
    mirrored = batch._replace(metas=metas, scale_factors=batch.scale_factors * 2)
    boxes = torch.tensor([[[2., 4., 10., 20.]]]).repeat(2, 1, 1)
    one, label = torch.ones(2, 1), torch.ones(2, 1).long()
    there = flip(boxes * 2, mirrored.sizes, direction)
    views = [Candidates(boxes, one, label, one > 0), Candidates(there, one, label, one > 0)]
    found = merge_candidates(views, (batch, mirrored))
    assert torch.allclose(found.boxes, boxes.expand(-1, 2, -1)) and found.valid.all()


@pytest.mark.parametrize('name', [name for name in HEADS if name != 'paa'])
def test_detections_are_those_of_the_reference(name):
    model, batch = model_of(name).eval(), tiny_batch((2, 1))
    batch = batch._replace(scale_factors=batch.scale_factors * 2)
    head = model.bbox_head
    with torch.no_grad():
        outputs, found = outputs_of(model, batch), model(batch)
        raw = head.distances(outputs)
    priors = head.grid(outputs.sizes, batch.images.device)
    for image in range(2):
        levels = []
        for level, prior in enumerate(priors.anchors.split(priors.counts)):
            logits = outputs.logits[level][image]
            scores = logits.sigmoid() if head.use_sigmoid else logits.softmax(-1)[:, :-1]
            if name.startswith('tood'):
                scores = logits
            boxes = head.decode(prior[None], raw[level][image:image + 1],
                                batch.sizes[image:image + 1])[0] / 2
            factor = outputs.quality[level][image].sigmoid() if outputs.quality else torch.ones(
                len(boxes))
            levels.append((scores.tolist(), boxes.tolist(), factor.tolist()))
        expected = reference.detections(levels, .05, 60, .5, 20)
        valid = found.valid[image]
        assert int(valid.sum()) == len(expected) > 5
        assert found.labels[image, valid].tolist() == [box.label for box in expected]
        assert found.scores[image, valid].tolist() == pytest.approx([box.score for box in expected],
                                                                    rel=1e-5)
        assert torch.allclose(
            found.boxes[image, valid], torch.tensor([box.box for box in expected]), atol=1e-3)


@heads
def test_only_the_layers_of_classes_and_anchors_may_differ_in_a_checkpoint(name):
    model = model_of(name)
    more = copy.deepcopy(config_of(name))
    more['bbox_head']['num_classes'] = 5
    others = MODELS.build(more).state_dict()
    differ = {key for key, value in model.state_dict().items() if value.shape != others[key].shape}
    assert differ and all(key.startswith(model.prediction_layers()) for key in differ)
    assert all('cls' in key for key in differ)
    report = fit(model, Checkpoint('a.pth', others, {}, {}))
    assert {item[0] for item in report.reinitialised} == differ and not report.missing
    assert len(report.loaded) == report.total - len(differ) and not report.mismatched


def test_normalisers_are_averaged_over_processes(monkeypatch):
    x = torch.tensor(6., requires_grad=True)
    assert mean_over_processes(x).item() == 6
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda value: value.add_(10 / 2))
    assert mean_over_processes(x).item() == 8 and not mean_over_processes(x).requires_grad
    assert x.item() == 6


# --- RetinaNet


def test_retina_losses_are_those_of_the_paper():
    model, batch = model_of('retina'), tiny_batch((2, 1))
    losses, _ = step(model, batch)
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    anchors = model.bbox_head.grid(outputs.sizes, batch.images.device).anchors.tolist()
    loss_cls = loss_bbox = count = 0
    for image, num_objects in enumerate((2, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        deltas = torch.cat([x[image] for x in outputs.boxes]).tolist()
        matched = match(anchors, gts, .5, (0., .4), 0., True, True)
        count += max(sum(label == 1 for _, label in matched), 1)
        for anchor, row, pred, (gt, label) in zip(anchors, logits, deltas, matched):
            goal = int(batch.gt.labels[image, gt]) if label == 1 else -1
            loss_cls += sum(focal(x, i == goal, 2., .25)
                            for i, x in enumerate(row)) if label >= 0 else 0
            if label == 1:
                loss_bbox += sum(abs(a - b) for a, b in zip(pred, reference.delta(anchor, gts[gt])))
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / count, rel=1e-4)


def test_levels_of_sepbn_share_convolutions_but_no_norm():
    head = model_of('retina_sepbn').bbox_head
    assert head.cls_convs[0][0].conv.weight is head.cls_convs[4][0].conv.weight
    assert head.cls_convs[0][0].bn.weight is not head.cls_convs[4][0].bn.weight
    assert 'cls_convs.4.0.conv.weight' in head.state_dict()
    head.init_weights()
    assert head.retina_cls.bias.mean().item() == pytest.approx(-4.595, abs=1e-3)
    assert head.cls_convs[0][0].conv.weight.std().item() == pytest.approx(.01, rel=.1)


def test_scores_of_a_new_retina_head_begin_at_one_in_a_hundred():
    model = MODELS.build(config_of('retina'))
    model.init_weights()
    assert model.bbox_head.retina_cls.bias.sigmoid().mean().item() == pytest.approx(.01)
    assert model.bbox_head.retina_reg.bias.abs().max() == 0


def test_a_sampler_leaves_out_anchors_unless_the_loss_needs_all():
    config = config_of('retina')
    sampler = dict(type='RandomSampler', num=16, pos_fraction=.5)
    config['train_cfg']['sampler'] = sampler
    with pytest.warns(UserWarning, match='train_cfg.sampler is not used'):
        assert isinstance(MODELS.build(config).bbox_head.sampler, PseudoSampler)
    config['bbox_head']['loss_cls'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    model, batch = MODELS.build(config), tiny_batch((2, 0))
    targets = model.bbox_head.targets(outputs_of(model, batch), batch)
    assert (targets.weight > 0).sum(1).tolist() == [16, 16]
    positives = targets.positive.sum(1)
    assert positives[0] > 0 and positives[1] == 0
    assert targets.num_positive.item(
    ) == 16 + 1 + 16  # V2 counts a positive of an image without any


def test_rare_gradient_sizes_weigh_more():
    pred = torch.tensor([[-3., -3.], [-3., 2.], [.1, -3.]])
    target, weight = torch.tensor([2, 0, 2]), torch.tensor([1., 1., 0.])
    loss = MODELS.build(dict(type='GHMC', bins=10))(pred, target, weight)
    rows = [(-3., 0), (-3., 0), (-3., 1), (2., 0)]
    sizes = [abs(reference.sigmoid(x) - goal) for x, goal in rows]
    weights = reference.harmony(sizes, 10)
    entropy = [focal(x, bool(goal), 0., .5) * 2 for x, goal in rows]
    assert loss.item() == pytest.approx(sum(w * e for w, e in zip(weights, entropy)) / 4, rel=1e-5)


def test_counts_of_gradient_sizes_are_averaged_over_steps():
    loss = MODELS.build(dict(type='GHMR', mu=.02, bins=2, momentum=.5))
    pred = torch.tensor([[0., 0., 0., 1.]])
    args = pred, torch.zeros(1, 4), torch.ones(1, 4)
    loss(*args)
    assert loss.acc_sum.tolist() == [1.5, .5]
    loss(*args)
    assert loss.acc_sum.tolist() == [2.25, .75]
    loss(pred * 0 + 1, *args[1:])  # nothing small: its count stays
    assert loss.acc_sum.tolist() == [2.25, .5 * .75 + .5 * 4]


# --- FCOS


@pytest.mark.parametrize('name', ['fcos', 'fcos_tricks'])
def test_fcos_losses_are_those_of_the_paper(name):
    model, batch = model_of(name), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    level = [i for i, count in enumerate(grid.counts) for _ in range(count)]
    points = grid.anchors[:, :2].tolist()
    loss_cls = loss_bbox = loss_centerness = total = count = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        quality = torch.cat([x[image] for x in outputs.quality]).tolist()
        boxes = head.decode(grid.anchors, torch.cat([x[image] for x in outputs.boxes])).tolist()
        for j, point in enumerate(points):
            reach = 1.5 * head.strides[level[j]] if head.radius else None
            gt = reference.match_point(point, gts, head.regress_ranges[level[j]], reach)
            goal = -1 if gt is None else int(batch.gt.labels[image, gt])
            loss_cls += sum(focal(x, i == goal, 2., .25) for i, x in enumerate(logits[j]))
            if gt is None:
                continue
            central = reference.centerness(point, gts[gt])
            pair = (boxes[j], gts[gt])
            loss_bbox += central * (giou_loss(*pair) if name == 'fcos_tricks' else iou_loss(*pair))
            loss_centerness += sigmoid_entropy(quality[j], central)
            total, count = total + central, count + 1
    assert count > 5
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / total, rel=1e-4)
    assert losses['loss_centerness'] == pytest.approx(loss_centerness / count, rel=1e-4)


def test_points_lie_in_the_middle_of_their_cells():
    points = MODELS.build(dict(type='MlvlPointGenerator', strides=[8, (4, 16)]))
    grid = points.grid([(1, 2), (2, 1)])
    assert grid.anchors.tolist() == [[4, 4] * 2, [12, 4] * 2, [2, 8] * 2, [2, 24] * 2]


def test_distances_of_a_box_are_decoded_and_clipped():
    coder = MODELS.build(dict(type='DistancePointBBoxCoder'))
    points, boxes = torch.tensor([[[5., 6.]]]), torch.tensor([[[1., 2., 30., 40.]]])
    distances = coder.encode(points, boxes)
    assert distances.tolist() == [[[4, 4, 25, 34]]]
    assert torch.equal(coder.decode(points, distances), boxes)
    clipped = coder.decode(points, distances, max_shape=torch.tensor([[20., 10.]]))
    assert clipped.tolist() == [[[1, 2, 10, 20]]]
    assert coder.encode(points, boxes, max_dis=16).max().item() == pytest.approx(15.9)


def test_a_range_is_given_for_each_level():
    config = config_of('fcos')
    config['bbox_head']['regress_ranges'] = ((-1, 16), (16, 1e8))
    with pytest.raises(ValueError, match='2 regress_ranges for 5 strides'):
        MODELS.build(config)


# --- ATSS


def test_anchors_are_matched_adaptively_as_the_paper_tells_it():
    generator = MODELS.build(SQUARES)
    batch = tiny_batch((3, 1, 0))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    grid = generator.grid(sizes)
    ignore = torch.tensor([[[0., 0., 30., 30.]]]).repeat(3, 1, 1)
    gt = batch.gt._replace(ignore=ignore, ignore_valid=torch.tensor([[True], [False], [True]]))
    pad_sizes = torch.tensor([[64., 96.], [50., 70.], [64., 96.]])
    usable = generator.valid_flags(sizes, pad_sizes)
    anchors = grid.anchors.tolist()
    for ignore_iof_thr in (-1, .5):
        assigner = MODELS.build(dict(type='ATSSAssigner', topk=9, ignore_iof_thr=ignore_iof_thr))
        match_ = assigner(grid.anchors, grid.counts, gt, usable)
        for image, num_objects in enumerate((3, 1, 0)):
            expected = reference.match_adaptively(anchors, grid.counts,
                                                  gt.boxes[image, :num_objects].tolist(), 9,
                                                  usable[image].tolist(),
                                                  ignore[image][gt.ignore_valid[image]].tolist(),
                                                  ignore_iof_thr)
            assert match_.label[image].tolist() == [label for _, label in expected]
            positive = [i for i, (_, label) in enumerate(expected) if label == 1]
            assert len(positive) >= num_objects
            assert match_.gt_index[image, positive].tolist() == [expected[i][0] for i in positive]


def test_atss_losses_are_those_of_the_paper():
    model, batch = model_of('atss'), tiny_batch((2, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    anchors = grid.anchors.tolist()
    loss_cls = loss_bbox = loss_centerness = total = count = 0
    for image, num_objects in enumerate((2, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        quality = torch.cat([x[image] for x in outputs.quality]).tolist()
        boxes = head.decode(grid.anchors, torch.cat([x[image] for x in outputs.boxes])).tolist()
        matched = reference.match_adaptively(anchors, grid.counts, gts, 9, [True] * len(anchors))
        for j, (gt, label) in enumerate(matched):
            goal = int(batch.gt.labels[image, gt]) if label == 1 else -1
            loss_cls += sum(focal(x, i == goal, 2., .25) for i, x in enumerate(logits[j]))
            if label == 1:
                a = anchors[j]
                central = reference.centerness([(a[0] + a[2]) / 2, (a[1] + a[3]) / 2], gts[gt])
                loss_bbox += 2 * central * giou_loss(boxes[j], gts[gt])
                loss_centerness += sigmoid_entropy(quality[j], central)
                total, count = total + central, count + 1
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / max(total, 1), rel=1e-4)
    assert losses['loss_centerness'] == pytest.approx(loss_centerness / count, rel=1e-4)
