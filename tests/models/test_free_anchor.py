"""FreeAnchor: bags of anchors instead of an assigner."""
import math

import pytest
import torch

from tests.models.test_detectors import step
from tests.models.test_one_stage import model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.reference.boxes import overlap
from tests.reference.dense import delta, sigmoid
from tests.reference.losses import smooth_l1


def entropy_of_zero(p):
    return -math.log(1 - p) if p < 1 else 100.


def test_free_anchor_losses_are_those_of_the_paper():
    model, batch = model_of('free_anchor'), tiny_batch((3, 1))
    model.bbox_head.retina_reg.weight.data.mul_(2)  # boxes apart from their anchors
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    grid = head.grid(outputs.sizes, batch.images.device)
    anchors = grid.anchors.tolist()
    positive = negative = 0.
    near = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        labels = batch.gt.labels[image, :num_objects].tolist()
        probability = [[sigmoid(x) for x in row]
                       for row in torch.cat([x[image] for x in outputs.logits]).tolist()]
        raw = torch.cat([x[image] for x in outputs.boxes])
        boxes = head.decode(grid.anchors, raw).tolist()
        of_object = [[0.] * 3 for _ in anchors]
        for gt, label in zip(gts, labels):
            bag = sorted(range(len(anchors)), key=lambda j: -overlap(gt, anchors[j]))[:20]
            products = []
            for j in bag:
                goal = delta(anchors[j], gt)
                loss = sum(.75 * smooth_l1(a - b, .11) for a, b in zip(raw[j].tolist(), goal))
                products.append(probability[j][label] * math.exp(-loss))
            weights = [1 / max(1 - p, 1e-12) for p in products]
            mean_max = sum(w * p for w, p in zip(weights, products)) / sum(weights)
            positive -= .5 * math.log(mean_max)
            overlaps = [overlap(gt, box) for box in boxes]
            best = max(overlaps)
            for j, iou in enumerate(overlaps):
                share = min(max((iou - .6) / (best - .6), 0), 1) if iou > .6 else 0.
                of_object[j][label] = max(of_object[j][label], share)
                near += share > 0
        for row, shares in zip(probability, of_object):
            wrong = [p * (1 - share) for p, share in zip(row, shares)]
            negative += sum(.5 * p * p * entropy_of_zero(p) for p in wrong)
    assert near > 3
    assert losses['positive_bag_loss'] == pytest.approx(positive / 4, rel=1e-4)
    assert losses['negative_bag_loss'] == pytest.approx(negative / (4 * 20), rel=1e-4)


def test_certain_and_hopeless_anchors_give_finite_losses_and_gradients():
    model = model_of('free_anchor')
    model.bbox_head.retina_cls.bias.data.fill_(200)
    model.bbox_head.retina_reg.bias.data.fill_(1000)  # exp(-loss) is 0 in float32
    losses, grads = step(model, tiny_batch((2, 1)))
    assert losses['positive_bag_loss'] == pytest.approx(.5 * 100)
    assert all(math.isfinite(loss) for loss in losses.values())
    assert all(grad.isfinite().all() for grad in grads.values())


def test_a_bag_holds_at_most_all_anchors():
    model = model_of('free_anchor', pre_anchor_topk=10**6)
    losses, _ = step(model, tiny_batch((2, 1)))
    assert all(math.isfinite(loss) for loss in losses.values())
