"""CascadeRCNN: stages of boxes and masks, each on the boxes that the one before has moved."""
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.config import Config
from mmdet_ft.engine.config_check.lengths import check_lengths
from mmdet_ft.engine.config_check.mistakes import Findings
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.roi_heads.regions import to_rois
from mmdet_ft.parts import find_prediction_layers, part_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import to_device
from tests.models.tiny import tiny_batch, tiny_cascade_config, tiny_config
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import count_syncs


def cascade(**settings):
    torch.manual_seed(0)
    model = MODELS.build(tiny_cascade_config(**settings))
    model.init_weights()
    return model.train()


def step(model, batch):
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(batch)
    losses.total.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.terms.items()}, grads, losses


def test_losses_have_the_names_of_v2():
    _, _, losses = step(cascade(), tiny_batch())
    stages = [f's{stage}.loss_{name}' for stage in range(3) for name in ('cls', 'bbox', 'mask')]
    assert list(losses.terms) == ['loss_rpn_cls', 'loss_rpn_bbox', *stages]
    assert list(losses.metrics) == ['s0.acc', 's1.acc', 's2.acc']


@pytest.mark.parametrize('agnostic', [True, False])
def test_every_trained_weight_gets_a_gradient_even_without_any_object(agnostic):
    for objects in ((2, 1), (0, 0)):
        model = cascade(agnostic=agnostic)
        losses, grads, _ = step(model, tiny_batch(objects))
        assert set(grads) == {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    assert all(losses[f's{stage}.loss_{name}'] == 0 for stage in range(3)
               for name in ('bbox', 'mask'))


def test_a_cascade_of_one_stage_is_a_standard_roi_head():
    one = cascade(num_stages=1, agnostic=False)
    settings = tiny_config()
    settings['train_cfg']['rcnn']['assigner'].update(pos_iou_thr=.5, neg_iou_thr=.5)
    standard = MODELS.build(settings).train()
    standard.load_state_dict({
        name.replace('_head.0.', '_head.'): value
        for name, value in one.state_dict().items()
    })
    batch = tiny_batch((2, 1))
    found, expected = step(one, batch)[0], step(standard, batch)[0]
    assert list(found.values()) == pytest.approx(list(expected.values()))
    one.eval(), standard.eval()
    for a, b in zip(one(batch), standard(batch)):
        torch.testing.assert_close(a, b)


def moved(head, boxes, labels, deltas, size):
    """One image: each box by its own deltas, as V2's regress_by_class reads."""
    out = []
    for box, label, row in zip(boxes, labels, deltas):
        row = row if head.reg_class_agnostic else row[4 * label:4 * label + 4]
        out.append(head.bbox_coder.decode(box[None], row[None], max_shape=size)[0])
    return torch.stack(out)


@pytest.mark.parametrize('agnostic', [True, False])
def test_the_next_stage_gets_the_moved_regions_without_ground_truths(agnostic):
    model, batch = cascade(agnostic=agnostic), tiny_batch((2, 3))
    roi_head, gt = model.roi_head, batch.gt
    features = model.features_of(batch)
    proposals = model.rpn_head.proposals(model.rpn_head(features), batch, model.train_proposals)
    torch.manual_seed(0)
    rois = roi_head.sample(0, features, proposals, gt)
    assert rois.is_gt.any()
    logits = torch.randn(rois.valid.numel(), 4)
    deltas = torch.randn(rois.valid.numel(), 4 if agnostic else 12) * .5
    got = roi_head.refined(0, rois, logits, deltas, batch)
    num_slots = rois.valid.shape[1]
    for i in range(2):
        rows = slice(i * num_slots, (i + 1) * num_slots)
        labels, keep = logits[rows, :3].argmax(1), []
        for j in range(num_slots):
            positive = j < rois.positive.shape[1] and rois.positive[i, j]
            if positive:
                labels[j] = gt.labels[i, rois.gt_index[i, j]]
            is_own = positive and any(
                torch.equal(rois.boxes[i, j], box) for box in gt.boxes[i, gt.valid[i]])
            keep.append(bool(rois.valid[i, j]) and not is_own)
        expected = moved(roi_head.bbox_head[0], rois.boxes[i], labels, deltas[rows], batch.sizes[i])
        assert got.valid[i].tolist() == keep
        torch.testing.assert_close(got.boxes[i][got.valid[i]], expected[keep])


@pytest.mark.parametrize('agnostic', [True, False])
def test_scores_are_of_the_mean_logits_and_boxes_of_the_last_stage(agnostic):
    model, batch = cascade(agnostic=agnostic).eval(), tiny_batch((2, 3))
    features = model.features_of(batch)
    boxes = torch.tensor([10., 8, 40, 50]) + torch.arange(12.).view(2, 6, 1)
    got, scores = model.roi_head.box_predictions(features, boxes, batch.sizes)
    for i in range(2):
        own, all_logits = boxes[i], []
        for stage, head in enumerate(model.roi_head.bbox_head):
            rois = to_rois(own[None])
            rois[:, 0] = i
            logits, deltas = head(model.roi_head.bbox_roi_extractor[stage](features, rois))
            all_logits.append(logits)
            if stage < 2:
                own = moved(head, own, logits[:, :-1].argmax(1), deltas, batch.sizes[i])
        for label in range(1 if agnostic else 3):
            torch.testing.assert_close(
                got[i, :, label], moved(head, own, torch.full((6, ), label), deltas,
                                        batch.sizes[i]))
        mean = sum(all_logits) / 3
        torch.testing.assert_close(scores[i], mean.softmax(1)[:, :3])


def test_masks_are_the_mean_of_the_stages():
    model, batch = cascade().eval(), tiny_batch((2, ))
    features, found = model.features_of(batch), model(batch)
    roi_head, total = model.roi_head, 0
    for stage in range(3):
        logits = roi_head.mask_head[stage](
            roi_head.mask_roi_extractor[stage](features, to_rois(found.boxes)))
        total = total + torch.stack(
            [row[label] for row, label in zip(logits.sigmoid(), found.labels[0])]) / 3
    assert found.valid.all()
    torch.testing.assert_close(found.masks[0], total)


def test_equal_views_give_the_detections_of_one():
    model, batch = cascade().eval(), tiny_batch((2, ))
    one, two = model(batch), model((batch, batch))
    torch.testing.assert_close(two.scores, one.scores, atol=1e-5, rtol=1e-4)
    assert two.masks.shape == one.masks.shape


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(garbage):
    model, batch = cascade(), tiny_batch((2, 1))
    clean, clean_grads, _ = step(model, batch)
    boxes = batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage)
    poisoned, grads, _ = step(model, batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[name], clean_grads[name]) for name in clean_grads)


def test_garbage_in_empty_proposals_changes_nothing():
    model, batch = cascade(), tiny_batch((2, 1))
    features = [feature.detach() for feature in model.features_of(batch)]
    proposals = model.rpn_head.proposals(model.rpn_head(features), batch, model.train_proposals)
    valid = torch.rand(proposals.valid.shape) < .5
    losses = []
    for fill in (7., float('nan')):
        torch.manual_seed(0)
        boxes = proposals.boxes.masked_fill(~valid[..., None], fill)
        terms = model.roi_head.loss(features, Proposals(boxes, proposals.scores, valid),
                                    batch).terms
        losses.append({name: value.item() for name, value in terms.items()})
    assert losses[0] == losses[1] and all(value == value for value in losses[0].values())


def test_the_hardest_boxes_of_each_stage_can_be_drawn():
    config = tiny_cascade_config()
    for item in config['train_cfg']['rcnn']:
        item['sampler'].update(type='OHEMSampler')
    losses, _, _ = step(MODELS.build(config).train(), tiny_batch((2, 1)))
    assert all(value >= 0 for value in losses.values())


def test_a_step_waits_as_seldom_as_that_of_mask_rcnn_and_its_shapes_are_those_of_the_batch():
    model, batch = cascade(), tiny_batch((2, 1))
    model(batch)
    with count_syncs() as seen:
        model(batch).total.backward()
    assert len(seen.syncs) <= 2, seen.syncs
    meta = torch.device('meta')
    model, batch = model.to(meta), to_device(batch, meta)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.loss(batch, num_mask_slots=16).total.backward()


def test_prediction_layers_are_those_of_every_stage():
    layers = find_prediction_layers(cascade(agnostic=False))
    for stage in range(3):
        assert {
            f'roi_head.bbox_head.{stage}.fc_cls.', f'roi_head.bbox_head.{stage}.fc_reg.',
            f'roi_head.mask_head.{stage}.conv_logits.'
        } <= set(layers)
    assert part_of('roi_head.bbox_head.1.fc_cls.weight') == 'roi_head.bbox_head.1'


@pytest.mark.parametrize('change, message', [
    (dict(stage_loss_weights=[1, .5]), 'stage_loss_weights has 2 entries, but num_stages is 3'),
    (dict(bbox_head=[dict(type='Shared2FCBBoxHead')] * 2), 'bbox_head has 2 entries'),
    (dict(shared_head=dict(type='ResLayer', depth=50)), 'write shared_head=None'),
    (dict(train_cfg=dict(assigner=None)), 'is a dict; write a list of one dict a stage'),
    (dict(train_cfg=[]), 'train_cfg.rcnn has 0 entries'),
])
def test_what_is_not_of_every_stage_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**tiny_cascade_config()['roi_head'], **change})


def lengths(tmp_path, text):
    """The mistakes and warnings about lengths in the config of a cascade, changed by a file of `text`."""
    (tmp_path / 'base.py').write_text(f'model = {tiny_cascade_config()!r}\n')
    (tmp_path / 'c.py').write_text(f"_base_ = 'base.py'\n{text}\n")
    found = Findings(Config.fromfile(str(tmp_path / 'c.py')))
    check_lengths(found)
    return [mistake.message for mistake in found.mistakes], found


@pytest.mark.parametrize('text, path, message', [
    ('model = dict(roi_head=dict(stage_loss_weights=[1, .5]))', 'model.roi_head.stage_loss_weights',
     'write one value a stage: 3 of them'),
    ('model = dict(train_cfg=dict(rcnn=[dict(), dict()]))', 'model.train_cfg.rcnn',
     'write one dict a stage: 3 of them'),
    ('model = dict(train_cfg=dict(rcnn=dict(_delete_=True, pos_weight=-1)))',
     'model.train_cfg.rcnn', 'is one dict'),
    ('model = dict(roi_head=dict(bbox_head=[dict()]))', 'model.roi_head.bbox_head',
     'has 1 entries, but model.roi_head.num_stages is 3 ('),
])
def test_the_check_of_a_config_names_a_list_of_another_length(tmp_path, text, path, message):
    messages, found = lengths(tmp_path, text)
    assert [mistake.path for mistake in found.mistakes] == [path]
    assert message in messages[0] and found.mistakes[0].where.endswith('c.py:2')


def test_settings_beyond_the_last_stage_are_a_warning(tmp_path):
    messages, found = lengths(tmp_path, 'model = dict(train_cfg=dict(rcnn=[dict()] * 4))')
    assert messages == [] and 'the last 1 are not used' in found.warnings[0]


def test_wrong_channels_of_one_stage_are_named(tmp_path):
    from mmdet_ft.engine.config_check.feature_levels import check_levels
    config = tiny_cascade_config()
    config['roi_head']['bbox_head'][1]['in_channels'] = 24
    config['roi_head']['mask_head']['in_channels'] = 8
    (tmp_path / 'c.py').write_text(f'model = {config!r}\n')
    found = Findings(Config.fromfile(str(tmp_path / 'c.py')))
    check_levels(found)
    assert [(mistake.path, mistake.where is not None)
            for mistake in found.mistakes] == [('model.roi_head.bbox_head.1.in_channels', True),
                                               ('model.roi_head.mask_head.in_channels', True)]
    assert all('write in_channels=16' in mistake.message for mistake in found.mistakes)


def named_cascade(classes, **settings):
    model = cascade(num_classes=len(classes), **settings)
    model.CLASSES = classes
    return model


@pytest.mark.parametrize('agnostic', [True, False])
def test_other_classes_begin_with_fresh_prediction_layers_in_every_stage(agnostic):
    source = named_cascade(('cat', 'dog', 'bird'), agnostic=agnostic)
    model = named_cascade(('fox', 'cat'), agnostic=agnostic)
    for parameter in model.parameters():
        parameter.data.add_(1.)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    report = fit(model, Checkpoint('c.pth', source.state_dict(), dict(CLASSES=source.CLASSES), {}))
    layers = ['bbox_head.{}.fc_cls'] + ([] if agnostic else ['bbox_head.{}.fc_reg'])
    expected = {
        f'roi_head.{layer.format(stage)}.{kind}'
        for layer in [*layers, 'mask_head.{}.conv_logits']
        for stage in range(3)
        for kind in ('weight', 'bias')
    }
    assert {item[0] for item in report.reinitialised} == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, (fresh if name in expected else source.state_dict())[name])


@pytest.mark.parametrize('agnostic', [True, False])
def test_rows_of_known_classes_are_copied_in_every_stage(agnostic):
    source = named_cascade(('cat', 'dog', 'bird'), agnostic=agnostic)
    model = named_cascade(('fox', 'bird', 'cat'), agnostic=agnostic)
    for parameter in model.parameters():
        parameter.data.add_(1.)
    checkpoint = Checkpoint('c.pth', source.state_dict(), dict(CLASSES=source.CLASSES), {})
    report = fit(model, checkpoint, heads='by_class')
    assert len(report.loaded) == report.total and report.by_class.new_classes == ['fox']
    for stage in range(3):
        old, new = source.roi_head.bbox_head[stage], model.roi_head.bbox_head[stage]
        assert torch.equal(new.fc_cls.weight[1:], old.fc_cls.weight[[2, 0, 3]])
        if agnostic:
            assert torch.equal(new.fc_reg.weight, old.fc_reg.weight)
        else:
            assert torch.equal(new.fc_reg.weight[4:8], old.fc_reg.weight[8:])
        old, new = source.roi_head.mask_head[stage], model.roi_head.mask_head[stage]
        assert torch.equal(new.conv_logits.weight[1:], old.conv_logits.weight[[2, 0]])
