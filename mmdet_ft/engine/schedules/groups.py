"""Scheduled learning rates and momenta of an optimizer's parameter groups."""
from typing import Any, Dict, List, Optional

from torch.optim import Optimizer

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.schedules.schedule import LearningRate, Momentum, Progress


class Schedules:
    """Sets the learning rates and momenta of the groups by `lr_config` and `momentum_config`.

    A value set by a hook is kept until the schedule changes, as in V2.

    Args:
        learning_rate: None leaves the rates to the optimizer, or to a hook.
        momentum: None leaves the momenta to the optimizer, or to a hook.
    """

    def __init__(self, learning_rate: Optional[LearningRate], momentum: Optional[Momentum]):
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.rates: Optional[List[float]] = None  # as last set
        self.momenta: Optional[List[float]] = None

    def set(self, optimizer: Optimizer, progress: Progress, epoch_starts: bool = False) -> None:
        """Set rates and momenta for the current progress; at the start of an epoch also over a hook's values."""
        self.set_rates(optimizer, progress, epoch_starts)
        self.set_momenta(optimizer, progress, epoch_starts)

    def set_rates(self,
                  optimizer: Optimizer,
                  progress: Progress,
                  epoch_starts: bool = False) -> None:
        if self.learning_rate is None:
            return
        groups = optimizer.param_groups
        for group in groups:
            group.setdefault('initial_lr', group['lr'])
        rates = self.learning_rate([group['initial_lr'] for group in groups], progress)
        if rates != self.rates or epoch_starts:
            self.rates = rates
            for group, rate in zip(groups, rates):
                group['lr'] = rate

    def set_momenta(self,
                    optimizer: Optimizer,
                    progress: Progress,
                    epoch_starts: bool = False) -> None:
        """Set the momenta, or first betas."""
        if self.momentum is None:
            return
        groups = optimizer.param_groups
        if any('momentum' not in group and 'betas' not in group for group in groups):
            raise UserError(f'momentum_config needs an optimizer with momentum or betas, and '
                            f'{type(optimizer).__name__} has neither: take it out')
        for group, momentum in zip(groups, momenta_of(optimizer)):
            group.setdefault('initial_momentum', momentum)
        momenta = self.momentum([group['initial_momentum'] for group in groups], progress)
        if momenta != self.momenta or epoch_starts:
            self.momenta = momenta
            for group, momentum in zip(groups, momenta):
                if 'momentum' in group:
                    group['momentum'] = momentum
                else:
                    group['betas'] = (momentum, *group['betas'][1:])

    def state_dict(self) -> Dict[str, Any]:
        return dict(rates=self.rates, momenta=self.momenta)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.rates, self.momenta = state['rates'], state['momenta']


def momenta_of(optimizer: Optimizer) -> List[float]:
    """Return the momentum, or first beta, of each group; 0 if it has neither."""
    return [
        group['momentum'] if 'momentum' in group else group.get('betas', (0, ))[0]
        for group in optimizer.param_groups
    ]
