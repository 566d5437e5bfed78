"""Base classes and functions of the policies.

A policy is a small dataclass. Its fields are the keys of the config, and its call returns one value
without warmup. To add one, write the class into `rates` or `momenta` and its name into the table
there; warmup, by_epoch and parameter groups need no extra code.
"""
import math
from typing import Any, ClassVar, List, NamedTuple, Optional, Sequence, Tuple, Union


class Span(NamedTuple):
    """Progress in the unit of a policy, epochs or iterations."""
    now: int
    total: int
    warmup: int = 0  # of the total
    epoch_length: int = 1

    @property
    def part(self) -> float:
        """Return the progress from 0 at the start of the run to 1 at its end."""
        return self.now / self.total


class Policy:
    """Base class of policies."""

    per_iteration: ClassVar[bool] = False  # whether it requires by_epoch=False

    def starts(self, initial: List[float]) -> List[Any]:
        """Return the argument `initial` of the call for each parameter group: the optimizer's values."""
        return initial

    def warm(self, initial: Any, ratio: float, part: float) -> Optional[float]:
        """Return the value in the warmup, with `part` 0..1 of it done; None for that of `warmup`."""
        return None

    def __call__(self, initial: Any, span: Span) -> float:
        raise NotImplementedError


class ToMinimum(Policy):
    """A policy that ends at a minimum: a value, or a ratio of the initial one. One of the two
    fields is set."""

    minimum: ClassVar[Tuple[str, str]] = ('min_lr', 'min_lr_ratio')

    def __post_init__(self):
        if sum(getattr(self, name) is not None for name in self.minimum) != 1:
            raise ValueError(f'one of {" and ".join(self.minimum)} is needed')

    def target(self, initial: float) -> float:
        value, ratio = (getattr(self, name) for name in self.minimum)
        return value if ratio is None else initial * ratio


def anneal_cosine(start: float, end: float, part: float, weight: float = 1.) -> float:
    """Interpolate from `start` at part 0 to `end` at part 1 along half a cosine.

    With a weight it starts at weight * start + (1 - weight) * end.
    """
    return end + 0.5 * weight * (start - end) * (math.cos(math.pi * part) + 1)


def anneal_linear(start: float, end: float, part: float) -> float:
    """Interpolate from `start` at part 0 to `end` at part 1 along a line."""
    return start + (end - start) * part


ANNEALINGS = {'cos': anneal_cosine, 'linear': anneal_linear}


def decay_by_steps(initial: float, span: Span, step: Union[int, List[int]], gamma: float,
                   minimum: Optional[float]) -> float:
    if isinstance(step, int):
        drops = span.now // step
    else:  # up to the first step not reached yet, so that an unsorted list works as in V2
        drops = next((index for index, boundary in enumerate(step) if span.now < boundary),
                     len(step))
    value = initial * gamma**drops
    return value if minimum is None else max(value, minimum)


def interpolate(phases: Sequence[Tuple[float, float, float]], now: int,
                anneal_strategy: str) -> float:
    """Return the value at `now` of consecutive phases (last iteration, value at the start, at the end)."""
    begin = 0.
    for boundary, (end, first, last) in enumerate(phases):
        if now <= end or boundary + 1 == len(phases):
            break
        begin = end
    part = (now - begin) / (end - begin) if end > begin else 1.
    return ANNEALINGS[anneal_strategy](first, last, part)


def one_each(name: str, value: Union[float, Sequence[float]], number: int) -> List[float]:
    """Return a list with one value per parameter group, from such a list or a single value."""
    if not isinstance(value, (list, tuple)):
        return [value] * number
    if len(value) != number:
        raise ValueError(f'{name} has {len(value)} values for {number} parameter groups')
    return list(value)


def check_steps(step: object) -> None:
    steps = [step] if isinstance(step, int) else step
    if not isinstance(steps, (list, tuple)) or not all(
            isinstance(boundary, int) and boundary > 0 for boundary in steps):
        raise ValueError(f'step must be a positive integer or a list of them, not {step!r}')


def check_share(**values: float) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f'{name} must be between 0 and 1, not {value!r}')


def check_annealing(anneal_strategy: str) -> None:
    if anneal_strategy not in ANNEALINGS:
        raise ValueError(f"anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}")
