"""Moving averages of the weights, which are evaluated and saved instead of the weights."""
import math
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.ranges import Count
from mmdet_ft.registry import HOOKS

Pair = Tuple[Tensor, Tensor]  # a weight and the buffer of its average


class BaseEMAHook(Hook):
    """Keeps `average = (1 - momentum) * average + momentum * weight` of every weight.

        before_train_iter: the model holds its weights          <- trained
        after_train_iter:  averages are updated and swapped in  <- evaluated and saved

    Between iterations the model holds the averages, and buffers `ema_<name with _ for .>` hold the
    weights. A checkpoint thus has the averages under the names of the weights, as in V2, and
    resumes exactly. (V2 swaps at the ends of epochs only, and so evaluates and saves plain weights
    under IterBasedRunner.) Hooks that read the weights in `after_train_iter` should have a higher
    priority than this one.

    Args:
        momentum: share 0..1 of the new weights in the average, after its warmup.
        interval: iterations between two updates.
        resume_from: a checkpoint to resume, if the run is not resumed already. Not needed: `resume_from` of the
            config resumes the averages too.
        with_buffers: average the model's buffers (norm statistics) like weights.
    """

    repeats_on_resume = True
    sole = 'the averages of the weights'

    def __init__(self, momentum: float, interval: int, resume_from: Optional[str],
                 with_buffers: bool):
        name = type(self).__name__
        if not 0 < momentum < 1:
            raise ValueError(f'{name}.momentum must be between 0 and 1, not {momentum}')
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'{name}.interval must be a positive integer, not {interval!r}')
        self.momentum = momentum
        self.interval = interval
        self.resume_from = resume_from
        self.with_buffers = with_buffers
        self._pairs: List[Pair] = []
        self._names: List[str] = []  # of the weights
        self._shows_averages = True
        self._model: Optional[nn.Module] = None

    def momentum_at(self, iteration: int) -> float:
        """Return the share of the new weights in the update after `iteration`, which counts from 0."""
        raise NotImplementedError

    def is_due(self, iteration: int) -> bool:
        return (iteration + 1) % self.interval == 0

    def prepare_model(self, model: nn.Module) -> None:
        if self._model is model:
            return
        values = dict(model.named_parameters())
        if self.with_buffers:
            saved = model.state_dict().keys()
            values.update({name: value for name, value in model.named_buffers() if name in saved})
        for name, value in values.items():
            average, buffer = value.detach().clone(), f'ema_{name.replace(".", "_")}'
            if hasattr(model, buffer):
                raise UserError(f'{type(self).__name__}: the model has averages of its weights '
                                'already, by another hook; leave one of them out of custom_hooks')
            model.register_buffer(buffer, average)
            self._pairs.append((value, average))
            self._names.append(name)
        self._model = model

    def before_run(self, runner: Runner) -> None:
        if self.resume_from is not None and runner.iter == 0:
            runner.resume(self.resume_from)

    def before_train_iter(self, runner: Runner) -> None:
        self._swap_weights()

    def after_train_iter(self, runner: Runner) -> None:
        if self.is_due(runner.iter):
            momentum = self.momentum_at(runner.iter)
            pairs = [pair for pair in self._pairs if pair[0].is_floating_point()]
            weights = [weight.detach() for weight, _ in pairs]
            averages = [average for _, average in pairs]
            torch._foreach_mul_(averages, 1 - momentum)
            torch._foreach_add_(averages, weights, alpha=momentum)
        self._swap_weights()

    def _swap_weights(self) -> None:
        for weight, average in self._pairs:  # swaps pointers only, nothing is copied
            weight.data, average.data = average.data, weight.data
        self._shows_averages = not self._shows_averages

    def training_weights(self, state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Return a state_dict with the trained weights, also while the model holds the averages."""
        if not self._shows_averages:
            return state_dict
        return {
            **state_dict,
            **{
                name: state_dict[f'ema_{name.replace(".", "_")}']
                for name in self._names
            }
        }


@HOOKS.register_module()
class EMAHook(BaseEMAHook):
    """mmcv's averages of parameters, with a momentum that rises to its value at first.

    It is min(momentum ** interval, (1 + iteration) / (warm_up + iteration)).

    Args:
        momentum, interval, resume_from: see BaseEMAHook.
        warm_up: the larger, the slower the averages follow at first.
    """

    def __init__(self,
                 momentum: float = 0.0002,
                 interval: Count = 1,
                 warm_up: Count = 100,
                 resume_from: Optional[str] = None):
        super().__init__(momentum, interval, resume_from, with_buffers=False)
        self.warm_up = warm_up

    def momentum_at(self, iteration: int) -> float:
        return min(self.momentum**self.interval, (1 + iteration) / (self.warm_up + iteration))

    def is_due(self, iteration: int) -> bool:
        return iteration % self.interval == 0  # as in mmcv, which updates at the first iteration


@HOOKS.register_module()
class ExpMomentumEMAHook(BaseEMAHook):
    """mmdet's averages with a momentum that decreases exponentially from 1 to its value (YOLOX).

    Args:
        total_iter: iterations in which the excess decreases to 1 / e.
        momentum, interval, resume_from: see BaseEMAHook.
        skip_buffers: do not average norm statistics.
    """

    def __init__(self,
                 total_iter: Count = 2000,
                 momentum: float = 0.0002,
                 interval: Count = 1,
                 skip_buffers: bool = False,
                 resume_from: Optional[str] = None):
        super().__init__(momentum, interval, resume_from, with_buffers=not skip_buffers)
        self.total_iter = total_iter

    def momentum_at(self, iteration: int) -> float:
        return (1 - self.momentum) * math.exp(-(1 + iteration) / self.total_iter) + self.momentum


@HOOKS.register_module()
class LinearMomentumEMAHook(BaseEMAHook):
    """mmdet's averages with the momentum of EMAHook.

    Args:
        warm_up: see EMAHook.
        momentum, interval, resume_from: see BaseEMAHook.
        skip_buffers: do not average norm statistics.
    """

    def __init__(self,
                 warm_up: Count = 100,
                 momentum: float = 0.0002,
                 interval: Count = 1,
                 skip_buffers: bool = False,
                 resume_from: Optional[str] = None):
        super().__init__(momentum, interval, resume_from, with_buffers=not skip_buffers)
        self.warm_up = warm_up

    def momentum_at(self, iteration: int) -> float:
        return min(self.momentum**self.interval, (1 + iteration) / (self.warm_up + iteration))
