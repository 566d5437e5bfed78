"""The base class of all detection datasets: V2's CustomDataset."""
import difflib
import logging
import os
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import DTypeLike

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.bounds import read_size
from mmdet_ft.datasets.annotations.foreign import describe_folder
from mmdet_ft.datasets.annotations.image_lists import composed
from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.annotations.values import format_value, parse_json, read_name
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import read_head
from mmdet_ft.datasets.images.sizes import choose_fitting_size, mismatch
from mmdet_ft.datasets.layouts.found import PartFile
from mmdet_ft.datasets.pipelines.shared.compose import Compose, check_given
from mmdet_ft.evaluation.mean_ap import evaluate_map
from mmdet_ft.evaluation.recall import evaluate_recall
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.registry import DATASETS
from mmdet_ft.untrusted import load_pickle


def nearest_file(path: str) -> str:
    """Return the existing file whose name is nearest to a missing one, as the end of a sentence."""
    folder = path if osp.isdir(path) else osp.dirname(path) or '.'
    if not osp.isdir(folder):
        return f' (nor is its folder {folder!r})'
    names = [name for name in os.listdir(folder) if osp.isfile(osp.join(folder, name))]
    near = difflib.get_close_matches(osp.basename(path), names, n=1)
    return f'; did you mean {osp.join(folder, near[0])!r}?' if near else ''


@DATASETS.register_module()
class CustomDataset:
    """Images with boxes, read from V2's middle format; the base class of the others.

    The annotation file (json or pickle) is a list of one dict per image: `filename`, `width`,
    `height`, and `ann` with `bboxes` [n, 4] (x1 y1 x2 y2), `labels` [n], and optionally
    `bboxes_ignore` [k, 4], `labels_ignore` [k].

    Args:
        ann_file: annotation file.
        pipeline: transforms, dicts or callables.
        classes: class names (list or tuple), or a text file of one per line; default: CLASSES.
        data_root: folder of relative `ann_file`, `img_prefix`, `seg_prefix`, `proposal_file`.
        img_prefix, seg_prefix: folders of images and of semantic segmentation maps.
        seg_suffix: ending of the segmentation maps' file names.
        proposal_file: precomputed proposals, one array [n, 4 or 5] per image (pickle).
        test_mode: samples have no annotations, and no image is filtered out.
        filter_empty_gt: in training, drop images without a box of the classes.
        file_client_args: V2's storage backend; 'disk' or one of mmengine.fileio.

    Raises FileNotFoundError for a missing annotation file, DataError without images to train on.
    """

    MADE_BY = ''  # the command that writes the annotation file, for the message that it is missing
    CLASSES: Optional[Sequence[str]] = None
    PALETTE: Optional[List[Tuple[int, int, int]]] = None
    METRICS: Sequence[str] = ('mAP', 'recall')  # what `evaluate` knows

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
                 file_client_args: Dict[str, Any] = dict(backend='disk')):
        self.data_root = data_root
        self.ann_file = self._under_root(ann_file)
        self.img_prefix = self._under_root(img_prefix)
        self.seg_prefix = self._under_root(seg_prefix)
        self.proposal_file = self._under_root(proposal_file)
        self.seg_suffix = seg_suffix
        self.test_mode = test_mode
        self.filter_empty_gt = filter_empty_gt
        self.file_client_args = dict(file_client_args)
        self.CLASSES = self.get_classes(classes)
        self._classes_given = classes is not None
        if self.PALETTE is not None and len(self.PALETTE) < len(self.CLASSES or ()):
            self.PALETTE = None  # colors of other classes, and too few: visualization chooses

        self.data_infos: Sequence[Dict[str, Any]] = self.load_annotations(
            self._local(self.ann_file, 'ann_file'))
        self.proposals = None
        if self.proposal_file is not None:
            self.proposals = self.load_proposals(self._local(self.proposal_file, 'proposal_file'))
        self.filter_counts: Dict[str, int] = {}  # reason -> dropped images; filled by _filter_imgs
        if not test_mode:
            self._apply_filter()
        self._set_group_flag()
        self.pipeline = Compose(pipeline)
        if not test_mode:
            self._check_loaded()

    def _check_loaded(self) -> None:
        """Raise errors after loading that the pipeline would only find at an image; nothing here."""

    def _under_root(self, path: Optional[str]) -> Optional[str]:
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise DataError(
                f'{type(self).__name__}: {path!r:.80} is not a path; write it as a string')
        if path is None or self.data_root is None or osp.isabs(path):
            return path
        return osp.join(self.data_root, path)

    def _local(self, path: str, key: str) -> str:
        """Return a path that can be opened locally; files on another storage are fetched first."""
        if self.file_client_args.get('backend', 'disk') != 'disk':
            from mmengine.fileio import FileClient
            with FileClient(**self.file_client_args).get_local_path(path) as local:
                return str(local)
        if path is None:
            raise DataError(
                f'{type(self).__name__}: {key} is None; name the file in data.train, data.val or data.test'
            )
        if not osp.isfile(path):
            root = f" (data_root is {self.data_root!r})" if self.data_root is not None else ''
            what = f'is a folder, not a file{describe_folder(path)}' if osp.isdir(
                path) else 'is not there'
            raise FileNotFoundError(
                f'{type(self).__name__}: {key} {path!r} {what}{root}{nearest_file(path)}; '
                f'correct the path in data.train, data.val or data.test of the config'
                f'{self.MADE_BY}')
        return path

    def _apply_filter(self) -> None:
        num_images = len(self.data_infos)
        self._drop_useless_boxes()
        valid = self._filter_imgs()
        infos = self.data_infos
        self.data_infos = infos.take(valid) if hasattr(infos, 'take') else [infos[i] for i in valid]
        if self.proposals is not None:
            self.proposals = [self.proposals[i] for i in valid]
        removed = ', '.join(f'{count} {reason}' for reason, count in self.filter_counts.items()
                            if count)
        if not valid:
            hint = 'the file lists no image'
            if num_images:
                hint = (
                    f'of its {num_images} images all are left out: {removed}. Check `classes` against the file '
                    f'({self._describe_classes()}), or set filter_empty_gt=False to train on images without boxes'
                )
                ignored = self._num_ignored(infos)
                if ignored:
                    hint += (
                        f'; {ignored} objects are marked as to be ignored (difficult, DontCare, bboxes_ignore): '
                        f'take the mark from those to be learned')
            raise DataError(
                f'{type(self).__name__}: no image to train on in {self.ann_file!r}: {hint}')
        if removed:
            self._warn(
                f'{len(valid)} of {num_images} images are used for training; left out: {removed}',
                logging.INFO)

    @staticmethod
    def _num_ignored(infos: Sequence[Dict[str, Any]]) -> int:
        annotations = [info.get('ann') for info in infos]
        return sum(
            len(annotation['bboxes_ignore']) for annotation in annotations
            if isinstance(annotation, dict) and annotation.get('bboxes_ignore') is not None)

    def _drop_useless_boxes(self) -> None:
        """Remove boxes without area or wholly outside their image from the records, and report how many.

        This covers only the records of `load_annotations`: the logarithms of such boxes would be
        infinite, and so would V2's loss. Raises DataError where boxes are outside because the
        listed size is not that of the image.
        """
        counts, examples = np.zeros(2, dtype=np.int64), []  # boxes, useless ones

        def clean(info: Dict[str, Any]) -> Dict[str, Any]:
            annotation = info.get('ann')
            if not isinstance(annotation, dict) or annotation.get('bboxes') is None:
                return info
            boxes = np.asarray(annotation['bboxes'], dtype=np.float32).reshape(-1, 4)
            low = np.maximum(boxes[:, :2], 0)
            high = np.minimum(boxes[:, 2:], [info.get('width', np.inf), info.get('height', np.inf)])
            useful = np.isfinite(boxes).all(1) & (boxes[:, 2:]
                                                  > boxes[:, :2]).all(1) & (high > low).all(1)
            counts[:] += len(boxes), (~useful).sum()
            if useful.all():
                return info
            self._check_listed_size(info, boxes)
            examples.append(info.get('filename'))
            for key in ('bboxes', 'labels', 'masks'):
                if annotation.get(key) is not None and len(annotation[key]) == len(useful):
                    annotation[key] = [item for item, keep in zip(annotation[key], useful) if keep] \
                        if isinstance(annotation[key], (list, tuple)) else annotation[key][useful]
            return info

        # a list of a user's own load_annotations stays a list: the user's code may write to it
        infos = map(clean, self.data_infos)
        self.data_infos = PackedList(infos) if isinstance(self.data_infos,
                                                          PackedList) else list(infos)
        num_boxes, num_useless = counts.tolist()
        if num_useless:
            self._warn(
                f'of {num_boxes} boxes {num_useless} without area or wholly outside their image are left out '
                f'(in {", ".join(map(repr, examples[:3]))}{" ..." if len(examples) > 3 else ""})')

    def _check_listed_size(self, info: Dict[str, Any], boxes: np.ndarray) -> None:
        """Raise DataError where boxes exceed the listed image size and fit the actual one."""
        listed = info.get('width'), info.get('height')
        if not all(listed) or not isinstance(info.get('filename'), str):
            return
        try:
            head = read_head(osp.join(self.img_prefix or '', info['filename']))
        except (OSError, DataError):  # reported when the images are checked
            return
        if head.size != listed and choose_fitting_size(boxes, listed, head.size) == 'loaded':
            found = mismatch(listed, head.size, head.orientation, 'loaded')
            raise DataError(
                f'{type(self).__name__} {self.ann_file}: image {info["filename"]!r} is annotated as {listed[0]} x '
                f'{listed[1]} (width x height), it is {head.size[0]} x {head.size[1]}: {found.text}. To fix: '
                f'{found.fix}')

    def _warn(self, message: str, level: int = logging.WARNING) -> None:
        """Log a message about the annotation file."""
        logging.getLogger('mmdet_ft').log(level,
                                          f'{type(self).__name__} {self.ann_file}: {message}')

    def _describe_classes(self) -> str:
        names = list(self.CLASSES or [])
        return ', '.join(map(
            str, names[:10])) + (f', ... {len(names)} in all' if len(names) > 10 else '')

    def __len__(self) -> int:
        return len(self.data_infos)

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Load one dict per image from the annotation file; at least filename, width, height."""
        if ann_file.endswith('.json'):
            with open(ann_file, 'rb') as file:
                infos = parse_json(file.read(), ann_file)
        else:
            infos = load_pickle(ann_file)
        if not isinstance(infos, list):
            is_coco = isinstance(infos, dict) and 'images' in infos
            raise DataError(
                f'{ann_file}: CustomDataset expects a list with one dict per image, found a '
                f'{type(infos).__name__}; {"this is" if is_coco else "a"} COCO json is read by '
                f"type='CocoDataset'")
        return PackedList(
            self._convert_middle_record(info, f'{ann_file}: image {index}')
            for index, info in enumerate(infos))

    def _convert_middle_record(self, info: object, where: str) -> Dict[str, Any]:
        """Return an entry of V2's middle format with arrays; `where` begins the message about a bad one."""
        if not isinstance(info, dict):
            raise DataError(
                f'{where} is {format_value(info)}, expected a dict with filename, width, height and ann'
            )
        try:
            name = read_name(info.get('filename'))
        except ValueError as error:
            raise DataError(f'{where} has no filename: it {error}') from None
        where = f'{where} ({name!r:.100})'
        try:
            size = read_size(info.get('width'), info.get('height'))
        except ValueError as error:
            raise DataError(f'{where}: {error}') from None
        record = {key: value for key, value in info.items() if key not in ('width', 'height')}
        if size is not None:
            record.update(width=size[0], height=size[1])
        if 'ann' not in info:
            return record
        annotation = {} if info['ann'] is None else info['ann']
        if not isinstance(annotation, dict):
            raise DataError(
                f'{where}: ann is {format_value(annotation)}, expected a dict of bboxes and labels')
        annotation = dict(annotation)
        missing = [f'ann.{key}' for key in ('bboxes', 'labels') if annotation.get(key) is None]
        if missing:
            raise DataError(f'{where} has no {" and no ".join(missing)}')
        for key, dtype, shape in (('bboxes', np.float32, (-1, 4)), ('labels', np.int64, (-1, )),
                                  ('bboxes_ignore', np.float32, (-1, 4)), ('labels_ignore',
                                                                           np.int64, (-1, ))):
            try:
                if annotation.get(key) is not None:
                    annotation[key] = _array(annotation[key], dtype).reshape(shape)
            except (ValueError, TypeError, OverflowError) as error:
                raise DataError(
                    f'{where}: ann.{key} is not an array of shape {shape}: {error}') from error
        labels = annotation['labels']
        if len(labels) != len(annotation['bboxes']):
            raise DataError(
                f'{where} has {len(annotation["bboxes"])} bboxes and {len(labels)} labels')
        ignored, their_labels = annotation.get('bboxes_ignore'), annotation.get('labels_ignore')
        if their_labels is not None and len(their_labels) != (0
                                                              if ignored is None else len(ignored)):
            raise DataError(
                f'{where} has {0 if ignored is None else len(ignored)} bboxes_ignore and {len(their_labels)} '
                'labels_ignore; write one label for each box, or leave labels_ignore out')
        number = len(self.CLASSES) if self.CLASSES is not None else None
        if len(labels) and not (0 <= labels.min() and (number is None or labels.max() < number)):
            fix = 'labels below 0 are none: correct them, or move what is to be ignored to bboxes_ignore'
            if labels.min() >= 0:
                fix = f'name all {labels.max() + 1} classes in `classes`, in the order of the labels'
                if labels.max() == number:
                    fix += ', or subtract 1 from all labels where they count from 1'
            raise DataError(
                f'{where} has the labels {sorted(set(labels.tolist()))[:10]}; they count from 0, and '
                f'`classes` names {len(self.CLASSES or ())}: {self._describe_classes()}. To fix: {fix}'
            )
        return {**record, 'ann': annotation}

    def load_proposals(self, proposal_file: str) -> List[np.ndarray]:
        """Read an array of boxes [n, 4], or [n, 5] with scores, for each image of the annotation file.

        Raises DataError for another content.
        """
        proposals = load_pickle(proposal_file)
        fix = (
            'To fix: write the file with the config of an RPN, and the same ann_file in its data.test: '
            f'{how_to_run("test")} CONFIG CHECKPOINT --out FILE.pkl')
        if not isinstance(proposals, list) or len(proposals) != len(self.data_infos):
            found = f'{len(proposals)} entries' if isinstance(proposals,
                                                              list) else format_value(proposals)
            raise DataError(
                f'{type(self).__name__}: proposal_file {proposal_file!r} has {found}, expected a list '
                f'with one for each of the {len(self.data_infos)} images of {self.ann_file!r}. {fix}'
            )
        for index, boxes in enumerate(proposals):
            if not isinstance(boxes, np.ndarray) or boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
                raise DataError(
                    f'{type(self).__name__}: proposal_file {proposal_file!r} has {format_value(boxes)} '
                    f'for image {index}, expected an array [n, 4] or [n, 5]. {fix}')
        return proposals

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return an annotation file of some images, with all their objects; the dataset is in test_mode."""
        raise DataError(f'{type(self).__name__} cannot be split; write lists of train and val')

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        """Return the annotations of sample `idx`: bboxes, labels, bboxes_ignore, and masks where there are any.

        Raises DataError for an image without `ann`, as in a list to predict on.
        """
        info = self.data_infos[idx]
        if 'ann' not in info:
            raise DataError(
                f'{self.ann_file}: image {idx} ({info.get("filename")!r:.100}) has no ann, that is no bboxes and labels'
            )
        return info['ann']

    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the categories of the boxes of sample `idx`, one entry per box."""
        return np.asarray(self.get_ann_info(idx)['labels']).astype(int).tolist()

    def pre_pipeline(self, results: Dict[str, Any]) -> None:
        """Add the initial fields of every pipeline; `ann_file` is for messages."""
        results['img_prefix'] = self.img_prefix
        results['seg_prefix'] = self.seg_prefix
        results['proposal_file'] = self.proposal_file
        results['ann_file'] = self.ann_file
        results['bbox_fields'] = []
        results['mask_fields'] = []
        results['seg_fields'] = []

    def _filter_imgs(self, min_size: int = 32) -> List[int]:
        """Return the indices of the images to train on: both sides of at least `min_size` pixels, and with boxes."""
        valid, small, empty = [], 0, 0
        for index, info in enumerate(self.data_infos):
            missing = [key for key in ('width', 'height') if not info.get(key)]
            if missing:
                raise DataError(
                    f'{self.ann_file}: image {index} ({info.get("filename")!r:.100}) has no '
                    f'{" and no ".join(missing)}')
            if 'ann' not in info and type(self).get_ann_info is CustomDataset.get_ann_info:
                self.get_ann_info(
                    index)  # raises for a missing `ann`; a user's own dataset may work without it
            if min(info['width'], info['height']) < min_size:
                small += 1
            elif self.filter_empty_gt and self._is_empty(index, info):
                empty += 1
            else:
                valid.append(index)
        self.filter_counts = {
            f'smaller than {min_size} pixels': small,
            'without a box (filter_empty_gt)': empty
        }
        return valid

    def _is_empty(self, index: int, info: Dict[str, Any]) -> bool:
        return 'ann' in info and not len(info['ann']['labels'])

    def _set_group_flag(self) -> None:
        """Set group 1 for images wider than high, 0 for others: a batch comes from one group."""
        self.flag = np.zeros(len(self), dtype=np.uint8)
        for index, info in enumerate(self.data_infos):
            if info.get('width', 1) / info.get('height', 1) > 1:
                self.flag[index] = 1

    def _rand_another(self, idx: int) -> int:
        return int(np.random.choice(np.flatnonzero(self.flag == self.flag[idx])))

    def __getitem__(self, idx: int) -> Dict[str, Any]:
        """Return the sample at index `idx`; in training another of its group while the pipeline returns None."""
        idx = int(idx)
        if self.test_mode:
            return self.prepare_test_img(idx)
        for _ in range(1000):
            data = self.prepare_train_img(idx)
            if data is not None:
                return data
            idx = self._rand_another(idx)
        raise DataError(
            f'{type(self).__name__}: the pipeline gave None for 1000 images in a row, the last time in '
            f'{getattr(self.pipeline, "ended_by", None)}: a crop or a filter that finds no box, or a transform of your '
            f'own without `return results` at its end')

    def _raw(self, idx: int) -> Dict[str, Any]:
        results = dict(img_info=self.data_infos[idx])
        if self.proposals is not None:
            results['proposals'] = self.proposals[idx]
        self.pre_pipeline(results)
        return results

    def prepare_train_img(self, idx: int) -> Optional[Dict[str, Any]]:
        """Run sample `idx` with its annotations through the pipeline; None when a transform rejects it."""
        results = self._raw(idx)
        results['ann_info'] = self.get_ann_info(idx)
        return self.pipeline(results)

    def prepare_test_img(self, idx: int) -> Dict[str, Any]:
        """Run sample `idx` without its annotations through the pipeline."""
        sample = self.pipeline(self._raw(idx))
        check_given(sample, self.pipeline, repr(self.data_infos[idx].get('filename')))
        return sample

    @classmethod
    def get_classes(cls,
                    classes: Union[str, Sequence[str], None] = None) -> Optional[Sequence[str]]:
        """Return the class names: given, read from a file of one name per line, or the class's own."""
        if classes is None:
            return cls.CLASSES
        if isinstance(classes, str):
            if not osp.isfile(classes):
                raise FileNotFoundError(
                    f'classes={classes!r} is taken as a text file with one name a line, and there '
                    f'is none; for a single class write classes=({classes!r}, )')
            classes = [line.strip() for line in read_lines(classes) if line.strip()]
        if not isinstance(classes, (tuple, list)):
            raise DataError(
                f'classes is a list or tuple of names, or a text file; found a {type(classes).__name__}'
            )
        for name in classes:
            if not isinstance(name, str):
                word = {True: 'yes', False: 'no'}[name] if isinstance(name, bool) else name
                raise DataError(
                    f'classes names {name!r}, which is a {type(name).__name__}, not a text; write it in quotes: '
                    f'{str(word)!r:.80}')
        forms = [composed(name) for name in classes]
        double = sorted({name for name in classes if forms.count(composed(name)) > 1})
        if double:
            raise DataError(f'classes names {", ".join(map(repr, double))} twice')
        return classes

    def get_cat2imgs(self) -> Dict[int, List[int]]:
        """Return for each label the indices of the images that show it."""
        if self.CLASSES is None:
            raise ValueError('get_cat2imgs needs CLASSES; give classes=(...) to the dataset')
        indices: Dict[int, List[int]] = {label: [] for label in range(len(self.CLASSES))}
        for index in range(len(self)):
            for label in sorted(set(self._labels(index))):
                indices[label].append(index)
        return indices

    def _labels(self, idx: int) -> List[int]:
        return self.get_cat_ids(idx)

    def format_results(self, results: List[Any], jsonfile_prefix: Optional[str] = None):
        """Write results to files in the dataset's own format; nothing here."""

    def check_metrics(self, metric: Union[str, Sequence[str], None] = None) -> None:
        """Raise DataError for a metric that `evaluate` does not know, before anything is computed."""
        self.check_names_of_metrics(metric)

    @classmethod
    def check_names_of_metrics(cls, metric: Union[str, Sequence[str], None]) -> None:
        """Raise DataError for a metric that no dataset of this class knows.

        If a class overrides `evaluate` but not METRICS, its metrics are not checked.
        """
        owners = [
            next(owner for owner in cls.__mro__ if name in vars(owner))
            for name in ('METRICS', 'evaluate')
        ]
        if metric is None or not issubclass(*owners):
            return
        unknown = [
            name for name in ([metric] if isinstance(metric, str) else metric)
            if name not in cls.METRICS
        ]
        if unknown:
            apart = [name.strip() for name in ','.join(unknown).split(',')]
            hint = f'; write {apart!r}, --eval {" ".join(apart)}' if len(apart) > len(
                unknown) else ''
            raise DataError(
                f'evaluation.metric={metric!r} (--eval): {cls.__name__} does not know '
                f'{", ".join(map(repr, unknown))}; there are {", ".join(cls.METRICS)}{hint}')

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'mAP',
                 logger: LoggerLike = None,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thr: Union[float, List[float]] = 0.5,
                 scale_ranges: Optional[List[Tuple[int, int]]] = None) -> Dict[str, float]:
        """Evaluate VOC's metrics on the results of all images, in the order of the dataset.

        Args:
            results: per image a list over classes of arrays [n, 5] (x1 y1 x2 y2 score in original
                pixels), or a tuple (boxes, masks); for proposals one array [n, 5].
            metric: 'mAP' or 'recall', alone or in a list.
            logger: a logger, its name, None for print, 'silent'.
            proposal_nums: numbers of boxes per image, for recall.
            iou_thr: smallest IoU of a correct detection; several give an AP each, and their mean.
            scale_ranges: ranges (from, below) of the square root of the area, each with an AP of
                its own; requires a single iou_thr.

        Returns V2's keys: `mAP` and `AP50` (rounded to three decimals) and so on; `recall@100@0.5`
        and, with several thresholds, `AR@100`.
        """
        return self._evaluate_boxes(results, metric, logger, proposal_nums, iou_thr, scale_ranges)

    def _evaluate_boxes(self,
                        results: List[Any],
                        metric: Union[str, List[str]],
                        logger: LoggerLike,
                        proposal_nums: Sequence[int],
                        iou_thr: Union[float, List[float]],
                        scale_ranges: Optional[List[Tuple[int, int]]] = None,
                        mode: str = 'area',
                        use_legacy_coordinate: bool = False) -> Dict[str, Any]:
        if not isinstance(metric, str) and len(metric) == 1:
            metric = metric[0]
        if metric not in ('mAP', 'recall'):
            raise KeyError(f'metric {metric!r} is not supported by {type(self).__name__}; '
                           f"there are 'mAP' and 'recall', one at a time")
        self._check_results(results)
        iou_thrs = [iou_thr] if isinstance(iou_thr, (int, float)) else list(iou_thr)
        annotations = [self.get_ann_info(index) for index in range(len(self))]
        if metric == 'recall':
            return evaluate_recall(results, annotations, proposal_nums, iou_thrs,
                                   use_legacy_coordinate)
        return evaluate_map(results, annotations, self.CLASSES, iou_thrs, scale_ranges, mode,
                            use_legacy_coordinate, logger)

    def _check_results(self, results: List[Any]) -> None:
        if not isinstance(results, list) or len(results) != len(self):
            count = f'{len(results)} results' if isinstance(results,
                                                            list) else f'a {type(results).__name__}'
            raise DataError(
                f'{count} for the {len(self)} images of {self.ann_file}; they have to be a list with one '
                f'entry per image, in the order of the dataset')

    def __repr__(self) -> str:
        kind = 'Test' if self.test_mode else 'Train'
        return (f'{type(self).__name__} {kind} dataset with number of images {len(self)}, '
                f'ann_file={self.ann_file!r}, classes: {self._describe_classes()}')


def _array(value: object, dtype: DTypeLike) -> np.ndarray:
    """Convert to an array of numbers; raise ValueError for labels that are not whole numbers."""
    array = np.asarray(value)
    if array.size and array.dtype.kind not in 'iufU':
        raise ValueError(f'it holds {format_value(value)}')
    if array.dtype.kind == 'U' or not array.size:
        array = array.astype(np.float64)
    with np.errstate(over='ignore'):
        if np.issubdtype(
                dtype,
                np.integer) and array.dtype.kind == 'f' and not (np.isfinite(array) &
                                                                 (array == np.floor(array)) &
                                                                 (np.abs(array) < 2**62)).all():
            raise ValueError(f'{format_value(value)} are no whole numbers')
        return array.astype(dtype)
