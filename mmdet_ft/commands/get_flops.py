"""Count the multiply-additions and weights of a model, part by part."""
from argparse import Namespace
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmdet_ft.config.load import load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.errors import UserError
from mmdet_ft.evaluation.table_output import table_text
from mmdet_ft.inference.build import classes_of
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.structures import Batch


def noise(height: int, width: int, channels: int) -> Batch:
    """Build a batch of one image of random numbers."""
    sizes = torch.tensor([[float(height), float(width)]])
    shape = (height, width, channels)
    metas = [dict(img_shape=shape, ori_shape=shape, pad_shape=shape, flip=False)]
    return Batch(
        torch.randn(1, channels, height, width), sizes, sizes.clone(), torch.ones(1, 4), metas)


def first_channels(model: torch.nn.Module) -> int:
    """Return the number of image channels of a model: 1 or 3."""
    return next(module.in_channels for module in model.modules()
                if isinstance(module, torch.nn.Conv2d))


def main(args: Namespace) -> None:
    config, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    config.model.train_cfg = None
    of_boxes = (config.model.get('test_cfg') or {}).get('rcnn')
    if of_boxes is not None:
        of_boxes.score_thr = 0.  # noise scores low, and the mask head runs only on detections
    classes = classes_of(config, None)[0]
    model = build_model(config.model, SimpleNamespace(CLASSES=classes)).eval()
    is_classifier = not isinstance(model, Detector)
    shape = args.shape or ([224] if is_classifier else [1280, 800])
    divisor = 1 if is_classifier and not args.shape else args.size_divisor
    height, width = (-(-side // divisor) * divisor if divisor > 0 else side
                     for side in (shape * 2)[:2])
    counter = FlopCounterMode(display=False)
    batch = noise(height, width, first_channels(model))
    try:
        with torch.no_grad(), counter:
            model((batch, ))
    except RuntimeError as error:
        raise UserError(
            f'{type(model).__name__} cannot be run on {height} x {width} pixels ({error}); '
            f'give the size that it is made for with --shape') from error
    counts = counter.get_flop_counts()
    name = type(model).__name__
    rows = []
    for part, module in model.named_children():
        rows.append(_row(part, _flops(counts, f'{name}.{part}', module), module))
    rows.append(_row(f'{name}, {height} x {width}', counter.get_total_flops(), model))
    print(table_text(('part', 'GFLOPs', 'weights, million'), rows, last_row_apart=True))


def _row(name: str, flops: int, module: torch.nn.Module) -> Tuple[str, str, str]:
    return name, f'{flops / 2e9:.2f}', f'{_weights(module) / 1e6:.2f}'


def _flops(counts: Dict[str, Any], path: str, module: torch.nn.Module) -> int:
    """Return the FLOPs of a module, or of its children if only those were called."""
    if path in counts:
        return sum(counts[path].values())
    return sum(_flops(counts, f'{path}.{name}', child) for name, child in module.named_children())


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
