"""Each transform against what MMDetection 2.28.2's own code made of the same samples and draws.

`golden_transforms.json` holds, for each case, the type, its arguments, the seed of sample and draws, and figures of
the result (`golden_polygons.json`: points). OpenCV's versions differ in the last bit of a pixel, so pixels have a
tolerance; boxes, labels, masks, maps and the state of the random numbers afterwards have none to speak of.
"""
import json
from pathlib import Path

import numpy as np
import pytest

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.registry import PIPELINES

GOLDEN = json.loads((Path(__file__).parent / 'golden_transforms.json').read_text())
ALONE = ('RandomShift', 'RandomAffine', 'RandomCenterCropPad', 'Mosaic', 'MixUp'
         )  # V2 moves gt_bboxes only
OTHERS = dict(Mosaic=3, MixUp=1)


def golden_sample(draw, rich, masks):
    """A sample of random numbers; `rich` ones have ignored boxes, masks and a map too."""
    height, width, number = draw.randint(24, 64), draw.randint(24, 64), draw.randint(0, 6)
    img = draw.randint(0, 256, (height, width, 3)).astype(np.uint8)

    def boxes(number):
        corners = draw.uniform(0, .8, (number, 2)) * [width, height]
        sizes = draw.uniform(.05, .5, (number, 2)) * [width, height]
        return np.hstack([corners, np.minimum(corners + sizes, [width, height])]).astype(np.float32)

    sample = dict(
        img=img,
        img_fields=['img'],
        img_shape=img.shape,
        ori_shape=img.shape,
        gt_bboxes=boxes(number),
        gt_labels=draw.randint(0, 8, number).astype(np.int64),
        bbox_fields=['gt_bboxes'],
        mask_fields=[],
        seg_fields=[])
    if rich:
        full = np.zeros((number, height, width), dtype=np.uint8)
        for mask, box in zip(full, sample['gt_bboxes'].astype(int)):
            part = mask[box[1]:box[3] + 1, box[0]:box[2] + 1]
            part[:] = draw.randint(0, 3, part.shape) > 0
        sample.update(
            gt_bboxes_ignore=boxes(2),
            gt_masks=masks(full, height, width),
            gt_semantic_seg=draw.randint(0, 9, (height, width)).astype(np.uint8),
            bbox_fields=['gt_bboxes', 'gt_bboxes_ignore'],
            mask_fields=['gt_masks'],
            seg_fields=['gt_semantic_seg'])
    return sample


def figures(transform, kind, seed, masks=BitmapMasks):
    """What is kept of a transform's result, as json has it."""
    draw = np.random.RandomState(seed)
    samples = [
        golden_sample(draw, kind not in ALONE, masks) for _ in range(1 + OTHERS.get(kind, 0))
    ]
    sample = samples[0]
    if kind in OTHERS:
        sample['mix_results'] = samples[1:]
    if kind == 'RandomCenterCropPad':
        sample['img'] = sample['img'].astype(np.float32)
    np.random.seed(seed)
    results = transform(sample)
    rest = float(np.random.random())
    if results is None:
        return dict(rest=rest, given_up=True)
    img = results['img']
    rows, columns = np.linspace(0, 1, 4), np.linspace(0, 1, 5)
    found = dict(
        rest=rest,
        shape=list(img.shape),
        dtype=str(img.dtype),
        means=img.reshape(-1, 3).mean(axis=0, dtype=np.float64).tolist(),
        pixels=[
            img[int(y * (img.shape[0] - 1)),
                int(x * (img.shape[1] - 1))].tolist() for y in rows for x in columns
        ],
        boxes=results['gt_bboxes'].tolist(),
        labels=results['gt_labels'].tolist())
    if 'scale_factor' in results:
        found['scale_factor'] = np.asarray(results['scale_factor']).tolist()
    if 'border' in results:
        found['border'] = results['border'].tolist()
    if 'gt_masks' in results:
        found.update(
            ignored=results['gt_bboxes_ignore'].tolist(),
            mask_sums=[_sum(mask) for mask in results['gt_masks'].masks],
            map_sum=_sum(results['gt_semantic_seg']))
    return found


def _sum(pixels):
    """Depends on every pixel and its place."""
    flat = np.asarray(pixels, dtype=np.int64).reshape(-1)
    return [int(flat.sum()), int((flat * (np.arange(flat.size) % 1009)).sum())]


@pytest.mark.parametrize(
    'index',
    range(len(GOLDEN)),
    ids=[f'{case["type"]}-{index}' for index, case in enumerate(GOLDEN)])
def test_a_transform_gives_v2s_result(index):
    case = GOLDEN[index]
    arguments = {
        key: _tuples(value) if isinstance(value, list) else value
        for key, value in case['arguments'].items()
    }
    for seed, expected in zip(case['seeds'], case['results']):
        transform = PIPELINES.build(dict(type=case['type'], **arguments))
        found = figures(transform, case['type'], seed)
        assert found.keys() == expected.keys()
        pixel = .02 if case['type'] == 'Normalize' else 1.01
        for key, value in expected.items():
            if key in ('means', 'pixels'):
                np.testing.assert_allclose(
                    found[key], value, atol=pixel if key == 'pixels' else pixel / 4)
            elif key in ('boxes', 'ignored', 'scale_factor'):
                np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-4)
            else:
                assert found[key] == value, (seed, key)


POLYGONS = json.loads((Path(__file__).parent / 'golden_polygons.json').read_text())


@pytest.mark.parametrize(
    'case', POLYGONS, ids=[f'{case["type"]}-{index}' for index, case in enumerate(POLYGONS)])
def test_polygons_move_as_v2s(case):
    sample = golden_sample(np.random.RandomState(case['seed']), False, None)
    parts = [[np.array([x1, y1, x2, y1, x2, y2, (x1 + x2) / 2, y2])]
             for x1, y1, x2, y2 in sample['gt_bboxes'].astype(np.float64)]
    sample.update(gt_masks=PolygonMasks(parts, *sample['img'].shape[:2]), mask_fields=['gt_masks'])
    transform = PIPELINES.build(dict(type=case['type'], **case['arguments']))
    np.random.seed(case['seed'])
    moved = transform(sample)['gt_masks']
    assert [len(mask) for mask in moved] == [len(mask) for mask in case['points']]
    for mask, expected in zip(moved, case['points']):
        np.testing.assert_allclose(mask, expected, atol=1e-3)


def _tuples(value):
    """json has no tuples; a list of pairs stays one."""
    inner = [tuple(item) if isinstance(item, list) else item for item in value]
    return inner if any(isinstance(item, tuple) for item in inner) else tuple(inner)
