"""Folders of images: the files below a folder."""
import os
import os.path as osp
from typing import Iterator, List, Optional, Tuple

from mmdet_ft.datasets.images.files import is_image_name


def is_hidden(name: str) -> bool:
    """Check whether a file or folder is one that macOS, notebooks or git have created."""
    return name.startswith('.') or name == '__MACOSX'


def walk(root: str, without: Optional[str] = None) -> Iterator[Tuple[str, List[str]]]:
    """Yield (folder, its files) for a folder and those below it, sorted, without hidden ones.

    Links are followed; a folder that several links lead to is read once, and the folder `without` never.
    """
    seen = set() if without is None else {osp.realpath(without)}
    for path, folders, files in os.walk(root, followlinks=True):
        real = osp.realpath(path)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield path, sorted(name for name in files if not is_hidden(name))


def images_below(folder: str) -> List[str]:
    """Return the paths of the images in a folder and its subfolders, sorted, without hidden ones."""
    return sorted(
        osp.join(path, name) for path, files in walk(folder) for name in files
        if is_image_name(name))
