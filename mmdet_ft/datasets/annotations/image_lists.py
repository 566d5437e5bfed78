"""Lists of images, and class names across annotation files of one image each."""
import difflib
import json
import logging
import unicodedata
from typing import TYPE_CHECKING, Dict, Iterable, List, Sequence

from mmdet_ft.datasets.annotations.foreign import detect_kind
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.registry import DATASETS

if TYPE_CHECKING:
    from mmdet_ft.datasets.detection.custom import CustomDataset


def read_ids(path: str) -> List[str]:
    """Read a text file with one name per line; surrounding spaces and empty lines are dropped.

    Raises DataError for a file of annotations in another form, such as the data.yaml of YOLO.
    """
    names = [line.strip() for line in read_lines(path) if line.strip()]
    if names and names[0][0] in '{[':
        raise DataError(f'{path} is not a list of names, one per line: it looks like json')
    other = detect_kind('\n'.join(names[:200]).encode())
    if other is not None:
        raise DataError(f'{path} is not a list of names, one per line: {other}')
    return names


def same_but_for_unicode(missing: Sequence[str], names: Sequence[str]) -> Dict[str, str]:
    """Return which of `names` each missing one is, when both differ only in the Unicode form of accents.

    macOS writes an umlaut as two characters (NFD), most others as one (NFC); they look the same.
    """
    by_form = {composed(name): name for name in names}
    found = {name: by_form.get(composed(name)) for name in missing}
    return {name: other for name, other in found.items() if other is not None}


def composed(name: str) -> str:
    """Return a name in the Unicode form NFC, in which an accent is part of its letter."""
    return unicodedata.normalize('NFC', name)


def plain(name: str) -> str:
    """Return the letters and digits of a name in one case and form, as a key for similar names."""
    folded = unicodedata.normalize('NFKC', name).casefold()
    return ''.join(letter for letter in folded if letter.isalnum()) or name


class Spelling:
    """One spelling for names that look the same and differ only in the Unicode form of their accents.

    classes: names whose spelling takes precedence; for other names the first spelling does.
    `matched` maps the spellings that were replaced.
    """

    def __init__(self, classes: Iterable[str] = ()):
        self._own: Dict[str, str] = {}
        self.matched: Dict[str, str] = {}
        for name in classes:
            self._own.setdefault(composed(name), name)

    def of(self, name: str) -> str:
        """Return the spelling to use for a name."""
        own = self._own.setdefault(composed(name), name)
        if own != name:
            self.matched[name] = own
        return own

    def __str__(self) -> str:
        names = ', '.join(map(repr, sorted(set(self.matched.values()))[:10]))
        return (
            f'{names}: written with other Unicode characters in some names (NFC and NFD, which look the same): '
            'matched')


def guess_names(missing: Sequence[str], names: Sequence[str]) -> Dict[str, str]:
    """Guess which of `names` each of the missing ones may be; a name is guessed once."""
    lower: Dict[str, str] = {}
    for name in names:
        lower.setdefault(name.lower(), name)
    near: Dict[str, str] = {}
    for name in missing:
        close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=.6)
        if close:
            near[name] = lower.pop(close[0])
    return near


def describe_missing_classes(missing: Sequence[str]) -> str:
    """Return a message with the classes that a file lacks."""
    more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
    return f'no class {", ".join(map(repr, missing[:5]))}{more}'


def missing_classes_fix(classes: Sequence[str], names: Sequence[str], near: Dict[str, str],
                        are_given: bool, ids: Sequence[int]) -> str:
    """Return the fix for a json whose categories lack some of `classes`.

    classes: of the config or, where not `are_given`, of the type; names, ids: of the categories;
    near: class -> the category that may be meant. The fix does not drop a class because one file of
    several lacks it.
    """
    missing = [name for name in classes if name not in names]
    if not are_given or not set(near) | set(classes) & set(names):
        wanted = list(names)
    else:
        wanted = [near.get(name, name) for name in classes]
        absent = [name for name in missing if name not in near]
        if absent:
            added = ', '.join(f'{{"id": {max(ids, default=0) + index}, "name": {json.dumps(name)}}}'
                              for index, name in enumerate(absent[:10], 1))
            first = f'write classes={as_tuple(wanted)}, and ' if near else ''
            return (
                f'{first}add to "categories" of this file: {added}{" ..." if len(absent) > 10 else ""}; '
                f'a class may be without objects in it. Or correct the name in `classes`')
    return (f'write in data.train, data.val and data.test: classes={as_tuple(wanted)} '
            f'(and num_classes={len(wanted)} in the heads)')


def as_tuple(names: Sequence[str]) -> str:
    """Return names as the source of a Python tuple."""
    return f'({", ".join(map(repr, names))}{", " if len(names) == 1 else ""})'


def check_names(dataset: 'CustomDataset', counts: Dict[str, int]) -> None:
    """Compare a dataset's classes with the names in its files, and log the differences.

    counts: objects of each name in the files. Raises DataError when no object is of the classes, or
    a class is spelled differently in the files: its objects would be dropped silently.
    """
    absent = [name for name in dataset.CLASSES if not counts.get(name)]
    others = {name: count for name, count in counts.items() if name not in dataset.CLASSES}
    spelt = {plain(name): name for name in others}
    misspelt = {name: spelt[plain(name)] for name in absent if plain(name) in spelt}
    if misspelt or (others and len(absent) == len(dataset.CLASSES)):
        raise DataError(_refusal(dataset, counts, misspelt))
    if absent and counts:
        near = {name: difflib.get_close_matches(name, others, n=1, cutoff=.6) for name in absent}
        listed = ', '.join(
            repr(name) + (f' (did you mean {near[name][0]!r}?)' if near[name] else '')
            for name in absent[:10])
        dataset._warn(f'no object of {listed}{" ..." if len(absent) > 10 else ""}')
    keys = {plain(name) for name in dataset.CLASSES}
    alike = [f'{name!r} ({count})' for name, count in others.items() if plain(name) in keys]
    if alike:
        dataset._warn(
            f'some objects are named otherwise than in `classes` and left out: {", ".join(alike)}; '
            f'give them one name in the files')
    if others:
        listed = ', '.join(f'{name!r} ({count})' for name, count in list(others.items())[:10])
        dataset._warn(
            f'objects that `classes` does not name are left out: {listed}'
            f'{" ..." if len(others) > 10 else ""}', logging.INFO)


def _refusal(dataset: 'CustomDataset', counts: Dict[str, int], misspelt: Dict[str, str]) -> str:
    names = sorted(counts, key=counts.get, reverse=True)
    if misspelt:
        text = ', '.join(f'{name!r} is {other!r}' for name, other in misspelt.items())
        head = f'what `classes` calls {text} in the files'
        names = [misspelt.get(name, name) for name in dataset.CLASSES]
    else:
        head = f'no object is of the classes {dataset._describe_classes()}; the files have ' + ', '.join(
            f'{name!r} ({counts[name]})' for name in names[:20])
    line = ', '.join(map(repr, names)) + (', ' if len(names) == 1 else '')
    return (
        f'{DATASETS.name_of(type(dataset))} {dataset.ann_file}: {head}. Write in data.train, data.val and data.test: '
        f'classes=({line})')
