"""Operations and waits of a training step of every detector in configs/, at batches of 1, 2 and 4.

    python tools/benchmarks/detectors.py                  # a row for each set of necks and heads
    python tools/benchmarks/detectors.py 'htc/*' 'paa/*'

A step is forward, backward, clipping and SGD, on drawn images of 64 x 96 (SSD: 300 x 300). Views are not counted.
Waits are operations at which the host would wait for a GPU, at a batch of 4. Where operations do not grow from 2 to 4
is no loop over images; at 1 a few copies are views. Returns 1 if a step waits more than twice or has more than one
operation an image added: what moves one image's mask.
"""
import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import torch  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from mmdet_ft.config import Config, load_config  # noqa: E402
from mmdet_ft.engine.config_check.feature_levels import with_some_classes  # noqa: E402
from mmdet_ft.models.detectors.base import Detector  # noqa: E402
from mmdet_ft.models.layers import unsynchronize  # noqa: E402
from mmdet_ft.registry import MODELS  # noqa: E402
from mmdet_ft.structures import Batch, Regions, SemanticMaps  # noqa: E402
from tools.benchmarks.no_sync import NoSync, count_syncs  # noqa: E402
from tools.benchmarks.peers.mmdet_ft import batch_of  # noqa: E402
from tools.benchmarks.peers.work import make_work  # noqa: E402

BATCHES = (1, 2, 4)
MAX_WAITS = 2
CONFIGS = Path(ROOT) / 'configs'


class Counts(NamedTuple):
    """Counts of a step."""
    waits: List[str]  # at the largest batch: a line each
    operations: List[int]  # at each of BATCHES

    def is_right(self) -> bool:
        """Return whether a step waits seldom enough and has no loop over images."""
        added = self.operations[-1] - self.operations[-2]
        return len(self.waits) <= MAX_WAITS and added <= BATCHES[-1] - BATCHES[-2]


def find_detectors(patterns: Tuple[str, ...] = ('*/*.py', )) -> Iterator[Tuple[str, Config]]:
    """Yield the name and the content of a config, that of the shortest name, for each set of necks and heads."""
    seen = set()
    paths = {path for pattern in patterns for path in CONFIGS.glob(pattern)}
    for path in sorted(paths, key=lambda path: (len(str(path)), path)):
        if path.parent.name.startswith('_'):
            continue
        config = load_config(str(path))
        kind = MODELS.get(config.model.type) if 'model' in config else None
        if isinstance(kind, type) and issubclass(kind, Detector):
            types = (config.model.type, *types_in(config.model))
            if types not in seen:
                seen.add(types)
                yield str(path.relative_to(CONFIGS)), config


def types_in(part: Any, key: str = '') -> List[str]:
    """Return the types of necks, heads and RoI extractors in a part of a config; `key` is its name."""
    if isinstance(part, (list, tuple)):
        return [name for item in part for name in types_in(item, key)]
    if not isinstance(part, dict):
        return []
    own = [part['type']] if key.endswith(('neck', 'head', 'extractor')) else []
    return [*own, *(name for key, item in part.items() for name in types_in(item, key))]


def count_step(settings: Dict[str, Any]) -> Counts:
    """Count the waits and operations of a training step of a model's config, which it changes."""
    make_light(settings)
    torch.manual_seed(0)
    model = MODELS.build(with_some_classes(settings))
    unsynchronize(model)
    model.train()
    size = (300, 300) if 'SSD' in settings['backbone']['type'] else (64, 96)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=.9, foreach=True)
    take_step(model, optimizer, draw_batch(model, 1, size))  # makes anchors and momentum
    counted = [take_step(model, optimizer, draw_batch(model, number, size)) for number in BATCHES]
    return Counts(counted[-1].syncs, [seen.num_ops for seen in counted])


def make_light(part: Any) -> None:
    """Leave out the weights to begin with, and let samplers draw 32 regions an image: no operation less."""
    if isinstance(part, (list, tuple)):
        for item in part:
            make_light(item)
    if isinstance(part, dict):
        part.pop('pretrained', None)
        part.pop('init_cfg', None)
        if 'pos_fraction' in part:
            part['num'] = 32
        make_light(list(part.values()))


def take_step(model: Detector, optimizer: torch.optim.Optimizer, batch: Batch) -> NoSync:
    """Return what a training step does."""
    with count_syncs() as seen:
        model(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]['params'], 35)
        optimizer.step()
        optimizer.zero_grad()
    return seen


def draw_batch(model: Detector, number: int, size: Tuple[int, int]) -> Batch:
    """Draw images with three objects each, proposals and semantic maps."""
    work = make_work(argparse.Namespace(seed=0, size=size, batch=number, objects=3, positives=20))
    labels = [label % model.count_classes() for label in work.labels]
    batch = batch_of(work._replace(labels=labels))
    maps = torch.zeros(number, size[0] // 8, size[1] // 8, dtype=torch.int64)
    valid = torch.ones(work.extra.shape[:2], dtype=torch.bool)
    return batch._replace(
        gt=batch.gt._replace(semantic=SemanticMaps(maps, (0, ))),
        proposals=Regions(work.extra, valid))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('patterns', nargs='*', default=['*/*.py'], help='of files below configs/')
    table = Table('config', 'detector', 'waits', *map(str, BATCHES), '', box=box.MARKDOWN)
    is_right = True
    for name, config in find_detectors(tuple(parser.parse_args().patterns)):
        counts = count_step(config.model)
        is_right &= counts.is_right()
        table.add_row(name, config.model.type, str(len(counts.waits)), *map(str, counts.operations),
                      '' if counts.is_right() else 'grows or waits')
        print(name, counts.operations, *counts.waits, sep='\n  ', flush=True, file=sys.stderr)
    Console(width=150).print(table)
    return 0 if is_right else 1


if __name__ == '__main__':
    sys.exit(main())
