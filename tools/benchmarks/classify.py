"""Training a classifier beside a plain loop in the way of torchvision's references: images a second, time
spent waiting.

    python tools/benchmarks/classify.py
    python tools/benchmarks/classify.py lenet cifar --iterations 200 --workers 2

lenet: LeNet-5 on digits of 28 x 28 in one array, enlarged to 32 x 32. cifar: ResNet-18 on 32 x 32, padded crop and
flip. folder: ResNet-18 on 224 x 224 parts of JPEG files of 500 x 375. All images are made. The same network, batch,
transforms, optimizer and number of loader processes on both sides; theirs is torchvision's datasets, transforms and
models with torch's DataLoader, and reads the loss at every tenth step. In turns, after as many steps to warm up; the
median of the rounds counts.
"""
import argparse
import json
import logging
import os
import pickle
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('GOMP_SPINCOUNT', '2000')  # as tools/train.py

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torchvision import transforms as T  # noqa: E402

from mmdet_ft.config import Config  # noqa: E402
from mmdet_ft.engine.build import train  # noqa: E402

LOG_EVERY = 10
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
TAIL = [
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])
]


class Pictures(torch.utils.data.Dataset):
    """A dataset of arrays that gives samples like torchvision's MNIST and CIFAR10."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def normalize(mean, std):
    return T.Normalize([value / 255 for value in mean], [value / 255 for value in std])


def lenet(root):
    """Return (our model and training set, their model and training set, batch)."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (6000, 28, 28), dtype=np.uint8)
    labels = draw.integers(0, 10, 6000, dtype=np.uint8)
    for name, array in (('images-idx3', images), ('labels-idx1', labels)):
        lengths = b''.join(length.to_bytes(4, 'big') for length in array.shape)
        (root / f'train-{name}-ubyte'
         ).write_bytes(bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes())
    pipeline = [
        dict(type='Resize', size=32),
        dict(type='Normalize', mean=[33.46], std=[78.87]), *TAIL
    ]
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='LeNet5', num_classes=10),
        head=dict(type='ClsHead'))
    own = model, dict(type='MNIST', data_prefix=str(root), pipeline=pipeline)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84),
        nn.Tanh(), nn.Linear(84, 10))
    transform = T.Compose([T.Resize(32), T.ToTensor(), normalize([33.46], [78.87])])
    return own, (net, Pictures(images, labels, transform)), 128


def resnet18():
    own = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, out_indices=(3, )),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512))
    return own, torchvision.models.resnet18(num_classes=10)


def cifar(root):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (4000, 32, 32, 3), dtype=np.uint8)
    labels = draw.integers(0, 10, 4000).tolist()
    (root / 'cifar-10-batches-py').mkdir()
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for name, content in (('data_batch_1', dict(data=rows, labels=labels)),
                          ('batches.meta', dict(label_names=[str(label) for label in range(10)]))):
        (root / 'cifar-10-batches-py' / name).write_bytes(pickle.dumps(content))
    pipeline = [
        dict(type='RandomCrop', size=32, padding=4),
        dict(type='RandomFlip', flip_prob=0.5),
        dict(type='Normalize', mean=MEAN, std=STD, to_rgb=False), *TAIL
    ]
    model, net = resnet18()
    transform = T.Compose(
        [T.RandomCrop(32, padding=4),
         T.RandomHorizontalFlip(),
         T.ToTensor(),
         normalize(MEAN, STD)])
    own = model, dict(type='CIFAR10', data_prefix=str(root), check_md5=False, pipeline=pipeline)
    return own, (net, Pictures(images, labels, transform)), 128


def folder(root):
    draw = np.random.default_rng(0)
    for label in range(10):
        (root / str(label)).mkdir()
        for number in range(20):
            image = cv2.resize(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8), (500, 375))
            cv2.imwrite(str(root / str(label) / f'{number}.jpg'), image)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', size=224),
        dict(type='RandomFlip', flip_prob=0.5),
        dict(type='Normalize', mean=MEAN, std=STD), *TAIL
    ]
    model, net = resnet18()
    transform = T.Compose([
        T.RandomResizedCrop(224),
        T.RandomHorizontalFlip(),
        T.PILToTensor(),
        T.ConvertImageDtype(torch.float),
        normalize(MEAN, STD)
    ])
    own = model, dict(type='CustomDataset', data_prefix=str(root), pipeline=pipeline)
    return own, (net, torchvision.datasets.ImageFolder(str(root), transform)), 16


def run_ours(model, dataset, batch, iterations, workers, work_dir):
    """Return (seconds per iteration, seconds of it waiting for data), of the second half of 2 * iterations."""
    cfg = Config(
        dict(
            model=model,
            data=dict(samples_per_gpu=batch, workers_per_gpu=workers, train=dataset),
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
            optimizer_config=dict(grad_clip=None),
            runner=dict(type='IterBasedRunner', max_iters=2 * iterations),
            log_config=dict(interval=iterations, hooks=[dict(type='TextLoggerHook')]),
            log_level='ERROR',
            work_dir=str(work_dir)))
    train(cfg, validate=False, seed=0)
    path, = work_dir.glob('*.log.json')
    entry = json.loads(path.read_text().splitlines()[-1])
    logging.getLogger('mmdet_ft').handlers.clear()  # the next run's log is another file
    return entry['time'], entry['data_time']


def run_theirs(model, dataset, batch, iterations, workers, device):
    loader = torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == 'cuda',
        persistent_workers=workers > 0)
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0001)
    criterion = nn.CrossEntropyLoss()

    def batches():
        while True:
            yield from loader

    endless, waited, began = batches(), 0., time.perf_counter()
    for step in range(2 * iterations):
        if step == iterations:
            waited, began = 0., time.perf_counter()
        start = time.perf_counter()
        images, labels = next(endless)
        waited += time.perf_counter() - start
        loss = criterion(
            model(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOG_EVERY == 0:
            loss.item()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / iterations, waited / iterations


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'cases', nargs='*', default=['lenet', 'cifar', 'folder'], help='lenet cifar folder')
    parser.add_argument('--iterations', type=int, default=60, help='measured steps of a round')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--workers', type=int, default=1, help='loader processes on each side')
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    print(f'{device}, {torch.get_num_threads()} threads, {args.workers} loader processes')
    print('case     ours img/s  (data)   theirs img/s  (data)   ratio')
    for name in args.cases:
        figures = {'ours': [], 'theirs': []}
        with tempfile.TemporaryDirectory() as temporary:
            data = Path(temporary) / 'data'
            data.mkdir()
            own, other, batch = {'lenet': lenet, 'cifar': cifar, 'folder': folder}[name](data)
            for turn in range(args.rounds):
                figures['ours'].append(
                    run_ours(*own, batch, args.iterations, args.workers,
                             Path(temporary) / f'run{turn}'))
                figures['theirs'].append(
                    run_theirs(*other, batch, args.iterations, args.workers, device))
        (ours, our_wait), (theirs,
                           their_wait) = [[statistics.median(values) for values in zip(*rounds)]
                                          for rounds in figures.values()]
        print(
            f'{name:8} {batch / ours:10.0f}  {our_wait / ours:5.0%}   {batch / theirs:12.0f}  '
            f'{their_wait / theirs:5.0%}   {theirs / ours:5.2f}',
            flush=True)


if __name__ == '__main__':
    main()
