"""A tiny COCO dataset on disk: gapped category ids, every form of mask, a crowd, an empty image."""
import json

import cv2
import numpy as np
import pycocotools.mask as mask_api
import pytest

# (id, width, height): two wide images, one tall, one square without objects, one too small to train on
IMAGES = [(7, 64, 48), (3, 48, 64), (12, 80, 40), (5, 50, 50), (9, 20, 20)]
CATEGORIES = [(90, 'zebra'), (1, 'person'), (13, 'stop sign'), (4, 'unused')]


def full_mask(box, width, height):
    x, y, w, h = (int(value) for value in box)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y:y + h, x:x + w] = 1
    mask[y, x] = 0  # not quite a rectangle
    return mask


def compressed(mask):
    runs = mask_api.encode(np.asfortranarray(mask))
    return dict(size=runs['size'], counts=runs['counts'].decode())


def uncompressed(mask):
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():  # column by column, zeros first
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return dict(size=list(mask.shape), counts=counts)


def tiny_coco():
    """The json's content."""
    sizes = {id_: (width, height) for id_, width, height in IMAGES}
    annotations = []

    def add(image_id, category_id, box, kind, **more):
        mask = full_mask(box, *sizes[image_id])
        x, y, w, h = box
        segmentation = {
            'polygon':
            lambda: [[x, y, x + w, y, x + w, y + h, x, y + h]],
            'parts':
            lambda: [[x, y, x + w / 2 - 1, y, x + w / 2 - 1, y + h],
                     [x + w / 2 + 1, y, x + w, y, x + w, y + h]],
            'compressed':
            lambda: compressed(mask),
            'uncompressed':
            lambda: uncompressed(mask),
        }[kind]()
        annotations.append(
            dict(
                id=100 - len(annotations),
                image_id=image_id,
                category_id=category_id,
                bbox=list(box),
                area=float(w * h),
                segmentation=segmentation,
                **more))

    add(7, 90, (4, 5, 20, 30), 'polygon')
    add(12, 1, (1, 1, 30, 20), 'parts', iscrowd=0)
    add(7, 1, (30, 10, 25, 20), 'compressed')
    add(7, 1, (10, 2, 40, 40), 'compressed', iscrowd=1)
    add(3, 13, (5.5, 6.25, 30, 40), 'polygon')
    add(3, 90, (0, 30, 20, 34), 'uncompressed')
    add(12, 90, (50, 5, 25, 30), 'polygon')
    add(12, 1, (40, 5, 30, 30), 'polygon', ignore=True)
    add(9, 1, (2, 2, 10, 10), 'polygon')
    images = [dict(id=id_, width=w, height=h, file_name=f'{id_}.png') for id_, w, h in IMAGES]
    return dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=id_, name=n) for id_, n in CATEGORIES])


@pytest.fixture
def coco_content():
    return tiny_coco()


@pytest.fixture
def coco_folder(tmp_path):
    """A folder with annotations.json and the images, random noise."""
    rng = np.random.default_rng(0)
    for id_, width, height in IMAGES:
        cv2.imwrite(
            str(tmp_path / f'{id_}.png'), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    (tmp_path / 'annotations.json').write_text(json.dumps(tiny_coco()))
    return tmp_path


NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def train_pipeline(poly2mask=True,
                   scale=(96, 64),
                   flip=0.5,
                   keys=('img', 'gt_bboxes', 'gt_labels', 'gt_masks')):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=poly2mask),
        dict(type='Resize', img_scale=scale, keep_ratio=True),
        dict(type='RandomFlip', flip_ratio=flip),
        dict(type='Normalize', **NORM),
        dict(type='Pad', size_divisor=32),
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=list(keys)),
    ]


@pytest.fixture
def pipeline():
    return train_pipeline


@pytest.fixture
def coco_dataset(coco_folder):
    """A function that makes a CocoDataset of the folder."""
    from mmdet_ft.datasets.detection.coco import CocoDataset

    def make(pipeline=None,
             classes=('person', 'stop sign', 'zebra'),
             kind=CocoDataset,
             **arguments):
        arguments.setdefault('ann_file', 'annotations.json')
        return kind(
            pipeline=train_pipeline() if pipeline is None else pipeline,
            classes=classes,
            data_root=str(coco_folder),
            **arguments)

    return make
