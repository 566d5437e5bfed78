"""PAA: positives are chosen by their losses, and detections are means of boxes."""
import math

import pytest
import torch

from mmdet_ft.models.dense_heads.paa_head import vote
from mmdet_ft.ops.mixture import choose_by_costs, two_gaussians
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Detections
from tests.models.test_detectors import step
from tests.models.test_one_stage import config_of, model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.reference import dense as reference
from tests.reference.boxes import match, nms, overlap
from tests.reference.losses import focal, giou_loss, sigmoid_entropy


@pytest.mark.parametrize('is_tied', [False, True])
def test_low_costs_are_chosen_as_the_paper_does(is_tied):
    torch.manual_seed(0)
    counts, num = [30, 12, 6], 48
    cost = torch.cat([torch.rand(4, 24) + .2, torch.rand(4, 24) * 4 + 2], 1)
    cost = cost.gather(1, torch.rand(4, num).argsort(1))
    gt_index, positive = torch.randint(0, 3, (4, num)), torch.rand(4, num) < .8
    positive[2] = False
    positive[3] = False
    positive[3, 5] = True  # one alone is not fitted
    chosen = choose_by_costs(cost, gt_index, positive, counts, 3, 5, is_tied)
    assert chosen[:2].sum() > 8 and not chosen[2:].any()
    for image in range(4):
        expected = set()
        for gt in range(3):
            own = [j for j in range(num) if positive[image, j] and int(gt_index[image, j]) == gt]
            expected |= reference.cheapest(cost[image].tolist(), own, counts, 5, is_tied)
        assert set(chosen[image].nonzero()[:, 0].tolist()) == expected


def test_a_row_is_fitted_alike_beside_others_and_with_empty_slots():
    x = torch.tensor([[.1, .2, .3, 2., 2.2], [1., 1., 1., 1., 1.], [.5, 3., 0., 0., 0.]])
    valid = torch.tensor([[True] * 5, [True] * 5, [True, True, False, False, False]])
    together = two_gaussians(x.masked_fill(~valid, float('inf')), valid, False)
    alone = two_gaussians(x[2:, :2], valid[2:, :2], False)
    assert together.isfinite().all()
    assert torch.allclose(together[2, :, :2], alone[0])
    assert (together[0, 0] > together[0, 1]).tolist() == [True, True, True, False, False]


def test_paa_losses_are_those_of_the_paper():
    model, batch = model_of('paa'), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    anchors = grid.anchors.tolist()
    loss_cls = loss_bbox = loss_iou = total = count = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        labels = batch.gt.labels[image].tolist()
        logits = torch.cat([x[image] for x in outputs.logits]).tolist()
        quality = torch.cat([x[image] for x in outputs.quality]).tolist()
        boxes = head.decode(grid.anchors, torch.cat([x[image] for x in outputs.boxes])).tolist()

        def of_classes(j, goal):
            return sum(focal(x, i == goal, 2., .25) for i, x in enumerate(logits[j]))

        matched = match(anchors, gts, .1, (0., .1), 0., True, True)
        costs, chosen = [math.inf] * len(anchors), {}
        for g, gt in enumerate(gts):
            own = [j for j, pair in enumerate(matched) if pair == (g, 1)]
            for j in own:
                costs[j] = of_classes(j, labels[g]) + 1.3 * giou_loss(boxes[j], gt)
            best = reference.cheapest(costs, own, grid.counts, 9, False)
            chosen.update({j: g for j in best})
        for j, box in enumerate(boxes):
            loss_cls += of_classes(j, labels[chosen[j]] if j in chosen else -1)
            if j in chosen:
                gt = gts[chosen[j]]
                iou = overlap(box, gt)
                loss_bbox += 1.3 * iou * giou_loss(box, gt)
                loss_iou += sigmoid_entropy(quality[j], iou)
                total, count = total + iou, count + 1
    assert count > 5
    assert losses['loss_cls'] == pytest.approx(loss_cls / count, rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / total, rel=1e-4)
    assert losses['loss_iou'] == pytest.approx(loss_iou / count, rel=1e-4)


@pytest.mark.parametrize('score_voting', [False, True])
def test_detections_are_means_of_the_boxes_around_them(score_voting):
    model, batch = model_of('paa', score_voting=score_voting).eval(), tiny_batch((2, 1))
    head = model.bbox_head
    with torch.no_grad():
        outputs, found = outputs_of(model, batch), model(batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    for image in range(2):
        candidates = []
        for level, anchors in enumerate(grid.anchors.split(grid.counts)):
            factor = outputs.quality[level][image].sigmoid()[:, None]
            scores = (outputs.logits[level][image].sigmoid() * factor).sqrt().tolist()
            boxes = head.decode(anchors[None], outputs.boxes[level][image][None],
                                batch.sizes[image:image + 1])[0].tolist()
            best = sorted(range(len(boxes)), key=lambda j: -max(scores[j]))[:60]
            candidates += [(boxes[j], score, label) for j in best
                           for label, score in enumerate(scores[j]) if score > .05]
        kept = []
        for label in range(3):
            own = [c for c in candidates if c[2] == label]
            kept += [own[i] for i in nms([c[0] for c in own], [c[1] for c in own], .5)]
        kept = sorted(kept, key=lambda c: -c[1])[:20]
        valid = found.valid[image]
        assert found.labels[image, valid].tolist() == [c[2] for c in kept] and len(kept) > 5
        expected = [reference.mean_box(c, candidates) if score_voting else c[0] for c in kept]
        assert torch.allclose(found.boxes[image, valid], torch.tensor(expected), atol=1e-2)


def test_an_empty_slot_votes_for_nothing():
    zeros = torch.zeros(1, 2)
    slots = Detections(torch.zeros(1, 2, 4), zeros, zeros.long(), zeros > 0)
    assert torch.equal(vote(slots, torch.ones(1, 3, 4), torch.zeros(1, 3, 2)), slots.boxes)


def test_a_covariance_is_one_of_four():
    config = config_of('paa')
    config['bbox_head']['covariance_type'] = 'round'
    with pytest.raises(ValueError, match="covariance_type is 'round'"):
        MODELS.build(config)
