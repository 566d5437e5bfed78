"""The nearest names to a misspelled one, and counts in words."""
import difflib
from typing import Any, Iterable, List, Optional


def nearest(name: object, names: Iterable[Any], count: int = 1, cutoff: float = .6) -> List[str]:
    """Return up to `count` of `names` that are most similar to `name`, never itself.

    A name that differs in case alone comes first: 'COCODataset' is 'CocoDataset', not 'VOCDataset'.
    """
    name = str(name)
    known = [key for key in names if isinstance(key, str) and key != name]
    found = [key for key in known if key.lower() == name.lower()]
    if not found:
        found = difflib.get_close_matches(name, known, n=count, cutoff=cutoff)
    if not found:  # 'resnet' has no letter in common with 'ResNet' that counts enough
        lower = {key.lower(): key for key in known}
        found = [
            lower[key]
            for key in difflib.get_close_matches(name.lower(), lower, n=count, cutoff=cutoff)
        ]
    return list(dict.fromkeys(found))[:count]


def did_you_mean(name: object, names: Iterable[Any], count: int = 1) -> Optional[str]:
    """Return "did you mean 'x' or 'y'?", or None if no name is near."""
    near = nearest(name, names, count)
    return f'did you mean {" or ".join(map(repr, near))}?' if near else None


def counted(number: int, noun: str, plural: str = '') -> str:
    """Return '1 image' or '2 images'; `plural` is for nouns that take more than an s."""
    return f'{number} {noun if number == 1 else plural or noun + "s"}'
