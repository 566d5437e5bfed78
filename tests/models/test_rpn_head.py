"""The head computes the drawn anchors anew: as the maps have them, with the same gradients."""
import pytest
import torch
import torchvision
from torch import nn

from mmdet_ft.models.anchors import usable_anchors
from mmdet_ft.models.assigners import PseudoSampler, RandomSampler
from mmdet_ft.models.dense_heads.rpn_head import ProposalSettings
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.ops.patches import neighbour_table, take_patches
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_batch, tiny_config, tiny_model


@pytest.mark.parametrize('shape', [(1, 1), (1, 4), (3, 5)])
def test_patches_are_what_a_convolution_sees(shape):
    sizes = [shape, (2, 2)]
    features = [torch.randn(2, 3, *size) for size in sizes]
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    table = neighbour_table(sizes, torch.device('cpu'))
    patches = take_patches(features, table.expand(2, -1, -1))  # [B, N, C * 9]
    out = patches @ convolution.weight.flatten(1).t() + convolution.bias
    expected = torch.cat([convolution(x).flatten(2) for x in features], 2).transpose(1, 2)
    torch.testing.assert_close(out, expected)


def rpn_gradients(model, batch, anew):
    """Losses and all gradients of the RPN and of the features, in float64."""
    head = model.rpn_head
    features = model.extract_features(normalize_images(batch))
    features = [x.detach().requires_grad_() for x in features]
    outputs = head(features) if anew else head._maps(features)
    assert outputs.logits[0].requires_grad is not anew
    torch.manual_seed(3)  # the same draw
    losses = head.loss(features, outputs, batch)
    wanted = features + list(head.parameters())
    return losses, torch.autograd.grad(sum(losses.values()), wanted)


@pytest.mark.parametrize('channels_last', [False, True])
def test_gradients_are_those_of_the_whole_maps(monkeypatch, channels_last):
    model, batch = tiny_model().double(), tiny_batch((2, 0, 4))
    batch = batch._replace(images=batch.images.double())
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        batch = batch._replace(images=batch.images.to(memory_format=torch.channels_last))
    losses, gradients = rpn_gradients(model, batch, anew=True)
    monkeypatch.setattr(type(model.rpn_head), 'recomputes_sampled', False)
    expected_losses, expected = rpn_gradients(model, batch, anew=False)
    for name in losses:
        assert losses[name].item() == pytest.approx(expected_losses[name].item(), rel=1e-12)
    assert sum(bool(gradient.any()) for gradient in expected) >= len(expected) - 2
    for mine, theirs in zip(gradients, expected):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_under_autocast_no_weight_is_left_without_gradient():
    model, batch = tiny_model(), tiny_batch((2, 1))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(batch)
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in model.rpn_head.parameters())


def test_without_sampling_the_maps_themselves_learn():
    model, batch = tiny_model(), tiny_batch((2, 1))
    model.rpn_head.sampler = PseudoSampler()
    assert not model.rpn_head.recomputes_sampled
    features = model.extract_features(normalize_images(batch))
    outputs = model.rpn_head(features)
    sum(model.rpn_head.loss(features, outputs, batch).values()).backward()
    assert model.rpn_head.rpn_conv.weight.grad.abs().max() > 0


@torch.no_grad()
def test_without_sampling_the_losses_are_divided_by_the_positives_alone():
    model, batch = tiny_model(), tiny_batch((2, 0))
    head = model.rpn_head
    outputs = head._maps(model.extract_features(normalize_images(batch)))
    anchors = head.anchors(outputs.sizes, outputs.logits[0].device)
    label = head.assigner(anchors, batch.gt,
                          usable_anchors(head.anchor_generator, outputs.sizes, batch, -1)).label
    positives, negatives = (label == 1).sum(1).tolist(), (label == 0).sum(1).tolist()
    assert positives[0] > 1 and positives[1] == 0 and min(negatives) > 0
    head.sampler = RandomSampler(num=10**6, pos_fraction=.5)  # draws every anchor
    sampled = head.loss([], outputs, batch)
    head.sampler = PseudoSampler()
    losses = head.loss([], outputs, batch)
    ratio = (positives[0] + 1 + sum(negatives)) / (positives[0] + 1)
    for name in losses:
        assert losses[name].item() == pytest.approx(sampled[name].item() * ratio)


def test_under_focal_loss_every_anchor_counts_whatever_sampler_is_written():
    cfg = tiny_config()
    cfg['rpn_head']['loss_cls'] = dict(type='FocalLoss')
    with pytest.warns(UserWarning, match='train_cfg.rpn.sampler is not used'):
        assert isinstance(MODELS.build(cfg).rpn_head.sampler, PseudoSampler)


def proposals_of_image(head, outputs, image, size, settings):
    """Scores and boxes of one image's proposals as MMDetection 2 finds them."""
    found = []
    anchors = head.anchor_generator.grid_priors(outputs.sizes)
    for level, (logits, deltas) in enumerate(zip(outputs.logits, outputs.deltas)):
        scores, index = logits[image, :, 0].sigmoid(), slice(None)
        if settings.nms_pre < len(scores):
            scores, index = scores.sort(descending=True)
            scores, index = scores[:settings.nms_pre], index[:settings.nms_pre]
        boxes = head.bbox_coder.decode(anchors[level][index], deltas[image, index], max_shape=size)
        found.append((boxes, scores, torch.full_like(scores, level)))
    boxes, scores, level = map(torch.cat, zip(*found))
    real = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores, level = boxes[real], scores[real], level[real]
    order = scores.sort(descending=True).indices
    boxes, scores, level = boxes[order], scores[order], level[order]
    kept = torch.cat([
        here[torchvision.ops.nms(boxes[here], scores[here], settings.nms.iou_threshold)]
        for here in map(lambda number: (level == number).nonzero()[:, 0], range(len(anchors)))
    ]).sort().values[:settings.max_per_img]
    return boxes[kept], scores[kept]


def test_of_equal_scores_those_win_that_win_in_mmdetection():
    model, batch = tiny_model(), tiny_batch((2, 0))
    batch = batch._replace(sizes=torch.tensor([[64., 96.], [50., 70.]]))
    head, generator = model.rpn_head, torch.Generator().manual_seed(0)
    outputs = head._maps(model.extract_features(batch.images))
    logits = [torch.randint(0, 4, x.shape, generator=generator).float() for x in outputs.logits]
    deltas = [torch.randn(x.shape, generator=generator) / 4 for x in outputs.deltas]
    outputs = outputs._replace(logits=logits, deltas=deltas)
    values = dict(nms_pre=200, max_per_img=40, nms=dict(iou_threshold=.7), min_bbox_size=0)
    settings = read_settings(ProposalSettings, values, 'rpn')
    proposals = head.proposals(outputs, batch, settings)
    assert proposals.valid.all()
    for image, size in enumerate(batch.sizes.tolist()):
        boxes, scores = proposals_of_image(head, outputs, image, size, settings)
        assert torch.equal(proposals.scores[image], scores)
        torch.testing.assert_close(proposals.boxes[image], boxes)
