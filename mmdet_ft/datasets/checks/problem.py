"""What a check has found, and how it is told."""
from typing import List, NamedTuple, Optional, Sequence, Tuple

MOST_EXAMPLES = 5


class Example(NamedTuple):
    """One record that a problem is about."""
    text: str
    path: Optional[str] = None  # of its image
    box: Optional[Sequence[float]] = None  # x1 y1 x2 y2, where it is about an object
    boxes: Sequence[Sequence[float]] = ()  # of all objects, where it is about an image


class Problem(NamedTuple):
    """All records of one kind that are wrong in one way."""
    split: str  # train, val, test, or the two that it is between
    kind: str  # a few words, the same in every run
    count: int
    text: str
    fix: str
    examples: List[Example] = []
    is_defect: bool = True  # otherwise worth knowing, and maybe meant so
    stops: bool = False  # training refuses the data for it


class Row(NamedTuple):
    """One class in one or more splits."""
    name: str
    label: int
    category_id: str  # in the annotation file; '' where files name classes only
    counts: Tuple[int, ...]  # objects in each split


def examples(items: Sequence[Example]) -> List[Example]:
    return list(items[:MOST_EXAMPLES])
