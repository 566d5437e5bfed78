"""What a folder of data is: its format, its splits, and the settings of their datasets."""
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.tree import ALL, Tree

ORDER = ('train', 'val', 'test', ALL)
ANNOTATED, DRAWN, NAMED = range(3)  # by annotation files, by masks as images, by names of folders


class Content(NamedTuple):
    """A COCO json that is converted from other files."""
    records: Dict[str, Any]  # images, annotations, categories
    notes: List[str]  # messages about objects that are left out or changed


class Part(NamedTuple):
    """The data of a split, and the settings of the dataset that reads it.

    One of `names` and `content` is given where the dataset reads a file that is not there yet.
    """
    settings: Dict[str, Any]  # type, and absolute paths; without pipeline
    source: str  # annotation file or folder, relative to the root, for messages
    names: Optional[Sequence[str]] = None  # lines of the list of images to write as ann_file
    content: Optional[Callable[[], Content]] = None  # of the COCO json to write as ann_file
    classes: Optional[Callable[
        [], Sequence[str]]] = None  # names in the files; None: the dataset has them
    notes: Tuple[str, ...] = ()  # messages about what is not used


class PartFile(NamedTuple):
    """An annotation file of some images of a dataset."""
    ending: str
    text: str
    settings: Dict[str, Any]  # that differ in the dataset that reads it; None takes one away


class Layout(NamedTuple):
    """The format of a folder, and its splits."""
    key: str  # one word, to choose it by
    kind: str  # words for messages
    parts: Dict[str, Part]  # train, val, test; or `all`
    rank: int = ANNOTATED

    def describe(self) -> str:
        """Return the format with the files of its splits, for messages."""
        sources = ', '.join(dict.fromkeys(part.source or '.' for part in self.parts.values()))
        return f'{self.kind} ({sources})'


Recognizer = Callable[[Tree], Dict[str, Part]]


class Known(NamedTuple):
    """A format that recognizes itself."""
    key: str
    kind: str
    find: Recognizer
    rank: int


KNOWN: List[Known] = []  # filled by the modules of the formats


def recognizes(key: str, kind: str, rank: int = ANNOTATED) -> Callable[[Recognizer], Recognizer]:
    """Register the function that finds the splits of a format in a folder; it returns {} for another format.

    key: one word, to choose the format by. kind: words for messages. rank: formats of a higher rank are looked for
    only where none of a lower one is found.
    """

    def register(find: Recognizer) -> Recognizer:
        KNOWN.append(Known(key, kind, find, rank))
        return find

    return register


def layouts_of(tree: Tree, key: Optional[str] = None) -> Tuple[List[Layout], Dict[str, Exception]]:
    """Return the formats that are found in a folder, those of the lowest rank, and errors of those that are broken.

    key: look for this format only.
    """
    errors: Dict[str, Exception] = {}
    for rank in (ANNOTATED, DRAWN, NAMED):
        found = []
        for known in KNOWN:
            if known.rank == rank and key in (None, known.key):
                layout = _look(known, tree, errors)
                found += [layout] if layout is not None else []
        if found or errors:
            return found, errors
    return [], errors


def _look(known: Known, tree: Tree, errors: Dict[str, Exception]) -> Optional[Layout]:
    try:
        parts = known.find(tree)
    except DataError as error:
        errors[known.kind] = error
        return None
    ordered = {split: parts[split] for split in ORDER if split in parts}
    return Layout(known.key, known.kind, ordered, known.rank) if parts else None
