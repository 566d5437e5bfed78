"""A data set of a few coloured rectangles and a slim Mask R-CNN for it, as a user has them: files and a config."""
import json
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('box', 'bar', 'dot')

CONFIG = '''
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', img_scale=(96, 64), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(96, 64),
        flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ]),
]
common = dict(type='CocoDataset', classes={classes!r})
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(ann_file='{root}/train.json', img_prefix='{root}/train/', pipeline=pipeline, **common),
    val=dict(ann_file='{root}/val.json', img_prefix='{root}/val/', pipeline=test_pipeline, **common),
    test=dict(ann_file='{root}/val.json', img_prefix='{root}/val/', pipeline=test_pipeline, **common))
model = {model!r}
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=2, warmup_ratio=0.1, step=[2])
runner = dict(type='EpochBasedRunner', max_epochs=2)
evaluation = dict(interval=1, metric=['bbox', 'segm'], save_best='bbox_mAP')
checkpoint_config = dict(interval=1)
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook')])
custom_hooks = [dict(type='NumClassCheckHook')]
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]
'''


def write_world(root: Path, num_train: int = 4, num_val: int = 3, empty=(1, )) -> str:
    """Write images, annotations and config under `root`; return the config's path.

    Images whose numbers are in `empty` have no objects.
    """
    from tests.models.tiny import tiny_config
    for split, number in (('train', num_train), ('val', num_val)):
        _write_split(root, split, number, empty if split == 'train' else ())
    path = root / 'tiny.py'
    path.write_text(
        CONFIG.replace('{root}', str(root)).replace('{classes!r}', repr(CLASSES)).replace(
            '{model!r}', repr(tiny_config(num_classes=len(CLASSES)))))
    return str(path)


def _write_split(root: Path, split: str, number: int, empty) -> None:
    draw = np.random.default_rng(len(split))
    (root / split).mkdir(parents=True)
    images, annotations = [], []
    for index in range(number):
        image = draw.integers(0, 60, (64, 96, 3)).astype(np.uint8)
        for _ in range(0 if index in empty else 3):
            category = int(draw.integers(3))
            x, y = draw.integers(0, 60), draw.integers(0, 36)
            w, h = ((24, 20), (36, 12), (14, 14))[category]
            cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)),
                          [(255, 0, 0), (0, 255, 0), (0, 0, 255)][category], -1)
            x, y = float(x), float(y)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=category + 1,
                    iscrowd=0,
                    area=float(w * h),
                    bbox=[x, y, w, h],
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
        cv2.imwrite(str(root / split / f'{index}.png'), image)
        images.append(dict(id=index + 1, file_name=f'{index}.png', width=96, height=64))
    categories = [dict(id=position + 1, name=name) for position, name in enumerate(CLASSES)]
    (root / f'{split}.json').write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories)))
