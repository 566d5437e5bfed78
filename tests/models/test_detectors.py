import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from torchvision.ops import box_iou

from mmdet_ft.models.anchors import usable_anchors
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.detectors.views import _to_view, join_proposals, to_original
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Detections
from tests.models.tiny import tiny_batch, tiny_config, tiny_model
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import NoSync, count_syncs

KEYS = ['loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask']


def step(model, batch, seed=0):
    """Losses as numbers, and the gradients."""
    torch.manual_seed(seed)
    model.zero_grad()
    losses = model(batch)
    losses.total.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.terms.items()}, grads


def test_a_step_gives_the_five_losses_of_mask_rcnn_and_the_accuracy():
    losses = tiny_model()(tiny_batch())
    assert list(losses.terms) == KEYS and list(losses.metrics) == ['acc']
    assert all(value.dim() == 0 and value.isfinite() and value > 0
               for value in losses.terms.values())
    assert losses.total.item() == pytest.approx(
        sum(value.item() for value in losses.terms.values()))


def test_every_trained_weight_gets_a_gradient_even_without_any_object():
    for objects in ((2, 1), (0, 0)):
        model = tiny_model()
        _, grads = step(model, tiny_batch(objects))
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert set(grads) == trained
        assert all(grad.isfinite().all() for grad in grads.values())


def test_without_objects_there_is_no_box_and_no_mask_loss():
    losses, _ = step(tiny_model(), tiny_batch((0, 0)))
    assert losses['loss_rpn_bbox'] == losses['loss_bbox'] == losses['loss_mask'] == 0
    assert losses['loss_rpn_cls'] > 0 and losses['loss_cls'] > 0


def test_an_image_without_objects_counts_one_positive_in_the_normaliser_of_the_rpn():
    """V2: the sum over images of max(positives, 1) + max(negatives, 1)."""
    model, batch = tiny_model(), tiny_batch((0, ))
    losses, _ = step(model, batch)
    outputs = model.rpn_head(model.extract_features(normalize_images(batch)))
    torch.manual_seed(0)
    inside = usable_anchors(model.rpn_head.anchor_generator, outputs.sizes, batch, -1)
    drawn = model.rpn_head.sampler(torch.where(inside, 0, -1))
    logits = torch.cat(outputs.logits, 1)[0, drawn.index[0, drawn.valid[0]], 0]
    assert len(logits) == 32
    expected = torch.nn.functional.softplus(logits).sum() / (32 + 1)
    assert losses['loss_rpn_cls'] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(garbage):
    model, batch = tiny_model(), tiny_batch((2, 1))
    clean, clean_grads = step(model, batch)
    empty = ~batch.gt.valid
    boxes = batch.gt.boxes.masked_fill(empty[..., None], garbage)
    poisoned, grads = step(model, batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[name], clean_grads[name]) for name in clean_grads)


def test_more_empty_slots_change_nothing():
    """Where nothing is drawn by chance: the samplers take all there is."""
    config = tiny_config()
    for part in ('rpn', 'rcnn'):
        config['train_cfg'][part]['sampler'].update(num=20000, pos_fraction=.5)
    from mmdet_ft.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    few, few_grads = step(model.train(), tiny_batch((2, 1), slots=8))
    many, many_grads = step(model, tiny_batch((2, 1), slots=24))
    assert few == pytest.approx(many, rel=1e-5)
    for name in few_grads:
        assert torch.allclose(few_grads[name], many_grads[name], atol=1e-5), name


def test_a_batch_is_its_images_one_by_one():
    """The losses of two images are those of each, weighed by their own normalisers; the RPN's
    classification shows it.
    """
    config = tiny_config()
    config['train_cfg']['rpn']['sampler'].update(num=20000)
    from mmdet_ft.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(config).train()
    batch = tiny_batch((2, 1))
    single = []
    for i in range(2):
        one = tiny_batch((2, 1))
        gt = one.gt._replace(
            **{
                name: getattr(one.gt, name)[i:i + 1]
                for name in ('boxes', 'labels', 'valid', 'ignore', 'ignore_valid')
            },
            masks=one.gt.masks._replace(
                offset=one.gt.masks.offset[i:i + 1], rect=one.gt.masks.rect[i:i + 1]))
        one = one._replace(
            images=one.images[i:i + 1],
            sizes=one.sizes[i:i + 1],
            pad_sizes=one.pad_sizes[i:i + 1],
            scale_factors=one.scale_factors[i:i + 1],
            metas=one.metas[i:i + 1],
            gt=gt)
        features = model.extract_features(normalize_images(one))
        outputs = model.rpn_head(features)
        anchors = model.rpn_head.anchors(outputs.sizes, one.images.device)
        inside = usable_anchors(model.rpn_head.anchor_generator, outputs.sizes, one, -1)
        label = model.rpn_head.assigner(anchors, one.gt, inside).label
        count = max(int((label == 1).sum()), 1) + max(int((label == 0).sum()), 1)
        single.append(
            (model.rpn_head.loss(features, outputs, one)['loss_rpn_cls'].item() * count, count))
    features = model.extract_features(normalize_images(batch))
    both = model.rpn_head.loss(features, model.rpn_head(features), batch)['loss_rpn_cls'].item()
    assert both == pytest.approx(sum(s for s, _ in single) / sum(c for _, c in single), rel=1e-5)


def counted_step(model, batch, optimizer):
    with count_syncs() as seen:
        losses = model(batch)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 35)
        optimizer.step()
        optimizer.zero_grad()
    return seen


def test_a_step_waits_at_most_twice_and_its_operations_do_not_grow_with_the_batch():
    model = tiny_model()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad],
                                .01,
                                .9,
                                foreach=True)
    counted_step(model, tiny_batch((2, 0)), optimizer)  # anchors are made and momentum begins once
    counts = {}
    for size in (1, 2, 8):
        batch = tiny_batch([3, 0, 1, 2, 0, 4, 1, 2][:size])
        counted_step(model, batch, optimizer)
        seen = counted_step(model, batch, optimizer)
        assert len(seen.syncs) <= 2, seen.syncs
        counts[size] = seen.num_ops
    assert counts[2] - counts[1] <= 1 and counts[8] - counts[1] <= 7, counts


def test_the_only_wait_is_the_number_of_positives():
    model, batch = tiny_model(with_mask=False), tiny_batch()
    model(batch)  # anchors are made once for a size
    with NoSync():
        model(batch).total.backward()


def test_frozen_layers_and_eval_batch_norm_do_not_change_in_training():
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), .01)
    for _ in range(2):
        optimizer.zero_grad()
        model(tiny_batch()).total.backward()
        optimizer.step()
    changed = {
        name
        for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    still = ('backbone.conv1', 'backbone.bn1', 'backbone.layer1')
    assert not [
        name
        for name in changed if name.startswith(still) or 'running' in name or 'num_batches' in name
    ]
    assert {
        'backbone.layer2.0.conv1.weight', 'neck.lateral_convs.0.conv.weight',
        'rpn_head.rpn_cls.bias'
    } <= changed


def test_validation_losses_are_those_of_training_and_predictions_those_of_evaluation():
    model = tiny_model().eval()
    with torch.no_grad():
        assert list(model.loss(tiny_batch()).terms) == KEYS
        assert isinstance(model(tiny_batch()), Detections)


@torch.no_grad()
def test_results_are_lists_over_classes_of_boxes_and_of_masks_of_the_original_size():
    model, batch = tiny_model().eval(), tiny_batch((2, 1))
    detections = model((batch, ))
    results = model.results(detections, batch.metas)
    assert len(results) == 2
    for boxes, masks in results:
        assert len(boxes) == len(masks) == 3
        assert sum(map(len, boxes)) <= 20
        for rows, rles in zip(boxes, masks):
            assert rows.dtype == np.float32 and rows.shape == (len(rles), 5)
            assert (np.diff(rows[:, 4]) <= 0).all()
            for rle in rles:
                assert coco_mask.decode(rle).shape == (64, 96)
    assert sum(map(len, results[0][0])) > 0


@torch.no_grad()
def test_detections_are_told_in_pixels_of_the_original_image():
    model, batch = tiny_model().eval(), tiny_batch((2, ))
    plain = model(batch)
    halved = model(batch._replace(scale_factors=torch.full((1, 4), 2.)))
    # Suppression happens after scaling, so only what survives either way is compared.
    best = plain.boxes[0, 0]
    assert torch.allclose(halved.boxes[0, 0] * 2, best, atol=1e-4)


@torch.no_grad()
def test_two_equal_views_tell_the_same_as_one():
    model, batch = tiny_model().eval(), tiny_batch((2, ))
    one, two = model(batch), model((batch, batch))
    assert torch.equal(one.valid, two.valid)
    assert torch.allclose(one.boxes[one.valid], two.boxes[one.valid], atol=1e-3)
    assert torch.allclose(one.masks[one.valid], two.masks[one.valid], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_a_mirrored_view_is_mirrored_back(direction):
    batch = tiny_batch((2, ))._replace(scale_factors=torch.full((1, 4), 2.))
    batch = batch._replace(metas=[dict(batch.metas[0], flip=True, flip_direction=direction)])
    boxes = torch.tensor([[[3., 4., 10., 20.]]])
    there = _to_view(boxes, batch)[0, 0].tolist()
    expected = {
        'horizontal': [76., 8., 90., 40.],
        'vertical': [6., 24., 20., 56.],
        'diagonal': [76., 24., 90., 56.]
    }[direction]
    assert there == expected
    assert torch.equal(to_original(_to_view(boxes, batch), batch), boxes)


@torch.no_grad()
def test_proposals_of_several_views_with_equal_scores_are_joined_as_in_mmdetection():
    model, batch = tiny_model().eval(), tiny_batch((2, ))
    mirrored = batch._replace(metas=[dict(batch.metas[0], flip=True, flip_direction='horizontal')])
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 1, 60, 2, 2, generator=generator).mul_(60.).sort(3).values
    parts = [
        Proposals(
            boxes.flatten(2), (torch.arange(60) * 7 % 3)[None] / 4.,
            torch.arange(60)[None] < 50) for boxes in corners
    ]
    joined = join_proposals(model.rpn_head, parts, (batch, mirrored))

    boxes = torch.cat([to_original(parts[0].boxes, batch),
                       to_original(parts[1].boxes, mirrored)], 1)
    left = torch.cat([part.valid for part in parts], 1)[0]
    boxes, scores = boxes[0, left], torch.cat([part.scores for part in parts], 1)[0, left]
    order = scores.sort(descending=True).indices.tolist()
    kept = []
    for i in order:
        others = box_iou(boxes[i:i + 1], boxes[kept])
        if not (others > model.rpn_head.test_settings.nms.iou_threshold).any():
            kept.append(i)
    kept = torch.tensor(kept)[scores[kept].sort(descending=True).indices]  # sorted a second time
    assert 50 < len(kept) < 100 and kept.tolist() != [i for i in order if i in kept]
    count = min(len(kept), model.rpn_head.test_settings.max_per_img)
    assert torch.equal(joined.boxes[joined.valid], boxes[kept[:count]])
    assert torch.equal(joined.scores[joined.valid], scores[kept[:count]])


def test_images_that_travel_as_bytes_are_normalised_on_the_device_and_zero_in_the_padding():
    batch = tiny_batch((1, 1))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    mean, std = torch.tensor([[123.675, 116.28, 103.53]] * 2), torch.tensor(
        [[58.395, 57.12, 57.375]] * 2)
    sizes = torch.tensor([[64., 96.], [50., 80.]])
    images = normalize_images(batch._replace(images=pixels, mean=mean, std=std, sizes=sizes))
    expected = (pixels.float() - mean[:, :, None, None]) / std[:, :, None, None]
    assert torch.allclose(images[0], expected[0], atol=1e-6)
    assert torch.allclose(images[1, :, :50, :80], expected[1, :, :50, :80], atol=1e-6)
    assert (images[1, :, 50:] == 0).all() and (images[1, :, :, 80:] == 0).all()


def test_an_unknown_key_of_a_settings_dict_is_named_with_the_nearest():
    from mmdet_ft.registry import MODELS
    config = tiny_config()
    config['test_cfg']['rcnn']['score_thresh'] = .1
    with pytest.raises(
            TypeError,
            match=r"test_cfg.rcnn: unknown key 'score_thresh'; did you mean 'score_thr'"):
        MODELS.build(config)


def test_prediction_layers_are_those_that_follow_classes_and_anchors():
    a, b = tiny_model(num_classes=3), tiny_model(num_classes=5)
    sizes = {name: value.shape for name, value in b.state_dict().items()}
    differ = {name for name, value in a.state_dict().items() if value.shape != sizes[name]}
    assert differ and all(name.startswith(a.prediction_layers()) for name in differ)
    assert all(any(name.startswith(prefix) for name in sizes) for prefix in a.prediction_layers())


def test_on_a_cpu_synchronised_batch_norm_becomes_plain_with_the_same_weights():
    config = tiny_config()
    config['backbone']['norm_cfg'] = dict(type='SyncBN', requires_grad=False)
    from mmdet_ft.models.layers import unsynchronize
    from mmdet_ft.registry import MODELS
    model = MODELS.build(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert unsynchronize(model) > 0 and unsynchronize(model) == 0
    after = model.state_dict()
    assert list(after) == list(before) and all(
        torch.equal(after[name], before[name]) for name in before)
    assert {name for name, value in model.named_parameters() if not value.requires_grad} == frozen
    assert not model.backbone.bn1.training  # as norm_eval had it
    model(tiny_batch()).total.backward()


def with_norms_in_the_heads():
    config = tiny_config()
    head = config['roi_head']['bbox_head']
    head.update(type='Shared4Conv1FCBBoxHead', conv_out_channels=16, norm_cfg=dict(type='BN'))
    config['roi_head']['mask_head'].update(norm_cfg=dict(type='BN'))
    config['train_cfg']['rcnn']['sampler'].update(num=200, pos_fraction=1.)  # there are not so many
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def test_batch_norm_of_the_heads_does_not_see_padding():
    results = []
    for slots in (8, 40):
        model, batch = with_norms_in_the_heads(), tiny_batch((1, 4), slots=slots)
        head, given, positives = model.roi_head, [], []
        head.mask_head.register_forward_pre_hook(lambda _, inputs: given.append(len(inputs[0])))
        sample = head.sample
        head.sample = lambda *arguments: (rois := sample(*arguments),
                                          positives.append(int(rois.positive.sum())))[0]
        losses, grads = step(model, batch)
        assert given == positives and given[0] % 8
        results.append([losses, grads, {n: value.clone() for n, value in head.named_buffers()}])
        head.sample = sample
        with count_syncs() as seen:
            model(batch).total.backward()
        assert len(seen.syncs) <= 2, seen.syncs
    for one, other in zip(*results):
        for name in one:
            torch.testing.assert_close(
                torch.as_tensor(one[name]), torch.as_tensor(other[name]), rtol=1e-4, atol=1e-6)


def test_norms_in_the_heads_train_without_any_object():
    losses, grads = step(with_norms_in_the_heads(), tiny_batch((0, 0)))
    assert losses['loss_mask'] == 0 and all(grad.isfinite().all() for grad in grads.values())
