"""The lists of WIDER FACE: the name of an image, the number of its faces, and a line for each."""
import os.path as osp
from typing import Dict, Iterator, List, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.bounds import read_corner
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects, changes_of, to_coco
from mmdet_ft.datasets.annotations.values import read_whole
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import is_image_name
from mmdet_ft.datasets.layouts.found import Content, Part, recognizes
from mmdet_ft.datasets.layouts.tree import Tree, by_split, only_each

Faces = Tuple[str, np.ndarray, np.ndarray]  # image, boxes x1 y1 x2 y2, invalid


def read_list(path: str) -> List[Faces]:
    """Read the images of a list. Raises DataError that names path and line.

    An image has a line with its name, one with the number of faces, and one per face: x y width height and six flags.
    The fourth flag marks an invalid face. Images without a face have one line of zeros.
    """
    try:
        lines = [line.strip() for line in read_lines(path)]
    except FileNotFoundError:
        raise DataError(f'there is no {path!r}') from None
    images, folder = [], 0
    while folder < len(lines):
        if not lines[folder]:
            folder += 1
            continue
        name = lines[folder]
        try:
            number = read_whole(lines[folder + 1], 'a number of faces', 0, 10**9)
        except (ValueError, IndexError):
            raise DataError(
                f'{path}:{folder + 2}: expected the number of faces of {name!r}') from None
        rows = []
        for line in range(folder + 2, folder + 2 + max(number, 1)):
            try:
                rows.append([read_corner(word) for word in lines[line].split()])
                if len(rows[-1]) < 4:
                    raise ValueError
            except (ValueError, IndexError):
                raise DataError(
                    f'{path}:{line + 1}: expected a face of {name!r}: x y width height and six '
                    f'flags{"" if number else ", all 0: an image without a face has this line too"}'
                ) from None
        table = np.array([(row + [0.] * 10)[:10] for row in rows[:number]]).reshape(-1, 10)
        boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        images.append((name, boxes, table[:, 7] != 0))
        folder += 2 + max(number, 1)
    return images


def to_objects(images: List[Faces], folder: ImageFolder) -> Iterator[ImageObjects]:
    """Yield the images that exist, with their faces."""
    for name, boxes, invalid in images:
        found = folder.find(name)
        if found is not None:
            width, height = folder.size(found)
            yield ImageObjects(found, width, height, ['face'] * len(boxes), boxes, invalid)


@recognizes('wider_face', 'lists of WIDER FACE')
def find_wider_face(tree: Tree) -> Dict[str, Part]:
    """Find the official lists with their images: splits by the names of the lists."""
    found = [path for path in tree.files('.txt') if _is_list(tree.begin(path))]
    return {
        split: _part(tree, path)
        for split, path in only_each(by_split(found), 'lists of WIDER FACE', tree).items()
    }


def _is_list(text: str) -> bool:
    """Check for the name of an image, a number, and a line of ten numbers."""
    lines = [line.split() for line in text.splitlines()[:3]]
    return len(lines) == 3 and len(lines[0]) == 1 and is_image_name(lines[0][0]) and len(
        lines[1]) == 1 and lines[1][0].isdigit() and len(lines[2]) >= 4


def _part(tree: Tree, path: str) -> Part:
    listed = read_list(tree.path(path))
    prefix = tree.path(tree.prefix_of([name for name, _, _ in listed], path).folder)

    def content() -> Content:
        folder = ImageFolder(prefix)
        converted = to_coco(to_objects(listed, folder), ['face'])
        folder.refuse_nothing(len(converted.content['images']))
        return Content(converted.content, [*changes_of(converted), *folder.report()])

    return Part(dict(type='CocoDataset', img_prefix=osp.join(prefix, '')), path, content=content)
