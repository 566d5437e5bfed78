"""Recognition of a folder of data: one layout, or one message."""
import os.path as osp
from typing import Dict, List, Optional

from mmdet_ft import file_kinds
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import is_image_name
from mmdet_ft.datasets.layouts.found import KNOWN, Layout, Part, layouts_of
from mmdet_ft.datasets.layouts.tree import ALL, Tree
from mmdet_ft.registry import DATASETS

ANNOTATIONS = ('.json', '.xml', '.yaml', '.yml', '.txt')
MOST_LEVELS = 3  # from an annotation file up to the folder of its images


def recognize(path: str, key: Optional[str] = None, without: Optional[str] = None) -> Layout:
    """Return the format of a folder of data and its splits.

    path: the folder, or one annotation file, to read this one and no other. key: the format, where several are there
    (see `keys`). without: folder that is not looked into, such as that of results.

    Raises FileNotFoundError for nothing at `path`, and DataError with what is in it: an archive, one image, no
    format or several.
    """
    if key is not None and key not in keys():
        raise DataError(f'there is no format {key!r}; there are {", ".join(keys())}')
    found, errors = layouts_of(_tree_of(path, without), key)
    layouts = _joined(_specific(found))
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        shown = '; '.join(f'{layout.describe()}: --data-format {layout.key}' for layout in layouts)
        raise DataError(f'{path!r} has {len(layouts)} formats. To fix: name one of them, or the '
                        f'folder or the annotation file of one. {shown}')
    if errors:
        kind, error = next(iter(errors.items()))
        raise DataError(f'{path!r} looks like {kind}, and cannot be read: {error}')
    raise DataError(_nothing(path, key, without))


def keys() -> List[str]:
    """Return the words by which formats are chosen."""
    DATASETS.get('CocoDataset')  # the formats register themselves when their modules are imported
    return [known.key for known in KNOWN]


def _tree_of(path: str, without: Optional[str]) -> Tree:
    """Return the files of a folder, or around one annotation file."""
    if not osp.exists(path):
        raise FileNotFoundError(f'there is no folder {path!r}')
    if osp.isdir(path):
        return _with_images(Tree(osp.abspath(path), None, without), path)
    if file_kinds.kind_of_file(path) == file_kinds.ARCHIVE:
        raise DataError(f'{path!r} is an archive; unpack it, and name the folder')
    if is_image_name(path):
        raise DataError(f'{path!r} is one image; name a folder of images and annotations')
    if not path.lower().endswith(ANNOTATIONS):
        raise DataError(f'{path!r} is a file; name a folder, or an annotation file '
                        f'({" ".join(ANNOTATIONS)})')
    folder = osp.dirname(osp.abspath(path))
    for _ in range(MOST_LEVELS):
        tree = Tree(folder, osp.relpath(osp.abspath(path), folder).replace('\\', '/'), without)
        if tree.images:
            return tree
        folder = osp.dirname(folder)
    return _with_images(tree, path)


def _with_images(tree: Tree, path: str) -> Tree:
    """Return the tree; DataError if it has no image."""
    if not tree.images:
        archives = [name for name in tree.files('.zip', '.tar', '.gz', '.tgz', '.rar', '.7z')]
        hint = f'; unpack {archives[0]!r}' if archives else ''
        raise DataError(f'there is no image below {path!r}: {tree.describe()}{hint}')
    return tree


def _specific(layouts: List[Layout]) -> List[Layout]:
    """Return the layouts without those that another one, of a more specific dataset, has the files of."""

    def is_covered(layout: Layout, by: Layout) -> bool:
        sources = {part.source for part in by.parts.values()}
        return layout is not by and all(
            part.source in sources and issubclass(_type(by), _type(layout))
            for part in layout.parts.values())

    return [layout for layout in layouts if not any(is_covered(layout, by) for by in layouts)]


def _type(layout: Layout) -> type:
    settings = next(iter(layout.parts.values())).settings
    return DATASETS.resolve(settings['type'], settings)


def _joined(layouts: List[Layout]) -> List[Layout]:
    """Return layouts as one where each has splits of its own: train in one format, val in another."""
    splits = [split for layout in layouts for split in layout.parts]
    if len(layouts) < 2 or ALL in splits or 'train' not in splits or len(set(splits)) < len(splits):
        return layouts
    parts: Dict[str, Part] = {
        split: part
        for layout in layouts
        for split, part in layout.parts.items()
    }
    kind = ', '.join(f'{layout.kind} ({" ".join(layout.parts)})' for layout in layouts)
    return [Layout('+'.join(layout.key for layout in layouts), kind, parts, layouts[0].rank)]


def _nothing(path: str, key: Optional[str], without: Optional[str]) -> str:
    """Return the message that no format, or not the chosen one, is recognized."""
    tree = _tree_of(path, without)
    wanted = 'nothing that is read' if key is None else f'nothing of the format {key}'
    kinds = ', '.join(known.kind for known in KNOWN)
    folders = ', '.join(sorted(tree.images)[:4]) or '.'
    return (f'{path!r} has {wanted}: {tree.describe()} (images in {folders}). Expected one of: '
            f'{kinds}')
