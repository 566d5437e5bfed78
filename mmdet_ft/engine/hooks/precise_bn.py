"""Precise batch norm statistics of the current weights."""
import itertools
from typing import Any, Iterable, List

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.batches import set_epoch
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.engine.speed.prefetch import on_device
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Replaces the running statistics of batch norm at the end of an epoch by the mean over many batches.

    All batches use the current weights (Rethinking "Batch" in BatchNorm, sec. 3). They are the
    first of the epoch, in training mode; layers with frozen statistics are left alone. Give it
    priority='ABOVE_NORMAL', so that checkpoints and moving averages get the new statistics.

    Args:
        num_samples: number of images over all processes; at most an epoch.
        interval: epochs between two updates.
    """

    repeats_on_resume = True

    def __init__(self, num_samples: int = 8192, interval: int = 1):
        for name, value in (('num_samples', num_samples), ('interval', interval)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'PreciseBNHook.{name} must be a positive integer, not {value!r}')
        self.num_samples = num_samples
        self.interval = interval

    def before_run(self, runner: Runner) -> None:
        if not runner.by_epoch:
            raise UserError(
                'PreciseBNHook works at the end of epochs: take it out of custom_hooks, or write '
                "runner = dict(type='EpochBasedRunner', max_epochs=...)")

    def after_train_epoch(self, runner: Runner) -> None:
        if not self.every_n_epochs(runner, self.interval):
            return
        model = getattr(runner.model, 'module',
                        runner.model)  # no gradients: no need for the DDP wrapper
        layers = [
            layer for layer in model.modules()
            if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
        ]
        if not layers:
            runner.logger.warning(
                'PreciseBNHook: no batch norm of the model changes its statistics')
            return
        loader = runner.data_loader
        number = self.num_samples // (loader.batch_size * dist.get_dist_info()[1])
        number = min(max(number, 1), len(loader))
        runner.logger.info('PreciseBNHook: statistics of %d layers from %d batches', len(layers),
                           number)
        set_epoch(loader, runner.epoch)  # from its first batch, in a resumed epoch too
        statistics = _statistics(runner, model, layers, itertools.islice(iter(loader), number))
        if dist.is_distributed():
            for mean in statistics:
                torch.distributed.all_reduce(mean)
            torch._foreach_div_(statistics, dist.get_dist_info()[1])
        torch._foreach_copy_(_buffers(layers), statistics)


def _buffers(layers: List[_BatchNorm]) -> List[Tensor]:
    return [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]


@torch.no_grad()
def _statistics(runner: Runner, model: nn.Module, layers: List[_BatchNorm],
                batches: Iterable[Any]) -> List[Tensor]:
    """Return the mean over the batches of each layer's running_mean and running_var."""
    momenta = [layer.momentum for layer in layers]
    means = [torch.zeros_like(buffer) for buffer in _buffers(layers)]
    count = 0
    try:
        for layer in layers:
            layer.momentum = 1.  # the statistics are those of the batch alone
        with runner.precision.autocast():
            for count, batch in enumerate(on_device(batches, runner.device), 1):
                model.loss(batch)
                torch._foreach_add_(means, _buffers(layers))
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
    torch._foreach_div_(means, count)
    return means
