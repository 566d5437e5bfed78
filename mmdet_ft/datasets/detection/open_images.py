"""Open Images V6 and the Open Images Challenge 2019."""
import csv
import os
import os.path as osp
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.annotations.values import parse_json
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size
from mmdet_ft.evaluation.open_images import (ImageTruth, evaluate_open_images, expand_detections,
                                             tree_of, with_parents)
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.registry import DATASETS
from mmdet_ft.untrusted import UntrustedFileError, load_pickle

FLAGS = ('is_occludeds', 'is_truncateds', 'gt_is_group_ofs', 'is_depictions', 'is_insides')
COLUMNS = ('ImageID', 'LabelName', 'XMin', 'YMin', 'XMax', 'YMax', 'IsOccluded', 'IsTruncated',
           'IsGroupOf', 'IsDepiction', 'IsInside')


class Objects(NamedTuple):
    """The objects of an image."""
    boxes: np.ndarray  # float32 [n, 4], x1 y1 x2 y2 as shares of the image
    labels: np.ndarray  # int64 [n]
    flags: np.ndarray  # bool [n, 5], see FLAGS


@DATASETS.register_module()
class OpenImagesDataset(CustomDataset):
    """Images and boxes of Open Images' csv files; the classes are those of `label_file`, in its order.

    Boxes are shares of the image: LoadAnnotations needs denorm_bbox=True. No image is left out in
    training.

    Args:
        ann_file: csv of boxes, one per row, the rows of an image together.
        pipeline, data_root, img_prefix, ...: see CustomDataset.
        label_file: csv of (id, name), one class per row.
        image_level_ann_file: csv of verified labels of images, for the evaluation.
        get_supercategory: evaluate the parents of each class too, by `hierarchy_file`.
        hierarchy_file: json of the classes' hierarchy.
        get_metas, load_from_file: V2's, without effect: sizes are those of `meta_file`, and without
            one they are read from the images, for the evaluation.
        meta_file: pickle of dict(filename=..., ori_shape=...), one per image.
        filter_labels: detections of a class that is not verified for an image do not count.
        load_image_level_labels: a label of `image_level_ann_file` verifies a class.

    Raises DataError for a row that cannot be read, with its line.
    """
    METRICS = ('mAP', )
    nominal_side = 1024  # boxes are shares of images whose longer side is this one, mostly
    _sizes: Optional[Dict[str, Tuple[int, int]]] = None  # of meta_file, by file name

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
                 label_file: str = '',
                 image_level_ann_file: str = '',
                 get_supercategory: bool = True,
                 hierarchy_file: Optional[str] = None,
                 get_metas: bool = True,
                 load_from_file: bool = True,
                 meta_file: str = '',
                 filter_labels: bool = True,
                 load_image_level_labels: bool = True):
        self.label_file = label_file
        self.image_level_ann_file = image_level_ann_file
        self.get_supercategory = get_supercategory
        self.hierarchy_file = hierarchy_file
        self.get_metas, self.load_from_file = get_metas, load_from_file
        self.meta_file = meta_file
        self.filter_labels = filter_labels
        self.load_image_level_labels = load_image_level_labels
        if get_supercategory and hierarchy_file is None:
            raise DataError(f'{type(self).__name__}: get_supercategory needs the hierarchy: write '
                            'hierarchy_file=..., or get_supercategory=False')
        super().__init__(ann_file, pipeline, None, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)
        if classes is not None and list(self.get_classes(classes) or ()) != list(self.CLASSES or
                                                                                 ()):
            raise DataError(f'{type(self).__name__}: the classes are those of label_file '
                            f'{label_file!r}; leave `classes` out')

    def _file_of(self, path: str, key: str) -> str:
        """Return the local path of a file that is named from here, as in V2, or from data_root."""
        from_root = self._under_root(path)
        return self._local(path if osp.isfile(path) or from_root is None else from_root, key)

    # Reading

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read the classes, then one record for each image that has a box."""
        names, self.index_dict = self._read_classes(self._file_of(self.label_file, 'label_file'))
        self.CLASSES = tuple(names)
        self._useless = 0
        infos = PackedList(
            dict(
                img_id=osp.splitext(osp.basename(name))[0],
                filename=name,
                objects=self._kept(found)) for name, found in self._read_objects(ann_file))
        if self._useless:
            self._warn(f'{self._useless} boxes without area are left out')
        return infos

    def _kept(self, found: Objects) -> Objects:
        """Return the objects to train on, those with an area; all of them for an evaluation."""
        if self.test_mode:
            return found
        kept = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
        self._useless += int((~kept).sum())
        return Objects(*(part[kept] for part in found))

    def _read_classes(self, path: str) -> Tuple[List[str], Dict[str, int]]:
        """Return the names of the classes, and the label of each id."""
        rows = [row for _, row in _rows_of(path, 2)]
        return [row[1] for row in rows], {row[0]: label for label, row in enumerate(rows)}

    def _label_of(self, name: str, path: str, line: int) -> int:
        if name not in self.index_dict:
            raise DataError(f'{path}:{line}: {name!r} is not a class of {self.label_file!r}')
        return self.index_dict[name]

    def _read_objects(self, path: str) -> Iterator[Tuple[str, Objects]]:
        """Yield file name and objects of each image."""
        rows = _rows_of(path, 13)
        line, header = next(rows, (1, list(COLUMNS)))
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(f'{path}:{line}: the header has no {", ".join(missing)}: it names the '
                            'columns of Open Images, ImageID,Source,LabelName,...')
        columns = [header.index(name) for name in COLUMNS]
        image: Optional[str] = None
        found: List[Tuple[float, ...]] = []
        seen: Set[str] = set()
        for line, row in rows:
            name, label, *numbers = (row[column] for column in columns)
            if name != image:
                if image is not None:
                    yield f'{image}.jpg', _objects_of(found)
                if name in seen:
                    raise DataError(
                        f'{path}:{line}: image {name!r} has rows in two locations: sort the file')
                image, found = name, []
                seen.add(name)
            found.append((self._label_of(label, path, line), *_numbers(numbers, path, line)))
        if image is not None:
            yield f'{image}.jpg', _objects_of(found)

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        """Return V2's annotations of sample `idx`; boxes are shares of the image."""
        found = Objects(*self.data_infos[idx]['objects'])
        flags = dict(zip(FLAGS, found.flags.T))
        return dict(
            bboxes=found.boxes,
            labels=found.labels,
            bboxes_ignore=np.zeros((0, 4), dtype=np.float32),
            labels_ignore=np.zeros(0, dtype=np.int64),
            **flags)

    def _apply_filter(self) -> None:
        """Use all images, as V2 does: their sizes are not known. Raises DataError without one."""
        if not len(self.data_infos):
            super()._apply_filter()

    def _set_group_flag(self) -> None:
        """Set group 0 for all images: their sizes are not known."""
        self.flag = np.zeros(len(self), dtype=np.uint8)

    def _check_loaded(self) -> None:
        """Raise DataError for a pipeline that takes the shares of the image for pixels."""
        for transform in self.pipeline.transforms:
            if getattr(transform, 'with_bbox',
                       False) and not getattr(transform, 'denorm_bbox', True):
                raise DataError(
                    f'{type(self).__name__}: boxes are shares of the image, not pixels. To fix: write '
                    "dict(type='LoadAnnotations', with_bbox=True, denorm_bbox=True) in the pipeline"
                )

    # Evaluation

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'mAP',
                 logger: LoggerLike = None,
                 iou_thr: Union[float, List[float]] = 0.5,
                 ioa_thr: Union[float, List[float]] = 0.5,
                 scale_ranges: Optional[List[Tuple[int, int]]] = None,
                 denorm_gt_bbox: bool = True,
                 use_group_of: bool = True) -> Dict[str, float]:
        """Evaluate Open Images' mAP.

        Args:
            results: per image a list over classes of arrays [n, 5] in pixels, or a tuple (boxes, masks).
            metric: 'mAP'.
            logger: a logger, its name, None for print, 'silent'.
            iou_thr: smallest IoU of a correct detection; several give an AP each, and their mean.
            ioa_thr: smallest share of a detection inside a group, one for each iou_thr.
            scale_ranges: V2's; the metric has no ranges of sizes.
            denorm_gt_bbox: boxes are shares of the image.
            use_group_of: a group counts as one object, see `match_with_groups`.

        Returns V2's keys: `AP50` (rounded to three decimals) and `mAP`. Raises DataError for an
        image without a size, and for another number of results.
        """
        if scale_ranges is not None:
            raise DataError(
                f'{type(self).__name__}: leave evaluation.scale_ranges out; the metric of '
                'Open Images has no ranges of sizes')
        self._check_results(results)
        iou_thrs = [iou_thr] if isinstance(iou_thr, (int, float)) else list(iou_thr)
        ioa_thrs = [ioa_thr] if isinstance(ioa_thr, (int, float)) else list(ioa_thr)
        if len(iou_thrs) != len(ioa_thrs):
            raise DataError(f'evaluation.ioa_thr={ioa_thr!r} needs one value for each of '
                            f'evaluation.iou_thr={iou_thr!r}')
        tree = self._tree()
        labels = self._image_labels()
        truths, found = [], []
        for index, truth in enumerate(self._truths(denorm_gt_bbox)):
            truth = with_parents(truth, tree) if self.get_supercategory else truth
            verified = labels.get(self.data_infos[index]['img_id'],
                                  set()).union(truth.labels.tolist())
            result = results[index][0] if isinstance(results[index], tuple) else results[index]
            if len(result) != len(tree):
                raise DataError(
                    f'results of {len(result)} classes for a dataset of {len(tree)}; write '
                    f'num_classes={len(tree)} in the heads')
            found.append(
                expand_detections(result, verified, tree, self.get_supercategory,
                                  self.filter_labels))
            truths.append(truth)
        return evaluate_open_images(found, truths, self.CLASSES or (), iou_thrs, ioa_thrs,
                                    use_group_of, logger)

    def boxes_in_pixels(self, idx: int) -> np.ndarray:
        """Return the boxes of sample `idx` in pixels, float32 [n, 4].

        Raises DataError if neither `meta_file` nor the image gives its size.
        """
        info = self.data_infos[idx]
        name = osp.basename(info['filename'])
        if self.meta_file and self._sizes is None:
            self._sizes = self._read_sizes()
        if self._sizes is not None and name not in self._sizes:
            raise DataError(f'{self.meta_file} has no size of {name!r}; leave meta_file out '
                            'to read sizes from the images')
        width, height = image_size(osp.join(
            self.img_prefix or '', info['filename'])) if self._sizes is None else self._sizes[name]
        return Objects(*info['objects']).boxes * np.array([width, height] * 2, dtype=np.float32)

    def _truths(self, denorm: bool) -> Iterator[ImageTruth]:
        """Yield the objects of each image, in pixels with `denorm`."""
        for index, info in enumerate(self.data_infos):
            objects = Objects(*info['objects'])
            boxes = self.boxes_in_pixels(index) if denorm else objects.boxes
            yield ImageTruth(boxes, objects.labels, objects.flags[:,
                                                                  FLAGS.index('gt_is_group_ofs')])

    def _read_sizes(self) -> Dict[str, Tuple[int, int]]:
        """Return width and height of each image, by file name."""
        metas = load_pickle(self._file_of(self.meta_file, 'meta_file'))
        return {
            osp.basename(meta['filename']): (meta['ori_shape'][1], meta['ori_shape'][0])
            for meta in metas
        }

    def _tree(self) -> np.ndarray:
        """Return the classes' hierarchy, see `with_parents`."""
        if not self.get_supercategory:
            return np.eye(len(self.CLASSES or ()), dtype=bool)
        tree = self._read_tree(self._file_of(str(self.hierarchy_file), 'hierarchy_file'))
        if tree.shape != (len(self.CLASSES or ()), ) * 2:
            raise DataError(
                f'{self.hierarchy_file} is for {len(tree)} classes, and {self.label_file} '
                f'names {len(self.CLASSES or ())}')
        return tree

    def _read_tree(self, path: str) -> np.ndarray:
        with open(path, 'rb') as file:
            return tree_of(parse_json(file.read(), path), self.index_dict, len(self.CLASSES or ()))

    label_column = 2  # of image_level_ann_file

    def _image_labels(self) -> Dict[str, Set[int]]:
        """Return the labels that are verified for an image, by its id."""
        labels: Dict[str, Set[int]] = {}
        if not self.load_image_level_labels:
            return labels
        if not self.image_level_ann_file:
            raise DataError(f'{type(self).__name__}: image-level labels need their file: write '
                            'image_level_ann_file=..., or load_image_level_labels=False')
        path = self._file_of(self.image_level_ann_file, 'image_level_ann_file')
        rows = _rows_of(path, self.label_column + 1)
        next(rows, None)  # the header
        for line, row in rows:
            labels.setdefault(row[0], set()).add(self._label_of(row[self.label_column], path, line))
        return labels


@DATASETS.register_module()
class OpenImagesChallengeDataset(OpenImagesDataset):
    """OpenImagesDataset for the files of the Challenge 2019: 500 classes, boxes in a text file.

    The text file has for each image its path, a line that is not read, the number of its boxes, and
    a line `label x1 y1 x2 y2 is_group` for each box; labels count from 1. `label_file` is a csv of
    (id, name, label), `hierarchy_file` a numpy matrix whose first row and column are the background.
    """

    label_column = 1

    def _read_classes(self, path: str) -> Tuple[List[str], Dict[str, int]]:
        rows = [(int(_numbers(row[2:3], path, line)[0]), row) for line, row in _rows_of(path, 3)]
        names = [row[1] for _, row in sorted(rows)]
        return names, {row[0]: number - 1 for number, row in rows}

    def _read_objects(self, path: str) -> Iterator[Tuple[str, Objects]]:
        with open(path, encoding='utf-8') as file:
            lines = enumerate((line.rstrip('\n') for line in file), 1)
            for _, name in lines:
                if not name.strip():
                    continue
                next(lines, None)
                line, count = next(lines, (0, ''))
                found: List[Tuple[float, ...]] = []
                for _ in range(int(_numbers([count], path, line)[0])):
                    line, text = next(lines, (line + 1, ''))
                    label, *numbers = _numbers(text.split(), path, line)
                    if len(numbers) != 5 or not 1 <= label <= len(self.CLASSES or ()):
                        raise DataError(
                            f'{path}:{line}: {text!r:.100} is not a box: label (from 1 to '
                            f'{len(self.CLASSES or ())}), x1, y1, x2, y2, is_group')
                    found.append((label - 1, *numbers[:4], 0, 0, numbers[4], 0, 0))
                yield name, _objects_of(found)

    def _read_tree(self, path: str) -> np.ndarray:
        try:
            matrix = np.load(path, allow_pickle=False)
        except ValueError:
            try:
                matrix = np.asarray(load_pickle(path))
            except UntrustedFileError as error:
                raise DataError(f'hierarchy_file: {error}') from None
        return matrix[1:, 1:].astype(bool)


def _rows_of(path: str, length: int) -> Iterator[Tuple[int, List[str]]]:
    """Yield line and columns of a csv file; raises DataError for a row of fewer columns."""
    with open(os.fspath(path), encoding='utf-8', newline='') as file:
        reader = csv.reader(file)
        for row in reader:
            if row and len(row) < length:
                raise DataError(f'{path}:{reader.line_num}: {",".join(row)!r:.100} has {len(row)} '
                                f'columns, expected {length}')
            if row:
                yield reader.line_num, row


def _numbers(values: Sequence[str], path: str, line: int) -> List[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise DataError(f'{path}:{line}: {error}') from None


def _objects_of(rows: Sequence[Tuple[float, ...]]) -> Objects:
    """Return the objects of rows (label, x1, y1, x2, y2, and the five flags)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 10)
    # -1 is an unknown flag
    return Objects(table[:, 1:5].astype(np.float32), table[:, 0].astype(np.int64), table[:,
                                                                                         5:] == 1)
