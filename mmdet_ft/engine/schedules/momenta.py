"""Policies of the momentum, with V2's names and arithmetic."""
import dataclasses
from typing import Callable, ClassVar, Dict, List, Optional, Sequence, Tuple, Union

from mmdet_ft.engine.schedules.policy import (Policy, Span, ToMinimum, check_annealing, check_share,
                                              check_steps, decay_by_steps, interpolate, one_each)
from mmdet_ft.engine.schedules.rates import CosineAnnealing, Cyclic, LinearAnnealing
from mmdet_ft.ranges import Counts, NotNegative, Share


@dataclasses.dataclass(frozen=True)
class StepMomentum(Policy):
    """The momentum times gamma at each step, or every `step` epochs when it is a number."""
    step: Counts
    gamma: NotNegative = 0.5
    min_momentum: Optional[Share] = None

    def __post_init__(self):
        check_steps(self.step)

    def __call__(self, initial: float, span: Span) -> float:
        return decay_by_steps(initial, span, self.step, self.gamma, self.min_momentum)


@dataclasses.dataclass(frozen=True)
class CosineAnnealingMomentum(ToMinimum):
    """From the initial momentum to min_momentum, or min_momentum_ratio of it, along half a cosine."""
    min_momentum: Optional[Share] = None
    min_momentum_ratio: Optional[NotNegative] = None
    minimum: ClassVar = ('min_momentum', 'min_momentum_ratio')

    __call__ = CosineAnnealing.__call__


@dataclasses.dataclass(frozen=True)
class LinearAnnealingMomentum(ToMinimum):
    """From the initial momentum to min_momentum, or to min_momentum_ratio of it, along a line."""
    min_momentum: Optional[Share] = None
    min_momentum_ratio: Optional[NotNegative] = None
    minimum: ClassVar = ('min_momentum', 'min_momentum_ratio')

    __call__ = LinearAnnealing.__call__


@dataclasses.dataclass(frozen=True)
class CyclicMomentum(Cyclic):
    """Down while a Cyclic learning rate rises, and up again."""
    target_ratio: Union[NotNegative, Sequence[NotNegative]] = (0.85 / 0.95, 1.)


@dataclasses.dataclass(frozen=True)
class OneCycleMomentum(Policy):
    """From max_momentum down to base_momentum while a OneCycle learning rate rises, and up again.

    Args:
        base_momentum, max_momentum: one number or one for each parameter group.
        pct_start, anneal_strategy, three_phase: see OneCycle.
    """
    base_momentum: Union[Share, List[Share]] = 0.85
    max_momentum: Union[Share, List[Share]] = 0.95
    pct_start: float = 0.3
    anneal_strategy: str = 'cos'
    three_phase: bool = False
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        check_share(pct_start=self.pct_start)
        check_annealing(self.anneal_strategy)

    def starts(self, initial: List[float]) -> List[Tuple[float, float]]:
        """Return (highest, lowest) momentum of each group."""
        return list(
            zip(
                one_each('max_momentum', self.max_momentum, len(initial)),
                one_each('base_momentum', self.base_momentum, len(initial))))

    def __call__(self, initial: Tuple[float, float], span: Span) -> float:
        high, low = initial
        phases = [(self.pct_start * span.total - 1, high, low), (span.total - 1, low, high)]
        if self.three_phase:
            phases[1:] = [(2 * self.pct_start * span.total - 2, low, high),
                          (span.total - 1, high, high)]
        return interpolate(phases, span.now, self.anneal_strategy)


MOMENTUM_POLICIES: Dict[str, Callable[..., Policy]] = {
    'step': StepMomentum,
    'cosineannealing': CosineAnnealingMomentum,
    'linearannealing': LinearAnnealingMomentum,
    'cyclic': CyclicMomentum,
    'onecycle': OneCycleMomentum,
}
