"""Layouts with an annotation file for each image, of the image's name."""
import os.path as osp
from typing import Callable, Dict, List, NamedTuple, Sequence

from mmdet_ft.datasets.annotations.image_lists import composed
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.names import find_on_disk
from mmdet_ft.datasets.layouts.found import Part
from mmdet_ft.datasets.layouts.tree import ALL, SPLITS, Tree, split_of

MOST_TRIED = 5  # files of a folder that are looked at
NO_LABELS = ('classes.txt', 'labels.txt', 'readme.txt', 'notes.txt')


class Piece(NamedTuple):
    """Folders of annotations and of their images, and the names that are in both."""
    annotations: str
    images: str
    stems: List[str]  # relative to both folders, without ending


def folders_like(tree: Tree, ending: str, is_wanted: Callable[[str], bool]) -> Dict[str, List[str]]:
    """Return folder -> files with an ending, where the first of them with content are of the wanted kind."""
    found = {}
    for folder, names in tree.by_folder(ending).items():
        names = [name for name in names if name.lower() not in NO_LABELS]
        texts = (tree.begin(f'{folder}/{name}' if folder else name) for name in names)
        tried = [text for text, _ in zip(filter(str.strip, texts), range(MOST_TRIED))]
        if any(map(is_wanted, tried)):
            found[folder] = names
    return found


def pieces_of(tree: Tree, folders: Dict[str, List[str]]) -> Dict[str, Piece]:
    """Return split -> its annotations with their images; DataError for annotations without images.

    Several folders of a split become one piece where annotations and images have the same folders.
    """
    found: Dict[str, List[Piece]] = {}
    for folder, names in folders.items():
        stems = [osp.splitext(name)[0] for name in names]
        images = tree.folder_of_stems(stems, f'{folder}/x' if folder else 'x')
        if images is not None:
            there = {composed(osp.splitext(name)[0]) for name in tree.images[images]}
            kept = [stem for stem in stems if composed(stem) in there]
            _require_one_image_each(tree, images, kept)
            split = split_of(folder) if split_of(folder) != ALL else split_of(images)
            found.setdefault(split, []).append(Piece(folder, images, kept))
    if folders and not found:
        folder, names = next(iter(folders.items()))
        raise DataError(f'{tree.path(folder)} has {len(names)} files of annotations, such as '
                        f'{names[0]!r}, and no image of their names is in {tree.root}')
    return {split: _one(pieces, tree) for split, pieces in found.items()}


def _require_one_image_each(tree: Tree, folder: str, stems: Sequence[str]) -> None:
    """Raise DataError for two images of one annotation file, a.jpg and a.png."""
    wanted = set(map(composed, stems))
    first: Dict[str, str] = {}
    for name in tree.images[folder]:
        stem = composed(osp.splitext(name)[0])
        other = first.setdefault(stem, name)
        if other != name and stem in wanted:
            raise DataError(f'{tree.path(folder)} has two images of one annotation file, {other} '
                            f'and {name}; take one of them away, or give it another name')


def _one(pieces: Sequence[Piece], tree: Tree) -> Piece:
    """Return several pieces as one; DataError where their folders differ."""
    if len(pieces) == 1:
        return pieces[0]
    tops = [
        osp.commonpath([f'/{folder}' for folder in folders])[1:]
        for folders in zip(*((piece.annotations, piece.images) for piece in pieces))
    ]
    below = [[
        osp.relpath(f'/{folder}', f'/{top}')
        for folder, top in zip((piece.annotations, piece.images), tops)
    ] for piece in pieces]
    if any(first != second for first, second in below):
        shown = ', '.join(repr(piece.annotations or '.') for piece in pieces[:4])
        raise DataError(f'{tree.root} has annotations in {len(pieces)} folders: {shown}; name one '
                        f'of them: --data {tree.path(osp.dirname(pieces[0].annotations))}')
    stems = [
        osp.normpath(osp.join(inside, stem)) for (inside, _), piece in zip(below, pieces)
        for stem in piece.stems
    ]
    return Piece(tops[0], tops[1], stems)


def parts_of(tree: Tree, pieces: Dict[str, Piece], kind: str,
             read_names: Callable[[str], Sequence[str]], ending: str) -> Dict[str, Part]:
    """Return the splits of pieces: those of lists beside them, such as train.txt, or of their folders.

    kind: type of a dataset with img_prefix, img_subdir, ann_subdir and, as ann_file, a list of names. read_names: path
    -> names of the objects in an annotation file, whose ending is `ending`.
    """
    parts = {}
    for split, piece in pieces.items():
        top = osp.commonpath([f'/{piece.annotations}', f'/{piece.images}'])[1:]
        inside = [osp.relpath(f'/{folder}', f'/{top}') for folder in piece[:2]]
        settings = dict(
            type=kind,
            img_prefix=osp.join(tree.path(top), ''),
            ann_subdir='' if inside[0] == '.' else inside[0],
            img_subdir='' if inside[1] == '.' else inside[1])
        lists = _lists(tree, piece.stems) if len(pieces) == 1 and split == ALL else {}
        for name, path in lists.items():
            stems = [line.strip() for line in _lines(tree, path) if line.strip()]
            parts[name] = Part({
                **settings, 'ann_file': tree.path(path)
            },
                               piece.annotations,
                               classes=_classes(
                                   tree.path(piece.annotations), stems, ending, read_names))
        if not lists:
            parts[split] = Part(
                settings,
                piece.annotations,
                names=piece.stems,
                classes=_classes(tree.path(piece.annotations), piece.stems, ending, read_names))
    return parts


def _classes(folder: str, stems: Sequence[str], ending: str,
             read_names: Callable[[str], Sequence[str]]) -> Callable[[], List[str]]:
    """Return the function that reads the names in annotation files, sorted."""

    def read() -> List[str]:
        paths = (find_on_disk(osp.join(folder, f'{stem}{ending}')) for stem in stems)
        return sorted({name for path in paths for name in read_names(path)})

    return read


def _lists(tree: Tree, stems: Sequence[str]) -> Dict[str, str]:
    """Return split -> the text file that lists the most of these names; without train the lists do not count."""
    known = set(map(composed, stems))
    found: Dict[str, Dict[str, int]] = {}
    for path in tree.files('.txt'):
        stem = osp.splitext(osp.basename(path))[0].lower()
        split = next((split for split, names in SPLITS.items() if stem in names),
                     'trainval' if stem == 'trainval' else None)
        hits = sum(composed(line.strip()) in known for line in _lines(tree, path)) if split else 0
        if split and hits:
            found.setdefault(split, {})[path] = hits
    best = {
        split: max(paths, key=lambda path: (paths[path], 'Main' in path))
        for split, paths in found.items()
    }
    if 'trainval' in best:
        best.setdefault('train', best.pop('trainval'))
        best.pop('trainval', None)
    return best if 'train' in best else {}


def _lines(tree: Tree, path: str) -> List[str]:
    try:
        return read_lines(tree.path(path))
    except DataError:
        return []
