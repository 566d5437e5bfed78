"""Hook that averages norm statistics over the processes of a run."""
from typing import Dict, List

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class SyncNormHook(Hook):
    """Replaces the running statistics of each process by their mean, at the end of an epoch (YOLOX).

    Moving averages of them, as ExpMomentumEMAHook keeps, are replaced too. Weights are equal on all
    processes already.

    Args:
        num_last_epochs: number of epochs after the first one with an interval of 1; V2's rule.
        interval: epochs between two replacements before.
    """

    repeats_on_resume = True

    def __init__(self, num_last_epochs: int = 15, interval: int = 1):
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'SyncNormHook.interval must be a positive integer, not {interval!r}')
        self.num_last_epochs = num_last_epochs
        self.interval = interval

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.max_epochs is None:
            raise UserError('SyncNormHook counts epochs; use it with EpochBasedRunner')

    def interval_at(self, epoch: int, max_epochs: int) -> int:
        """Return the interval in an epoch, which counts from 0."""
        first = max_epochs - self.num_last_epochs
        return 1 if 0 < first <= epoch + 1 else self.interval

    def after_train_epoch(self, runner: Runner) -> None:
        interval = self.interval_at(runner.epoch, runner.max_epochs)
        if not dist.is_distributed() or (runner.epoch + 1) % interval:
            return
        statistics = norm_statistics(getattr(runner.model, 'module', runner.model))
        for value in statistics:
            torch.distributed.all_reduce(value)
        if statistics:
            torch._foreach_div_(statistics, dist.get_dist_info()[1])


def norm_statistics(model: nn.Module) -> List[Tensor]:
    """Return the running means and variances of all norm layers, and the moving averages of them."""
    buffers: Dict[str, Tensor] = dict(model.named_buffers())
    found: List[Tensor] = []
    for path, layer in model.named_modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats:
            for name in ('running_mean', 'running_var'):
                average = f'ema_{path.replace(".", "_")}_{name}'
                found += [buffers[key] for key in (f'{path}.{name}', average) if key in buffers]
    return found
