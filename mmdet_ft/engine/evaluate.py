"""Run a model over a data set, for `dataset.evaluate`."""
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import nn

from mmdet_ft.engine.dist import collect_results, get_dist_info
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.failures import interruption, watchdog
from mmdet_ft.engine.precision import Precision
from mmdet_ft.engine.progress import track
from mmdet_ft.structures import Batch, HostCopy, to_device

# What is done with the results of a batch as they come: (views of the batch, its results).
Watcher = Callable[[Tuple[Batch, ...], List[Any]], None]


@torch.no_grad()
def run_over(model: nn.Module,
             data_loader: Any,
             precision: Optional[Precision] = None,
             watch: Optional[Watcher] = None) -> List[Any]:
    """V2's results of every sample that the loader yields, in its order; the model's mode is left
    as it was.

    The results of one batch are put together on the host while the device works on the next.
    """
    model = getattr(model, 'module', model)
    device = next(model.parameters()).device
    precision = precision or Precision(device)
    was_training = model.training
    results: List[Any] = []

    def finish(views: Tuple[Batch, ...], predictions: HostCopy) -> None:
        part = model.results(predictions.read(), views[0].metas)
        results.extend(part)
        if watch is not None:
            watch(views, part)

    model.eval()
    try:
        pending = None
        rank, _ = get_dist_info()
        for views in track(data_loader, 'evaluating', len(data_loader), quiet=rank != 0):
            if isinstance(views, Batch):  # the pipeline has collected the truth too
                views = (views, )
            with precision.autocast():
                predictions = HostCopy(model(to_device(views, device)), device)
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


def require_masks(model: nn.Module, metrics: Sequence[str]) -> None:
    """Refuse a metric of masks for a model without them, before any image is run. Raises UserError."""
    asked = [name for name in metrics if name in ('segm', 'cityscapes')]
    if asked and not getattr(model, 'gives_masks', True):
        raise UserError(
            f"{' and '.join(asked)}: {type(model).__name__} of this config has no mask head, so it gives boxes alone; "
            f"ask for bbox, or give the model a roi_head.mask_head")


def single_gpu_test(model: nn.Module,
                    data_loader: Any,
                    precision: Optional[Precision] = None,
                    watch: Optional[Watcher] = None) -> List[Any]:
    """Results of the whole data set from this process."""
    return run_over(model, data_loader, precision, watch)


def multi_gpu_test(model: nn.Module,
                   data_loader: Any,
                   tmpdir: Optional[str] = None,
                   gpu_collect: bool = False,
                   precision: Optional[Precision] = None,
                   watch: Optional[Watcher] = None) -> Optional[List[Any]]:
    """Results of the whole data set on rank 0, each rank having run its part; None on other
    ranks."""
    part = run_over(model, data_loader, precision, watch)
    return collect_results(part, len(data_loader.dataset), tmpdir, gpu_collect)
