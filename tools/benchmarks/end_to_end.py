"""Mask R-CNN R50-FPN from JPEG files: images a second that train, and that are detected with their masks.

    python tools/benchmarks/end_to_end.py                                       # drawn photographs
    python tools/benchmarks/end_to_end.py --batch 16 --workers 8 --bfloat16 --bucket 64

Training is what tools/train.py runs: its loader, the copy to the device beside the step, the runner's step. Detection
is what tools/test.py runs, with COCO's run lengths of 100 masks an image; beside it torchvision's maskrcnn_resnet50_fpn
with the same weights and files, its masks pasted by itself and encoded by pycocotools. Scores of random weights are
low: no threshold is set, so that both sides have their 100 detections an image.
"""
import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmdet_ft.datasets.build import build_dataset  # noqa: E402
from mmdet_ft.datasets.loading.loader import build_dataloader  # noqa: E402
from mmdet_ft.engine.build import choose_device  # noqa: E402
from mmdet_ft.engine.evaluate import single_gpu_test  # noqa: E402
from mmdet_ft.engine.optimizers.optimizer import build_optimizer  # noqa: E402
from mmdet_ft.engine.optimizers.optimizer import zero_missing_momentum
from mmdet_ft.engine.runner import EpochBasedRunner  # noqa: E402
from mmdet_ft.engine.speed.acceleration import use_channels_last, use_compile  # noqa: E402
from mmdet_ft.engine.speed.precision import build_precision  # noqa: E402
from mmdet_ft.engine.speed.prefetch import on_device  # noqa: E402
from tools.benchmarks.loader import NORM, TorchvisionReference, draw_photographs  # noqa: E402
from tools.benchmarks.peers import mmdet_ft as ours  # noqa: E402
from tools.benchmarks.peers import torchvision as theirs  # noqa: E402

CLASSES = [f'class {number}' for number in range(1, 81)]


def dataset_of(files: Dict[str, str], args: argparse.Namespace, train: bool) -> Any:
    flip = dict(type='RandomFlip', flip_ratio=.5 if train else 0.)
    shared = [
        dict(type='Resize', img_scale=tuple(args.scale), keep_ratio=True), flip,
        dict(type='Normalize', **NORM),
        dict(type='Pad', size_divisor=32)
    ]
    if train:
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True), *shared,
            dict(type='DefaultFormatBundle'),
            dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])
        ]
    else:
        shared.remove(flip)
        pipeline = [
            dict(type='LoadImageFromFile'), *shared,
            dict(type='ImageToTensor', keys=['img']),
            dict(
                type='Collect',
                keys=['img'],
                meta_keys=('filename', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor',
                           'img_norm_cfg'))
        ]
    return build_dataset(
        dict(type='CocoDataset', classes=CLASSES, pipeline=pipeline, test_mode=not train, **files))


def wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize()


def train(model: torch.nn.Module, files: Dict[str, str], args: argparse.Namespace) -> List[str]:
    """Return [images per second, share of time that the host waits for the loader, number]."""
    device = torch.device(args.device)
    loader = build_dataloader(
        dataset_of(files, args, True),
        args.batch,
        args.workers,
        dist=False,
        seed=0,
        drop_last=True,
        bucket=args.bucket)
    optimizer = build_optimizer(model, dict(type='SGD', lr=0., momentum=.9, weight_decay=1e-4))
    zero_missing_momentum(optimizer)
    runner = EpochBasedRunner(
        model,
        optimizer,
        tempfile.mkdtemp(),
        precision=build_precision(args.half, device),
        max_epochs=1)
    runner.max_iters = 10**6

    def endless() -> Any:
        while True:
            yield from loader

    batches = on_device(endless(), device)
    waited = begin = 0.
    for number in range(-args.warmup, args.steps):
        if number == 0:
            wait(device)
            waited, begin = 0., time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        runner.train_step(batch)
        runner.iter += 1
    wait(device)
    seconds = time.perf_counter() - begin
    images = args.steps * args.batch
    return [f'{images / seconds:.1f}', f'{waited / seconds:.0%}', str(images)]


def detect(model: torch.nn.Module, files: Dict[str, str],
           args: argparse.Namespace) -> Callable[[], int]:
    """Build a function that runs over the files once, as tools/test.py does, and returns the number of masks."""
    loader = build_dataloader(
        dataset_of(files, args, False), args.test_batch, args.workers, dist=False, shuffle=False)
    model.roi_head.test_settings = dataclasses.replace(model.roi_head.test_settings, score_thr=0.)
    precision = build_precision(args.half, args.device)

    def run() -> int:
        results = single_gpu_test(model, loader, precision)
        return sum(len(runs) for _, masks in results for runs in masks)

    return run


def torchvision_detect(weights: str, files: Dict[str, str],
                       args: argparse.Namespace) -> Callable[[], int]:
    import pycocotools.mask as mask_api
    device = torch.device(args.device)
    model = theirs.build(torch.randn(1, 3, 64, 64))
    model.load_state_dict(torch.load(weights))
    model.transform.max_size, model.transform.min_size = max(args.scale), (min(args.scale), )
    model.roi_heads.score_thresh = 0.
    model = model.to(device).eval()
    loader = torch.utils.data.DataLoader(
        TorchvisionReference(files),
        args.test_batch,
        num_workers=args.workers,
        collate_fn=list,
        persistent_workers=args.workers > 0)
    half = args.half is not None

    @torch.no_grad()
    def run() -> int:
        count = 0
        for samples in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                found = model([image.to(device) for image, _ in samples])
            for one in found:
                masks = (one['masks'][:, 0] > .5).cpu().numpy().astype(np.uint8)
                count += len(mask_api.encode(np.asfortranarray(masks.transpose(1, 2, 0))))
        return count

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=2, help='of training')
    parser.add_argument('--test-batch', type=int, default=1)
    parser.add_argument('--images', type=int, default=64, help='drawn, and detected in a round')
    parser.add_argument('--rounds', type=int, default=2, help='of detection')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--scale', type=int, nargs=2, default=(1333, 800))
    parser.add_argument('--bucket', type=int, help='the loader pads to multiples of this')
    parser.add_argument('--bfloat16', action='store_true')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true')
    parser.add_argument('--device', default=choose_device().type, help='cuda or cpu')
    parser.add_argument('--out', help='a file that the table is added to')
    args = parser.parse_args()
    args.half = dict(dtype='bfloat16') if args.bfloat16 else None
    device = torch.device(args.device)

    with tempfile.TemporaryDirectory() as folder:
        files = draw_photographs(folder, args.images)
        weights = os.path.join(folder, 'weights.pth')
        torch.save(theirs.build(torch.randn(1, 3, 256, 256)).state_dict(), weights)
        model = ours.build(weights).to(device)
        for switch, wanted in ((use_channels_last, args.channels_last), (use_compile,
                                                                         args.compile)):
            reason = switch(model, device, wanted)
            if reason:
                print(f'{switch.__name__}: left off: {reason}')
        table = Table(
            '', 'images/s', 'waiting for data', 'images', 'masks an image', box=box.MARKDOWN)
        table.add_row('mmdet_ft, training', *train(model, files, args), '-')
        sides = {
            'mmdet_ft, detection': detect(model, files, args),
            'torchvision, detection': torchvision_detect(weights, files, args)
        }
        times: Dict[str, List[float]] = {name: [] for name in sides}
        counts = {}
        for number in range(args.rounds + 1):  # in turns; the first warms up
            for name, run in sides.items():
                begin = time.perf_counter()
                counts[name] = run()
                wait(device)
                if number:
                    times[name].append(time.perf_counter() - begin)
        for name, seconds in times.items():
            table.add_row(name, f'{args.images / statistics.median(seconds):.1f}', '-',
                          str(args.images), f'{counts[name] / args.images:.0f}')
    title = (f'{" ".join(sys.argv[1:])}; '
             f'{torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}, '
             f'torch {torch.__version__}, {time.strftime("%Y-%m-%d")}\n')
    for file in [sys.stdout] + ([open(args.out, 'a', encoding='utf-8')] if args.out else []):
        console = Console(file=file, width=120)
        console.print(title)
        console.print(table)


if __name__ == '__main__':
    main()
