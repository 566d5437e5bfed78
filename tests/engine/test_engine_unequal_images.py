"""Images of unequal size in one batch of an evaluation: found is what is found in each alone."""
import logging

import numpy as np
import pytest
import torch

from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.engine.evaluate import parts_of_one_size, run_over
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config

SIZES = ((64, 96), (128, 160), (64, 96), (96, 64))  # height, width
NORMALIZE = dict(
    mean=np.array([100., 110, 120], np.float32), std=np.array([50., 60, 70], np.float32))


def sample(index, size, views=1, truth=False):
    """A test sample of noise, as Collect makes it."""
    height, width = size
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3)).astype(np.float32)
    image = ((image - NORMALIZE['mean']) / NORMALIZE['std']).transpose(2, 0, 1)
    meta = dict(
        filename=f'{index}.png',
        ori_shape=(height, width, 3),
        img_shape=(height, width, 3),
        pad_shape=(height, width, 3),
        scale_factor=np.ones(4, np.float32),
        flip=False)
    img = torch.from_numpy(np.ascontiguousarray(image))
    if truth:
        return dict(
            img=img, img_metas=meta, gt_bboxes=torch.ones(1, 4), gt_labels=torch.zeros(1).long())
    return dict(img=[img] * views, img_metas=[meta] * views)


class Samples(list):
    CLASSES = ('cat', 'dog', 'owl')


@pytest.fixture(scope='module')
def model():
    settings = tiny_config(num_classes=3)
    settings['test_cfg']['rcnn']['score_thr'] = .01
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    return model.eval()


def found(model, samples, batch_size, **options):
    loader = build_dataloader(
        Samples(samples), batch_size, 0, dist=False, shuffle=False, seed=0, **options)
    return run_over(model, loader)


def assert_same(results, others):
    assert len(results) == len(others)
    for (boxes, masks), (other_boxes, other_masks) in zip(results, others):
        assert [len(rows) for rows in boxes] == [len(rows) for rows in other_boxes]
        for rows, other in zip(boxes, other_boxes):
            np.testing.assert_allclose(rows, other, atol=1e-3)
        assert [len(of_class) for of_class in masks] == [len(of_class) for of_class in other_masks]


@pytest.mark.parametrize('views', [1, 2])
def test_an_image_beside_a_larger_one_gives_what_it_gives_alone(model, views):
    samples = [sample(index, size, views) for index, size in enumerate(SIZES)]
    alone = found(model, samples, 1)
    assert sum(len(rows) for boxes, _ in alone for rows in boxes) > 20
    assert_same(found(model, samples, 4), alone)


def test_padding_would_change_what_is_found(model):
    """The reason for it: padded to the largest as MMDetection 2 does, the smaller images give other boxes."""
    samples = [sample(index, size) for index, size in enumerate(SIZES)]
    alone = found(model, samples, 1)
    views = collate(samples)
    with torch.no_grad():
        together = model.results(model(views), views[0].metas)
    first, other = (np.concatenate(boxes) for boxes, _ in (alone[0], together[0]))
    assert first.shape != other.shape or np.abs(first - other).max() > .01


def test_a_bucket_pads_each_image_as_it_does_alone(model):
    samples = [sample(index, size) for index, size in enumerate(SIZES)]
    assert_same(found(model, samples, 4, bucket=128), found(model, samples, 1, bucket=128))


def test_a_pipeline_that_collects_the_truth_is_no_other(model):
    samples = [sample(index, size, truth=True) for index, size in enumerate(SIZES)]
    assert_same(found(model, samples, 4), found(model, samples, 1))


def test_images_of_one_size_stay_together_and_it_is_told_once(model, caplog):
    views = collate([sample(index, SIZES[0]) for index in range(3)])
    assert views[0].own_sizes is None
    (indices, same), = parts_of_one_size(views)
    assert indices == [0, 1, 2] and same is views
    mixed = collate([sample(index, size) for index, size in enumerate(SIZES)])
    assert [indices for indices, _ in parts_of_one_size(mixed)] == [[0, 2], [1], [3]]
    assert [tuple(part[0].images.shape)
            for _, part in parts_of_one_size(mixed)] == [(2, 3, 64, 96), (1, 3, 128, 160),
                                                         (1, 3, 96, 64)]
    with caplog.at_level(logging.INFO, 'mmdet_ft'):
        found(model, [sample(index, size) for index, size in enumerate(SIZES * 2)], 4)
    assert caplog.text.count('are run apart') == 1
