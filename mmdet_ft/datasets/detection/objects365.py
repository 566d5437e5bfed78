"""Objects365, version 1 and 2."""
import os.path as osp
from typing import Any, Dict, Optional, Sequence, Tuple

from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.registry import DATASETS

# Images that version 2 lists and that its archives do not have.
MISSING_OF_V2 = ('patch16/objects365_v2_00908726.jpg', 'patch6/objects365_v1_00320532.jpg',
                 'patch6/objects365_v1_00320534.jpg')


def _classes_of(version: str) -> Tuple[str, ...]:
    """Return the 365 names in the order of their ids."""
    path = osp.join(osp.dirname(osp.abspath(__file__)), f'objects365{version}_classes.txt')
    with open(path, encoding='utf-8') as file:
        return tuple(file.read().splitlines())


@DATASETS.register_module()
class Objects365V1Dataset(CocoDataset):
    """CocoDataset with the classes of Objects365 V1."""

    CLASSES: Optional[Sequence[str]] = _classes_of('v1')
    PALETTE = None


@DATASETS.register_module()
class Objects365V2Dataset(CocoDataset):
    """CocoDataset with the classes of Objects365 V2.

    The file lists images/v1/patch8/NAME.jpg for `img_prefix`/patch8/NAME.jpg. Three images that the
    archives do not have are left out.
    """

    CLASSES: Optional[Sequence[str]] = _classes_of('v2')
    PALETTE = None

    def _use_file(self) -> Sequence[Dict[str, Any]]:
        infos = super()._use_file()
        names = ['/'.join(info['filename'].split('/')[-2:]) for info in infos]
        kept = [index for index, name in enumerate(names) if name not in MISSING_OF_V2]
        self.img_ids = [self.img_ids[index] for index in kept]
        return PackedList({**infos[index], 'filename': names[index]} for index in kept)
