"""MaskScoringRCNN: a mask's score is that of its box times its predicted IoU."""
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.errors import DataError
from mmdet_ft.evaluation.coco import read_results
from mmdet_ft.models.roi_heads.mask_scoring_roi_head import mask_iou_targets
from mmdet_ft.models.roi_heads.regions import Positives, to_rois
from mmdet_ft.ops.masks import area_inside, mask_targets
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Outlines, to_device
from tests.models.tiny import tiny_batch, tiny_config
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import count_syncs


def scoring_config(num_classes=3):
    config = tiny_config(num_classes=num_classes)
    config['type'] = 'MaskScoringRCNN'
    config['roi_head'].update(
        type='MaskScoringRoIHead',
        mask_iou_head=dict(
            type='MaskIoUHead',
            num_convs=2,
            in_channels=16,
            conv_out_channels=8,
            fc_out_channels=16,
            num_classes=num_classes))
    config['train_cfg']['rcnn']['mask_thr_binary'] = .5
    return config


def scoring(num_classes=3):
    torch.manual_seed(0)
    model = MODELS.build(scoring_config(num_classes))
    model.init_weights()
    return model.train()


def step(model, batch):
    torch.manual_seed(0)
    model.zero_grad()
    losses = model(batch)
    losses.total.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.terms.items()}, grads


@pytest.mark.parametrize('objects', [(2, 1), (0, 0)])
def test_every_trained_weight_gets_a_gradient_even_without_any_object(objects):
    model = scoring()
    losses, grads = step(model, tiny_batch(objects))
    assert list(losses)[-2:] == ['loss_mask', 'loss_mask_iou']
    assert set(grads) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(grad.isfinite().all() for grad in grads.values())
    assert (losses['loss_mask_iou'] > 0) == any(objects)


def bitmap_of(masks, image, index, size=(64, 96)):
    """The whole bitmap of an object."""
    out = np.zeros(size, np.uint8)
    x, y, width, height = masks.rect[image, index].tolist()
    start = int(masks.offset[image, index])
    out[y:y + height, x:x + width] = masks.data[start:start + width * height].view(height, width)
    return out


def some_regions(gt, number=40):
    """Boxes around objects, some of them far away or less than a pixel wide."""
    generator = torch.Generator().manual_seed(1)
    image = torch.tensor([0, 0, 1]).repeat(number)
    index = torch.tensor([0, 1, 0]).repeat(number)
    shift = torch.randn(3 * number, 4, generator=generator) * 10
    boxes = (gt.boxes[image, index] + shift).clamp(min=0)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + .3)
    return image, index, boxes


def test_areas_inside_boxes_are_those_of_cut_bitmaps():
    gt = tiny_batch((2, 1)).gt
    image, index, boxes = some_regions(gt)
    part, whole = area_inside(gt.masks, image, index, boxes)
    for row in range(len(boxes)):
        bitmap = bitmap_of(gt.masks, int(image[row]), int(index[row]))
        x0, y0, x1, y1 = boxes[row].int().tolist()
        cut = bitmap[y0:y0 + max(y1 - y0, 1), x0:x0 + max(x1 - x0, 1)]
        assert (part[row], whole[row]) == (cut.sum(), bitmap.sum())
    assert len(part.unique()) > 20


def test_the_target_is_the_iou_with_the_whole_object():
    gt = tiny_batch((2, 1)).gt
    image, index, boxes = some_regions(gt)
    targets = mask_targets(gt.masks, image, index, boxes, 28)
    logits = torch.randn(len(boxes), 28, 28, generator=torch.Generator().manual_seed(2))
    found = Positives(image, image, image >= 0, index, boxes, image)
    got = mask_iou_targets(logits, targets, found, gt.masks, .5)
    for row in range(len(boxes)):
        bitmap = bitmap_of(gt.masks, int(image[row]), int(index[row]))
        x0, y0, x1, y1 = boxes[row].int().tolist()
        share = bitmap[y0:y0 + max(y1 - y0, 1), x0:x0 + max(x1 - x0, 1)].sum() / bitmap.sum()
        pred = logits[row] > .5
        overlap, inside = (pred * targets[row]).sum(), targets[row].sum()
        expected = overlap / (pred.sum() + inside / (share + 1e-7) - overlap)
        assert got[row] == pytest.approx(expected.item(), rel=1e-4, nan_ok=True)


def test_regions_without_overlap_do_not_count():
    head = MODELS.build(scoring_config()['roi_head']['mask_iou_head'])
    pred = torch.tensor([.5, .2, 3., 4., 5.], requires_grad=True)
    target = torch.tensor([.9, .4, 0., float('nan'), .3])
    valid = torch.tensor([True, True, True, True, False])
    loss = head.loss(pred, target, valid)['loss_mask_iou']
    assert loss.item() == pytest.approx(.5 * (.4**2 + .2**2) / 2)
    loss.backward()
    assert pred.grad[2:].tolist() == [0, 0, 0]


def test_the_score_of_a_mask_is_that_of_its_box_times_the_predicted_iou():
    model, batch = scoring().eval(), tiny_batch((2, 1))
    features, found = model.features_of(batch), model(batch)
    head, roi_head = model.roi_head.mask_head, model.roi_head
    pooled = roi_head.mask_roi_extractor(features, to_rois(found.boxes))
    logits = head.select_class(head(pooled), found.labels.flatten())
    iou = roi_head.mask_iou_head(pooled, logits)
    expected = torch.stack([row[label] for row, label in zip(iou, found.labels.flatten())])
    assert found.valid.any()
    scores = expected.view_as(found.scores) * found.scores
    torch.testing.assert_close(found.mask_scores[found.valid], scores[found.valid])


def test_results_have_the_form_of_v2_and_are_evaluated_by_the_scores_of_masks():
    model, batch = scoring().eval(), tiny_batch((2, ))
    with torch.no_grad():
        found = model(batch)
    (boxes, (masks, scores)), = model.results(found, batch.metas)
    assert [len(rows) for rows in boxes] == [len(rows)
                                             for rows in masks] == [len(rows) for rows in scores]
    for label in range(3):
        own = (found.labels[0] == label) & found.valid[0]
        np.testing.assert_allclose(scores[label], found.mask_scores[0, own], rtol=1e-6)
    table = read_results([(boxes, (masks, scores))], 3)
    np.testing.assert_allclose(table.mask_scores, np.concatenate(scores))


def test_views_give_masks_without_scores_of_their_own():
    model, batch = scoring().eval(), tiny_batch((2, ))
    two = model((batch, batch))
    assert two.masks is not None and two.mask_scores is None


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(garbage):
    model, batch = scoring(), tiny_batch((2, 1))
    clean, clean_grads = step(model, batch)
    boxes = batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage)
    poisoned, grads = step(model, batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[name], clean_grads[name]) for name in clean_grads)


def test_a_step_waits_as_seldom_as_that_of_mask_rcnn_and_its_shapes_are_those_of_the_batch():
    model, batch = scoring(), tiny_batch((2, 1))
    model(batch)
    with count_syncs() as seen:
        model(batch).total.backward()
    assert len(seen.syncs) <= 2, seen.syncs
    meta = torch.device('meta')
    model, batch = model.to(meta), to_device(batch, meta)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.loss(batch, num_mask_slots=16).total.backward()


def test_polygons_are_refused():
    batch = tiny_batch((2, 1))
    sides, count = torch.zeros(0, 4, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.long)
    outlines = Outlines(sides, torch.zeros(0, dtype=torch.long), count, count, 0, 0)
    with pytest.raises(DataError, match='poly2mask=True'):
        scoring()(batch._replace(gt=batch.gt._replace(masks=outlines)))


def test_the_rows_of_the_head_follow_the_classes():
    source, model = scoring(), scoring(2)
    source.CLASSES, model.CLASSES = ('cat', 'dog', 'bird'), ('fox', 'bird')
    checkpoint = Checkpoint('c.pth', source.state_dict(), dict(CLASSES=source.CLASSES), {})
    assert 'roi_head.mask_iou_head.fc_mask_iou.weight' in {
        item[0]
        for item in fit(model, checkpoint).reinitialised
    }
    fit(model, checkpoint, heads='by_class')
    old, new = source.roi_head.mask_iou_head.fc_mask_iou, model.roi_head.mask_iou_head.fc_mask_iou
    assert torch.equal(new.weight[1], old.weight[2])


def test_a_head_without_masks_is_refused():
    with pytest.raises(ValueError, match='write both, or StandardRoIHead'):
        MODELS.build({**scoring_config()['roi_head'], 'mask_head': None})
