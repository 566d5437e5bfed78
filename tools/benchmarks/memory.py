"""Memory of loader workers, with annotations packed in arrays and as plain Python objects.

    python tools/benchmarks/memory.py                            # as large as COCO; 4 forked workers
    python tools/benchmarks/memory.py --start spawn --batches 500
    python tools/benchmarks/memory.py --records packed --images 20000

COCO has 118,000 images of 7 boxes. Private memory is what a worker alone holds (USS); PSS adds its share of what
processes hold in common. A forked worker copies Python objects page by page, as it touches their reference counts,
until it has a copy of its own. A spawned one receives all of them at its start. `plain` has what pycocotools' COCO
has: a dict an annotation, with lists of numbers. Each variant has a process of its own.
"""
import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any, Dict, List, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmdet_ft.datasets.build import build_dataset  # noqa: E402
from mmdet_ft.datasets.loading.loader import build_dataloader  # noqa: E402

POINTS = 20  # of a polygon; COCO's have 21 on average
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
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle = np.cos(angle) / 2, np.sin(angle) / 2
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
                polygon = np.stack([x + w / 2 + circle[0] * w, y + h / 2 + circle[1] * h], 1)
                file.write((', ' if id_ else '') + json.dumps(
                    dict(
                        id=id_ + 1,
                        image_id=image + 1,
                        category_id=1,
                        iscrowd=0,
                        area=w * h,
                        bbox=[x, y, w, h],
                        segmentation=[polygon.ravel().round(2).tolist()])))
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


class PlainFile:
    """The annotations of a file as plain Python objects: what a worker asks of CocoFile."""

    def __init__(self, file: Any):
        self.index_of = {image_id: index for index, image_id in enumerate(file.image_ids)}.get
        self.annotations: List[List[Dict[str, Any]]] = []
        for index in range(len(file.image_ids)):
            self.annotations.append(file.annotations_of(index))
            for annotation in self.annotations[-1]:
                annotation['segmentation'] = [part.tolist() for part in annotation['segmentation']]

    def annotations_of(self, index: int) -> List[Dict[str, Any]]:
        return self.annotations[index]


class Row(NamedTuple):
    main: float  # private MB of the main process before workers start
    seconds: float  # to the first batch: the workers start
    first: float  # private MB of a worker then
    last: float  # and at the end
    pss: float
    together: float  # PSS of all, the main process included


def measure(records: str, path: str, folder: str, args: argparse.Namespace, queue: Any) -> None:
    dataset = build_dataset(
        dict(
            type='CocoDataset',
            classes=('thing', ),
            ann_file=path,
            img_prefix=folder,
            pipeline=PIPELINE))
    if records == 'plain':
        dataset.data_infos = list(dataset.data_infos)
        dataset._read_file = PlainFile(dataset._read_file)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what reading the file has used
    loader = build_dataloader(
        dataset, 16, args.workers, dist=False, seed=0, multiprocessing_context=args.start)
    main_process = memory_of(os.getpid())[0]
    begin = time.perf_counter()
    number = 0
    for epoch in range(args.epochs):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            number += 1
            if number == 1:
                seconds = time.perf_counter() - begin
                first = np.mean(memory_of_workers(), 0)
            if number == (args.batches or args.epochs * len(loader) - 1):
                last = np.array(memory_of_workers())
                queue.put(
                    Row(main_process, seconds, first[0], last[:, 0].mean(), last[:, 1].mean(),
                        last[:, 1].sum() + memory_of(os.getpid())[1]))
                return


def memory_of_workers() -> List[Any]:
    return [memory_of(child.pid) for child in multiprocessing.active_children()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=118000)
    parser.add_argument('--boxes-each', type=int, default=7)
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--batches', type=int, help='end after so many batches of 16 images')
    parser.add_argument('--start', choices=['fork', 'spawn', 'forkserver'], default='fork')
    parser.add_argument('--records', nargs='+', choices=['packed', 'plain'])
    args = parser.parse_args()
    context = multiprocessing.get_context('spawn')
    table = Table('records', 'main process, MB', 's to the first batch', 'private MB a worker then',
                  'at the end', 'PSS MB a worker', 'PSS MB all and main')
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(folder, args.images, args.boxes_each)
        print(f'{args.images} images, {args.images * args.boxes_each} boxes with polygons of '
              f'{POINTS} points, {os.path.getsize(path) / 1e6:.0f} MB of json')
        for records in args.records or ('packed', 'plain'):
            queue = context.Queue()
            process = context.Process(target=measure, args=(records, path, folder, args, queue))
            process.start()
            row = queue.get()
            process.join()
            table.add_row(records, f'{row.main:.0f}', f'{row.seconds:.1f}',
                          *(f'{value:.0f}' for value in row[2:]))
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
