"""How many images a second a core loads, from JPEG to batch, beside its peers in the same run.

    python tools/benchmarks/loader.py                    # 200 drawn photographs of 640 x 480 with seven polygons each
    python tools/benchmarks/loader.py --coco data/coco   # the first of data/coco/train2017
    python tools/benchmarks/loader.py --transport        # batches in reused memory, and by torch's shared memory

Every peer reads the same files, resizes to a short side of 800 (long side 1333 at most) where its own pipeline does
that, and flips half of them. Counted are seconds of the processor, those of the loader's processes included, so that
other work on the machine changes little. The torchvision peer does what its references/detection does; mmdet and
detectron2 take part where they are installed.
"""
import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from mmdet_ft.datasets.build import build_dataset  # noqa: E402
from mmdet_ft.datasets.loading.collate import collate  # noqa: E402
from mmdet_ft.datasets.loading.loader import build_dataloader  # noqa: E402
from mmdet_ft.datasets.loading.workers import init_worker  # noqa: E402
from mmdet_ft.processes import keep_freed_memory  # noqa: E402

SCALE = (1333, 800)
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def draw_photographs(folder: str, number: int) -> Dict[str, str]:
    """Write JPEG files of about 170 kB and their COCO json; seed 0."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(number):
        picture = np.zeros((480, 640, 3), np.float32)
        for cells, strength in ((4, 90), (12, 60), (40, 40),
                                (160, 30)):  # detail of every size, as photographs have
            coarse = rng.normal(0, strength, (cells * 3 // 4, cells, 3)).astype(np.float32)
            picture += cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        picture = picture + rng.normal(0, 9, picture.shape) + 120
        cv2.imwrite(f'{folder}/{index}.jpg',
                    picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 93])
        images.append(dict(id=index + 1, file_name=f'{index}.jpg', width=640, height=480))
        for _ in range(7):
            radius = np.exp(rng.uniform(np.log(10), np.log(110)))
            angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            points = np.stack([np.cos(angle), np.sin(angle)], 1) * radius * rng.uniform(
                .7, 1, (40, 1))
            points = (points + rng.uniform([0, 0], [640, 480])).clip(0, [640, 480])
            low, high = points.min(0), points.max(0)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=int(rng.integers(1, 81)),
                    iscrowd=0,
                    area=float((high - low).prod() * .6),
                    bbox=[*low.tolist(), *(high - low).tolist()],
                    segmentation=[points.ravel().round(2).tolist()]))
    path = f'{folder}/annotations.json'
    with open(path, 'w') as file:
        json.dump(
            dict(
                images=images,
                annotations=annotations,
                categories=[dict(id=i, name=f'class {i}') for i in range(1, 81)]), file)
    return dict(ann_file=path, img_prefix=folder)


class Peer(NamedTuple):
    name: str
    dataset: Dataset
    loader: Callable[[int, int], Any]  # (batch size, workers) -> iterable of batches


def our_peer(files: Dict[str, str], poly2mask: bool) -> Peer:
    with open(files['ann_file']) as file:
        classes = [category['name'] for category in json.load(file)['categories']]
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=poly2mask),
        dict(type='Resize', img_scale=SCALE, keep_ratio=True),
        dict(type='RandomFlip', flip_ratio=0.5),
        dict(type='Normalize', **NORM),
        dict(type='Pad', size_divisor=32),
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks']),
    ]
    dataset = build_dataset(dict(type='CocoDataset', classes=classes, pipeline=pipeline, **files))
    return Peer(
        f'mmdet_ft{"" if poly2mask else " (polygons)"}', dataset,
        lambda batch, workers: build_dataloader(dataset, batch, workers, dist=False, seed=0))


class TorchvisionReference(Dataset):
    """The Mask R-CNN input of references/detection: PIL, masks of the whole image, float32; the model resizes."""

    def __init__(self, files: Dict[str, str]):
        from pycocotools.coco import COCO
        self.folder = files['img_prefix']
        self.coco = COCO(files['ann_file'])
        self.ids = sorted(self.coco.imgs)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        import pycocotools.mask as mask_api
        from PIL import Image
        from torchvision.transforms.v2 import functional
        info = self.coco.imgs[self.ids[index]]
        image = Image.open(os.path.join(self.folder, info['file_name'])).convert('RGB')
        width, height = image.size
        annotations = [item for item in self.coco.imgToAnns[info['id']] if not item['iscrowd']]
        boxes = torch.tensor([item['bbox'] for item in annotations],
                             dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        masks = [
            torch.as_tensor(
                mask_api.decode(mask_api.frPyObjects(item['segmentation'], height, width))).any(2)
            for item in annotations
        ]
        masks = torch.stack(masks).to(torch.uint8) if masks else torch.zeros(
            0, height, width, dtype=torch.uint8)
        image = functional.pil_to_tensor(image)
        if torch.rand(1) < .5:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        labels = torch.tensor([item['category_id'] for item in annotations])
        return image.float() / 255, dict(boxes=boxes, labels=labels, masks=masks)


def peers(files: Dict[str, str]) -> List[Peer]:
    found = [our_peer(files, True), our_peer(files, False)]
    reference = TorchvisionReference(files)
    found.append(
        Peer('torchvision references', reference,
             lambda batch, workers: _plain(reference, batch, workers)))
    for name, make in (('mmdet', _mmdet), ('detectron2', _detectron2)):
        try:
            dataset = make(files)
        except (ImportError,
                AssertionError) as error:  # mmdet refuses versions of mmcv by an assertion
            print(f'without {name}: {error}')
            continue
        found.append(
            Peer(name, dataset, lambda batch, workers, data=dataset: _plain(data, batch, workers)))
    return found


def _as_it_is(samples: List[Any]) -> List[Any]:
    return samples


def _plain(dataset: Dataset, batch: int, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch,
        num_workers=workers,
        collate_fn=_as_it_is,
        persistent_workers=workers > 0,
        worker_init_fn=init_worker if workers else None)


def _mmdet(files: Dict[str, str]) -> Dataset:
    """Build the dataset of MMDetection 3, which needs no compiled operators."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    with open(files['ann_file']) as file:
        classes = [category['name'] for category in json.load(file)['categories']]
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=SCALE, keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    return DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=files['ann_file'],
            data_prefix=dict(img=files['img_prefix']),
            metainfo=dict(classes=classes),
            pipeline=pipeline))


def _detectron2(files: Dict[str, str]) -> Dataset:
    from detectron2.data import DatasetMapper, MapDataset, transforms
    from detectron2.data.datasets import load_coco_json
    mapper = DatasetMapper(
        True,
        augmentations=[transforms.ResizeShortestEdge(SCALE[1], SCALE[0]),
                       transforms.RandomFlip()],
        image_format='BGR',
        use_instance_mask=True)
    return MapDataset(load_coco_json(files['ann_file'], files['img_prefix'], 'benchmark'), mapper)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process with its threads, and of its workers."""
    import resource  # not on Windows
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime
    for child in multiprocessing.active_children():
        with open(f'/proc/{child.pid}/stat') as file:
            fields = file.read().rpartition(')')[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return seconds


def sizes_of(batch: Any) -> int:
    """Return the bytes of all tensors in a batch."""
    if isinstance(batch, torch.Tensor):
        return batch.numel() * batch.element_size()
    if hasattr(batch, 'tensor') or hasattr(batch, 'polygons'):  # detectron2's
        return sum(sizes_of(value) for value in vars(batch).values())
    if hasattr(batch, 'all_items'):  # mmdet's
        return sum(sizes_of(value) for value in batch.all_items())
    if hasattr(batch, '_fields') and isinstance(getattr(batch, '_fields'),
                                                dict):  # detectron2's Instances
        return sum(sizes_of(value) for value in batch._fields.values())
    if isinstance(batch, dict):
        return sum(map(sizes_of, batch.values()))
    if isinstance(batch, (list, tuple)):
        return sum(map(sizes_of, batch))
    return getattr(batch, 'nbytes', 0)


class Ready(Dataset):
    """Images of 800 x 1333 that are in memory already: what remains is to collate and to send them."""

    def __init__(self, number: int):
        self.flag = np.zeros(number, np.uint8)
        self.image = torch.randint(0, 255, (3, *SCALE[::-1]), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.flag)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return dict(
            img=self.image,
            img_metas=dict(img_shape=(*SCALE[::-1], 3)),
            gt_bboxes=torch.rand(7, 4),
            gt_labels=torch.ones(7, dtype=torch.long))


def with_torchs_memory(loader: DataLoader, batch: int, workers: int) -> DataLoader:
    """Return torch's DataLoader of the same samples: `collate` then allocates as default_collate does."""
    return DataLoader(
        loader.dataset,
        batch,
        sampler=loader.sampler,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=True,
        worker_init_fn=init_worker)


def compare_transport(files: Dict[str, str], workers: int, number: int, rounds: int = 5) -> Table:
    """Return CPU milliseconds an image of both ways, which take turns; the ratio is the median of rounds."""
    table = Table('samples', 'batch', 'CPU ms an image, reused', "torch's", 'CPU ratio',
                  'time ratio')
    for name, dataset in (('ready', Ready(64)), ('from JPEG', our_peer(files, True).dataset)):
        for batch in (2, 8, 16):
            reused = build_dataloader(dataset, batch, workers, dist=False, seed=0)
            loaders = [reused, with_torchs_memory(reused, batch, workers)]
            for loader in loaders:
                for _ in loader:  # the workers start
                    pass
            seconds = np.zeros((rounds, 2, 2))
            for turn in range(rounds):
                for index in (0, 1) if turn % 2 else (1, 0):
                    cpu, begin, images = cpu_seconds(), time.perf_counter(), 0
                    while images < number:
                        for item in loaders[index]:
                            images += len(item.images)
                    seconds[turn, index] = cpu_seconds() - cpu, time.perf_counter() - begin
                    seconds[turn, index] /= images
            cpus = np.median(seconds[..., 0], 0) * 1000
            ratios = np.median(seconds[:, 1] / seconds[:, 0], 0)
            table.add_row(name, str(batch), *(f'{value:.1f}' for value in cpus),
                          *(f'{value:.2f}' for value in ratios))
    return table


class Figures(NamedTuple):
    alone: float  # images per CPU second, dataset only
    loaded: float  # images per CPU second, through the loader with workers
    wall: float  # images per second, through the loader
    megabytes: float  # per image


def measure(peer: Peer, batch: int, workers: int, number: int) -> Figures:
    for index in range(10):  # imports, caches
        peer.dataset[index % len(peer.dataset)]
    start = cpu_seconds()
    for index in range(number):
        peer.dataset[index % len(peer.dataset)]
    alone = number / (cpu_seconds() - start)

    loader = peer.loader(batch, workers)
    size = count = 0
    for item in loader:  # the workers start
        size += sizes_of(item)
        count += batch
    images = 0
    cpu, begin = cpu_seconds(), time.perf_counter()
    while images < number:
        for item in loader:
            images += batch
    wall = time.perf_counter() - begin
    return Figures(alone, images / (cpu_seconds() - cpu), images / wall, size / count / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--coco', help='folder of COCO 2017 in place of drawn photographs')
    parser.add_argument(
        '--number', type=int, default=400, help='images that each peer loads, twice')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument(
        '--transport', action='store_true', help='compare ways of sending batches instead of peers')
    parser.add_argument('--only', nargs='+', help='names of peers')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()  # as init_worker does, for every peer
    with tempfile.TemporaryDirectory() as folder:
        if args.coco:
            files = dict(
                ann_file=f'{args.coco}/annotations/instances_train2017.json',
                img_prefix=f'{args.coco}/train2017')
        else:
            files = draw_photographs(folder, 200)
            kilobytes = sum(entry.stat().st_size
                            for entry in os.scandir(folder) if entry.name.endswith('.jpg')) / 200e3
            print(
                f'200 drawn photographs of 640 x 480, {kilobytes:.0f} kB each, seven polygons of 40 points'
            )
        if args.transport:
            Console(width=120).print(compare_transport(files, args.workers, args.number))
            return
        table = Table('peer', 'images / CPU s, dataset alone',
                      f'... through {args.workers} workers', 'ours to it', 'images / s',
                      'MB an image')
        first = None
        for peer in peers(files):
            if args.only and peer.name not in args.only:
                continue
            figures = measure(peer, args.batch, args.workers, args.number)
            first = first or figures
            table.add_row(peer.name, f'{figures.alone:.0f}', f'{figures.loaded:.0f}',
                          f'{first.loaded / figures.loaded:.2f}', f'{figures.wall:.0f}',
                          f'{figures.megabytes:.2f}')
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
