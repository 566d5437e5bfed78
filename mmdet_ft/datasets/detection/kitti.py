"""KITTI's object detection benchmark: a text file of 2D boxes per image."""
import math
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.bounds import read_corner
from mmdet_ft.datasets.annotations.image_lists import Spelling, check_names, read_ids
from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size
from mmdet_ft.datasets.images.names import find_image, find_on_disk, nearest_name, plain_name_hint
from mmdet_ft.datasets.layouts.found import Part, PartFile, recognizes
from mmdet_ft.datasets.layouts.pairs import folders_like, parts_of, pieces_of
from mmdet_ft.datasets.layouts.tree import Tree
from mmdet_ft.evaluation.kitti import DONT_CARE, Objects, evaluate_kitti
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.registry import DATASETS

KITTI_ENDINGS = ('.png', '.jpg', '.jpeg')  # those of the benchmark first


def read_kitti_label(path: str) -> Objects:
    """Read a file of label_2; DataError names the path and the faulty line.

    A line is: type, truncated, occluded, alpha, x1 y1 x2 y2, and seven numbers about the 3D box,
    which are not read.
    """
    names, numbers = [], []
    for index, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            numbers.append([read_corner(words[column]) for column in (1, 2, 4, 5, 6, 7)])
        except (ValueError, IndexError):
            raise DataError(
                f'{path}:{index}: a label is a type and at least 7 numbers (truncated, occluded, alpha, '
                f'x1, y1, x2, y2), found {line.strip()!r:.80}{_yolo_hint(words)}') from None
        is_free = words[0].lower() == DONT_CARE.lower(
        )  # the official evaluation ignores the case, too
        names.append(DONT_CARE if is_free else words[0])
    table = np.array(numbers, dtype=np.float64).reshape(-1, 6)
    return Objects(
        names=np.array(names, dtype=str),
        boxes=table[:, 2:],
        truncated=table[:, 0],
        occluded=table[:, 1].astype(np.int64))


def _yolo_hint(words: Sequence[str]) -> str:
    return '; it looks like YOLO, which YOLODataset reads' if len(
        words) == 5 and words[0].isdigit() else ''


def image_name(folder: str, stem: str) -> str:
    """Return the name of the image of this stem, with KITTI's ending .png or another; FileNotFoundError without one."""
    for ending in KITTI_ENDINGS:
        if osp.isfile(osp.join(folder, stem + ending)):
            return stem + ending
    found = find_image(folder, stem + KITTI_ENDINGS[0])
    if found is not None:
        return found.name
    raise FileNotFoundError(f'there is no image {osp.join(folder, stem)}{"|".join(KITTI_ENDINGS)}')


@DATASETS.register_module()
class KittiDataset(CustomDataset):
    """2D boxes of KITTI's label files; `ann_file` is a text file with one image name per line.

    An image NAME has `img_prefix`/`ann_subdir`/NAME.txt and `img_prefix`/`img_subdir`/NAME.png (or
    .jpg). DontCare regions become `bboxes_ignore`; objects of other classes are dropped.

    Args:
        img_subdir, ann_subdir: folders in img_prefix, which is KITTI's `training/`.
        min_overlaps: the smallest IoU of a correct detection, for classes that KITTI does not
            evaluate (0.5 otherwise).
        Others as CustomDataset.

    Raises FileNotFoundError and DataError with file and line; DataError when `classes` are spelled
    differently in the files.
    """

    CLASSES = ('Car', 'Pedestrian', 'Cyclist')
    PALETTE = [(0, 0, 142), (220, 20, 60), (119, 11, 32)]
    METRICS = ('kitti', *CustomDataset.METRICS)
    MADE_BY = (
        f', or make one json of all label files, and split it: {how_to_run("convert kitti")} FOLDER --out '
        f'all.json, {how_to_run("split")} all.json --val 0.2 --img-prefix FOLDER')

    def __init__(self,
                 ann_file: str,
                 pipeline: Sequence[Any],
                 classes: Union[str, Sequence[str], None] = None,
                 data_root: Optional[str] = None,
                 img_prefix: Optional[str] = '',
                 seg_prefix: Optional[str] = None,
                 seg_suffix: str = '.png',
                 proposal_file: Optional[str] = None,
                 test_mode: bool = False,
                 filter_empty_gt: bool = True,
                 file_client_args: Dict[str, Any] = dict(backend='disk'),
                 img_subdir: str = 'image_2',
                 ann_subdir: str = 'label_2',
                 min_overlaps: Optional[Dict[str, float]] = None):
        self.img_subdir = img_subdir
        self.ann_subdir = ann_subdir
        self.min_overlaps = min_overlaps
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read all files; set `name_counts`, the objects of each name in them."""
        self.name_counts: Dict[str, int] = Counter()
        names = read_ids(ann_file)
        if not names:
            raise DataError(f'{type(self).__name__}: {ann_file} lists no image')
        self._spelling = Spelling(self.CLASSES)
        infos = PackedList(self._read(img_id) for img_id in names)
        if self._spelling.matched:
            self._warn(str(self._spelling))
        self.name_counts.pop(DONT_CARE, None)
        check_names(self, self.name_counts)
        return infos

    def _read(self, img_id: str) -> Dict[str, Any]:
        label_file = osp.join(self.img_prefix, self.ann_subdir, f'{img_id}.txt')
        folder = osp.join(self.img_prefix, self.img_subdir)
        try:
            objects = read_kitti_label(find_on_disk(label_file))
            name = image_name(folder, img_id)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{type(self).__name__}: {f"{error.filename} is missing" if error.filename else error}, and '
                f'{self.ann_file} lists {img_id!r}; '
                f'img_prefix is {self.img_prefix!r}, img_subdir {self.img_subdir!r}, ann_subdir '
                f'{self.ann_subdir!r}{plain_name_hint(img_id) or nearest_name(label_file)}'
            ) from None
        width, height = image_size(osp.join(folder, name))
        objects = objects._replace(
            names=np.array(list(map(self._spelling.of, objects.names.tolist())), dtype=str))
        self.name_counts.update(objects.names.tolist())
        label_of = {name: label for label, name in enumerate(self.CLASSES)}
        labels = np.array([label_of.get(name, -1) for name in objects.names.tolist()], np.int64)
        boxes = objects.boxes.astype(np.float32)
        return dict(
            id=img_id,
            filename=osp.join(self.img_subdir, name),
            width=width,
            height=height,
            objects=tuple(objects) if self.test_mode else None,
            ann=dict(
                bboxes=boxes[labels >= 0],
                labels=labels[labels >= 0],
                bboxes_ignore=boxes[objects.names == DONT_CARE]))

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the list of some images."""
        return PartFile('.txt', ''.join(f'{self.data_infos[index]["id"]}\n' for index in indices),
                        {})

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'kitti',
                 logger: LoggerLike = None,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thr: Union[float, List[float]] = 0.5,
                 scale_ranges: Optional[List[Tuple[int, int]]] = None) -> Dict[str, Any]:
        """Evaluate 'kitti' (easy, moderate, hard AP; see `evaluate_kitti`), others as CustomDataset.evaluate."""
        if metric != 'kitti' and list(metric) != ['kitti']:
            return self._evaluate_boxes(results, metric, logger, proposal_nums, iou_thr,
                                        scale_ranges)
        self._check_results(results)
        objects = [Objects(*info['objects']) for info in self.data_infos]
        return evaluate_kitti(results, objects, self.CLASSES, self.min_overlaps, logger)


@recognizes('kitti', 'KITTI label files')
def find_kitti(tree: Tree) -> Dict[str, Part]:
    """Find KITTI's label files with their images: splits by lists, such as ImageSets, or by folders."""
    return parts_of(tree, pieces_of(tree, folders_like(tree, '.txt', is_kitti)), 'KittiDataset',
                    _names_in, '.txt')


def _names_in(path: str) -> List[str]:
    return [name for name in read_kitti_label(path).names.tolist() if name != DONT_CARE]


def is_kitti(text: str) -> bool:
    """Check whether the first line of a text is a type and at least 7 numbers."""
    words = next((line.split() for line in text.splitlines() if line.strip()), [])
    try:
        return len(words) >= 8 and not _is_number(words[0]) and all(
            math.isfinite(float(word)) for word in words[1:8])
    except ValueError:
        return False


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
