"""No transform leaves anything behind: a painted rectangle stays under its box, its mask and its label.

Every registered transform has a case here, or stands in one of the lists with its reason.
"""
import random

import numpy as np
import pytest

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING, moved_by
from mmdet_ft.registry import PIPELINES

PAINT = 250
SIZE = 60, 80  # height, width
BOXES = [[12, 10, 36, 30], [44, 22, 70, 50]]
ZERO = dict(mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False)

FROM_FILES = {
    'LoadImageFromFile', 'LoadImageFromWebcam', 'LoadMultiChannelImageFromFiles', 'LoadAnnotations',
    'LoadProposals'
}
FORMATS = {
    'ToTensor', 'ToDataContainer', 'ImageToTensor', 'Transpose', 'DefaultFormatBundle', 'Collect'
}
NEED_PACKAGES = {'Albu', 'Corrupt'}  # see below, and test_datasets_augment.py
HOLD_OTHERS = {'Compose', 'AutoAugment', 'RandAugment', 'MultiScaleFlipAug'}
BLANK = {'CutOut', 'Cutout', 'RandomErasing'}  # what they fill may hide an object
CASES = {
    'AutoContrast': [dict(prob=1.)],
    'Brightness': [dict(magnitude=.3, prob=1.)],
    'BrightnessTransform': [dict(level=8, prob=1.)],
    'CenterCrop': [dict(crop_size=(30, 40)), dict(crop_size=32, efficientnet_style=True)],
    'ColorJitter': [dict(brightness=.2, contrast=.2, saturation=.2)],
    'ColorTransform': [dict(magnitude=.3, prob=1.), dict(level=8, prob=1.)],
    'Contrast': [dict(magnitude=.3, prob=1.)],
    'ContrastTransform': [dict(level=8, prob=1.)],
    'CopyPaste': [dict(), dict(selected=False, mask_occluded_thr=0)],
    'CutOut': [dict(n_holes=2, cutout_shape=(9, 9))],
    'Cutout': [dict(shape=9, prob=1.)],
    'Equalize': [dict(prob=1.)],
    'EqualizeTransform': [dict(prob=1.)],
    'Expand': [dict(prob=1., seg_ignore_label=255)],
    'FilterAnnotations': [dict()],
    'Invert': [dict(prob=1.)],
    'Lighting': [dict(eigval=[1.], eigvec=[[1.], [1.], [1.]])],
    'MinIoURandomCrop': [dict(), dict(min_crop_size=.6, bbox_clip_border=False)],
    'MixUp': [dict(img_scale=(60, 80), ratio_range=(.8, 1.2)), dict(img_scale=(70, 50), flip_ratio=1.)],
    'Mosaic': [dict(img_scale=(60, 80)), dict(img_scale=(40, 70), center_ratio_range=(.8, 1.2))],
    'Normalize': [dict(mean=[1, 2, 3], std=[50, 60, 70])],
    'Pad': [dict(size_divisor=32), dict(size=(90, 100)), dict(pad_to_square=True)],
    'PhotoMetricDistortion': [dict()],
    'Posterize': [dict(bits=2, prob=1.)],
    'RandomAffine': [dict(), dict(max_rotate_degree=60., max_shear_degree=20., border=(-5, 7))],
    'RandomCenterCropPad': [dict(crop_size=(50, 50), border=10, test_pad_mode=None, **ZERO)],
    'RandomCrop': [
        dict(crop_size=(40, 50)), dict(crop_size=(.5, .8), crop_type='relative_range'),
        dict(crop_size=(40, 50), bbox_clip_border=False), dict(size=(30, 40)), dict(size=90, pad_if_needed=True)
    ],
    'RandomErasing': [dict(erase_prob=1.)],
    'RandomFlip': [dict(flip_ratio=1., direction=way) for way in ('horizontal', 'vertical', 'diagonal')],
    'RandomGrayscale': [dict(gray_prob=1.)],
    'RandomResizedCrop': [dict(size=(30, 40)), dict(size=32, efficientnet_style=True)],
    'RandomShift': [dict(shift_ratio=1., max_shift_px=20)],
    'Resize': [
        dict(img_scale=(120, 90)), dict(img_scale=(50, 100), keep_ratio=False),
        dict(img_scale=[(60, 40), (160, 100)]), dict(img_scale=(80, 60), ratio_range=(.5, 2.)),
        dict(size=(30, 40)), dict(size=(30, -1)), dict(size=44)
    ],
    'Rotate': [
        dict(level=10, prob=1.), dict(level=5, prob=1., max_rotate_angle=180, scale=.7, center=(30, 20)),
        dict(angle=30., prob=1.)
    ],
    'SegRescale': [dict()],
    'Sharpness': [dict(magnitude=.3, prob=1.)],
    'Shear': [
        dict(level=10, prob=1.), dict(level=8, prob=1., direction='vertical', max_shear_magnitude=.6),
        dict(magnitude=.3, prob=1.)
    ],
    'Solarize': [dict(thr=128, prob=1.)],
    'SolarizeAdd': [dict(magnitude=40, prob=1.)],
    'Translate': [
        dict(level=5, prob=1., max_translate_offset=30), dict(level=10, prob=1., direction='vertical',
                                                              max_translate_offset=15.),
        dict(magnitude=.2, prob=1.)
    ],
    'YOLOXHSVRandomAug': [dict()],
}  # yapf: disable
ALL = [(name, arguments) for name, cases in CASES.items() for arguments in cases]


def painted(polygons=False, fields=EVERYTHING, boxes=BOXES):
    """A black picture with painted rectangles, and what says where they are."""
    height, width = SIZE
    img = np.zeros((height, width, 3), dtype=np.uint8)
    full = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(full, boxes):
        img[y1:y2, x1:x2] = PAINT
        mask[y1:y2, x1:x2] = 1
    sample = dict(
        img=img,
        img_fields=['img'],
        img_shape=img.shape,
        ori_shape=img.shape,
        filename='painted.png',
        bbox_fields=[],
        mask_fields=[],
        seg_fields=[])
    if 'bbox' in fields:
        sample.update(
            gt_bboxes=np.array(boxes, dtype=np.float32),
            gt_labels=np.arange(len(boxes)),
            bbox_fields=['gt_bboxes'])
    if 'mask' in fields:
        parts = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)]
                 for x1, y1, x2, y2 in boxes]
        sample.update(
            gt_masks=PolygonMasks(parts, height, width) if polygons else BitmapMasks(
                full, height, width),
            mask_fields=['gt_masks'])
    if 'seg' in fields:
        sample.update(gt_semantic_seg=full.max(axis=0), seg_fields=['gt_semantic_seg'])
    return sample


def applied(name, arguments, seed, **form):
    transform = PIPELINES.build(dict(type=name, **arguments))
    sample = painted(**form)
    if name == 'RandomCenterCropPad':
        sample['img'] = sample['img'].astype(np.float32)
    others = dict(Mosaic=3, MixUp=1, CopyPaste=1).get(name)
    if others:
        sample['mix_results'] = [painted(**form) for _ in range(others)]
    random.seed(seed)
    np.random.seed(seed)
    return transform, transform(sample)


def overlap(first, second):
    return (first & second).sum() / max((first | second).sum(), 1)


def test_every_registered_transform_is_looked_at():
    named = set(CASES) | FROM_FILES | FORMATS | NEED_PACKAGES | HOLD_OTHERS
    shipped = {name for name in PIPELINES if PIPELINES.get(name).__module__.startswith('mmdet_ft.')}
    assert named == shipped
    for name in sorted(shipped - HOLD_OTHERS):
        for cls in PIPELINES.spellings(name).values():
            assert moved_by(cls, {}) is not None, f'{cls.__name__} does not say what it moves'
    for name in shipped:
        for argument in PIPELINES.spellings(name):
            assert argument is None or any(argument in case for case in CASES[name])


@pytest.mark.parametrize(
    'name, arguments', ALL, ids=[f'{name}-{index}' for index, (name, _) in enumerate(ALL)])
def test_what_is_painted_stays_under_box_mask_and_label(name, arguments):
    moves = moved_by(PIPELINES.get(name, arguments), arguments)
    if moves == ('img', ):
        return refused(name, arguments)
    fields = [what for what in EVERYTHING[1:]
              if what in moves] if 'img' in moves else EVERYTHING[1:]
    kept = 0
    for seed in range(8):
        for polygons in (False, True) if 'mask' in fields else (False, ):
            _, results = applied(name, arguments, seed, fields=fields, polygons=polygons)
            if results is None:
                continue
            img = results['img'].astype(np.float32).max(axis=2)
            assert img.shape == results.get('pad_shape', results['img'].shape)[:2]
            if 'img' in moves:
                paint = img > (.4 if name == 'MixUp' else .75) * PAINT
            else:  # another colour
                assert img.shape == SIZE
                paint = img != np.median(img)
            boxes = results['gt_bboxes']
            kept += len(boxes)
            inside = np.zeros(img.shape, dtype=bool)
            for x1, y1, x2, y2 in boxes:
                top, left = max(int(np.floor(y1 - 1)), 0), max(int(np.floor(x1 - 1)), 0)
                inside[top:max(int(np.ceil(y2 + 1)), 0), left:max(int(np.ceil(x2 + 1)), 0)] = True
                shown = (paint | inside)[max(int(y1), 0):int(np.ceil(y2)),
                                         max(int(x1), 0):int(np.ceil(x2))]
                assert name in BLANK or x2 < x1 + 1.5 or y2 < y1 + 1.5 or shown.any()
            whole = len(boxes) == len(BOXES) * dict(Mosaic=4, MixUp=2).get(name, 1)
            if name not in BLANK and whole:  # dropped ones may still show a part
                assert not (paint & ~inside).any(), f'seed {seed}: paint outside of its box'
                if 'mask' in fields:
                    covered = results['gt_masks'].to_ndarray().astype(bool).any(axis=0)
                    assert covered.shape == img.shape
                    assert paint.sum() < 100 or overlap(covered, paint) > .8, f'seed {seed}'
                if 'seg' in fields:
                    assert results['gt_semantic_seg'].shape == img.shape
                    assert paint.sum() < 100 or overlap(results['gt_semantic_seg'] == 1, paint) > .8
                area = sum((x2 - x1) * (y2 - y1)
                           for x1, y1, x2, y2 in np.clip(boxes, 0, img.shape[::-1] * 2))
                assert name in ('Mosaic', 'MixUp'
                                ) or paint.sum() > .3 * area, 'boxes much larger than their paint'
    assert kept


def refused(name, arguments):
    for what in ('bbox', 'mask', 'seg'):
        with pytest.raises(CheckError, match=f'{name} moves the image and not its'):
            applied(name, arguments, 0, fields=[what])
    for seed in range(3):
        assert applied(name, arguments, seed, fields=[])[1]['img'].size


MOVE_MASKS = [
    (name, arguments) for name, arguments in ALL
    if {'img', 'mask'} <= set(moved_by(PIPELINES.get(name, arguments), arguments))
    and name not in ('Mosaic', 'MixUp', 'CopyPaste', 'MinIoURandomCrop')  # they ask for boxes
]  # yapf: disable


@pytest.mark.parametrize('name, arguments', MOVE_MASKS)
def test_masks_without_boxes_move_too(name, arguments):
    for seed in range(4):
        _, results = applied(name, arguments, seed, fields=('mask', ))
        paint = results['img'].max(axis=2) > .75 * PAINT
        covered = results['gt_masks'].masks.astype(bool).any(axis=0)
        assert covered.shape == paint.shape and (paint.sum() < 100 or overlap(covered, paint) > .8)
