"""Test-time views of every detector: an image and its mirror image tell the same, whichever of them is the view."""
import dataclasses

import pytest
import torch

from mmdet_ft.ops.boxes import flip
from tests.models import test_one_stage, test_two_stage_variants, test_yolo
from tests.models.test_cascade import cascade
from tests.models.test_htc import htc
from tests.models.test_mask_scoring import scoring
from tests.models.tiny import tiny_batch, tiny_model

DIRECTIONS = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-2, -1]}


def mirrored(batch, direction, is_view):
    """A batch of mirrored images; as a view of the original images, or as images of their own."""
    metas = [
        dict(meta, flip=is_view, flip_direction=direction if is_view else None)
        for meta in batch.metas
    ]
    return batch._replace(images=batch.images.flip(DIRECTIONS[direction]), metas=metas)


def check(model, direction):
    """Both views together see the same pixels, whichever of them is the original."""
    batch = tiny_batch((2, 1))
    own = mirrored(batch, direction, is_view=False)
    with torch.no_grad():
        one = model((batch, mirrored(batch, direction, is_view=True)))
        two = model((own, mirrored(own, direction, is_view=True)))
    there = flip(two.boxes, batch.sizes, direction)
    assert one.valid.any() and torch.equal(one.valid, two.valid)
    for image, valid in enumerate(one.valid):
        first, second = (sorted_rows(found, boxes, image, valid)
                         for found, boxes in ((one, one.boxes), (two, there)))
        torch.testing.assert_close(first, second, rtol=1e-4, atol=2e-3)
    if one.masks is not None:
        masks = two.masks.flip(DIRECTIONS[direction])
        torch.testing.assert_close(
            one.masks[one.valid].sum((1, 2)).sort()[0],
            masks[two.valid].sum((1, 2)).sort()[0],
            rtol=1e-3,
            atol=1e-2)


def sorted_rows(found, boxes, image, valid):
    """[n, 6] label, score and box, in the order of the three: equal scores have no order."""
    rows = torch.cat([found.labels[..., None], found.scores[..., None], boxes], -1)[image, valid]
    order = sorted(range(len(rows)), key=lambda row: [round(x, 2) for x in rows[row].tolist()])
    return rows[order]


@pytest.mark.parametrize('name', test_one_stage.HEADS)
def test_a_detector_of_one_stage(name):
    check(test_one_stage.model_of(name).eval(), 'horizontal')


@pytest.mark.parametrize('name', test_yolo.CONFIGS)
def test_a_detector_of_the_yolo_family(name):
    """Its norms know the mirrored images too: else scores are all 1, which have no order."""
    model, images = test_yolo.model_of(name), tiny_batch((2, 1)).images
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.
    both = torch.cat([images, images.flip(-1)])
    test_yolo.outputs_of(model, tiny_batch((0, 0, 0, 0))._replace(images=both))
    check(model.eval(), 'horizontal')


@pytest.mark.parametrize('name', test_two_stage_variants.VARIANTS)
def test_a_variant_of_a_detector_of_two_stages(name):
    model = test_two_stage_variants.model_of(name).eval()
    model.roi_head.test_settings = dataclasses.replace(model.roi_head.test_settings, score_thr=.001)
    check(model, 'horizontal')


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('build', [tiny_model, cascade, htc, scoring])
def test_masks_and_cascades(build, direction):
    check(build().eval(), direction)
