"""How long a training step of Mask R-CNN R50-FPN takes, beside its peers in the same run.

    python tools/benchmarks/train_step.py                       # 2 images of 800x1088, float32
    python tools/benchmarks/train_step.py --batch 16 --precision bfloat16 --channels-last

A step is forward, backward and optimizer, from a batch on the device. All have the same weights, images, objects, and
the same boxes added to their proposals, so that the mask heads have the same work (random weights would leave them
idle). The peers take turns, step by step; what is printed are medians, and ratios to the first peer.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import torch  # noqa: E402
import torchvision  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.models.detection import MaskRCNN, backbone_utils  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402
from torchvision.ops.misc import FrozenBatchNorm2d  # noqa: E402

from mmdet_ft.checkpoints.fitting import load_checkpoint  # noqa: E402
from mmdet_ft.config import Config  # noqa: E402
from mmdet_ft.datasets.loader import collate  # noqa: E402
from mmdet_ft.datasets.masks import BitmapMasks  # noqa: E402
from mmdet_ft.engine.optimizer import build_optimizer, zero_missing_momentum  # noqa: E402
from mmdet_ft.engine.precision import build_precision  # noqa: E402
from mmdet_ft.engine.runner import EpochBasedRunner  # noqa: E402
from mmdet_ft.models.dense_heads.rpn_head import Proposals  # noqa: E402
from mmdet_ft.registry import MODELS  # noqa: E402
from mmdet_ft.structures import Batch, to_device  # noqa: E402
from tools.benchmarks.no_sync import count_syncs  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = os.path.join(ROOT, 'configs/torchvision/mask_rcnn_r50_fpn_coco.py')
PEAK = {'bfloat16': 790e12, 'float16': 790e12, 'float32': 50e12}  # FLOP a second of an H200, dense


class Work(NamedTuple):
    """What every peer is given."""
    images: Tensor  # float32 [B, 3, H, W], normalised
    boxes: List[Tensor]  # float32 [G, 4] an image
    labels: List[Tensor]  # int64 [G], 0..79
    masks: List[Tensor]  # uint8 [G, H, W]
    extra: Tensor  # float32 [B, E, 4], boxes that join the proposals


class Peer(NamedTuple):
    name: str
    step: Callable[[], None]
    positives: List[int]  # of each step so far, all images together


def make_work(args: argparse.Namespace) -> Work:
    """Noise with ellipses as objects; each object's box, moved a little, is added to the proposals
    until there are `--positives` of them."""
    generator = torch.Generator().manual_seed(args.seed)
    height, width = args.size
    images = torch.randn(args.batch, 3, height, width, generator=generator)
    boxes, labels, masks, extra = [], [], [], []
    y, x = torch.arange(height)[:, None] + .5, torch.arange(width) + .5
    for _ in range(args.batch):
        size = torch.rand(args.objects, 2, generator=generator) * 200 + 40
        corner = torch.rand(
            args.objects, 2, generator=generator) * (
                torch.tensor([width, height]) - size)
        box = torch.cat([corner, corner + size], 1)
        boxes.append(box)
        labels.append(torch.randint(0, 80, (args.objects, ), generator=generator))
        centre, radius = corner + size / 2, size / 2
        masks.append(
            torch.stack([(((x - cx) / rx)**2 + ((y - cy) / ry)**2 <= 1).to(torch.uint8)
                         for (cx, cy), (rx, ry) in zip(centre.tolist(), radius.tolist())]))
        copies = box[torch.arange(args.positives - args.objects) % args.objects]
        shift = (torch.rand(copies.shape, generator=generator) -
                 .5) * .1 * (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        extra.append(copies + shift)
    return Work(images, boxes, labels, masks, torch.stack(extra))


# -------------------------------------------------------------------------------------- torchvision


def torchvision_model() -> MaskRCNN:
    """torchvision's own maskrcnn_resnet50_fpn, its frozen batch norm and frozen first stages, for
    80 classes, with as many proposals as V2 draws from."""
    torch.manual_seed(0)
    resnet = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = backbone_utils._resnet_fpn_extractor(resnet, 3)
    return MaskRCNN(backbone, 91, rpn_post_nms_top_n_train=1000).train()


def torchvision_peer(model: MaskRCNN, work: Work, args: argparse.Namespace) -> Peer:
    device = torch.device(args.device)
    model = prepare(model.to(device), args)
    sizes = [tuple(args.size)] * args.batch
    images = ImageList(layout(work.images.to(device), args), sizes)
    targets = [
        dict(boxes=boxes.to(device), labels=labels.to(device) + 1, masks=masks.to(device))
        for boxes, labels, masks in zip(work.boxes, work.labels, work.masks)
    ]
    extra = list(work.extra.to(device))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=.9, weight_decay=1e-4)
    autocast = build_precision(half(args), device).autocast
    positives: List[int] = []

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            features = model.backbone(images.tensors)
            proposals, rpn_losses = model.rpn(images, features, targets)
            proposals = [torch.cat(pair) for pair in zip(proposals, extra)]
            _, losses = model.roi_heads(features, proposals, sizes, targets)
            loss = sum({**rpn_losses, **losses}.values())
        loss.backward()
        optimizer.step()

    select = model.roi_heads.select_training_samples

    def counted(*arguments: Any) -> Tuple:
        chosen = select(*arguments)
        positives.append(sum((labels > 0).sum() for labels in chosen[2]))
        return chosen

    model.roi_heads.select_training_samples = counted
    return Peer('torchvision', step, positives)


# --------------------------------------------------------------------------------------------- ours


def our_model(weights: str) -> torch.nn.Module:
    model = MODELS.build(Config.fromfile(CONFIG).model)
    load_checkpoint(model, weights)
    return model.train()


def our_batch(work: Work) -> Batch:
    height, width = work.images.shape[2:]
    meta = dict(
        img_shape=(height, width, 3),
        pad_shape=(height, width, 3),
        ori_shape=(height, width, 3),
        scale_factor=1.,
        flip=False)
    return collate([
        dict(
            img=image,
            img_metas=meta,
            gt_bboxes=boxes,
            gt_labels=labels,
            gt_masks=BitmapMasks(masks.numpy(), height, width))
        for image, boxes, labels, masks in zip(work.images, work.boxes, work.labels, work.masks)
    ])


def our_peer(model: torch.nn.Module, work: Work, args: argparse.Namespace) -> Peer:
    device = torch.device(args.device)
    model = prepare(model.to(device), args)
    batch = to_device(our_batch(work), device)
    batch = batch._replace(images=layout(batch.images, args))
    extra = work.extra.to(device)
    optimizer = build_optimizer(model, dict(type='SGD', lr=args.lr, momentum=.9, weight_decay=1e-4))
    zero_missing_momentum(optimizer)
    folder = tempfile.mkdtemp()
    runner = EpochBasedRunner(
        model, optimizer, folder, precision=build_precision(half(args), device), max_epochs=1)
    runner.max_iters = 10**6
    positives: List[int] = []
    propose, sample = model.rpn_head.proposals, model.roi_head.sample

    def with_extra(*arguments: Any) -> Proposals:
        boxes, scores, valid = propose(*arguments)
        more = extra.new_ones(extra.shape[:2])
        return Proposals(
            torch.cat([boxes, extra], 1), torch.cat([scores, more], 1),
            torch.cat([valid, more > 0], 1))

    def counted(*arguments: Any) -> Any:
        rois = sample(*arguments)
        positives.append(rois.positive.sum())
        return rois

    model.rpn_head.proposals, model.roi_head.sample = with_extra, counted

    def step() -> None:
        runner.train_step(batch)
        runner.iter += 1

    return Peer('mmdet_ft', step, positives)


# ---------------------------------------------------------------------------------------- measuring


def half(args: argparse.Namespace) -> Any:
    return None if args.precision == 'float32' else dict(dtype=args.precision, loss_scale=512.)


def layout(images: Tensor, args: argparse.Namespace) -> Tensor:
    return images.to(memory_format=torch.channels_last) if args.channels_last else images


def prepare(model: torch.nn.Module, args: argparse.Namespace) -> torch.nn.Module:
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if args.compile:
        model.backbone = torch.compile(model.backbone)
    return model


def wait(args: argparse.Namespace) -> None:
    if args.device.startswith('cuda'):
        torch.cuda.synchronize()


def measure(peers: List[Peer], args: argparse.Namespace) -> Dict[str, List[float]]:
    """Seconds of each step; the peers in turns."""
    times: Dict[str, List[float]] = {peer.name: [] for peer in peers}
    for number in range(args.warmup + args.steps):
        for peer in peers:
            wait(args)
            begin = time.perf_counter()
            peer.step()
            wait(args)
            if number >= args.warmup:
                times[peer.name].append(time.perf_counter() - begin)
    return times


def peak_memory(peer: Peer, args: argparse.Namespace) -> str:
    if not args.device.startswith('cuda'):
        return '-'
    torch.cuda.reset_peak_memory_stats()
    peer.step()
    wait(args)
    return f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GB'


def flop_of_step(height: int, width: int, num_positives: float, num_rois: int = 512) -> float:
    """Operations (two a multiply-add) that a training step of one image cannot do without.

    Convolutions and matrix products of Mask R-CNN R50-FPN with a frozen stem and first stage;
    backward is twice forward where weights learn. Heights and widths of levels are rounded up.
    """
    cells = [-(-height // stride) * -(-width // stride) for stride in (2, 4, 8, 16, 32, 64)]
    stem = cells[0] * 147 * 64
    stages, widths = [], (64, 64, 128, 256, 512)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        inner, before = widths[stage], 64 if stage == 1 else widths[stage] * 2
        here, entry = cells[stage], cells[max(stage - 1, 1)]
        first = entry * before * inner + here * (
            inner * inner * 9 + inner * inner * 4 + before * inner * 4)
        other = here * (inner * inner * 4 * 2 + inner * inner * 9)
        stages.append(first + (blocks - 1) * other)
    levels = cells[1:5]
    neck = sum(cell * width * 4 * 256
               for cell, width in zip(levels, widths[1:])) + sum(cell * 9 * 256 * 256
                                                                 for cell in levels)
    rpn = sum(cells[1:6]) * (9 * 256 * 256 + 256 * 15)
    box = num_rois * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 401)
    mask = num_positives * (196 * 9 * 256 * 256 * 4 + 196 * 4 * 256 * 256 + 784 * 256 * 80)
    frozen = stem + stages[0]
    learning = sum(stages[1:]) + neck + rpn + box + mask
    # Three layers look at what is frozen: nothing goes back through them.
    into_frozen = cells[1] * 256 * 128 + cells[2] * 256 * 512 + cells[1] * 256 * 256
    return 2. * (frozen + 3 * learning - into_frozen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1088), metavar=('H', 'W'))
    parser.add_argument('--objects', type=int, default=7, help='an image')
    parser.add_argument(
        '--positives', type=int, default=64, help='regions of the mask head, an image')
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cuda or cpu')
    parser.add_argument(
        '--precision', default='float32', choices=('float32', 'bfloat16', 'float16'))
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true', help="torch.compile the backbones")
    parser.add_argument('--lr', type=float, default=1e-5)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()

    work, theirs = make_work(args), torchvision_model()
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, 'weights.pth')
        torch.save(theirs.state_dict(), weights)
        ours = our_model(weights)
    peers = [torchvision_peer(theirs, work, args), our_peer(ours, work, args)]
    times = measure(peers, args)

    flop = flop_of_step(*args.size, args.positives) * args.batch
    table = Table(
        title=f'{args.batch} x {args.size[0]}x{args.size[1]}, {args.precision}, {args.device}'
        f', torch {torch.__version__}')
    for column in ('', 'ms a step', 'images/s', 'ratio', 'of the floor', 'mask regions', 'waits',
                   'operations', 'memory'):
        table.add_column(column, justify='right')
    reference = statistics.median(times[peers[0].name])
    for peer in peers:
        median = statistics.median(times[peer.name])
        with count_syncs() as seen:
            peer.step()
        floor = (f'{flop / PEAK[args.precision] / median:.0%}'
                 if args.device.startswith('cuda') else '-')
        regions = statistics.mean(map(float, peer.positives)) / args.batch
        table.add_row(peer.name, f'{median * 1e3:.1f}', f'{args.batch / median:.2f}',
                      f'{median / reference:.3f}', floor, f'{regions:.1f}', str(len(seen.syncs)),
                      str(seen.num_ops), peak_memory(peer, args))
    Console().print(table)
    print(f'floor: {flop / 1e12:.2f} TFLOP a step')


if __name__ == '__main__':
    main()
