"""Learning rates as functions of place: (initial rates, progress) -> rates, with V2's names and
arithmetic.

A policy is a small dataclass whose fields are the config's vocabulary and whose call gives one rate
without warmup. To add one, write the class and put it into POLICIES; warmup, epochs against
iterations and parameter groups come free.
"""
import dataclasses
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union


class Progress(NamedTuple):
    """How far a run is: what every policy may look at."""
    epoch: int
    iter: int
    epoch_length: int
    max_epochs: Optional[int]
    max_iters: int


class Span(NamedTuple):
    """Progress in the unit of a policy, epochs or iterations."""
    now: int
    total: int


def anneal_cosine(start: float, end: float, part: float) -> float:
    """From `start` at part 0 to `end` at part 1 along half a cosine."""
    return end + 0.5 * (start - end) * (math.cos(math.pi * part) + 1)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """The initial rate throughout."""

    def __call__(self, initial: float, span: Span) -> float:
        return initial


@dataclasses.dataclass(frozen=True)
class Step:
    """The rate times gamma at each step, or every `step` epochs when it is a number."""
    step: Union[int, List[int]]
    gamma: float = 0.1
    min_lr: Optional[float] = None

    def __post_init__(self):
        steps = [self.step] if isinstance(self.step, int) else self.step
        if not isinstance(steps, (list, tuple)) or not all(
                isinstance(step, int) and step > 0 for step in steps):
            raise ValueError(
                f'lr_config.step must be a positive integer or a list of them, not {self.step!r}')

    def __call__(self, initial: float, span: Span) -> float:
        if isinstance(self.step, int):
            drops = span.now // self.step
        else:  # up to the first step not reached yet, so that an unsorted list means what it means in V2
            drops = next((index for index, step in enumerate(self.step) if span.now < step),
                         len(self.step))
        rate = initial * self.gamma**drops
        return rate if self.min_lr is None else max(rate, self.min_lr)


@dataclasses.dataclass(frozen=True)
class Poly:
    """From the initial rate down to min_lr along (1 - part) ** power."""
    power: float = 1.
    min_lr: float = 0.

    def __call__(self, initial: float, span: Span) -> float:
        return (initial - self.min_lr) * (1 - span.now / span.total)**self.power + self.min_lr


@dataclasses.dataclass(frozen=True)
class CosineAnnealing:
    """From the initial rate down to min_lr, or to min_lr_ratio of it, along half a cosine."""
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None

    def __post_init__(self):
        if (self.min_lr is None) == (self.min_lr_ratio is None):
            raise ValueError(
                'lr_config of policy CosineAnnealing needs one of min_lr and min_lr_ratio')

    def __call__(self, initial: float, span: Span) -> float:
        target = self.min_lr if self.min_lr_ratio is None else initial * self.min_lr_ratio
        return anneal_cosine(initial, target, span.now / span.total)


POLICIES: Dict[str, Callable[..., Callable[[float, Span], float]]] = {
    'fixed': Fixed,
    'step': Step,
    'poly': Poly,
    'cosineannealing': CosineAnnealing,
    'cosine': CosineAnnealing,
}

WARMUPS = ('constant', 'linear', 'exp')


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A policy with its warmup: `lr_config` of a config.

    Args:
        policy: one rate without warmup, of (initial rate, span).
        by_epoch: the policy moves once an epoch rather than at each iteration.
        warmup: None, 'constant' (the ratio throughout), 'linear' or 'exp' (from the ratio to 1).
        warmup_iters: how long it lasts, in epochs with `warmup_by_epoch`.
        warmup_ratio: what the regular rate is multiplied by at the start, in (0, 1].
    """
    policy: Callable[[float, Span], float]
    by_epoch: bool = True
    warmup: Optional[str] = None
    warmup_iters: int = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False

    def __post_init__(self):
        if self.warmup is None:
            return
        if self.warmup not in WARMUPS:
            raise ValueError(
                f'lr_config.warmup must be one of {", ".join(WARMUPS)} or None, not {self.warmup!r}'
            )
        if self.warmup_iters <= 0:
            raise ValueError(f'lr_config.warmup_iters must be positive, not {self.warmup_iters}')
        if not 0 < self.warmup_ratio <= 1:
            raise ValueError(f'lr_config.warmup_ratio must be in (0, 1], not {self.warmup_ratio}')

    def __call__(self, initial: List[float], progress: Progress) -> List[float]:
        """The rate of each parameter group at this place of the run."""
        if self.by_epoch:
            span = Span(
                progress.epoch, progress.max_epochs
                or math.ceil(progress.max_iters / progress.epoch_length))
        else:
            span = Span(progress.iter, progress.max_iters)
        factor = self.warmup_factor(progress)
        rates = [self.policy(rate, span) for rate in initial]
        return rates if factor is None else [rate * factor for rate in rates]

    def warmup_factor(self, progress: Progress) -> Optional[float]:
        """What the regular rate is multiplied by, or None after the warmup."""
        length = self.warmup_iters * (progress.epoch_length if self.warmup_by_epoch else 1)
        if self.warmup is None or progress.iter >= length:
            return None
        part = progress.iter / length
        if self.warmup == 'constant':
            return self.warmup_ratio
        if self.warmup == 'linear':
            return 1 - (1 - part) * (1 - self.warmup_ratio)
        return self.warmup_ratio**(1 - part)


def build_learning_rate(lr_config: Dict[str, Any], by_epoch: bool = True) -> LearningRate:
    """`lr_config` -> LearningRate; `by_epoch` is the default, False under IterBasedRunner as in V2.

    Raises ValueError naming the known policies, or the arguments of the policy.
    """
    arguments = dict(lr_config)
    name = arguments.pop('policy', None)
    policy_class = POLICIES.get(str(name).lower())
    if policy_class is None:
        known = "'step', 'fixed', 'poly', 'CosineAnnealing'"
        raise ValueError(f'unknown lr_config.policy {name!r}; there are {known}')
    common = {field.name for field in dataclasses.fields(LearningRate)} - {'policy'}
    schedule = {key: arguments.pop(key) for key in list(arguments) if key in common}
    schedule.setdefault('by_epoch', by_epoch)
    own = [field.name for field in dataclasses.fields(policy_class)]
    unknown = sorted(set(arguments) - set(own))
    if unknown:
        raise ValueError(f'lr_config of policy {name!r} has no {", ".join(unknown)}; '
                         f'it knows {", ".join(own + sorted(common))}')
    try:
        policy = policy_class(**arguments)
    except TypeError as error:  # a needed argument is missing
        raise ValueError(f'lr_config of policy {name!r}: {error}') from None
    return LearningRate(policy, **schedule)
