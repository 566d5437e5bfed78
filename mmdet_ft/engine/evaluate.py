"""Inference over a dataset, and the options of `dataset.evaluate`."""
import inspect
import logging
import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.wrappers import check_options, dataset_name
from mmdet_ft.engine.distributed import interruption, watchdog
from mmdet_ft.engine.distributed.dist import collect_results, get_dist_info
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.engine.settings.records import PartSettings
from mmdet_ft.engine.speed.precision import Precision
from mmdet_ft.structures import Batch, HostCopy, Regions, to_device

logger = logging.getLogger('mmdet_ft')

# Called with the results of each batch as it is done: (views of the batch, its results).
Watcher = Callable[[Tuple[Batch, ...], List[Any]], None]


@watchdog.step()
@torch.no_grad()
def run_over(model: nn.Module,
             data_loader: Any,
             precision: Optional[Precision] = None,
             watch: Optional[Watcher] = None) -> List[Any]:
    """Return V2's results of every sample that the loader yields, in its order; restores the model's mode.

    The host assembles the results of one batch while the device works on the next. Images of
    unequal size run separately, each unpadded; V2 pads them to the largest of their batch, which
    changes the detections.
    """
    model = getattr(model, 'module', model)
    device = next(model.parameters()).device
    precision = precision or Precision(device)
    was_training = model.training
    results: List[Any] = []

    def finish(views: Tuple[Batch, ...], parts: List[Tuple[List[int], HostCopy]]) -> None:
        metas = views[0].metas
        of_batch: List[Any] = [None] * len(metas)
        for indices, predictions in parts:
            found = model.results(predictions.read(), [metas[index] for index in indices])
            for index, result in zip(indices, found):
                of_batch[index] = result
        results.extend(of_batch)
        if watch is not None:
            watch(views, of_batch)

    model.eval()
    try:
        pending, is_told = None, False
        rank, _ = get_dist_info()
        for views in track(data_loader, 'evaluating', len(data_loader), quiet=rank != 0):
            if isinstance(views, Batch):  # the pipeline has collected the ground truth too
                views = (views, )
            parts = parts_of_one_size(views)
            if len(parts) > 1 and not is_told:
                is_told = True
                logger.info(
                    'images of unequal size in one batch are run apart: padded to the largest, other boxes '
                    'would be found, in the padding too (samples_per_gpu of MMDetection 2.x pads them)'
                )
            with precision.autocast():
                predictions = [(indices, HostCopy(model(to_device(part, device)), device))
                               for indices, part in parts]
            if pending is not None:
                finish(*pending)
            pending = (views, predictions)
            watchdog.beat()
            interruption.check()
        if pending is not None:
            finish(*pending)
    finally:
        model.train(was_training)
    return results


def parts_of_one_size(views: Tuple[Batch, ...]) -> List[Tuple[List[int], Tuple[Batch, ...]]]:
    """Split a batch with images padded beyond their own size: (indices, views) of each part.

    The views of a part are without ground truth. A batch without such padding is its only part, unchanged.
    """
    number = len(views[0].metas)
    if not any(view.own_sizes for view in views):
        return [(list(range(number)), views)]
    own = [view.own_sizes or [tuple(view.images.shape[-2:])] * number for view in views]
    groups: Dict[Tuple[Any, ...], List[int]] = {}
    for index, sizes in enumerate(zip(*own)):
        groups.setdefault(sizes, []).append(index)
    return [(indices, tuple(_part(view, indices, *size) for view, size in zip(views, sizes)))
            for sizes, indices in groups.items()]


def _part(view: Batch, indices: List[int], height: int, width: int) -> Batch:
    """Return some images of a view, cropped to a size."""
    return Batch(
        images=view.images[indices, :, :height, :width],
        sizes=view.sizes[indices],
        pad_sizes=view.pad_sizes[indices],
        scale_factors=view.scale_factors[indices],
        metas=[view.metas[index] for index in indices],
        mean=None if view.mean is None else view.mean[indices],
        std=None if view.std is None else view.std[indices],
        proposals=None if view.proposals is None else Regions(*(part[indices]
                                                                for part in view.proposals)))


def require_masks(model: nn.Module, metrics: Sequence[str]) -> None:
    """Refuse a mask metric for a model without masks, or the reverse, before any image is run.

    Raises UserError.
    """
    if 'proposal_fast' in metrics and getattr(model, 'gives_masks', False):
        raise UserError(
            f'proposal_fast is of results without masks, and {type(model).__name__} of this config gives '
            'masks; ask for proposal')
    asked = [name for name in metrics if name in ('segm', 'cityscapes')]
    if asked and not getattr(model, 'gives_masks', True):
        raise UserError(
            f"{' and '.join(asked)}: {type(model).__name__} of this config has no mask head, so it gives boxes alone; "
            f"ask for bbox, or give the model a roi_head.mask_head")


def single_gpu_test(model: nn.Module,
                    data_loader: Any,
                    precision: Optional[Precision] = None,
                    watch: Optional[Watcher] = None) -> List[Any]:
    """Return the results of the whole dataset from this process."""
    return run_over(model, data_loader, precision, watch)


def multi_gpu_test(model: nn.Module,
                   data_loader: Any,
                   tmpdir: Optional[str] = None,
                   gpu_collect: bool = False,
                   precision: Optional[Precision] = None,
                   watch: Optional[Watcher] = None) -> Optional[List[Any]]:
    """Return the results of the whole dataset on rank 0, each rank having run its part; None on other ranks."""
    part = run_over(model, data_loader, precision, watch)
    return collect_results(part, len(data_loader.dataset), tmpdir, gpu_collect)


def count_all_detections(model: PartSettings, dataset: Any, options: Dict[str, Any]) -> None:
    """Raise a metric's limit of `max_dets` detections per image, 100 in COCO, to the model's
    `max_per_img` if that is larger."""
    test_cfg = model.get('test_cfg') or {}
    most = (test_cfg.get('rcnn') or test_cfg).get('max_per_img') or 0
    if most > 100 and all('max_dets' in inspect.signature(part.evaluate).parameters
                          for part in innermost(dataset)):
        options.setdefault('max_dets', most)


def check_evaluation_options(dataset: Any, options: Dict[str, Any]) -> None:
    """Refuse at the start options that would fail after the first epoch."""
    parts = dataset.datasets if hasattr(dataset, 'datasets') else [dataset]
    for part in parts:  # a ConcatDataset passes the options on
        _check_names_of_options(part, options)
    check_options(dataset, options)


def _check_names_of_options(dataset: Any, options: Dict[str, Any]) -> None:
    """Raise UserError for options unknown to `dataset.evaluate`, and for a dataset without it."""
    if not hasattr(dataset, 'evaluate'):
        kind, fix = type(dataset).__name__, 'give it evaluate(results, logger=None, metric=...)'
        if hasattr(dataset, 'dataset'):
            fix = (
                f'it is for training: write in data.val and data.test the {dataset_name(dataset)} that it '
                'holds, without it')
        raise UserError(f'{kind} has no metrics; {fix}')
    parameters = inspect.signature(dataset.evaluate).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown and not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        known = [name for name in parameters if name not in ('results', 'logger')]
        raise UserError(
            f'evaluation has no {", ".join(unknown)}; {dataset_name(dataset)}.evaluate knows {", ".join(known)}'
        )


def format_settings(dataset: Any, options: Dict[str, Any], folder: str) -> Dict[str, Any]:
    """Return arguments of `dataset.format_results`: the options, and `folder` unless they set the output.

    Raises UserError, before anything is computed, for a dataset without its own format and for unknown options.
    """
    write = getattr(dataset, 'format_results', None)
    if write is None or getattr(write, '__func__', None) is CustomDataset.format_results:
        raise UserError(
            f'{dataset_name(dataset)} has no form of results for a test server; --out results.pkl writes '
            f'them as they are')
    known = [name for name in inspect.signature(write).parameters if name != 'results']
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f'--eval-options {", ".join(unknown)}: {dataset_name(dataset)}.format_results knows '
            f'{", ".join(known)}')
    prefix = next((name for name in known if name.endswith('_prefix')), None)
    return {prefix: os.path.join(folder, 'results'), **options} if prefix else dict(options)
