"""Turn COCO jsons into a YOLO dataset: images, labels and data.yaml."""
import os
import os.path as osp
import shutil
from argparse import Namespace
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.data_yaml import SPLITS
from mmdet_ft.datasets.annotations.from_coco import FromCoco, bitmap_of, read_coco
from mmdet_ft.datasets.annotations.outlines import join_outlines, outlines_of
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects, write_text
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


class Yolo:
    """The writer of a YOLO dataset, with counts for its messages.

    Args:
        out: folder to write.
        classes: names of the numbers 0, 1, ...
        as_boxes: write boxes, also of objects that have masks.
        is_linked: link the images instead of copying them.
    """

    def __init__(self, out: str, classes: Sequence[str], as_boxes: bool, is_linked: bool):
        self.out = out
        self.number_of = {name: index for index, name in enumerate(classes)}
        self.as_boxes = as_boxes
        self.is_linked = is_linked
        self.counts: Dict[str, int] = Counter()

    def write_split(self, split: str, images: Sequence[ImageObjects], folder: ImageFolder) -> int:
        """Write the images and labels of a split; return their number."""
        number = 0
        for image in track(images, f'writing {split}', len(images)):
            found = folder.find(image.file_name)
            if found is None:
                continue
            name = found.replace(os.sep, '/')
            self._provide(osp.join(folder.root, found), osp.join(self.out, 'images', split, name))
            stem = osp.splitext(name)[0]
            write_text(
                osp.join(self.out, 'labels', split, f'{stem}.txt'), ''.join(self._lines(image)))
            number += 1
        folder.refuse_nothing(number)
        return number

    def _provide(self, source: str, target: str) -> None:
        os.makedirs(osp.dirname(target), exist_ok=True)
        if self.is_linked:
            os.symlink(osp.abspath(source), target)
        else:
            shutil.copyfile(source, target)

    def _lines(self, image: ImageObjects) -> Iterator[str]:
        """Yield the lines of a label file."""
        size = np.array([image.width, image.height], dtype=np.float64)
        for index, name in enumerate(image.names):
            x1, y1, x2, y2 = np.clip(image.boxes[index] / np.tile(size, 2), 0, 1).tolist()
            if image.crowd[index]:
                self.counts['crowds are left out'] += 1
            elif not (x2 > x1 and y2 > y1):
                self.counts['boxes of no area in their image are left out'] += 1
            else:
                outline = None if self.as_boxes else self._outline(image, index)
                shares = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1] if outline is None else \
                    np.clip(np.array(outline).reshape(-1, 2) / size, 0, 1).reshape(-1).tolist()
                numbers = ' '.join(f'{share:.10g}' for share in shares)
                yield f'{self.number_of[name]} {numbers}\n'
                self.counts['objects'] += 1

    def _outline(self, image: ImageObjects, index: int) -> Optional[List[float]]:
        """Return one outline of an object; None for a mask without a pixel."""
        segmentation: Any = image.segmentations[index]
        parts = segmentation
        if isinstance(segmentation, dict):
            mask = bitmap_of(segmentation, image.height, image.width)
            parts = outlines_of(mask)
            self._count_holes(parts, mask)
        if not parts:
            return None
        if len(parts) > 1:
            self.counts['objects of several parts are joined by lines of no width'] += 1
        return join_outlines(parts)

    def _count_holes(self, parts: List[List[float]], mask: np.ndarray) -> None:
        """Count a mask whose holes are filled."""
        filled = bitmap_of(parts, *mask.shape).sum() if parts else 0
        if filled > 1.02 * mask.sum() + 4:
            self.counts['masks have holes, which outlines fill'] += 1


def data_yaml(splits: Sequence[str], classes: Sequence[str]) -> str:
    """Return the text of data.yaml; names are in quotes, so that `no` stays a name."""
    lines = [f'{split}: images/{split}' for split in splits]
    names = [
        f"  {index}: '{name}'" for index, name in enumerate(
            name.replace("'", "''") for name in classes)
    ]
    return '\n'.join(['# Paths are relative to this file.', *lines, 'names:', *names, ''])


def read_splits(given: Sequence[Sequence[str]]) -> List[Tuple[str, FromCoco, ImageFolder]]:
    """Read the jsons; DataError for unknown and double names of splits, and unequal classes."""
    found: List[Tuple[str, FromCoco, ImageFolder]] = []
    for split, path, images in given:
        if split not in SPLITS or split in [name for name, _, _ in found]:
            raise DataError(f'--split {split}: write each of {", ".join(SPLITS)} once')
        for item in (path, images):
            if not osp.exists(item):
                raise DataError(f'--split {split}: there is no {item!r}')
        content = read_coco(path)
        if found and content.classes != found[0][1].classes:
            raise DataError(
                f'--split {split}: the classes of {path} are {content.classes}, and those of '
                f'{found[0][0]} are {found[0][1].classes}: a number would mean two things')
        found.append((split, content, ImageFolder(images)))
    return found


def has_masks(splits: Sequence[Tuple[str, FromCoco, ImageFolder]]) -> bool:
    """Check whether every object but crowds has polygons or a mask."""
    objects = [(image, index) for _, content, _ in splits for image in content.images
               for index in np.flatnonzero(~image.crowd).tolist()]
    return bool(objects) and all(image.segmentations[index] is not None for image, index in objects)


def main(args: Namespace) -> None:
    if osp.exists(args.out) and (not osp.isdir(args.out) or os.listdir(args.out)):
        raise DataError(f'--out {args.out} is there already; name a folder that is not')
    splits = read_splits(args.split)
    classes = splits[0][1].classes
    as_boxes = args.boxes or not has_masks(splits)
    writer = Yolo(args.out, classes, as_boxes, args.link)
    for split, content, folder in splits:
        number = writer.write_split(split, content.images, folder)
        print(f'{split}: {number} images')
        for line in (*content.notes, *folder.report()):
            print(line)
    path = osp.join(args.out, 'data.yaml')
    write_text(path, data_yaml([split for split, _, _ in splits], classes))
    kind = 'boxes' if as_boxes else 'outlines'
    number = writer.counts.pop('objects', 0)
    print(f'{number} objects as {kind}, {len(classes)} classes -> {path}')
    for what, count in writer.counts.items():
        print(f'{count} {what}')
