"""Learning rates and momenta as functions of place: (initial values, progress) -> values, with V2's
names and arithmetic.

A policy is a small dataclass whose fields are the config's vocabulary and whose call gives one value
without warmup. To add one, write the class and put it into POLICIES; warmup, epochs against
iterations and parameter groups come free.
"""
import dataclasses
import math
from typing import Any, Callable, ClassVar, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union


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


def anneal_cosine(start: float, end: float, part: float, weight: float = 1.) -> float:
    """From `start` at part 0 to `end` at part 1 along half a cosine.

    A weight puts weight * start + (1 - weight) * end in the place of the start.
    """
    return end + 0.5 * weight * (start - end) * (math.cos(math.pi * part) + 1)


def anneal_linear(start: float, end: float, part: float) -> float:
    """From `start` at part 0 to `end` at part 1 along a line."""
    return start + (end - start) * part


ANNEALINGS = {'cos': anneal_cosine, 'linear': anneal_linear}


class Policy:
    """What policies have in common."""

    per_iteration: ClassVar[bool] = False  # whether it makes sense with by_epoch=False only

    def starts(self, initial: List[float]) -> List[Any]:
        """What the call of each parameter group is given as `initial`: the optimizer's values."""
        return initial

    def __call__(self, initial: Any, span: Span) -> float:
        raise NotImplementedError


# ------------------------------------------------------------------------------ of learning rates


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
    """The initial rate throughout."""

    def __call__(self, initial: float, span: Span) -> float:
        return initial


@dataclasses.dataclass(frozen=True)
class Step(Policy):
    """The rate times gamma at each step, or every `step` epochs when it is a number."""
    step: Union[int, List[int]]
    gamma: float = 0.1
    min_lr: Optional[float] = None

    def __post_init__(self):
        _check_steps(self.step)

    def __call__(self, initial: float, span: Span) -> float:
        return _stepped(initial, span, self.step, self.gamma, self.min_lr)


@dataclasses.dataclass(frozen=True)
class Exp(Policy):
    """The rate times gamma at every epoch or iteration."""
    gamma: float

    def __call__(self, initial: float, span: Span) -> float:
        return initial * self.gamma**span.now


@dataclasses.dataclass(frozen=True)
class Inv(Policy):
    """The rate times (1 + gamma * now) ** -power."""
    gamma: float
    power: float = 1.

    def __call__(self, initial: float, span: Span) -> float:
        return initial * (1 + self.gamma * span.now)**-self.power


@dataclasses.dataclass(frozen=True)
class Poly(Policy):
    """From the initial rate down to min_lr along (1 - part) ** power."""
    power: float = 1.
    min_lr: float = 0.

    def __call__(self, initial: float, span: Span) -> float:
        return (initial - self.min_lr) * (1 - span.now / span.total)**self.power + self.min_lr


@dataclasses.dataclass(frozen=True)
class CosineAnnealing(Policy):
    """From the initial rate down to min_lr, or to min_lr_ratio of it, along half a cosine."""
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_lr=self.min_lr, min_lr_ratio=self.min_lr_ratio)

    def __call__(self, initial: float, span: Span) -> float:
        target = _target(initial, self.min_lr, self.min_lr_ratio)
        return anneal_cosine(initial, target, span.now / span.total)


@dataclasses.dataclass(frozen=True)
class LinearAnnealing(Policy):
    """From the initial rate down to min_lr, or to min_lr_ratio of it, along a line."""
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_lr=self.min_lr, min_lr_ratio=self.min_lr_ratio)

    def __call__(self, initial: float, span: Span) -> float:
        target = _target(initial, self.min_lr, self.min_lr_ratio)
        return anneal_linear(initial, target, span.now / span.total)


@dataclasses.dataclass(frozen=True)
class FlatCosineAnnealing(Policy):
    """The initial rate for start_percent (a share 0..1) of the run, then as CosineAnnealing."""
    start_percent: float = 0.75
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_lr=self.min_lr, min_lr_ratio=self.min_lr_ratio)
        _check_share(start_percent=self.start_percent)

    def __call__(self, initial: float, span: Span) -> float:
        start = round(span.total * self.start_percent)
        if span.now < start:
            return initial
        target = _target(initial, self.min_lr, self.min_lr_ratio)
        return anneal_cosine(initial, target, (span.now - start) / (span.total - start))


@dataclasses.dataclass(frozen=True)
class CosineRestart(Policy):
    """Half a cosine in each of `periods` (epochs or iterations), from its weight of the initial rate.

    A period of weight w begins at w * initial + (1 - w) * target. Raises ValueError when the periods
    are shorter than the run.
    """
    periods: List[int]
    restart_weights: Sequence[float] = (1, )
    min_lr: Optional[float] = None
    min_lr_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_lr=self.min_lr, min_lr_ratio=self.min_lr_ratio)
        if len(self.periods) != len(self.restart_weights):
            raise ValueError(f'{len(self.periods)} periods with {len(self.restart_weights)} '
                             f'restart_weights; give one for each')

    def __call__(self, initial: float, span: Span) -> float:
        if span.total > sum(self.periods):  # at the first step, not at the first one behind them
            raise ValueError(
                f'lr_config.periods {list(self.periods)} add up to {sum(self.periods)}, '
                f'but the run has {span.total}')
        target = _target(initial, self.min_lr, self.min_lr_ratio)
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
        target_ratio: what the initial value is multiplied by at the peak and at the end of a cycle;
            one number gives the peak, and a 100000th of it the end.
        cyclic_times: number of cycles in the run.
        step_ratio_up: share 0..1 of a cycle that goes up.
        anneal_strategy: 'cos' or 'linear'.
        gamma: factor in (0, 1] by which each peak stands out less than the one before.
    """
    target_ratio: Union[float, Sequence[float]] = (10, 1e-4)
    cyclic_times: int = 1
    step_ratio_up: float = 0.4
    anneal_strategy: str = 'cos'
    gamma: float = 1
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        _check_annealing(self.anneal_strategy)
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
        else:  # without a way up it is the end that moves, as in V2
            first, last, part = peak, 1 - scale + end * scale, now / length
        return ANNEALINGS[self.anneal_strategy](initial * first, initial * last, part)


@dataclasses.dataclass(frozen=True)
class OneCycle(Policy):
    """One rise and one long fall (arXiv:1708.07120); the optimizer's own rate does not matter.

    Args:
        max_lr: the peak, one number or one for each parameter group.
        total_steps: iterations of the cycle, the run's by default; not fewer.
        pct_start: share 0..1 of the cycle that rises.
        anneal_strategy: 'cos' or 'linear'.
        div_factor: the peak is this times the first rate.
        final_div_factor: the first rate is this times the last.
        three_phase: fall to the first rate in as long as the rise took, and then on to the last.
    """
    max_lr: Union[float, List[float]]
    total_steps: Optional[int] = None
    pct_start: float = 0.3
    anneal_strategy: str = 'cos'
    div_factor: float = 25
    final_div_factor: float = 1e4
    three_phase: bool = False
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        _check_share(pct_start=self.pct_start)
        _check_annealing(self.anneal_strategy)

    def starts(self, initial: List[float]) -> List[float]:
        return [rate / self.div_factor for rate in _one_each('max_lr', self.max_lr, len(initial))]

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
        return _along(phases, span.now, self.anneal_strategy)


# ------------------------------------------------------------------------------------- of momenta


@dataclasses.dataclass(frozen=True)
class StepMomentum(Policy):
    """The momentum times gamma at each step, or every `step` epochs when it is a number."""
    step: Union[int, List[int]]
    gamma: float = 0.5
    min_momentum: Optional[float] = None

    def __post_init__(self):
        _check_steps(self.step)

    def __call__(self, initial: float, span: Span) -> float:
        return _stepped(initial, span, self.step, self.gamma, self.min_momentum)


@dataclasses.dataclass(frozen=True)
class CosineAnnealingMomentum(Policy):
    """From the initial momentum to min_momentum, or min_momentum_ratio of it, along half a cosine."""
    min_momentum: Optional[float] = None
    min_momentum_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_momentum=self.min_momentum, min_momentum_ratio=self.min_momentum_ratio)

    def __call__(self, initial: float, span: Span) -> float:
        target = _target(initial, self.min_momentum, self.min_momentum_ratio)
        return anneal_cosine(initial, target, span.now / span.total)


@dataclasses.dataclass(frozen=True)
class LinearAnnealingMomentum(Policy):
    """From the initial momentum to min_momentum, or to min_momentum_ratio of it, along a line."""
    min_momentum: Optional[float] = None
    min_momentum_ratio: Optional[float] = None

    def __post_init__(self):
        _check_one(min_momentum=self.min_momentum, min_momentum_ratio=self.min_momentum_ratio)

    def __call__(self, initial: float, span: Span) -> float:
        target = _target(initial, self.min_momentum, self.min_momentum_ratio)
        return anneal_linear(initial, target, span.now / span.total)


@dataclasses.dataclass(frozen=True)
class CyclicMomentum(Cyclic):
    """Down while a Cyclic learning rate goes up, and up again."""
    target_ratio: Union[float, Sequence[float]] = (0.85 / 0.95, 1.)


@dataclasses.dataclass(frozen=True)
class OneCycleMomentum(Policy):
    """From max_momentum down to base_momentum while a OneCycle learning rate rises, and up again.

    Args:
        base_momentum, max_momentum: one number or one for each parameter group.
        pct_start, anneal_strategy, three_phase: see OneCycle.
    """
    base_momentum: Union[float, List[float]] = 0.85
    max_momentum: Union[float, List[float]] = 0.95
    pct_start: float = 0.3
    anneal_strategy: str = 'cos'
    three_phase: bool = False
    per_iteration: ClassVar[bool] = True

    def __post_init__(self):
        _check_share(pct_start=self.pct_start)
        _check_annealing(self.anneal_strategy)

    def starts(self, initial: List[float]) -> List[Tuple[float, float]]:
        """(highest, lowest) momentum of each group."""
        return list(
            zip(
                _one_each('max_momentum', self.max_momentum, len(initial)),
                _one_each('base_momentum', self.base_momentum, len(initial))))

    def __call__(self, initial: Tuple[float, float], span: Span) -> float:
        high, low = initial
        phases = [(self.pct_start * span.total - 1, high, low), (span.total - 1, low, high)]
        if self.three_phase:
            phases[1:] = [(2 * self.pct_start * span.total - 2, low, high),
                          (span.total - 1, high, high)]
        return _along(phases, span.now, self.anneal_strategy)


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
}

MOMENTUM_POLICIES: Dict[str, Callable[..., Policy]] = {
    'step': StepMomentum,
    'cosineannealing': CosineAnnealingMomentum,
    'linearannealing': LinearAnnealingMomentum,
    'cyclic': CyclicMomentum,
    'onecycle': OneCycleMomentum,
}

# ----------------------------------------------------------------------------- what policies share


def _stepped(initial: float, span: Span, step: Union[int, List[int]], gamma: float,
             minimum: Optional[float]) -> float:
    if isinstance(step, int):
        drops = span.now // step
    else:  # up to the first step not reached yet, so that an unsorted list means what it means in V2
        drops = next((index for index, place in enumerate(step) if span.now < place), len(step))
    value = initial * gamma**drops
    return value if minimum is None else max(value, minimum)


def _target(initial: float, minimum: Optional[float], ratio: Optional[float]) -> float:
    return minimum if ratio is None else initial * ratio


def _along(phases: Sequence[Tuple[float, float, float]], now: int, anneal_strategy: str) -> float:
    """The value at `now` of consecutive phases (last iteration, value at the start, at the end)."""
    begin = 0.
    for place, (end, first, last) in enumerate(phases):
        if now <= end or place + 1 == len(phases):
            break
        begin = end
    part = (now - begin) / (end - begin) if end > begin else 1.
    return ANNEALINGS[anneal_strategy](first, last, part)


def _one_each(name: str, value: Union[float, Sequence[float]], number: int) -> List[float]:
    """One value for all parameter groups, or a list with one for each."""
    if not isinstance(value, (list, tuple)):
        return [value] * number
    if len(value) != number:
        raise ValueError(f'{name} has {len(value)} values for {number} parameter groups')
    return list(value)


def _check_steps(step: Any) -> None:
    steps = [step] if isinstance(step, int) else step
    if not isinstance(steps, (list, tuple)) or not all(
            isinstance(place, int) and place > 0 for place in steps):
        raise ValueError(f'step must be a positive integer or a list of them, not {step!r}')


def _check_one(**values: Optional[float]) -> None:
    if sum(value is not None for value in values.values()) != 1:
        raise ValueError(f'one of {" and ".join(values)} is needed')


def _check_share(**values: float) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f'{name} must be between 0 and 1, not {value!r}')


def _check_annealing(anneal_strategy: str) -> None:
    if anneal_strategy not in ANNEALINGS:
        raise ValueError(f"anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}")


# -------------------------------------------------------------------------------------- the whole

WARMUPS = ('constant', 'linear', 'exp')


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A policy with its warmup: `lr_config` of a config.

    Args:
        policy: one value without warmup, of (initial value, span).
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
    where: ClassVar[str] = 'lr_config'

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
        """The value of each parameter group at this place of the run."""
        if self.by_epoch:
            span = Span(
                progress.epoch, progress.max_epochs
                or math.ceil(progress.max_iters / progress.epoch_length))
        else:
            span = Span(progress.iter, progress.max_iters)
        factor = self.warmup_factor(progress)
        values = [self.policy(start, span) for start in self.policy.starts(initial)]
        return values if factor is None else [self.warmed(value, factor) for value in values]

    def warmed(self, value: float, factor: float) -> float:
        """A regular value during the warmup."""
        return value * factor

    def warmup_factor(self, progress: Progress) -> Optional[float]:
        """How far the warmup has come, from the ratio to 1; None after it."""
        length = self.warmup_iters * (progress.epoch_length if self.warmup_by_epoch else 1)
        if self.warmup is None or progress.iter >= length:
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

    In the warmup the regular momentum is divided by what a learning rate is multiplied by.
    """
    warmup_ratio: float = 0.9
    where: ClassVar[str] = 'momentum_config'

    def warmed(self, value: float, factor: float) -> float:
        return value / factor


def build_learning_rate(lr_config: Dict[str, Any], by_epoch: bool = True) -> LearningRate:
    """`lr_config` -> LearningRate; `by_epoch` is the default, False under IterBasedRunner as in V2.

    Raises ValueError naming the known policies, or the arguments of the policy.
    """
    return _build(LearningRate, POLICIES, lr_config, by_epoch)


def build_momentum(momentum_config: Dict[str, Any], by_epoch: bool = True) -> Momentum:
    """`momentum_config` -> Momentum; see build_learning_rate."""
    return _build(Momentum, MOMENTUM_POLICIES, momentum_config, by_epoch)


def _build(schedule_class: Any, policies: Dict[str, Callable[..., Policy]], config: Dict[str, Any],
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
    except (TypeError, ValueError) as error:  # a needed argument is missing, or one out of range
        raise ValueError(f'{where} of policy {name!r}: {error}') from None
    return schedule_class(policy, **schedule)
