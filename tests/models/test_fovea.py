"""FoveaBox, and the matching of cells to the inner parts of objects."""
import math

import pytest
import torch

from mmdet_ft.ops.fovea_matching import match_foveas
from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_one_stage import config_of, model_of, outputs_of
from tests.models.tiny import tiny_batch
from tests.reference import dense as reference
from tests.reference.losses import focal


def smooth_l1(x, beta):
    return x * x / 2 / beta if abs(x) < beta else abs(x) - beta / 2


def cells_of(size):
    return [(column, row) for row in range(size[0]) for column in range(size[1])]


@pytest.mark.parametrize('scales', [(1., 1000.), (12., 40.)])
@pytest.mark.parametrize('sigma', [.2, .4, 1.])
def test_cells_are_matched_as_the_paper_tells_it(scales, sigma):
    torch.manual_seed(0)
    corner, side = torch.rand(3, 9, 2) * 90 - 10, torch.rand(3, 9, 2) * 60 + 2
    boxes = torch.cat([corner, corner + side], -1)  # some end outside of the maps
    valid = torch.arange(9) < torch.tensor([9, 2, 0])[:, None]
    seen = set()
    for size, stride in (((8, 12), 8), ((4, 6), 16), ((1, 1), 64)):
        found = match_foveas(size, stride, scales, sigma, boxes, valid)
        for image in range(3):
            gts = boxes[image][valid[image]].tolist()
            for j, cell in enumerate(cells_of(size)):
                expected = reference.match_fovea(cell, size, stride, scales, sigma, gts)
                assert found.label[image, j] == (expected is not None)
                assert expected is None or found.gt_index[image, j] == expected
                seen.add(expected)
    assert len(seen) > 3


def test_of_equal_objects_the_last_one_wins():
    boxes = torch.tensor([[[0., 0., 32., 32.], [0., 0., 32., 32.], [0., 0., 64., 64.]]])
    found = match_foveas((4, 4), 8, (1, 100), .4, boxes, torch.ones(1, 3).bool())
    assert found.label.sum() > 0 and found.gt_index[found.label == 1].unique().tolist() == [1, 2]


@pytest.mark.parametrize('name', ['fovea', 'fovea_align'])
def test_fovea_losses_are_those_of_the_paper(name):
    model, batch = model_of(name), tiny_batch((3, 1))
    losses, _ = step(model, batch)
    head = model.bbox_head
    with torch.no_grad():
        outputs = outputs_of(model, batch)
    loss_cls = loss_bbox = count = 0
    for image, num_objects in enumerate((3, 1)):
        gts = batch.gt.boxes[image, :num_objects].tolist()
        for level, size in enumerate(outputs.sizes):
            stride, edge = head.strides[level], head.base_edges[level]
            logits, raw = outputs.logits[level][image], outputs.boxes[level][image]
            for j, cell in enumerate(cells_of(size)):
                gt = reference.match_fovea(cell, size, stride, head.scale_ranges[level], .4, gts)
                goal = -1 if gt is None else int(batch.gt.labels[image, gt])
                loss_cls += sum(
                    focal(x, i == goal, 2., .25) for i, x in enumerate(logits[j].tolist()))
                if gt is None:
                    continue
                count += 1
                point = [(index + .5) * stride for index in cell]
                for pred, side in zip(raw[j].tolist(), reference.distances(point, gts[gt])):
                    goal = math.log(min(max(side / edge, 1 / 16), 16))
                    loss_bbox += smooth_l1(pred - goal, .11)
    assert count > 3
    assert losses['loss_cls'] == pytest.approx(loss_cls / (count + 2), rel=1e-4)
    assert losses['loss_bbox'] == pytest.approx(loss_bbox / count, rel=1e-4)


def test_boxes_end_in_the_last_pixel_of_the_image():
    head = MODELS.build(config_of('fovea')).bbox_head
    boxes = head.decode(
        torch.tensor([[30., 20.] * 2]), torch.full((1, 1, 4), 500.), torch.tensor([[48., 64.]]))
    assert boxes.tolist() == [[[0, 0, 63, 47]]]


def test_offsets_follow_the_predicted_boxes():
    model = model_of('fovea_align')
    _, grads = step(model, tiny_batch((2, 1)))
    assert grads['bbox_head.feature_adaption.conv_offset.weight'].abs().max() > 0
    config = config_of('fovea_align')
    config['bbox_head']['feat_channels'] = config['bbox_head']['in_channels'] = 16
    head = MODELS.build(config).bbox_head
    head.init_weights()
    assert head.feature_adaption.conv_offset.weight.std().item() == pytest.approx(.1, rel=.15)
    assert head.feature_adaption.conv_adaption.weight.std().item() == pytest.approx(.01, rel=.1)
    assert head.conv_cls.bias.sigmoid().mean().item() == pytest.approx(.01)
    assert head.conv_cls.in_channels == 64


@pytest.mark.parametrize('change, message', [
    (dict(base_edge_list=[16, 32]), 'base_edge_list has 2 items for 5 strides'),
    (dict(scale_ranges=((8, 32), )), 'scale_ranges has 1 items for 5 strides'),
    (dict(scale_ranges=((8, 32), (64, 16), (1, 2), (1, 2), (1, 2))), r'scale_ranges has \(64, 16\)'),
    (dict(loss_bbox=dict(type='IoULoss')), 'loss_bbox is IoULoss'),
])  # yapf: disable
def test_fovea_refuses_what_it_cannot_learn_from(change, message):
    config = config_of('fovea')
    config['bbox_head'].update(change)
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)
