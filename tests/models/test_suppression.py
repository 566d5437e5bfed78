import pytest
import torch

from mmdet_ft.models.settings import NMSSettings, read_settings
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_batch, tiny_config
from tests.ops.helpers import random_boxes
from tests.reference import boxes as reference


def groups(num_images=2, num_groups=3, num_boxes=30):
    generator = torch.Generator().manual_seed(0)
    shape = (num_images, num_groups, num_boxes)
    boxes = random_boxes(*shape, size=40, generator=generator)
    scores = torch.rand(shape, generator=generator)
    return boxes, scores, torch.rand(shape, generator=generator) < .7


def settings_of(**values):
    return read_settings(NMSSettings, values, 'nms')


def suppressed(boxes, scores, valid, **values):
    """Scores after suppression."""
    order = rank_boxes(scores.flatten(1), valid.flatten(1)).view_as(scores)
    scores, order = suppress(boxes, scores, order, valid, settings_of(**values))
    assert torch.equal(scores < 0, order < 0)
    return scores


def expected_of(boxes, scores, valid, offset=0, **soft):
    """Scores of one problem, by the reference."""
    real = valid.nonzero()[:, 0]
    corner = torch.tensor([0., 0., offset, offset])
    boxes, found = (boxes[real] + corner).tolist(), torch.full_like(scores, -1.)
    if soft:
        for index, score in reference.soft_nms(boxes, scores[real].tolist(), **soft):
            found[real[index]] = score
    else:
        kept = real[reference.nms(boxes, scores[real].tolist(), .5)]
        found[kept] = scores[kept]
    return found


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('soft', [{}, dict(threshold=.5, sigma=.5, min_score=.05, method='linear')])
def test_groups_do_not_see_each_other_unless_they_are_one(offset, soft):
    boxes, scores, valid = groups()
    settings = dict(type='nms', iou_threshold=.5, offset=offset)
    if soft:
        settings.update(type='soft_nms', min_score=.05)
    apart = suppressed(boxes, scores, valid, **settings)
    agnostic = suppressed(boxes, scores, valid, class_agnostic=True, **settings)
    if soft:
        valid = valid & (scores >= .05)
    for i in range(2):
        for j in range(3):
            one = expected_of(boxes[i, j], scores[i, j], valid[i, j], offset, **soft)
            assert torch.allclose(apart[i, j], one, atol=1e-5)
        whole = expected_of(boxes[i].flatten(0, 1), scores[i].flatten(), valid[i].flatten(), offset,
                            **soft)
        assert torch.allclose(agnostic[i].flatten(), whole, atol=1e-5)


def test_soft_nms_keeps_of_low_scores_an_image_s_best_alone():
    boxes, scores, valid = groups()
    found = suppressed(boxes, scores * .01, valid, type='soft_nms', min_score=.5)
    assert ((found >= 0).flatten(1).sum(1) == 1).all()
    assert torch.equal(
        found.flatten(1).amax(1), (scores * .01).masked_fill(~valid, 0).flatten(1).amax(1))


def test_score_threshold_and_max_num_are_those_of_nms():
    boxes, scores, valid = groups()
    found = suppressed(boxes, scores, valid, iou_threshold=.5, score_threshold=.6)
    assert found[found >= 0].min() > .6
    settings = settings_of(iou_threshold=.5, max_num=7)
    assert [settings.limit(limit, 90) for limit in (0, 5, 100)] == [7, 5, 7]
    assert [settings_of(iou_threshold=.5).limit(limit, 90) for limit in (-1, 5, 100)] == [90, 5, 90]


@pytest.mark.parametrize('values, message', [
    (dict(type='nmss'), "nms type 'nmss' is not available"),
    (dict(type='nms'), "'iou_threshold' is missing"),
    (dict(iou_threshold=.5, min_score=.05), "type 'nms' has no 'min_score'"),
    (dict(type='soft_nms', max_num=100), "type 'soft_nms' has no 'max_num'"),
    (dict(type='soft_nms', method='lin'), "method is 'lin'; write one of 'naive', 'linear'"),
])
def test_settings_that_mean_nothing_are_named(values, message):
    with pytest.raises((TypeError, ValueError), match=message):
        settings_of(**values)
    assert settings_of(type='soft_nms').iou_threshold == .3  # mmcv's default
    assert settings_of(type='soft_nms', iou_thr=.4).iou_threshold == .4


@torch.no_grad()
@pytest.mark.parametrize('method', ['linear', 'gaussian'])
def test_a_detector_with_soft_nms_tells_what_the_reference_does(method):
    config = tiny_config()
    config['test_cfg']['rcnn']['nms'] = dict(
        type='soft_nms', iou_threshold=.3, min_score=.05, method=method)
    config['test_cfg']['rcnn']['score_thr'] = .2
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    batch = tiny_batch((2, 1))
    detections = model(batch)
    features = model.extract_features(batch.images)
    proposals = model.rpn_head.proposals(model.rpn_head(features), batch)
    boxes, scores = model.roi_head.box_predictions(features, proposals.boxes, batch.sizes)
    sunk = 0
    for i in range(2):
        expected = []
        for label in range(3):
            there = proposals.valid[i] & (scores[i, :, label] > .2)
            candidates, likely = boxes[i, there, label].tolist(), scores[i, there, label].tolist()
            expected += [
                (score, label, candidates[index])
                for index, score in reference.soft_nms(candidates, likely, .3, .5, .05, method)
            ]
            sunk += len(candidates)
        expected = sorted(expected, reverse=True)[:20]
        valid = detections.valid[i]
        assert valid.sum() == len(expected) > 5
        assert detections.scores[i, valid].tolist() == pytest.approx([row[0] for row in expected],
                                                                     rel=1e-4)
        assert detections.labels[i, valid].tolist() == [row[1] for row in expected]
    assert sunk > 40
