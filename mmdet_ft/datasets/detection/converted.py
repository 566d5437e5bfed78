"""Base class of the datasets whose files become COCO's records as they are read."""
import inspect
import json
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from mmdet_ft.datasets.annotations.coco_file import CocoFile
from mmdet_ft.datasets.annotations.image_lists import Spelling, check_names
from mmdet_ft.datasets.annotations.to_coco import Converted, ImageObjects, to_coco
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.found import PartFile
from mmdet_ft.datasets.splitting import json_parts


class Source(NamedTuple):
    """The images of annotation files in another form than COCO's."""
    images: List[ImageObjects]
    root: str  # folder that the names of the images are relative to
    names: Sequence[str] = ()  # classes in the order of the file; () where it does not list them
    notes: Sequence[str] = ()  # messages about files that are not read


def respelled(images: Iterable[ImageObjects], of: Callable[[str], str]) -> List[ImageObjects]:
    """Return the images with the names of their objects in one spelling."""
    return [image._replace(names=list(map(of, image.names))) for image in images]


class ConvertedDataset(CocoDataset):
    """Boxes and masks of annotation files in another form than COCO's; arguments as CocoDataset.

    A subclass reads its files in `read_source`. Without `classes` they are those that the files list, in their
    order. The metrics are COCO's.
    """

    CLASSES: Optional[Sequence[str]] = None
    PALETTE = None

    def read_source(self, ann_file: str) -> Source:
        """Read the images of the annotation files."""
        raise NotImplementedError

    def convert(self, ann_file: str) -> Converted:
        """Return COCO's dicts of the annotation files; set CLASSES, img_prefix, `name_counts` and `left_out`.

        `name_counts` are the objects of each name in the files, `left_out` messages about shapes and files that are
        not read.
        """
        source = self.read_source(ann_file)
        names = source.names if self.CLASSES is None else self.CLASSES
        spelling = Spelling(names)
        images = respelled(source.images, spelling.of)
        if spelling.matched:
            self._warn(str(spelling))
        self.name_counts: Dict[str, int] = Counter(name for image in images for name in image.names)
        if not names:
            raise DataError(self._without_classes(ann_file))
        self.CLASSES = tuple(names)
        check_names(self, self.name_counts)
        self.img_prefix = self.img_prefix or source.root
        converted = to_coco(images, list(names))
        self.left_out = [*_counted(converted), *source.notes]
        return converted

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return a COCO json of some images."""
        chosen = np.zeros(len(self.data_infos), dtype=bool)
        chosen[list(indices)] = True
        content = json_parts(self.convert(self.ann_file).content, chosen)
        own = inspect.signature(type(self)).parameters
        others = dict.fromkeys(set(own) - set(inspect.signature(CocoDataset).parameters))
        return PartFile('.json', json.dumps(content),
                        dict(others, type='CocoDataset', img_prefix=self.img_prefix))

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read all files; see `convert`."""
        content = self.convert(ann_file).content
        for text in self.left_out:
            self._warn(text)
        self._read_file = CocoFile(ann_file, content)
        return self._use_file()

    def _without_classes(self, ann_file: str) -> str:
        found = ', '.join(map(repr, sorted(self.name_counts)))
        return f'{type(self).__name__} needs classes=(...); the files in {ann_file} have classes=({found}, )'


def _counted(converted: Converted) -> List[str]:
    """Return messages about objects that are left out or changed."""
    left_out: Mapping[str, int] = dict(converted.left_out)
    if converted.num_flat:
        left_out = {**left_out, 'objects of no area': converted.num_flat}
    return [f'{count} {what} left out' for what, count in left_out.items()
            ] + [f'{count} {what}' for what, count in converted.changed.items()]
