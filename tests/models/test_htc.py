"""HybridTaskCascade: interleaved stages, masks that pass features on, and a semantic branch."""
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.errors import DataError
from mmdet_ft.models.roi_heads.regions import to_rois
from mmdet_ft.models.roi_heads.semantic_head import FusedSemanticHead
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import SemanticMaps, to_device
from tests.models.tiny import tiny_batch, tiny_cascade_config
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import count_syncs


def htc_config(semantic=True, **settings):
    config = tiny_cascade_config()
    head = config['roi_head']
    mask_head = dict(head['mask_head'], type='HTCMaskHead')
    head.update(
        type='HybridTaskCascadeRoIHead',
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head])
    if semantic:
        extractor = dict(
            head['bbox_roi_extractor'],
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            featmap_strides=[8])
        head.update(
            semantic_roi_extractor=extractor,
            semantic_head=dict(
                type='FusedSemanticHead',
                num_ins=5,
                fusion_level=1,
                num_convs=1,
                in_channels=16,
                conv_out_channels=16,
                num_classes=5))
    head.update(settings)
    config['type'] = 'HybridTaskCascade'
    return config


def htc(**settings):
    torch.manual_seed(0)
    model = MODELS.build(htc_config(**settings))
    model.init_weights()
    return model.train()


def htc_batch(objects=(2, 1)):
    """A batch with semantic maps of the stride 8; the left column is ignored."""
    batch = tiny_batch(objects)
    labels = torch.randint(5, (len(objects), 8, 12), generator=torch.Generator().manual_seed(0))
    labels[:, :, 0] = 255
    maps = SemanticMaps(labels, (0, 1, 2, 3, 4, 255))
    return batch._replace(gt=batch.gt._replace(semantic=maps))


def step(model, batch):
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(batch)
    losses.total.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.terms.items()}, grads


def test_losses_have_the_names_of_v2():
    stages = [f's{stage}.loss_{name}' for stage in range(3) for name in ('cls', 'bbox', 'mask')]
    rpn = ['loss_rpn_cls', 'loss_rpn_bbox']
    assert list(step(htc(), htc_batch())[0]) == [*rpn, 'loss_semantic_seg', *stages]
    assert list(step(htc(semantic=False), tiny_batch((2, 1)))[0]) == [*rpn, *stages]


@pytest.mark.parametrize('semantic', [True, False])
def test_every_trained_weight_gets_a_gradient_even_without_any_object(semantic):
    for objects in ((2, 1), (0, 0)):
        model = htc(semantic=semantic)
        losses, grads = step(model, htc_batch(objects))
        assert set(grads) == {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    assert all(losses[f's{stage}.loss_mask'] == 0 for stage in range(3))


def test_without_its_three_ideas_it_is_a_cascade():
    config = tiny_cascade_config()
    mask_head = dict(config['roi_head']['mask_head'], type='HTCMaskHead', with_conv_res=False)
    plain = htc(semantic=False, interleaved=False, mask_info_flow=False, mask_head=mask_head)
    cascade = MODELS.build(config).train()
    cascade.load_state_dict(plain.state_dict())
    batch = tiny_batch((2, 1))
    assert step(plain, batch)[0] == pytest.approx(step(cascade, batch)[0])
    plain.eval(), cascade.eval()
    for found, expected in zip(plain(batch), cascade(batch)):
        torch.testing.assert_close(found, expected)


def test_masks_train_on_the_boxes_that_their_own_stage_has_refined(monkeypatch):
    model, batch = htc(semantic=False), tiny_batch((2, 1))
    roi_head, sampled, moved, trained = model.roi_head, [], [], []
    sample, refined, mask_loss = roi_head.sample, roi_head.refined, roi_head.mask_loss

    def note_sample(stage, features, proposals, gt):
        rois = sample(stage, features, proposals, gt)
        sampled.append((stage, proposals, rois))
        return rois

    def note_refined(stage, rois, *others):
        moved.append((stage, rois, refined(stage, rois, *others)))
        return moved[-1][2]

    def note_mask_loss(stage, features, rois, *others):
        trained.append(rois)
        return mask_loss(stage, features, rois, *others)

    for name, note in (('sample', note_sample), ('refined', note_refined), ('mask_loss',
                                                                            note_mask_loss)):
        monkeypatch.setattr(roi_head, name, note)
    model(batch)
    assert [stage for stage, _, _ in sampled] == [0, 0, 1, 1, 2, 2]
    assert [stage for stage, _, _ in moved] == [0, 1, 2]
    for stage in range(3):
        of_boxes, of_masks = sampled[2 * stage], sampled[2 * stage + 1]
        assert moved[stage][1] is of_boxes[2]
        assert of_masks[1] is moved[stage][2] and trained[stage] is of_masks[2]
        if stage:
            assert of_boxes[1] is moved[stage - 1][2]


def test_a_mask_head_gets_the_features_of_those_before():
    model, batch = htc(), htc_batch()
    roi_head = model.roi_head
    features = roi_head.prepare(model.features_of(batch))
    rois = to_rois(batch.gt.boxes)
    for stage in range(3):
        x = roi_head.pool_masks(stage, features, rois)
        last = None
        for head in roi_head.mask_head[:stage + 1]:
            start = x if last is None else x + head.conv_res(last)
            last = head.convs[0](start)
        logits = head.conv_logits(F.relu(head.upsample(last)))
        torch.testing.assert_close(roi_head.mask_logits(stage, features, rois), logits)
        torch.testing.assert_close(roi_head.all_mask_logits(features, rois)[stage], logits)


@pytest.mark.parametrize('fusion', [('bbox', 'mask'), ('bbox', ), ('mask', ), ()])
def test_the_semantic_features_are_added_to_those_of_the_branches(fusion):
    model, batch = htc(semantic_fusion=fusion), htc_batch()
    roi_head, maps = model.roi_head, model.features_of(batch)
    rois = to_rois(batch.gt.boxes)
    semantic = roi_head.semantic_head(maps)[1]
    assert semantic.shape == (2, 16, 8, 12)
    own = roi_head.semantic_roi_extractor([semantic], rois)
    boxes, masks = roi_head.bbox_roi_extractor[0](maps, rois), roi_head.mask_roi_extractor[0](maps,
                                                                                              rois)
    if 'bbox' in fusion:
        boxes = boxes + own.unflatten(2, (7, 2)).unflatten(4, (7, 2)).mean((3, 5))
    if 'mask' in fusion:
        masks = masks + own
    features = roi_head.prepare(maps)
    torch.testing.assert_close(roi_head.pool_boxes(0, features, rois), boxes)
    torch.testing.assert_close(roi_head.pool_masks(0, features, rois), masks)


def test_the_loss_of_the_maps_is_the_mean_over_all_pixels_without_the_ignored_ones():
    head = MODELS.build(htc_config()['roi_head']['semantic_head'])
    maps = htc_batch().gt.semantic
    logits = torch.randn(2, 5, 8, 12, requires_grad=True)
    loss = head.loss(logits, maps)
    total = 0
    for image in range(2):
        for y in range(8):
            for x in range(1, 12):
                row = logits[image, :, y, x]
                total = total + row.exp().sum().log() - row[maps.labels[image, y, x]]
    assert loss.item() == pytest.approx(.2 * total.item() / (2 * 8 * 12), rel=1e-5)
    loss.backward()
    assert (logits.grad[:, :, :, 0] == 0).all() and (logits.grad[:, :, :, 1:] != 0).all()


@pytest.mark.parametrize('maps, message', [
    (None, "add 'gt_semantic_seg' to the keys of Collect"),
    (SemanticMaps(torch.zeros(2, 64, 96, dtype=torch.long), (0, )), r'64 x 96 .* predicts 8 x 12.*1 / 8\)'),
    (SemanticMaps(torch.full((2, 8, 12), 7), (7, )), 'label 7, and FusedSemanticHead has 5 classes.*num_classes=8'),
])  # yapf: disable
def test_maps_that_do_not_fit_are_refused(maps, message):
    model, batch = htc(), htc_batch()
    with pytest.raises(DataError, match=message):
        model(batch._replace(gt=batch.gt._replace(semantic=maps)))


def test_equal_views_give_the_detections_of_one():
    model, batch = htc().eval(), tiny_batch((2, ))
    one, two = model(batch), model((batch, batch))
    assert one.valid.any()
    torch.testing.assert_close(two.scores, one.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(two.masks, one.masks, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(garbage):
    model, batch = htc(), htc_batch()
    clean, clean_grads = step(model, batch)
    boxes = batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage)
    poisoned, grads = step(model, batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[name], clean_grads[name]) for name in clean_grads)


def test_a_step_waits_as_seldom_as_that_of_mask_rcnn_and_its_shapes_are_those_of_the_batch():
    model, batch = htc(), htc_batch()
    model(batch)
    with count_syncs() as seen:
        model(batch).total.backward()
    assert len(seen.syncs) <= 2, seen.syncs
    meta = torch.device('meta')
    model, batch = model.to(meta), to_device(batch, meta)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.loss(batch, num_mask_slots=16).total.backward()


def test_other_semantic_classes_begin_with_a_fresh_layer_and_do_not_follow_those_of_the_boxes():
    source, model = htc(), htc()
    layer = model.roi_head.semantic_head
    model.roi_head.semantic_head = FusedSemanticHead(5, 1, 1, 16, 16, num_classes=3)
    source.CLASSES, model.CLASSES = ('cat', 'dog', 'bird'), ('dog', 'cat', 'bird')
    checkpoint = Checkpoint('c.pth', source.state_dict(), dict(CLASSES=source.CLASSES), {})
    report = fit(model, checkpoint, heads='by_class')
    assert {item[0]
            for item in report.reinitialised} == {
                'roi_head.semantic_head.conv_logits.weight',
                'roi_head.semantic_head.conv_logits.bias'
            }
    model.roi_head.semantic_head = layer
    fit(model, checkpoint, heads='by_class')
    assert torch.equal(layer.conv_logits.weight, source.roi_head.semantic_head.conv_logits.weight)


@pytest.mark.parametrize('change, message', [
    (dict(semantic_roi_extractor=None), 'has no semantic_roi_extractor'),
    (dict(semantic_fusion=('box', )), "write 'bbox' and 'mask'"),
    (dict(mask_head=dict(type='FCNMaskHead')), 'write HTCMaskHead, or mask_info_flow=False'),
    (dict(mask_head=dict(type='HTCMaskHead', with_conv_res=False)), 'mask_head.1 has with_conv_res=False'),
    (dict(semantic_head=dict(type='FusedSemanticHead', num_ins=5, fusion_level=5)), 'a level from 0 to 4'),
])  # yapf: disable
def test_parts_that_do_not_go_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**htc_config()['roi_head'], **change})
