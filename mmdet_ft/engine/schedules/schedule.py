"""Learning rates and momenta as functions of progress: (initial values, progress) -> values.

`lr_config` and `momentum_config` of a config: a policy with its warmup.
"""
import dataclasses
import math
from typing import Any, Callable, ClassVar, Dict, Iterator, List, NamedTuple, Optional

from mmdet_ft.engine.schedules.momenta import MOMENTUM_POLICIES
from mmdet_ft.engine.schedules.policy import Policy, Span
from mmdet_ft.engine.schedules.rates import POLICIES
from mmdet_ft.ranges import Whole

MOST_POINTS = 200  # of a run that `find_fault` looks at
WARMUPS = ('constant', 'linear', 'exp')


class Progress(NamedTuple):
    """Progress of a run, the input of every policy."""
    epoch: int
    iter: int
    epoch_length: int
    max_epochs: Optional[int]
    max_iters: int


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A policy with its warmup: `lr_config` of a config.

    Args:
        policy: returns one value without warmup for (initial value, span).
        by_epoch: the policy is evaluated once per epoch instead of at each iteration.
        warmup: None, 'constant' (the ratio throughout), 'linear' or 'exp' (from the ratio to 1).
        warmup_iters: its length, in epochs with `warmup_by_epoch`.
        warmup_ratio: factor of the regular rate at the start, in (0, 1].
    """
    policy: Policy
    by_epoch: bool = True
    warmup: Optional[str] = None
    warmup_iters: Whole = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False
    where: ClassVar[str] = 'lr_config'
    highest: ClassVar[float] = 100.  # above it, a value is a typing error

    def __post_init__(self):
        if self.warmup is None:
            return
        if self.warmup not in WARMUPS:
            raise ValueError(
                f'{self.where}.warmup must be one of {", ".join(WARMUPS)} or None, not {self.warmup!r}'
            )
        if self.warmup_iters <= 0:
            raise ValueError(f'{self.where}.warmup_iters must be positive, not {self.warmup_iters}')
        if not 0 < self.warmup_ratio <= 1:
            raise ValueError(
                f'{self.where}.warmup_ratio must be in (0, 1], not {self.warmup_ratio}')

    def __call__(self, initial: List[float], progress: Progress) -> List[float]:
        """Return the value of each parameter group at the given progress."""
        if self.by_epoch:
            span = Span(
                progress.epoch, progress.max_epochs
                or math.ceil(progress.max_iters / progress.epoch_length))
        else:
            span = Span(progress.iter, progress.max_iters, self.warmup_length(progress),
                        progress.epoch_length)
        factor = self.warmup_factor(progress)
        starts = self.policy.starts(initial)
        if factor is None:
            return [self.policy(start, span) for start in starts]
        part = (progress.iter + 1) / self.warmup_length(progress)
        own = [self.policy.warm(start, self.warmup_ratio, part) for start in starts]
        return [
            self.warmed(self.policy(start, span), factor) if value is None else value
            for start, value in zip(starts, own)
        ]

    def warmed(self, value: float, factor: float) -> float:
        """Apply the warmup factor to a regular value."""
        return value * factor

    def warmup_length(self, progress: Progress) -> int:
        """Return the iterations of the warmup, 0 without one."""
        if self.warmup is None:
            return 0
        return self.warmup_iters * (progress.epoch_length if self.warmup_by_epoch else 1)

    def warmup_factor(self, progress: Progress) -> Optional[float]:
        """Return the warmup factor, from the ratio to 1; None after the warmup."""
        length = self.warmup_length(progress)
        if progress.iter >= length:
            return None
        part = progress.iter / length
        if self.warmup == 'constant':
            return self.warmup_ratio
        if self.warmup == 'linear':
            return 1 - (1 - part) * (1 - self.warmup_ratio)
        return self.warmup_ratio**(1 - part)


@dataclasses.dataclass(frozen=True)
class Momentum(LearningRate):
    """`momentum_config` of a config: of SGD's momentum, or the first of Adam's betas.

    During the warmup the regular momentum is divided by the factor that multiplies a learning rate.
    """
    warmup_ratio: float = 0.9
    where: ClassVar[str] = 'momentum_config'
    highest: ClassVar[float] = 1.

    def warmed(self, value: float, factor: float) -> float:
        return value / factor


def points_of(end: Progress) -> Iterator[Progress]:
    """Yield the progress at up to MOST_POINTS iterations of a run, whose length `end` gives."""
    points = min(end.max_iters, MOST_POINTS)
    for i in range(points):
        done = i * (end.max_iters - 1) // max(points - 1, 1)
        yield end._replace(epoch=done // end.epoch_length, iter=done)


def find_fault(schedule: LearningRate, initial: List[float], end: Progress) -> Optional[str]:
    """Return what is wrong with a schedule over a whole run; None if its values are in range.

    end: the length of the run.
    """
    for point in points_of(end):
        try:
            values = schedule(initial, point)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            return str(error)
        wrong = [value for value in values if not 0 <= value <= schedule.highest]
        if wrong:
            return (f'sets {wrong[0]:g} at iteration {point.iter} of {end.max_iters}; it must stay '
                    f'between 0 and {schedule.highest:g}')
    return None


def build_learning_rate(lr_config: Dict[str, Any], by_epoch: bool = True) -> LearningRate:
    """Build the LearningRate of `lr_config`; `by_epoch` is the default, False under IterBasedRunner
    as in V2.

    Raises ValueError naming the known policies, or the arguments of the policy.
    """
    return _build(LearningRate, POLICIES, lr_config, by_epoch)


def build_momentum(momentum_config: Dict[str, Any], by_epoch: bool = True) -> Momentum:
    """Build the Momentum of `momentum_config`; see build_learning_rate."""
    return _build(Momentum, MOMENTUM_POLICIES, momentum_config, by_epoch)


def _build(schedule_class: type, policies: Dict[str, Callable[..., Policy]], config: Dict[str, Any],
           by_epoch: bool) -> Any:
    where = schedule_class.where
    arguments = dict(config)
    name = arguments.pop('policy', None)
    policy_class = policies.get(str(name).lower())
    if policy_class is None:
        known = ', '.join(repr(key) for key in policies)
        raise ValueError(f'unknown {where}.policy {name!r}; there are {known} '
                         f'(capital letters do not matter)')
    common = {field.name for field in dataclasses.fields(schedule_class)} - {'policy'}
    schedule = {key: arguments.pop(key) for key in list(arguments) if key in common}
    if policy_class.per_iteration:
        by_epoch = False
        if schedule.get('by_epoch'):
            raise ValueError(
                f'{where} of policy {name!r} moves at every iteration; write by_epoch=False')
    schedule.setdefault('by_epoch', by_epoch)
    own = [field.name for field in dataclasses.fields(policy_class)]
    unknown = sorted(set(arguments) - set(own))
    if unknown:
        raise ValueError(f'{where} of policy {name!r} has no {", ".join(unknown)}; '
                         f'it knows {", ".join(own + sorted(common))}')
    try:
        policy = policy_class(**arguments)
    except (TypeError,
            ValueError) as error:  # a required argument is missing, or one is out of range
        raise ValueError(f'{where} of policy {name!r}: {error}') from None
    return schedule_class(policy, **schedule)
