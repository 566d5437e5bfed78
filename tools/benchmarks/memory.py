"""Memory of loader workers over an epoch of a data set with a million boxes.

    python tools/benchmarks/memory.py                  # 4 forked workers, 50,000 images of 20 boxes
    python tools/benchmarks/memory.py --start spawn

Private memory is what a worker alone holds (USS); its share of what processes hold in common is added in PSS. Workers
that copy annotations page by page, as they touch them, show in the private memory.
"""
import argparse
import json
import multiprocessing
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmdet_ft.datasets.build import build_dataset  # noqa: E402
from mmdet_ft.datasets.loading.loader import build_dataloader  # noqa: E402

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', img_scale=(96, 72), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(
        type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks']),
]


def write_set(folder: str, num_images: int, boxes_each: int) -> str:
    """Write a COCO json whose images are the same few small files, and return its path."""
    rng = np.random.default_rng(0)
    for index in range(10):
        cv2.imwrite(f'{folder}/{index}.jpg', rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    path = f'{folder}/annotations.json'
    with open(path, 'w') as file:
        images = [
            dict(id=i + 1, file_name=f'{i % 10}.jpg', width=64, height=48)
            for i in range(num_images)
        ]
        file.write('{"categories": [{"id": 1, "name": "thing"}], "images": ' + json.dumps(images) +
                   ', "annotations": [')
        for image in range(num_images):
            for number, (x, y, w, h) in enumerate(rng.integers(2, 24, (boxes_each, 4)).tolist()):
                id_ = image * boxes_each + number
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                file.write((', ' if id_ else '') + json.dumps(
                    dict(
                        id=id_ + 1,
                        image_id=image + 1,
                        category_id=1,
                        iscrowd=0,
                        area=w * h,
                        bbox=[x, y, w, h],
                        segmentation=[polygon])))
        file.write(']}')
    return path


def memory_of(pid: int) -> 'tuple[float, float]':
    """Return (private, PSS) memory of a process in MB."""
    values = {}
    with open(f'/proc/{pid}/smaps_rollup') as file:
        for line in list(file)[1:]:
            key, value = line.split()[:2]
            values[key] = int(value) / 1024
    return values['Private_Clean:'] + values['Private_Dirty:'], values['Pss:']


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=50000)
    parser.add_argument('--boxes-each', type=int, default=20)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--start', choices=['fork', 'spawn', 'forkserver'], default='fork')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(folder, args.images, args.boxes_each)
        dataset = build_dataset(
            dict(
                type='CocoDataset',
                classes=('thing', ),
                ann_file=path,
                img_prefix=folder,
                pipeline=PIPELINE))
        loader = build_dataloader(
            dataset, 16, args.workers, dist=False, seed=0, multiprocessing_context=args.start)
        print(f'{len(dataset)} images, {args.images * args.boxes_each} boxes; main process: '
              '{0:.0f} MB private, {1:.0f} MB PSS'.format(*memory_of(os.getpid())))
        table = Table('batches', 'private MB a worker', 'PSS MB a worker', 'PSS MB all and main')
        shown = np.unique(np.geomspace(20, args.epochs * len(loader) - 2, 8).astype(int)).tolist()
        number = 0
        for epoch in range(args.epochs):
            loader.sampler.set_epoch(epoch)
            for _ in loader:
                number += 1
                if number in shown:
                    private, pss = np.array(
                        [memory_of(child.pid) for child in multiprocessing.active_children()]).T
                    table.add_row(
                        str(number), ' '.join(f'{value:.0f}' for value in private),
                        ' '.join(f'{value:.0f}' for value in pss),
                        f'{pss.sum() + memory_of(os.getpid())[1]:.0f}')
        Console(width=120).print(table)


if __name__ == '__main__':
    main()
