"""Findings of the checks: problems, their examples, and rows of the class table."""
from typing import List, NamedTuple, Optional, Sequence, Tuple

MOST_EXAMPLES = 5


class Example(NamedTuple):
    """One record as an example of a problem."""
    text: str
    path: Optional[str] = None  # of its image
    box: Optional[Sequence[float]] = None  # x1 y1 x2 y2, for a problem of an object
    boxes: Sequence[Sequence[float]] = ()  # of all objects, for a problem of an image


class Problem(NamedTuple):
    """All records of one kind with the same fault."""
    split: str  # train, val, test, or the two compared
    kind: str  # a few words, the same in every run
    count: int
    text: str
    fix: str
    examples: List[Example] = []
    is_defect: bool = True  # otherwise a note, perhaps intended
    stops: bool = False  # training refuses the data because of it


class Row(NamedTuple):
    """One class in one or more splits."""
    name: str
    label: int
    category_id: str  # in the annotation file; '' where files list only class names
    counts: Tuple[int, ...]  # objects in each split


def examples(items: Sequence[Example]) -> List[Example]:
    return list(items[:MOST_EXAMPLES])
