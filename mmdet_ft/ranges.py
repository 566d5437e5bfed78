"""Annotations of numbers with a range, which the check of a config compares values with.

    def __init__(self, strides: Filled[Sequence[Positive]], topk: Count, gamma: NotNegative = 0.1)
"""
import math
from typing import Annotated, List, NamedTuple, Sequence, Tuple, TypeVar, Union

T = TypeVar('T')


class Range(NamedTuple):
    """Finite numbers from `least` to `most`, or above `least` alone with `is_above`."""
    words: str  # printed after 'a number' or 'a whole number'
    least: float
    most: float = math.inf
    is_above: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return math.isfinite(value) and (self.least < value if self.is_above else self.least
                                         <= value) and value <= self.most


class NotEmpty(NamedTuple):
    """Lists with at least one item."""
    words: str = 'that is not empty'

    def holds(self, value: Sequence[object]) -> bool:
        """Return whether a list has an item."""
        return len(value) > 0


Positive = Annotated[float, Range('above 0', 0, is_above=True)]
NotNegative = Annotated[float, Range('0 or more', 0)]
Share = Annotated[float, Range('from 0 to 1', 0, 1)]
Count = Annotated[int, Range('from 1 on', 1)]
Whole = Annotated[int, Range('from 0 on', 0)]
Filled = Annotated[T, NotEmpty()]

Strides = Filled[Sequence[Union[Positive, Tuple[Positive,
                                                Positive]]]]  # of levels: a number, or (w, h)
Counts = Union[Count, List[Count]]
