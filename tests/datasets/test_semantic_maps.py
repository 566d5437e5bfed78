"""Semantic maps from their files to a batch: HTC's second ground truth."""
import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.pipelines.shared.compose import Compose

NORMALIZE = dict(type='Normalize', mean=[0., 0., 0.], std=[1., 1., 1.], to_rgb=True)
STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_seg=True),
    dict(type='RandomFlip', flip_ratio=1.),
    NORMALIZE,
    dict(type='Pad', size_divisor=32),
    dict(type='SegRescale', scale_factor=1 / 8),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_semantic_seg']),
]


def sample_of(folder, name, height, width, labels=None, steps=STEPS, **fields):
    """A sample of an image with the label 3 in its left half and 4 in the right one."""
    if labels is None:
        labels = np.full((height, width), 3, np.uint8)
        labels[:, width // 2:] = 4
    cv2.imwrite(f'{folder}/{name}.jpg', np.zeros((height, width, 3), np.uint8))
    cv2.imwrite(f'{folder}/{name}.png', labels)
    results = dict(
        img_info=dict(filename=f'{name}.jpg', height=height, width=width),
        ann_info=dict(
            bboxes=np.array([[0, 0, 9, 9]], np.float32),
            labels=np.array([1]),
            seg_map=f'{name}.png'),
        img_prefix=str(folder),
        seg_prefix=str(folder),
        bbox_fields=[],
        mask_fields=[],
        seg_fields=[])
    results.update(fields)
    return Compose(steps)(results)


def test_a_map_follows_its_image_and_padding_is_ignored(tmp_path):
    batch = collate([sample_of(tmp_path, 'a', 48, 64), sample_of(tmp_path, 'b', 32, 96)])
    labels = batch.gt.semantic.labels
    assert batch.images.shape[2:] == (64, 96) and labels.shape == (2, 8, 12)
    assert labels.dtype == torch.int64
    expected = torch.full((2, 8, 12), 255)
    expected[0, :6, :4], expected[0, :6, 4:8] = 4, 3  # flipped
    expected[1, :4, :6], expected[1, :4, 6:] = 4, 3
    assert torch.equal(labels, expected) and batch.gt.semantic.present == (3, 4, 255)


def test_maps_grow_with_images_that_are_padded_to_a_larger_multiple(tmp_path):
    batch = collate([sample_of(tmp_path, 'a', 32, 32)], bucket=128)
    assert batch.images.shape[2:] == (128, 128)
    assert batch.gt.semantic.labels.shape == (1, 16, 16)
    assert (batch.gt.semantic.labels[0, 4:] == 255).all()


def test_pad_val_of_the_bundle_is_the_label_of_a_batchs_padding(tmp_path):
    steps = [
        dict(step, pad_val=dict(img=0, masks=0, seg=0))
        if step['type'] == 'DefaultFormatBundle' else step for step in STEPS
    ]
    samples = [sample_of(tmp_path, 'a', 32, 32, steps=steps), sample_of(tmp_path, 'b', 64, 64)]
    assert collate(samples).gt.semantic.present == (0, 3, 4)


def test_a_batch_without_maps_has_none(tmp_path):
    sample = sample_of(tmp_path, 'a', 32, 32)
    del sample['gt_semantic_seg']
    assert collate([sample]).gt.semantic is None


def test_a_missing_map_is_named_with_the_setting_to_correct(tmp_path):
    with pytest.raises(
            FileNotFoundError, match=r"no semantic map .*a\.png' of 'a\.jpg'.*seg_prefix"):
        sample_of(tmp_path, 'a', 32, 32, seg_prefix=str(tmp_path / 'nowhere'))


@pytest.mark.parametrize('labels, shape', [
    (np.zeros((16, 32), np.uint8), r'\(16, 32\)'),
    (np.zeros((32, 32, 3), np.uint8), r'\(32, 32, 3\)'),
])
def test_a_map_of_another_shape_is_refused(tmp_path, labels, shape):
    with pytest.raises(DataError, match=f'has the shape {shape}, and its image is 32 x 32'):
        sample_of(tmp_path, 'a', 32, 32, labels)
