"""The classes of a file beside those of a model or of data, compared by name."""
import re
import shlex
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple


def plain_name(name: str) -> str:
    """A name apart from case, spaces and signs: VOC writes diningtable, COCO 'dining table'."""
    return re.sub(r'[^0-9a-z]', '', name.lower()) or name


class Comparison(NamedTuple):
    """Names of a file beside those of somebody else."""
    known: Tuple[str, ...]  # of the file
    wanted: Tuple[str, ...]
    places: Tuple[Optional[int],
                  ...]  # of each wanted class in the file; None where the file lacks it

    @property
    def is_same(self) -> bool:
        """Return whether both mean the same by every place."""
        return self.places == tuple(range(len(self.known)))

    @property
    def is_spelling(self) -> bool:
        """Whether both are one list but for the words of few classes, such as ImageNet's in two packages: the same
        number, none at another place, and at most a tenth of other names."""
        return len(self.known) == len(
            self.wanted) and not self.are_moved and 10 * len(self.missing) <= len(self.wanted)

    @property
    def missing(self) -> Tuple[str, ...]:
        """Wanted classes that the file lacks."""
        return tuple(name for name, place in zip(self.wanted, self.places) if place is None)

    @property
    def shared(self) -> Tuple[str, ...]:
        """Wanted classes that the file has too."""
        return tuple(name for name, place in zip(self.wanted, self.places) if place is not None)

    @property
    def are_moved(self) -> bool:
        """Return whether a class that both have stands at another place."""
        return any(place not in (None, here) for here, place in enumerate(self.places))

    def table(self, theirs: str, most: int = 20) -> str:
        """Both side by side, a line a place; `theirs` says whose the wanted ones are."""
        rows = [('place', 'checkpoint', theirs)]
        for place in range(max(len(self.known), len(self.wanted))):
            both = [
                names[place] if place < len(names) else '-' for names in (self.known, self.wanted)
            ]
            rows.append((str(place), *both))
        rest = len(rows) - 1 - most
        rows = rows[:most + 1]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [
            f'    {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}' +
            ('' if number == 0 or plain_name(row[1]) == plain_name(row[2]) else '  <- differ')
            for number, row in enumerate(rows)
        ]
        return '\n'.join(lines + ([f'    ... and {rest} more'] if rest > 0 else []))


def compare(known: Any, wanted: Any) -> Optional[Comparison]:
    """The classes of a file beside others, by name apart from case, spaces and signs.

    None where one of the two does not name its classes: then there is nothing to compare.
    """
    for names in (known, wanted):
        if not isinstance(names, (list, tuple)) or not names or not all(
                isinstance(name, str) for name in names):
            return None
    # Where both use the very same names, 'a b' and 'ab' are two classes.
    key = str if sorted(known) == sorted(wanted) else plain_name
    places = {name: place for place, name in enumerate(_numbered(known, key))}
    return Comparison(
        tuple(known), tuple(wanted), tuple(places.get(name) for name in _numbered(wanted, key)))


def _numbered(names: Sequence[str], key: Callable[[str], str]) -> List[Tuple[str, int]]:
    """Each name with its number among its like: ImageNet has two classes 'crane'."""
    seen: Dict[str, int] = {}
    numbered = []
    for name in map(key, names):
        seen[name] = seen.get(name, -1) + 1
        numbered.append((name, seen[name]))
    return numbered


def line_of(names: Sequence[str]) -> str:
    """`classes=('cat', 'dog')`, to paste into a config."""
    return f'classes=({", ".join(map(repr, names))}{"," if len(names) == 1 else ""})'


def listed(names: Sequence[str], most: int = 8) -> str:
    """`2 classes (cat, dog)`."""
    rest = ', ...' if len(names) > most else ''
    return f'{len(names)} class{"" if len(names) == 1 else "es"} ({", ".join(map(str, names[:most]))}{rest})'


def renaming_line(source: str, names: Sequence[str]) -> str:
    """The command that gives the classes of a checkpoint other names."""
    words = [source, 'renamed.pth', '--classes', *names]
    return 'python tools/model_converters/publish_model.py ' + ' '.join(map(shlex.quote, words))
