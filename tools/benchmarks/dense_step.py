"""How long a training step of a one-stage detector takes, beside torchvision's model of the same weights.

    python tools/benchmarks/dense_step.py                            # RetinaNet, FCOS and SSD300, 2 images each
    python tools/benchmarks/dense_step.py --models fcos --clock cpu

A step is forward, backward and SGD, from a batch in memory. Both models have the same weights, images and objects, and
take turns; what is printed are medians. Waits are operations at which the host would wait for a GPU. Operations are
those of a step at batches of 1, 2 and 4, views not counted: where their number does not grow is no loop over images.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import torch  # noqa: E402
import torchvision  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision.models import detection  # noqa: E402
from torchvision.models.detection import backbone_utils  # noqa: E402
from torchvision.models.detection.image_list import ImageList  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelP6P7  # noqa: E402
from torchvision.ops.misc import FrozenBatchNorm2d  # noqa: E402

from mmdet_ft.checkpoints.fitting import load_checkpoint  # noqa: E402
from mmdet_ft.config import Config  # noqa: E402
from mmdet_ft.registry import MODELS  # noqa: E402
from tools.benchmarks.no_sync import count_syncs  # noqa: E402
from tools.benchmarks.peers import work as given  # noqa: E402
from tools.benchmarks.peers.mmdet_ft import batch_of  # noqa: E402
from tools.benchmarks.peers.torchvision import fit_norms  # noqa: E402

Step = Callable[[], Tensor]


class Model(NamedTuple):
    build: Callable[[], nn.Module]  # torchvision's
    config: str
    size: Tuple[int, int]  # height and width of the images


class AsTheyAre(nn.Module):
    """torchvision's transform without any change."""

    def forward(self, images: Tensor, targets: List[Dict[str, Tensor]]) -> Tuple[Any, Any]:
        return ImageList(images, [tuple(images.shape[2:])] * len(images)), targets


def _backbone() -> nn.Module:
    resnet = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    return backbone_utils._resnet_fpn_extractor(
        resnet, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))


MODELS_HERE = dict(
    retinanet=Model(lambda: detection.RetinaNet(_backbone(), 91), 'retinanet_r50_fpn_coco.py',
                    (320, 416)),
    fcos=Model(lambda: detection.FCOS(_backbone(), 91), 'fcos_r50_fpn_coco.py', (320, 416)),
    ssd300=Model(
        lambda: detection.ssd300_vgg16(
            weights=None, weights_backbone=None, trainable_backbone_layers=5),
        'ssd300_vgg16_coco.py', (300, 300)),
)


def build_theirs(model: Model, images: Tensor) -> nn.Module:
    """Build torchvision's model with norms fitted to the images."""
    torch.manual_seed(0)
    theirs = model.build()
    fit_norms(theirs, lambda: theirs.backbone(images[:1]))
    theirs.transform = AsTheyAre()
    return theirs.train()


def their_step(theirs: nn.Module, work: given.Work, args: argparse.Namespace) -> Step:
    """Return a training step of torchvision's model."""
    targets = [
        dict(boxes=boxes, labels=labels + 1) for boxes, labels in zip(work.boxes, work.labels)
    ]
    step, _ = given.learn(theirs, lambda: sum(theirs(work.images, targets).values()),
                          given.Setting(), args)
    return step


def our_step(model: Model, weights: str, work: given.Work, args: argparse.Namespace) -> Step:
    """Return a training step of our model with the same weights."""
    config = Config.fromfile(os.path.join(ROOT, 'configs/torchvision', model.config))
    ours = MODELS.build(config.model)
    load_checkpoint(ours, weights)
    ours.train()
    batch = batch_of(work)
    step, _ = given.learn(ours, lambda: ours(batch).total, given.Setting(), args)
    return step


def measure(model: Model, args: argparse.Namespace) -> Tuple[List[float], List[str]]:
    """Return the median seconds of a step (torchvision's, ours), and counts as text."""
    times: List[List[float]] = [[], []]
    waits, operations = [], []
    clock = time.process_time if args.clock == 'cpu' else time.perf_counter
    for batch in sorted({1, 2, 4, args.batch}):
        settings = argparse.Namespace(
            **{
                **vars(args), 'batch': batch,
                'size': model.size,
                'objects': 7,
                'positives': 7,
                'device': 'cpu'
            })
        work = given.make_work(settings)
        theirs = build_theirs(model, work.images)
        with tempfile.TemporaryDirectory() as folder:
            weights = os.path.join(folder, 'theirs.pth')
            torch.save(theirs.state_dict(), weights)
            ours = our_step(model, weights, work, settings)
        steps = (their_step(theirs, work, settings), ours)
        counts = []
        for step in steps:
            step()
            with count_syncs() as seen:
                step()
            counts.append((len(seen.syncs), seen.num_ops))
        if batch == args.batch:
            waits = [str(count) for count, _ in counts]
            for _ in range(args.steps):
                for step, seconds in zip(steps, times):
                    begin = clock()
                    step()
                    seconds.append(clock() - begin)
        operations.append([str(number) for _, number in counts])
    return [statistics.median(seconds) for seconds in times
            ], [' / '.join(waits), *(', '.join(column) for column in zip(*operations))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=[*MODELS_HERE], default=[*MODELS_HERE])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--steps', type=int, default=5, help='turns that are timed')
    parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall')
    parser.add_argument('--lr', type=float, default=0.)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    table = Table(
        '',
        'torchvision, s',
        'mmdet_ft, s',
        'ratio',
        'waits',
        'operations of torchvision',
        'of mmdet_ft',
        box=box.MARKDOWN)
    for name in args.models:
        (their, our), counts = measure(MODELS_HERE[name], args)
        table.add_row(name, f'{their:.2f}', f'{our:.2f}', f'{our / their:.3f}', *counts)
    Console(width=150).print(
        f'batch {args.batch}, float32, cpu, {torch.get_num_threads()} threads, {args.clock} clock, '
        f'torch {torch.__version__}, torchvision {torchvision.__version__}\n', table)


if __name__ == '__main__':
    main()
