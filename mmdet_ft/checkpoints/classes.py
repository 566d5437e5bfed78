"""Comparison of the classes of a file with those of a model or dataset, by name."""
import re
import shlex
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmdet_ft.command_names import how_to_run

if TYPE_CHECKING:
    from typing_extensions import TypeGuard


def plain_name(name: str) -> str:
    """Strip case, spaces and punctuation from a name: VOC writes diningtable, COCO 'dining table'."""
    return re.sub(r'[^0-9a-z]', '', name.lower()) or name


class Comparison(NamedTuple):
    """Class names of a file compared with those of a model or dataset."""
    known: Tuple[str, ...]  # of the file
    wanted: Tuple[str, ...]
    indices: Tuple[Optional[int],
                   ...]  # index of each wanted class in the file; None if the file lacks it

    @property
    def is_same(self) -> bool:
        """Return whether both lists mean the same class at every index."""
        return self.indices == tuple(range(len(self.known)))

    @property
    def is_spelling(self) -> bool:
        """Return whether the lists differ only in the spelling of a few classes, as ImageNet's in two packages do.

        They have the same length, no class at another index, and at most a tenth of other names.
        """
        return len(self.known) == len(
            self.wanted) and not self.are_moved and 10 * len(self.missing) <= len(self.wanted)

    @property
    def missing(self) -> Tuple[str, ...]:
        """Return the wanted classes that the file lacks."""
        return tuple(name for name, index in zip(self.wanted, self.indices) if index is None)

    @property
    def shared(self) -> Tuple[str, ...]:
        """Return the wanted classes that the file has too."""
        return tuple(name for name, index in zip(self.wanted, self.indices) if index is not None)

    @property
    def are_moved(self) -> bool:
        """Return whether a class of both lists has different indices in them."""
        return any(index not in (None, here) for here, index in enumerate(self.indices))

    def table(self, theirs: str, most: int = 20) -> str:
        """Format both lists side by side, one index a line; `theirs` is the heading of the wanted classes."""
        rows = [('index', 'checkpoint', theirs)]
        for index in range(max(len(self.known), len(self.wanted))):
            both = [
                names[index] if index < len(names) else '-' for names in (self.known, self.wanted)
            ]
            rows.append((str(index), *both))
        rest = len(rows) - 1 - most
        rows = rows[:most + 1]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [
            f'    {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}' +
            ('' if number == 0 or plain_name(row[1]) == plain_name(row[2]) else '  <- differ')
            for number, row in enumerate(rows)
        ]
        return '\n'.join(lines + ([f'    ... and {rest} more'] if rest > 0 else []))


def compare(known: object, wanted: object) -> Optional[Comparison]:
    """Compare the classes of a file with others by name, ignoring case, spaces and punctuation.

    Returns None if either does not name its classes.
    """
    if not (_are_names(known) and _are_names(wanted)):
        return None
    # If both have exactly the same names, 'a b' and 'ab' are two classes.
    key = str if sorted(known) == sorted(wanted) else plain_name
    indices = {name: index for index, name in enumerate(_number_duplicates(known, key))}
    return Comparison(
        tuple(known), tuple(wanted),
        tuple(indices.get(name) for name in _number_duplicates(wanted, key)))


def _are_names(names: object) -> 'TypeGuard[Sequence[str]]':
    return isinstance(names, (list, tuple)) and bool(names) and all(
        isinstance(name, str) for name in names)


def _number_duplicates(names: Sequence[str], key: Callable[[str], str]) -> List[Tuple[str, int]]:
    """Count names among their duplicates: ImageNet has two classes 'crane'."""
    seen: Dict[str, int] = {}
    numbered = []
    for name in map(key, names):
        seen[name] = seen.get(name, -1) + 1
        numbered.append((name, seen[name]))
    return numbered


def line_of(names: Sequence[str]) -> str:
    """Format names as `classes=('cat', 'dog')`, to paste into a config."""
    return f'classes=({", ".join(map(repr, names))}{"," if len(names) == 1 else ""})'


def listed(names: Sequence[str], most: int = 8) -> str:
    """Format names as `2 classes (cat, dog)`."""
    rest = ', ...' if len(names) > most else ''
    return f'{len(names)} class{"" if len(names) == 1 else "es"} ({", ".join(map(str, names[:most]))}{rest})'


def renaming_line(source: str, names: Sequence[str]) -> str:
    """Return the command that renames the classes of a checkpoint."""
    words = [source, 'renamed.pth', '--classes', *names]
    return f'{how_to_run("publish_model")} ' + ' '.join(map(shlex.quote, words))
