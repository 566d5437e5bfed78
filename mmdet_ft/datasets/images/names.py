"""Images that exist under another name than in the annotations: other slashes, cases, endings, folders."""
import difflib
import functools
import os
import os.path as osp
import re
import unicodedata
import urllib.parse
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmdet_ft.datasets.images.files import IMAGE_ENDINGS, is_image_name

MOST_ENTRIES = 20000  # files and folders that a search below img_prefix checks


class Found(NamedTuple):
    """An existing file for the name of a missing one."""
    name: str  # the correct name, relative to the folder of the images
    reason: str  # how the two names differ


def same_name(prefix: Optional[str], name: str) -> Optional[str]:
    r"""Return the path of a file whose name differs only in `\` as `/` or in its Unicode form; None without one.

    Windows writes the first, macOS the second; in both cases the file is unambiguous.
    """
    for slashes in dict.fromkeys((name, name.replace('\\', '/'))):
        for form in ('NFC', 'NFD'):
            path = osp.join(prefix or '', unicodedata.normalize(form, slashes))
            if osp.isfile(path):
                return path
        folder = '/' if slashes.startswith('/') else prefix or ''
        found = _follow(folder, [part for part in slashes.split('/') if part], _composed)
        if found is not None:
            return osp.join(folder, found)
    return None


def find_on_disk(path: str) -> str:
    """Return the path of a file as it is on disk, see `same_name`; the path itself if no file matches."""
    return path if osp.exists(path) else same_name(None, path) or path


def nearest_name(path: str) -> str:
    """Return the other name of an existing file, as the end of a sentence; '' without one."""
    found = find_image(osp.dirname(path) or '.', osp.basename(path))
    return '' if found is None else f'; {found.name!r} is there ({found.reason})'


def plain_name_hint(img_id: str) -> str:
    """Return a hint that a list holds names without folder and ending, as the end of a sentence, if one has them."""
    words = img_id.split()
    if len(words) == 2 and words[1] in ('-1', '0', '1'):
        return (
            '; this is a list of one class, as VOC has them beside the others, with 1 or -1 after each name: take '
            'train.txt or val.txt, which hold names alone')
    stem, ending = osp.splitext(img_id)
    if osp.isabs(img_id):
        stem = osp.basename(stem)
    elif ending.lower() not in ('.xml', '.txt') and not is_image_name(img_id):
        return ''
    return f'; the list holds names without ending, below img_subdir and ann_subdir: write {stem!r} for {img_id!r}'


def find_image(prefix: Optional[str], name: str) -> Optional[Found]:
    """Find the file that is meant by the name of a missing one.

    From the whole name to its last part, it tries other slashes, %20 and URLs, other case, other
    Unicode form, and another ending. Then it tries the last part in the folders below `prefix`.
    None where nothing or more than one file matches.
    """
    if not prefix:
        prefix, name = osp.split(name.replace('\\', '/') if not osp.dirname(name) else name)
    plain = _plain(name)
    parts = [part for part in plain.split('/') if part not in ('', '.')]
    for key, difference in ((str, ''), (_composed, 'Unicode form'), (_folded, 'case'), (_stem,
                                                                                        'ending')):
        for first in range(len(parts)):
            found = _follow(prefix, parts[first:], key)
            if found is not None:
                return Found(found, _reason(name, plain, first, difference))
    below = _below(prefix).get(_folded(parts[-1]), []) if parts else []
    below = [name for name in below if osp.isfile(osp.join(prefix, name))]  # no dangling link
    return Found(below[0], 'in a folder below') if len(below) == 1 else None


def missing_folder(prefix: Optional[str]) -> str:
    """Return the missing part of a folder's path, and what is next to it; '' if the folder exists."""
    if not prefix or osp.isdir(prefix):
        return ''
    folder = osp.normpath(prefix)
    while osp.dirname(folder) and not osp.isdir(osp.dirname(folder)):
        folder = osp.dirname(folder)
    parent = osp.dirname(folder) or '.'
    others = [entry.name for entry in os.scandir(parent)
              if entry.is_dir()] if osp.isdir(parent) else []
    near = difflib.get_close_matches(osp.basename(folder), others, n=1)
    return f'there is no folder {folder!r}' + (
        f'; did you mean {osp.join(osp.dirname(folder), near[0])!r}?' if near else '')


def _plain(name: str) -> str:
    """Return a name without address, quoting, drive and surrounding blanks, in forward slashes."""
    name = name.strip()
    address = re.match(r'[a-zA-Z][a-zA-Z0-9+.-]+://[^/]*/(.*)', name)
    if address:
        name = re.split('[?#]', address.group(1))[0]
    name = urllib.parse.unquote(name).replace('\\', '/')
    return re.sub(r'^[a-zA-Z]:/', '', name)


def _reason(name: str, plain: str, first: int, difference: str) -> str:
    """Return how two names differ, in a few words: equal words mean one cause."""
    reasons = []
    if '://' in name:
        reasons.append('an address')
    elif '%' in name and '%' not in plain:
        reasons.append('quoted signs (%20)')
    if '\\' in name:
        reasons.append('backslashes')
    if name != name.strip():
        reasons.append('blanks around it')
    if difference:
        reasons.append(f'another {difference}')
    if first and '://' not in name:
        reasons.append('other folders before it')
    elif name.startswith('/') and '://' not in name:
        reasons.append('a slash before it')
    return ', '.join(reasons) or 'another spelling'


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)


def _folded(name: str) -> str:
    return _composed(name).casefold()


def _stem(name: str) -> str:
    """Return a name in one case and without the ending of an image."""
    stem, ending = osp.splitext(_folded(name))
    return stem if ending in IMAGE_ENDINGS else _folded(name)


def _follow(folder: str, parts: Sequence[str], key: Callable[[str], str]) -> Optional[str]:
    """Return the path below `folder` to the one file whose parts have the keys of `parts`."""
    way: List[str] = []
    for index, part in enumerate(parts):
        here = osp.join(folder, *way)
        is_last = index == len(parts) - 1
        if part == os.pardir or (osp.isfile if is_last else osp.isdir)(osp.join(here, part)):
            way.append(part)
            continue
        # the ending is ignored in the last part alone
        fit = key if is_last or key is not _stem else _folded
        there = [] if key is str else _entries(here, fit).get(fit(part), [])
        if is_last:
            there = [name for name in there if osp.isfile(osp.join(here, name))]
        if len(there) != 1:
            return None
        way.append(there[0])
    return '/'.join(way) if way and osp.isfile(osp.join(folder, *way)) else None


def _entries(folder: str, key: Callable[[str], str]) -> Dict[str, List[str]]:
    """Return the entries of a folder by key."""
    try:
        changed = os.stat(folder or '.').st_mtime_ns
    except OSError:
        return {}
    return _listed(folder, changed, key)


@functools.lru_cache(maxsize=64)  # thousands of names are searched in one folder
def _listed(folder: str, changed: int, key: Callable[[str], str]) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    try:
        for name in os.listdir(folder or '.'):
            found.setdefault(key(name), []).append(name)
    except OSError:
        pass
    return found


def _below(folder: str) -> Dict[str, List[str]]:
    """Return the files in the folders below `folder`, by name; {} where they are too many to search."""
    if not folder or not osp.isdir(folder):
        return {}
    return _walked(folder, os.stat(folder).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _walked(folder: str, changed: int) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    number = 0
    for path, _, files in os.walk(folder):
        number += 1 + len(files)
        if number > MOST_ENTRIES:
            return {}
        below = osp.relpath(path, folder).replace(os.sep, '/')
        for name in files if below != '.' else ():
            found.setdefault(_folded(name), []).append(f'{below}/{name}')
    return found


class Cause(NamedTuple):
    """Images that are missing for one reason."""
    reason: str  # '' where nothing was found
    examples: List[Tuple[str, str]]  # the written name, the existing name
    count: int


def causes_of(missing: Sequence[Tuple[Optional[str], str]], most: int = 1000) -> List[Cause]:
    """Look for missing images (folder, name), and group them by cause, the largest group first.

    If more than `most` are missing, the first ones decide.
    """
    groups: Dict[str, List[Tuple[str, str]]] = {}
    for prefix, name in missing[:most]:
        found = find_image(prefix, name)
        groups.setdefault('' if found is None else found.reason, []).append(
            (name, found.name if found else ''))
    causes = [Cause(reason, pairs, len(pairs)) for reason, pairs in groups.items()]
    return sorted(causes, key=lambda cause: (not cause.reason, -cause.count))
