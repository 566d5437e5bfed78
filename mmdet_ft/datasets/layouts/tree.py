"""The files below a folder, as those see them who look for annotations there."""
import os.path as osp
import re
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set

from mmdet_ft.datasets.annotations.image_lists import composed
from mmdet_ft.datasets.annotations.values import parse_json
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import is_image_name
from mmdet_ft.datasets.images.folders import walk

BEGIN = 1 << 16  # bytes at both ends of a file that tell its kind
MOST_NAMES = 500  # images of an annotation file that are looked for
SPLITS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validate', 'validation'),
    'test': ('test', 'testing')
}
ALL = 'all'  # the split of data without splits


class Prefix(NamedTuple):
    """A folder of images, and how many of the wanted images are in it."""
    folder: str  # relative to the root; '' is the root
    hits: int


class Tree:
    """The files below a folder; paths are relative to it, with forward slashes, and '' is the folder itself.

    Args:
        root: the folder.
        only: an annotation file in it: no other one is seen.
        without: path of a folder in it that is not looked into.

    Attributes:
        images: folder -> names of the images in it, sorted.
        others: folder -> names of the other files in it, sorted.
    """

    def __init__(self, root: str, only: Optional[str] = None, without: Optional[str] = None):
        self.root = root
        self.images: Dict[str, List[str]] = {}
        self.others: Dict[str, List[str]] = {}
        self._json: Dict[str, Any] = {}
        self._by_name: Optional[Dict[str, List[str]]] = None
        for path, files in walk(root, without):
            folder = osp.relpath(path, root).replace('\\', '/')
            folder = '' if folder == '.' else folder
            found = [name for name in files if is_image_name(name)]
            rest = [name for name in files if not is_image_name(name)]
            rest = [name for name in rest if only in (None, joined(folder, name))]
            if found:
                self.images[folder] = found
            if rest:
                self.others[folder] = rest

    @property
    def num_images(self) -> int:
        """Return the number of images."""
        return sum(map(len, self.images.values()))

    def path(self, relative: str) -> str:
        """Return the path of a file or folder."""
        return osp.join(self.root, relative) if relative else self.root

    def files(self, *endings: str) -> Iterator[str]:
        """Yield the files with one of the endings, folder by folder."""
        for folder, names in self.others.items():
            yield from (joined(folder, name) for name in names if name.lower().endswith(endings))

    def by_folder(self, *endings: str) -> Dict[str, List[str]]:
        """Return folder -> names of its files with one of the endings."""
        found = {
            folder: [name for name in names if name.lower().endswith(endings)]
            for folder, names in self.others.items()
        }
        return {folder: names for folder, names in found.items() if names}

    def begin(self, relative: str) -> str:
        """Return the first 64 KiB of a file as text; '' if it cannot be read."""
        return self._read(relative, 0)

    def end(self, relative: str) -> str:
        """Return the last 64 KiB of a file as text; '' if it cannot be read."""
        return self._read(relative, max(0, osp.getsize(self.path(relative)) - BEGIN))

    def _read(self, relative: str, position: int) -> str:
        try:
            with open(self.path(relative), 'rb') as file:
                file.seek(position)
                return file.read(BEGIN).decode('utf-8', 'replace').lstrip('\ufeff')
        except OSError:
            return ''

    def json(self, relative: str) -> Any:
        """Return the content of a json file, read once; DataError if it is none."""
        if relative not in self._json:
            with open(self.path(relative), 'rb') as file:
                self._json[relative] = parse_json(file.read(), self.path(relative))
        return self._json[relative]

    def prefix_of(self, names: Iterable[str], near: str = '') -> Prefix:
        """Return the folder that most of the names of images are relative to.

        near: file that names them; of equal folders the one nearest to it is taken. A name that is in no folder as
        it is written counts for those that hold its last part.
        """
        names = [composed(name.replace('\\', '/')) for name in names][:MOST_NAMES]
        exact: Counter = Counter()
        loose: Counter = Counter()
        for name in names:
            for path in self._paths_of(osp.basename(name)):
                if f'/{path}'.endswith(f'/{name}'):
                    exact[path[:len(path) - len(name)].rstrip('/')] += 1
                loose[osp.dirname(path)] += 1
        counts = exact or loose
        if not counts:
            return Prefix('', 0)
        best = max(counts, key=lambda folder: (counts[folder], _closeness(folder, near)))
        twin = next((folder
                     for folder in counts if folder != best and counts[folder] == counts[best]
                     and _closeness(folder, near) == _closeness(best, near)), None)
        if twin is not None:
            raise DataError(
                f'{self.path(near)} names {counts[best]} images that are both in {best or "."} and in {twin or "."}. '
                'To fix: take one of the folders away, or write the folder into the names')
        return Prefix(best, counts[best])

    def _paths_of(self, name: str) -> List[str]:
        if self._by_name is None:
            self._by_name = {}
            for folder, names in self.images.items():
                for item in names:
                    self._by_name.setdefault(composed(item), []).append(joined(folder, item))
        return self._by_name.get(name, [])

    def folder_of_stems(self, stems: Sequence[str], near: str) -> Optional[str]:
        """Return the folder whose images have the most of these names without ending; None if none has any."""
        wanted = set(map(composed, stems))
        hits = {
            folder: len(wanted & {composed(osp.splitext(name)[0])
                                  for name in names})
            for folder, names in self.images.items()
        }
        best = max(hits, key=lambda folder: (hits[folder], _closeness(folder, near)), default=None)
        return best if best is not None and hits[best] else None

    def largest_folder(self) -> str:
        """Return the folder with the most images; '' without images."""
        return max(self.images, key=lambda folder: len(self.images[folder]), default='')

    def describe(self) -> str:
        """Return what is in the folder, for the message that nothing is recognized."""
        endings = Counter(
            osp.splitext(name)[1].lower() or 'no ending' for names in self.others.values()
            for name in names)
        parts = [f'{self.num_images} images in {len(self.images)} folders'] if self.images else []
        parts += [f'{count} {ending} files' for ending, count in endings.most_common(4)]
        return ', '.join(parts) or 'no file'


def joined(folder: str, name: str) -> str:
    """Return the path of a file in a folder of a tree."""
    return f'{folder}/{name}' if folder else name


def _closeness(folder: str, near: str) -> int:
    """Return how near a folder is to a file: parts that both share, and the file's own words in its name."""
    parts, others = folder.split('/'), osp.dirname(near).split('/')
    shared = next((index for index, (a, b) in enumerate(zip(parts, others)) if a != b),
                  min(len(parts), len(others)))
    words = _split_words(osp.basename(near))
    named = sum(bool(words & _split_words(part)) for part in parts)
    return 20 * named + 2 * shared - len(parts) - len(others)


def _split_words(name: str) -> Set[str]:
    """Return the words in a name, with one spelling for each split: 'validation' is 'val'."""
    words = set(words_of(name))
    return words | {split for split, names in SPLITS.items() if words & set(names)}


def words_of(name: str) -> List[str]:
    """Return the words in a name, in lower case and without digits: train2017 is train."""
    return [word for word in re.split(r'[^a-z]+', osp.splitext(name)[0].lower()) if word]


def split_of(relative: str) -> str:
    """Return the split that a file or folder is named after: its own name, or that of a folder above it; or ALL."""
    for part in reversed(relative.split('/')):
        words = words_of(part)
        for split, names in SPLITS.items():
            if set(words) & set(names):
                return split
    return ALL


def only_each(found: Dict[str, List[str]], what: str, tree: Tree) -> Dict[str, str]:
    """Return split -> its annotation file or folder; DataError where a split has several."""
    for split, items in found.items():
        if len(items) > 1:
            shown = ', '.join(map(repr, items[:4])) + (' ...' if len(items) > 4 else '')
            of = '' if split == ALL else f' of the split {split}'
            raise DataError(f'{tree.root!r} has {len(items)} {what}{of}: {shown}; '
                            f'name one of them: --data {tree.path(items[0])}')
    return {split: items[0] for split, items in found.items()}


def by_split(items: Iterable[str]) -> Dict[str, List[str]]:
    """Return split -> the files or folders that are named after it."""
    found: Dict[str, List[str]] = {}
    for item in items:
        found.setdefault(split_of(item), []).append(item)
    return found
