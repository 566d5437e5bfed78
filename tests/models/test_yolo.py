"""YOLOv3 and YOLOX: what holds for every one-stage detector, and what is their own."""
import copy
import math

import pytest
import torch
from torch import nn

from mmdet_ft.checkpoints.class_rows import copy_class_rows, match_classes
from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.models.dense_heads import yolo_head
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.parts import stated_layers
from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_golden import fixed_weights
from tests.models.tiny import tiny_batch
from tests.ops.helpers import GARBAGE
from tests.reference import dense as reference
from tests.reference import simota
from tests.reference.boxes import overlap
from tests.reference.losses import iou_loss, sigmoid_entropy
from tools.benchmarks.no_sync import NoSync

ENTROPY = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum')
SIZES = [[(40, 30), (56, 60), (90, 60)], [(15, 30), (31, 22), (30, 40)], [(5, 6), (8, 15),
                                                                          (16, 11)]]
YOLOV3 = dict(
    type='YOLOV3',
    backbone=dict(type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3)),
    neck=dict(type='YOLOV3Neck', num_scales=3, in_channels=[64, 32, 16], out_channels=[16, 16, 8]),
    bbox_head=dict(
        type='YOLOV3Head',
        num_classes=3,
        in_channels=[16, 16, 8],
        out_channels=[16, 16, 16],
        anchor_generator=dict(type='YOLOAnchorGenerator', base_sizes=SIZES, strides=[32, 16, 8]),
        featmap_strides=[32, 16, 8],
        loss_cls=ENTROPY,
        loss_conf=ENTROPY,
        loss_xy=dict(ENTROPY, loss_weight=2.),
        loss_wh=dict(type='MSELoss', loss_weight=2., reduction='sum')),
    train_cfg=dict(
        assigner=dict(type='GridAssigner', pos_iou_thr=.5, neg_iou_thr=.5, min_pos_iou=0)),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=.05,
        conf_thr=.1,
        nms=dict(type='nms', iou_threshold=.45),
        max_per_img=20))
YOLOX = dict(
    type='YOLOX',
    backbone=dict(type='CSPDarknet', deepen_factor=.33, widen_factor=.125),
    neck=dict(type='YOLOXPAFPN', in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
    bbox_head=dict(type='YOLOXHead', num_classes=3, in_channels=16, feat_channels=16),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=.01, nms=dict(type='nms', iou_threshold=.65), max_per_img=20))
DEPTHWISE = copy.deepcopy(YOLOX)
for part in ('backbone', 'neck', 'bbox_head'):
    DEPTHWISE[part]['use_depthwise'] = True
CONFIGS = dict(yolov3=YOLOV3, yolox=YOLOX, yolox_depthwise=DEPTHWISE)
# Printed by the test when they change.
LOSSES = dict(
    yolov3=dict(loss_cls=6.32636, loss_conf=620.65466, loss_xy=8.52881, loss_wh=14.38828),
    yolox=dict(loss_cls=1.81568, loss_bbox=4.66395, loss_obj=63.76809),
    yolox_depthwise=dict(loss_cls=1.16525, loss_bbox=4.73226, loss_obj=64.20501))
OBJECTNESS = dict(
    yolov3='loss_conf', yolox='loss_obj',
    yolox_depthwise='loss_obj')  # the loss that is left without objects
models = pytest.mark.parametrize('name', CONFIGS)


def model_of(name, **head):
    config = copy.deepcopy(CONFIGS[name])
    config['bbox_head'].update(head)
    return fixed_weights(MODELS.build(config)).train()


def evaluated(name):
    """A model in evaluation mode whose norms know the statistics of a batch: its outputs differ by cell."""
    model = model_of(name)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.
    outputs_of(model, tiny_batch((2, 1)))
    return model.eval()


def outputs_of(model, batch):
    with torch.no_grad():
        return model.bbox_head(model.extract_features(normalize_images(batch)))


@models
def test_losses_of_fixed_weights_are_the_golden_ones(name):
    losses, grads = step(model_of(name), tiny_batch((2, 1)))
    print(name, {key: round(value, 5) for key, value in losses.items()})
    assert losses == pytest.approx(LOSSES[name], rel=1e-3)
    assert all(grad.isfinite().all() for grad in grads.values())


@models
def test_every_trained_weight_gets_a_gradient_even_without_any_object(name):
    for objects in ((2, 1), (0, 0)):
        model = model_of(name)
        losses, grads = step(model, tiny_batch(objects))
        assert set(grads) == {key for key, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    assert [key for key, value in losses.items() if value] == [OBJECTNESS[name]]


@models
@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(name, garbage):
    batch = tiny_batch((2, 1))
    clean, clean_grads = step(model_of(name), batch)
    gt = batch.gt._replace(
        boxes=batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage),
        labels=batch.gt.labels.masked_fill(~batch.gt.valid, 2))
    poisoned, grads = step(model_of(name), batch._replace(gt=gt))
    assert poisoned == clean
    assert all(torch.equal(grads[key], clean_grads[key]) for key in clean_grads)


@models
def test_more_empty_slots_change_nothing(name):
    few, few_grads = step(model_of(name), tiny_batch((2, 1), slots=8))
    many, many_grads = step(model_of(name), tiny_batch((2, 1), slots=24))
    assert few == pytest.approx(many, rel=1e-5)
    assert all(
        torch.allclose(few_grads[key], many_grads[key], rtol=1e-3, atol=1e-4) for key in few_grads)


@models
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


@models
def test_two_equal_views_tell_the_same_as_one(name):
    model, batch = evaluated(name), tiny_batch((2, 1))
    one, two = model(batch), model((batch, batch))
    both = (one.valid & two.valid)
    assert one.valid.any() and torch.equal(one.valid, two.valid)
    assert torch.equal(one.boxes[both], two.boxes[both])


@models
def test_only_the_prediction_layers_may_differ_in_a_checkpoint(name):
    model = model_of(name)
    others = model_of(name, num_classes=5).state_dict()
    differ = {key for key, value in model.state_dict().items() if value.shape != others[key].shape}
    assert differ and all(key.startswith(model.prediction_layers()) for key in differ)
    report = fit(model, Checkpoint('a.pth', others, {}, {}))
    assert {item[0] for item in report.reinitialised} == differ and not report.missing
    assert len(report.loaded) == report.total - len(differ) and not report.mismatched


# --- YOLOv3


def cell_of(box, stride):
    return int((box[0] + box[2]) / 2 // stride), int((box[1] + box[3]) / 2 // stride)


def assign(anchors, cells, strides, gts):
    """(object, label) of each anchor, as YOLOv3 tells it with V2's thresholds of 0.5."""
    ours = [any(cell_of(gt, stride) == cell for gt in gts) for cell, stride in zip(cells, strides)]
    table = [[overlap(gt, anchor) for anchor in anchors] for gt in gts]
    answer = []
    for j in range(len(anchors)):
        column = [row[j] for row in table]
        label = 0 if max(column, default=0) <= .5 else -1
        answer.append((column.index(max(column)), 1) if ours[j] and max(column) > .5 else (0,
                                                                                           label))
    for i, row in enumerate(table):
        best = max(value for value, own in zip(row, ours) if own)
        for j, value in enumerate(row):
            if ours[j] and value == best > 0:
                answer[j] = (i, 1)
    return answer


def layout(head, outputs):
    """Anchors with the cell and the stride of each, as lists."""
    grid = head.grid(outputs.sizes, torch.device('cpu'))
    strides = [s for s, count in zip(head.featmap_strides, grid.counts) for _ in range(count)]
    cells = [(int(x) // stride, int(y) // stride)
             for (x, y), stride in zip(grid.corner.tolist(), strides)]
    return grid.anchors.tolist(), cells, strides


def test_objects_are_assigned_to_anchors_of_cells_with_a_center():
    model, batch = model_of('yolov3'), tiny_batch((4, 1, 0), seed=3)
    head, outputs = model.bbox_head, outputs_of(model, batch)
    targets = head.targets(outputs, batch)
    for image, num_objects in enumerate((4, 1, 0)):
        gts = batch.gt.boxes[image, :num_objects]
        found = assign(*layout(head, outputs), gts.tolist())
        positive = targets.positive[image]
        assert positive.tolist() == [label == 1 for _, label in found]
        assert targets.weight[image].tolist() == [float(label >= 0) for _, label in found]
        assert int(positive.sum()) >= num_objects
        index = torch.tensor([gt for gt, label in found if label == 1], dtype=torch.long)
        assert torch.equal(targets.boxes[image, positive], gts[index])


@pytest.mark.parametrize('smoother', [0., .3])
def test_yolov3_losses_are_those_of_the_paper(smoother):
    model, batch = model_of('yolov3', one_hot_smoother=smoother), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head, outputs = model.bbox_head, outputs_of(model, batch)
    anchors, cells, strides = layout(head, outputs)
    expected = dict.fromkeys(losses, 0.)
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        logits, raw, confidence = (
            torch.cat([x[image] for x in part]).tolist()
            for part in (outputs.logits, outputs.boxes, outputs.quality))
        for j, (gt, label) in enumerate(assign(anchors, cells, strides, gts)):
            if label >= 0:
                expected['loss_conf'] += sigmoid_entropy(confidence[j], label)
            if label != 1:
                continue
            goal = int(batch.gt.labels[image, gt])
            box, anchor, stride = gts[gt], anchors[j], strides[j]
            for i, x in enumerate(logits[j]):
                target = (i == goal) * (1 - smoother) + smoother / 3
                expected['loss_cls'] += sigmoid_entropy(x, target)
            for axis in range(2):
                shift = (box[axis] + box[axis + 2] - anchor[axis] - anchor[axis + 2]) / 2 / stride
                target = min(max(shift + .5, 1e-6), 1 - 1e-6)
                expected['loss_xy'] += 2 * sigmoid_entropy(raw[j][axis], target)
                growth = (box[axis + 2] - box[axis]) / (anchor[axis + 2] - anchor[axis])
                expected['loss_wh'] += 2 * (raw[j][axis + 2] - math.log(growth))**2
    assert losses == pytest.approx(expected, rel=1e-4)


def test_detections_of_yolov3_are_those_of_the_reference():
    model, batch = model_of('yolov3').eval(), tiny_batch((2, 1))
    batch = batch._replace(scale_factors=batch.scale_factors * 2)
    head = model.bbox_head
    outputs, found = outputs_of(model, batch), model(batch)
    anchors, _, strides = layout(head, outputs)
    for image in range(2):
        logits, raw, confidence = (
            torch.cat([x[image] for x in part]).tolist()
            for part in (outputs.logits, outputs.boxes, outputs.quality))
        boxes, scores, factors = [], [], []
        for anchor, stride, row, pred, objectness in zip(anchors, strides, logits, raw, confidence):
            center = [(anchor[i] + anchor[i + 2]) / 2 + (reference.sigmoid(pred[i]) - .5) * stride
                      for i in range(2)]
            half = [(anchor[i + 2] - anchor[i]) / 2 * math.exp(pred[i + 2]) for i in range(2)]
            boxes.append([(center[i] + sign * half[i]) / 2 for sign in (-1, 1) for i in range(2)])
            factors.append(reference.sigmoid(objectness))
            scores.append([reference.sigmoid(x) * (factors[-1] >= .1) for x in row])
        expected = reference.detections([(scores, boxes, factors)], .05, 10**6, .45, 20)
        valid = found.valid[image]
        assert int(valid.sum()) == len(expected) > 5
        assert found.labels[image, valid].tolist() == [box.label for box in expected]
        assert found.scores[image, valid].tolist() == pytest.approx([box.score for box in expected],
                                                                    rel=1e-5)
        assert torch.allclose(
            found.boxes[image, valid], torch.tensor([box.box for box in expected]), atol=1e-3)


def test_a_bound_on_the_candidates_changes_no_detection(monkeypatch):
    model, batch = model_of('yolov3').eval(), tiny_batch((2, 1))
    every = model(batch)
    monkeypatch.setattr(yolo_head, 'MAX_CANDIDATES', 200)
    best = model(batch)
    assert torch.equal(every.boxes, best.boxes) and torch.equal(every.scores, best.scores)


def test_anchors_of_yolo_lie_in_the_middle_of_their_cells():
    generator = MODELS.build(
        dict(type='YOLOAnchorGenerator', strides=[(16, 8)], base_sizes=[[(4, 2), (10, 20)]]))
    grid = generator.grid([(1, 2)])
    assert grid.anchors.tolist() == [[6, 3, 10, 5], [3, -6, 13, 14], [22, 3, 26, 5],
                                     [19, -6, 29, 14]]
    batch = tiny_batch((1, ))
    gt = batch.gt._replace(
        boxes=torch.tensor([[[20., 0., 24., 4.], [0., 30., 4., 34.]]]),
        valid=torch.tensor([[True, True]]))  # the second lies below the map
    assert generator.responsible_flags([(1, 2)], gt).tolist() == [[False, False, True, True]]


def test_positions_and_sizes_of_a_box_are_decoded_back():
    coder = MODELS.build(dict(type='YOLOBBoxCoder'))
    anchor, box = torch.tensor([[6., 3., 10., 5.]]), torch.tensor([[8., 0., 16., 6.]])
    deltas = coder.encode(anchor, box, 16)
    assert deltas[0].tolist() == pytest.approx([.75, 7 / 16, math.log(2), math.log(3)])
    assert torch.allclose(coder.decode(anchor, deltas, 16), box)
    assert coder.encode(anchor, box + 100, 16)[0, :2].tolist() == pytest.approx([1, 1], abs=2e-6)


def test_rows_of_the_box_and_of_shared_classes_are_copied_for_each_anchor():
    match = match_classes(('a', 'b', 'c'), ('c', 'd'), {})
    rows = stated_layers(model_of('yolov3'))['bbox_head.convs_pred.']
    old, new = torch.arange(16.), -torch.ones(14)  # two anchors
    assert copy_class_rows(rows, old, new,
                           match).tolist() == [0, 1, 2, 3, 4, 7, -1, 8, 9, 10, 11, 12, 15, -1]
    assert copy_class_rows(rows, old, -torch.ones(21), match) is None  # three anchors


def test_new_heads_begin_with_few_objects():
    model = MODELS.build(copy.deepcopy(YOLOV3))
    model.init_weights()
    bias = model.bbox_head.convs_pred[2].bias.view(3, 8).sigmoid()
    assert bias[:, 4].tolist() == pytest.approx([8 / 76**2] * 3)
    assert bias[:, 5:].tolist() == [pytest.approx([.01] * 3)] * 3
    assert model.bbox_head.convs_pred[0].weight.std().item() == pytest.approx(.01, rel=.1)


@pytest.mark.parametrize('head, message', [
    (dict(out_channels=[16, 16]), 'out_channels is for 2 levels, featmap_strides for 3'),
    (dict(featmap_strides=[32, 16]), 'in_channels is for 3 levels, featmap_strides for 2'),
    (dict(anchor_generator=dict(type='YOLOAnchorGenerator', strides=[8], base_sizes=SIZES)),
     '3 base_sizes for 1 strides'),
    (dict(anchor_generator=dict(type='YOLOAnchorGenerator', strides=[8, 4], base_sizes=[[(1, 2)], []])),
     r'base_sizes has levels of \[1, 0\] anchors'),
])  # yapf: disable
def test_levels_that_do_not_fit_are_named(head, message):
    with pytest.raises(ValueError, match=message):
        model_of('yolov3', **head)


def test_a_sampler_is_refused():
    config = copy.deepcopy(YOLOV3)
    config['train_cfg']['sampler'] = dict(type='RandomSampler', num=16, pos_fraction=.5)
    with pytest.raises(ValueError, match='remove sampler from train_cfg'):
        MODELS.build(config)


@pytest.mark.parametrize('norm_eval', [True, False])
def test_darknet_gives_three_levels_and_freezes_its_beginning(norm_eval):
    backbone = MODELS.build(dict(type='Darknet', frozen_stages=2, norm_eval=norm_eval)).train()
    frozen = {key.split('.')[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'conv_res_block1'}
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not norms[0].training and norms[-1].training != norm_eval
    backbone.eval()
    with torch.no_grad():
        outputs = backbone(torch.randn(1, 3, 32, 64))
    assert [tuple(x.shape[1:]) for x in outputs] == [(256, 4, 8), (512, 2, 4), (1024, 1, 2)]


def test_folded_norms_change_no_output_of_darknet():
    stage = MODELS.build(dict(type='Darknet', out_indices=(1, ))).eval()
    for layer in stage.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(.5, 2)
            layer.running_mean.normal_()
    x = torch.randn(1, 3, 16, 16)
    plain = stage.conv_res_block1(stage.conv1(x))
    assert torch.allclose(stage(x)[0], plain, atol=1e-5)


@pytest.mark.parametrize('arguments, message', [
    (dict(depth=21), 'write depth=53'),
    (dict(out_indices=(3, 6)), 'the outputs are 0 to 5'),
    (dict(frozen_stages=9), 'write -1 to 6'),
    (dict(pretrained='a.pth', init_cfg=dict(type='Kaiming')), 'remove pretrained'),
])
def test_a_darknet_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='Darknet', **arguments))


# --- YOLOX


def cells_of_yolox(head, outputs):
    """Corners of the cells and their strides, as lists."""
    corners = head.grid(outputs.sizes, torch.device('cpu')).anchors[:, :2].tolist()
    strides = [
        stride for stride, (height, width) in zip(head.strides, outputs.sizes)
        for _ in range(height * width)
    ]
    return corners, strides


def boxes_of_yolox(corners, strides, raw):
    """Decoded boxes of one image, as lists."""
    boxes = []
    for corner, stride, pred in zip(corners, strides, raw):
        center = [corner[i] + pred[i] * stride for i in range(2)]
        half = [math.exp(pred[i + 2]) * stride / 2 for i in range(2)]
        boxes.append([center[i] + sign * half[i] for sign in (-1, 1) for i in range(2)])
    return boxes


@pytest.mark.parametrize('seed', [0, 1])
def test_points_are_assigned_by_cost_as_the_paper_tells_it(seed):
    generator = torch.Generator().manual_seed(seed)
    strides = [8.] * 96 + [16.] * 24
    points = [[x * 8 + 4., y * 8 + 4.] for y in range(8) for x in range(12)]
    points += [[x * 16 + 8., y * 16 + 8.] for y in range(4) for x in range(6)]
    gt = tiny_batch((4, 1, 0), slots=6, seed=seed).gt
    scores = torch.rand(3, 120, 4, generator=generator) * .9 + .05
    center = torch.tensor(points) + torch.randn(3, 120, 2, generator=generator) * 4
    half = torch.rand(3, 120, 2, generator=generator) * 14 + 3
    boxes = torch.cat([center - half, center + half], -1)
    assigner = MODELS.build(dict(type='SimOTAAssigner'))
    match = assigner(torch.tensor(points), torch.tensor(strides)[:, None], scores, boxes, gt)
    for image, num_objects in enumerate((4, 1, 0)):
        expected = simota.assign(points, strides, scores[image].tolist(), boxes[image].tolist(),
                                 gt.boxes[image, :num_objects].tolist(), gt.labels[image].tolist())
        assert match.positive[image].tolist() == [pair is not None for pair in expected]
        found = zip(match.gt_index[image].tolist(), match.overlap[image].tolist(), expected)
        for gt_index, iou, pair in found:
            assert pair is None or (gt_index, iou) == (pair[0], pytest.approx(pair[1], abs=1e-5))
        assert num_objects == 0 or sum(pair is not None for pair in expected) > num_objects


@pytest.mark.parametrize('use_l1', [False, True])
def test_yolox_losses_are_those_of_the_paper(use_l1):
    model, batch = model_of('yolox'), tiny_batch((3, 1))
    head = model.bbox_head
    head.use_l1 = use_l1
    outputs = outputs_of(model, batch)
    losses = {key: value.item() for key, value in head.loss(outputs, batch).items()}
    corners, strides = cells_of_yolox(head, outputs)
    expected, count = dict.fromkeys(losses, 0.), 0
    for image, num_objects in enumerate((3, 1)):
        gts, labels = batch.gt.boxes[image, :num_objects].tolist(), batch.gt.labels[image].tolist()
        logits, raw, objectness = (
            torch.cat([x[image] for x in part]).tolist()
            for part in (outputs.logits, outputs.boxes, outputs.quality))
        boxes = boxes_of_yolox(corners, strides, raw)
        scores = [[reference.sigmoid(x) * reference.sigmoid(factor) for x in row]
                  for row, factor in zip(logits, objectness)]
        points = [[x + stride / 2, y + stride / 2] for (x, y), stride in zip(corners, strides)]
        pairs = simota.assign(points, strides, scores, boxes, gts, labels)
        for j, pair in enumerate(pairs):
            expected['loss_obj'] += sigmoid_entropy(objectness[j], pair is not None)
            if pair is None:
                continue
            gt, count = gts[pair[0]], count + 1
            expected['loss_bbox'] += 5 * iou_loss(boxes[j], gt, 'square')
            for i, x in enumerate(logits[j]):
                expected['loss_cls'] += sigmoid_entropy(x, pair[1] * (i == labels[pair[0]]))
            if use_l1:
                goal = [((gt[i] + gt[i + 2]) / 2 - corners[j][i]) / strides[j] for i in range(2)]
                goal += [math.log((gt[i + 2] - gt[i]) / strides[j]) for i in range(2)]
                expected['loss_l1'] += sum(abs(a - b) for a, b in zip(raw[j], goal))
    assert count > 3
    assert losses == pytest.approx({
        key: value / count
        for key, value in expected.items()
    },
                                   rel=1e-4)


def test_detections_of_yolox_are_those_of_the_reference():
    model, batch = evaluated('yolox'), tiny_batch((2, 1))
    batch = batch._replace(scale_factors=batch.scale_factors * 2)
    head = model.bbox_head
    outputs, found = outputs_of(model, batch), model(batch)
    corners, strides = cells_of_yolox(head, outputs)
    for image in range(2):
        logits, raw, objectness = (
            torch.cat([x[image] for x in part]).tolist()
            for part in (outputs.logits, outputs.boxes, outputs.quality))
        boxes = [[x / 2 for x in box] for box in boxes_of_yolox(corners, strides, raw)]
        factors = [reference.sigmoid(x) for x in objectness]
        scores = [[
            reference.sigmoid(x) * (x == max(row)) * (reference.sigmoid(x) * factor >= .01)
            for x in row
        ] for row, factor in zip(logits, factors)]
        expected = reference.detections([(scores, boxes, factors)], 0, 10**6, .65, 20)
        valid = found.valid[image]
        assert int(valid.sum()) == len(expected) > 5
        assert found.labels[image, valid].tolist() == [box.label for box in expected]
        assert found.scores[image, valid].tolist() == pytest.approx([box.score for box in expected],
                                                                    rel=1e-5)
        assert torch.allclose(
            found.boxes[image, valid], torch.tensor([box.box for box in expected]), atol=1e-3)


def test_yolox_keeps_all_detections_unless_a_limit_is_given():
    config = copy.deepcopy(YOLOX)
    del config['test_cfg']['max_per_img']
    config['test_cfg'].update(score_thr=0., nms=dict(type='nms', iou_threshold=1.))
    found = MODELS.build(config).eval()(tiny_batch((1, )))
    assert found.valid.sum().item() == 8 * 12 + 4 * 6 + 2 * 3


def test_new_yolox_heads_begin_with_few_objects():
    model = MODELS.build(copy.deepcopy(YOLOX))
    model.init_weights()
    for convs in (model.bbox_head.multi_level_conv_cls, model.bbox_head.multi_level_conv_obj):
        assert convs[1].bias.sigmoid().tolist() == pytest.approx([.01] * len(convs[1].bias))


def test_images_are_resized_after_some_steps_by_the_seed_alone():
    model, batch = model_of('yolox'), tiny_batch((2, 1))  # of 64 x 96 pixels
    model.input_size, model.random_size_range, model.random_size_interval = (64, 96), (3, 4), 5
    plain = model(batch).terms
    model.begin_step(4, seed=0)
    assert {
        key: value.item()
        for key, value in plain.items()
    } == {
        key: value.item()
        for key, value in model(batch).terms.items()
    }
    sizes = []
    for iteration in (5, 9, 10, 15, 20, 25, 30, 35):
        model.begin_step(iteration, seed=0)
        resized = model._resized(batch)
        sizes.append(tuple(resized.images.shape[2:]))
        factor = sizes[-1][0] / 64
        assert torch.allclose(resized.gt.boxes[:, :1, 1::2], batch.gt.boxes[:, :1, 1::2] * factor)
        assert torch.allclose(resized.gt.boxes[:, :1, ::2],
                              batch.gt.boxes[:, :1, ::2] * sizes[-1][1] / 96)
        assert resized.sizes[0].tolist() == list(map(float, sizes[-1]))
    assert sizes[0] == sizes[1] and set(sizes) == {(96, 128), (128, 192)}  # int(1.5 * 3) is 4
    model.eval()
    evaluated = model.loss(batch).terms
    model.factors = (1., 1.)
    assert evaluated['loss_obj'].item() == model.loss(batch).terms['loss_obj'].item()


@pytest.mark.parametrize('change, message', [
    (dict(bbox_head=dict(loss_obj=dict(type='CrossEntropyLoss', use_sigmoid=True))),
     "loss_obj.reduction is 'mean'"),
    (dict(random_size_range=(25, 15)), 'random_size_range is .smallest, largest. in multiples of 32'),
    (dict(backbone=dict(arch='P7')), "write 'P5' or 'P6'"),
    (dict(backbone=dict(out_indices=(2, 5))), 'the outputs are 0 to 4'),
    (dict(backbone=dict(frozen_stages=5)), 'write -1 to 4'),
])  # yapf: disable
def test_a_yolox_that_does_not_exist_is_refused(change, message):
    config = copy.deepcopy(YOLOX)
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('arch, channels', [('P5', [32, 64, 128]), ('P6', [64, 96, 128])])
def test_csp_darknet_gives_levels_and_freezes_its_beginning(arch, channels):
    backbone = MODELS.build(
        dict(
            type='CSPDarknet',
            arch=arch,
            deepen_factor=.1,
            widen_factor=.125,
            out_indices=(2, 3, 4) if arch == 'P5' else (3, 4, 5),
            frozen_stages=1,
            norm_eval=True)).train()
    frozen = {key.split('.')[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'stem', 'stage1'}
    assert not any(layer.training
                   for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d))
    outputs = backbone(torch.randn(1, 3, 64, 64))
    assert [x.shape[1] for x in outputs] == channels
    assert [x.shape[2] for x in outputs] == ([8, 4, 2] if arch == 'P5' else [4, 2, 1])
