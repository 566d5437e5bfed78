"""Policies of the learning rate, with V2's names and arithmetic."""
import dataclasses
from typing import Callable, ClassVar, Dict, List, Optional, Sequence, Tuple, Union

from mmdet_ft.engine.schedules.policy import (ANNEALINGS, Policy, Span, ToMinimum, anneal_cosine,
                                              anneal_linear, check_annealing, check_share,
                                              check_steps, decay_by_steps, interpolate, one_each)
from mmdet_ft.ranges import Count, Counts, Filled, NotNegative, Positive, Share


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
    """The initial rate throughout."""

    def __call__(self, initial: float, span: Span) -> float:
        return initial


@dataclasses.dataclass(frozen=True)
class Step(Policy):
    """The rate times gamma at each step, or every `step` epochs when it is a number."""
    step: Counts
    gamma: NotNegative = 0.1
    min_lr: Optional[NotNegative] = None

    def __post_init__(self):
        check_steps(self.step)

    def __call__(self, initial: float, span: Span) -> float:
        return decay_by_steps(initial, span, self.step, self.gamma, self.min_lr)


@dataclasses.dataclass(frozen=True)
class Exp(Policy):
    """The rate times gamma at every epoch or iteration."""
    gamma: NotNegative

    def __call__(self, initial: float, span: Span) -> float:
        return initial * self.gamma**span.now


@dataclasses.dataclass(frozen=True)
class Inv(Policy):
    """The rate times (1 + gamma * now) ** -power."""
    gamma: NotNegative
    power: NotNegative = 1.

    def __call__(self, initial: float, span: Span) -> float:
        return initial * (1 + self.gamma * span.now)**-self.power


@dataclasses.dataclass(frozen=True)
class Poly(Policy):
    """From the initial rate down to min_lr along (1 - part) ** power."""
    power: NotNegative = 1.
    min_lr: NotNegative = 0.

    def __call__(self, initial: float, span: Span) -> float:
        return (initial - self.min_lr) * (1 - span.part)**self.power + self.min_lr


@dataclasses.dataclass(frozen=True)
class CosineAnnealing(ToMinimum):
    """From the initial rate down to min_lr, or to min_lr_ratio of it, along half a cosine."""
    min_lr: Optional[NotNegative] = None
    min_lr_ratio: Optional[NotNegative] = None

    def __call__(self, initial: float, span: Span) -> float:
        return anneal_cosine(initial, self.target(initial), span.part)


@dataclasses.dataclass(frozen=True)
class YOLOX(ToMinimum):
    """Half a cosine from the end of the warmup to num_last_epochs before the end, then the minimum.

    The warmup, of any kind, rises with the square of the iterations, from the first on. Needs by_epoch=False.
    """
    num_last_epochs: int
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None
    per_iteration: ClassVar[bool] = True

    def warm(self, initial: float, ratio: float, part: float) -> float:
        return initial * ratio * part**2

    def __call__(self, initial: float, span: Span) -> float:
        now, end = span.now + 1, span.total - self.num_last_epochs * span.epoch_length
        if now >= end:
            return self.target(initial)
        return anneal_cosine(initial, self.target(initial),
                             (now - span.warmup) / (end - span.warmup))


@dataclasses.dataclass(frozen=True)
class LinearAnnealing(ToMinimum):
    """From the initial rate down to min_lr, or to min_lr_ratio of it, along a line."""
    min_lr: Optional[NotNegative] = None
    min_lr_ratio: Optional[NotNegative] = None

    def __call__(self, initial: float, span: Span) -> float:
        return anneal_linear(initial, self.target(initial), span.part)


@dataclasses.dataclass(frozen=True)
class FlatCosineAnnealing(ToMinimum):
    """The initial rate for start_percent (a share 0..1) of the run, then as CosineAnnealing."""
    start_percent: Share = 0.75
    min_lr: Optional[NotNegative] = None
    min_lr_ratio: Optional[NotNegative] = None

    def __post_init__(self):
        super().__post_init__()
        check_share(start_percent=self.start_percent)

    def __call__(self, initial: float, span: Span) -> float:
        start = round(span.total * self.start_percent)
        if span.now < start:
            return initial
        return anneal_cosine(initial, self.target(initial),
                             (span.now - start) / (span.total - start))


@dataclasses.dataclass(frozen=True)
class CosineRestart(ToMinimum):
    """Half a cosine in each of `periods` (epochs or iterations), from its weight of the initial rate.

    A period of weight w begins at w * initial + (1 - w) * target. Raises ValueError if the periods
    are shorter than the run.
    """
    periods: Filled[List[Count]]
    restart_weights: Sequence[NotNegative] = (1, )
    min_lr: Optional[NotNegative] = None
    min_lr_ratio: Optional[NotNegative] = None

    def __post_init__(self):
        super().__post_init__()
        if len(self.periods) != len(self.restart_weights):
            raise ValueError(f'{len(self.periods)} periods with {len(self.restart_weights)} '
                             f'restart_weights; give one for each')

    def __call__(self, initial: float, span: Span) -> float:
        if span.total > sum(
                self.periods):  # at the first step, not at the first one after the periods
            raise ValueError(
                f'lr_config.periods {list(self.periods)} add up to {sum(self.periods)}, '
                f'but the run has {span.total}')
        target = self.target(initial)
        now = span.now
        for period, weight in zip(self.periods, self.restart_weights):
            if now < period:
                break
            now -= period
        return anneal_cosine(initial, target, min(now / period, 1), weight)


@dataclasses.dataclass(frozen=True)
class Cyclic(Policy):
    """`cyclic_times` cycles of one length, up and down again (arXiv:1506.01186), along cosines.

    Args:
        target_ratio: factors of the initial value at the peak and at the end of a cycle;
            a single number is the peak, and a 100000th of it the end.
        cyclic_times: number of cycles in the run.
        step_ratio_up: share 0..1 of a cycle that rises.
        anneal_strategy: 'cos' or 'linear'.
        gamma: factor in (0, 1] of the height of each peak relative to the one before.
    """
    target_ratio: Union[NotNegative, Sequence[NotNegative]] = (10, 1e-4)
    cyclic_times: Count = 1
    step_ratio_up: float = 0.4
    anneal_strategy: str = 'cos'
    gamma: float = 1
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        check_annealing(self.anneal_strategy)
        if not 0 <= self.step_ratio_up < 1:
            raise ValueError(f'step_ratio_up must be in [0, 1), not {self.step_ratio_up}')
        if not 0 < self.gamma <= 1:
            raise ValueError(f'gamma must be in (0, 1], not {self.gamma}')
        ratios = self._ratios()
        if len(ratios) != 2 or not all(isinstance(ratio, (int, float)) for ratio in ratios):
            raise ValueError(
                f'target_ratio must be a number or (peak, end), not {self.target_ratio!r}')

    def _ratios(self) -> Tuple[float, ...]:
        ratios = self.target_ratio
        ratios = tuple(ratios) if isinstance(ratios, (list, tuple)) else (ratios, )
        return (ratios[0], ratios[0] / 1e5) if len(ratios) == 1 else ratios

    def __call__(self, initial: float, span: Span) -> float:
        length = span.total // self.cyclic_times
        if length == 0:
            raise ValueError(
                f'{self.cyclic_times} cycles (cyclic_times) in {span.total} iterations')
        cycle, now = divmod(span.now, length)
        peak, end = self._ratios()
        scale = self.gamma**cycle
        up = int(self.step_ratio_up * length)
        if now < up:
            first, last, part = 1, 1 - scale + peak * scale, now / up
        elif up:
            first, last, part = 1 - scale + peak * scale, end, (now - up) / (length - up)
        else:  # if the cycle has no rise, the end changes instead, as in V2
            first, last, part = peak, 1 - scale + end * scale, now / length
        return ANNEALINGS[self.anneal_strategy](initial * first, initial * last, part)


@dataclasses.dataclass(frozen=True)
class OneCycle(Policy):
    """One rise and one long fall (arXiv:1708.07120); the optimizer's own rate is not used.

    Args:
        max_lr: the peak, one number or one for each parameter group.
        total_steps: iterations of the cycle, the run's by default; not fewer.
        pct_start: share 0..1 of the cycle that rises.
        anneal_strategy: 'cos' or 'linear'.
        div_factor: ratio of the peak to the first rate.
        final_div_factor: ratio of the first rate to the last.
        three_phase: fall to the first rate in as long as the rise took, then to the last.
    """
    max_lr: Union[NotNegative, List[NotNegative]]
    total_steps: Optional[Count] = None
    pct_start: float = 0.3
    anneal_strategy: str = 'cos'
    div_factor: Positive = 25
    final_div_factor: Positive = 1e4
    three_phase: bool = False
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        check_share(pct_start=self.pct_start)
        check_annealing(self.anneal_strategy)

    def starts(self, initial: List[float]) -> List[float]:
        return [rate / self.div_factor for rate in one_each('max_lr', self.max_lr, len(initial))]

    def __call__(self, initial: float, span: Span) -> float:
        total = self.total_steps or span.total
        if total < span.total:
            raise ValueError(f'lr_config.total_steps = {total} is less than the {span.total} '
                             f'iterations of the run')
        peak, last = initial * self.div_factor, initial * (1 / self.final_div_factor)
        phases = [(self.pct_start * total - 1, initial, peak), (total - 1, peak, last)]
        if self.three_phase:
            phases[1:] = [(2 * self.pct_start * total - 2, peak, initial),
                          (total - 1, initial, last)]
        return interpolate(phases, span.now, self.anneal_strategy)


POLICIES: Dict[str, Callable[..., Policy]] = {
    'fixed': Fixed,
    'step': Step,
    'exp': Exp,
    'poly': Poly,
    'inv': Inv,
    'cosineannealing': CosineAnnealing,
    'cosine': CosineAnnealing,
    'linearannealing': LinearAnnealing,
    'flatcosineannealing': FlatCosineAnnealing,
    'cosinerestart': CosineRestart,
    'cyclic': Cyclic,
    'onecycle': OneCycle,
    'yolox': YOLOX,
}
