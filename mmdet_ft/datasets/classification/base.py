"""The base of all classification datasets: V2's BaseDataset."""
import os
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.detection.custom import CustomDataset as DetectionDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.shared.compose import Compose, check_given
from mmdet_ft.evaluation.classification import evaluate_scores, read_metrics
from mmdet_ft.evaluation.table_output import LoggerLike


class ImageRecords:
    """Images in one array: a read-only list of V2's dicts, each made on access.

    Args:
        images: uint8 [N, H, W] or [N, H, W, 3] (BGR).
        labels: int64 [N].
        source: the file of the images, for messages about one of them.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, source: str):
        self.images = images
        self.labels = labels
        self.source = source

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, idx: int) -> Dict[str, Any]:
        image = self.images[idx].copy()  # transforms may write into it
        return dict(
            img=image,
            gt_label=np.array(self.labels[idx]),
            filename=None,  # an image without a file of its own
            ori_filename=f'{self.source}#{idx}',
            img_shape=image.shape,
            ori_shape=image.shape)


class FileRecords:
    """Images in files: a read-only list of V2's dicts, each made on access.

    Args:
        prefix: folder of all of them.
        names: file names below it.
        labels: int64 [N].
    """

    def __init__(self, prefix: str, names: Sequence[str], labels: np.ndarray):
        self.prefix = prefix
        self.names = PackedList(names)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, idx: int) -> Dict[str, Any]:
        return dict(
            img_prefix=self.prefix,
            img_info=dict(filename=self.names[idx]),
            gt_label=np.array(self.labels[idx]))


class ClassificationDataset:
    """Images with one label each; the base class of the others.

    Args:
        data_prefix: folder of the data.
        pipeline: transforms, dicts or callables. They begin with `img` (or `img_prefix` and `img_info`) and
            `gt_label`, an int64 array without axes.
        classes: class names (list or tuple), or a text file with one name per line; default:
            CLASSES.
        ann_file: annotation file, for datasets that have one.
        test_mode: read the test files, where training and test files are in one folder.

    A subclass defines `load_annotations()`, which returns V2's list of dicts.
    """

    CLASSES: Optional[Sequence[str]] = None
    PALETTE = None
    image_files: Dict[str, Any] = {
    }  # how LoadImageFromFile has to read a file to match the images of the dataset
    truth_in_test_mode = True  # samples have their label; pipelines choose whether to collect it
    evaluated_in_batches = True  # of data.samples_per_gpu images, as in training

    def __init__(self,
                 data_prefix: str,
                 pipeline: Sequence[Any],
                 classes: Union[str, Sequence[str], None] = None,
                 ann_file: Optional[str] = None,
                 test_mode: bool = False):
        for key, path in (('data_prefix', data_prefix), ('ann_file', ann_file)):
            if not isinstance(path,
                              (str, os.PathLike)) and not (key == 'ann_file' and path is None):
                raise DataError(f'{type(self).__name__}: {key} is {path!r:.80}, expected a path')
        self.data_prefix = osp.expanduser(data_prefix)
        self.ann_file = None if ann_file is None else osp.expanduser(ann_file)
        self.test_mode = test_mode
        self.CLASSES = self.get_classes(classes)
        self.data_infos: Sequence[Dict[str, Any]] = self.load_annotations()
        self.pipeline = Compose(pipeline)

    @classmethod
    def get_classes(cls,
                    classes: Union[str, Sequence[str], None] = None) -> Optional[Sequence[str]]:
        """Return the class names: given, read from a file of one name per line, or the class's own."""
        return cls.CLASSES if classes is None else DetectionDataset.get_classes(classes)

    def load_annotations(self) -> Sequence[Dict[str, Any]]:
        raise NotImplementedError(f'{type(self).__name__} has no load_annotations')

    def __len__(self) -> int:
        return len(self.data_infos)

    def prepare_data(self, idx: int) -> Any:
        """Run sample `idx` through the pipeline."""
        sample = self.pipeline(dict(self.data_infos[idx]))
        check_given(sample, self.pipeline, f'sample {idx}')
        return sample

    def __getitem__(self, idx: int) -> Any:
        return self.prepare_data(int(idx))

    @property
    def class_to_idx(self) -> Dict[str, int]:
        """Return class name -> label."""
        return {name: label for label, name in enumerate(self.CLASSES)}

    def get_gt_labels(self) -> np.ndarray:
        """Return the label of every image, int64 [N]."""
        labels = getattr(self.data_infos, 'labels', None)
        if labels is None:
            labels = np.array([info['gt_label'] for info in self.data_infos])
        return labels

    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the label of image `idx` as a list, for ClassBalancedDataset."""
        return [int(self.data_infos[idx]['gt_label'])]

    def evaluate(self,
                 results: Sequence[np.ndarray],
                 metric: Union[str, Sequence[str]] = 'accuracy',
                 metric_options: Optional[Dict[str, Any]] = None,
                 indices: Optional[Sequence[int]] = None,
                 logger: LoggerLike = None) -> Dict[str, Any]:
        """Evaluate V2's metrics on scores, one array [K] per image; see `evaluate_scores`.

        Args:
            results: scores of every image, or of those at `indices`.
            metric: accuracy, precision, recall, f1_score, support, confusion_matrix, or a list of them.
            metric_options: topk (1, 5), thrs (0 or a tuple), average_mode ('macro' or 'none').
        """
        self.check_metrics(metric, metric_options)
        labels = self.get_gt_labels()
        return evaluate_scores(
            np.vstack(results), labels if indices is None else labels[np.asarray(indices)], metric,
            metric_options, self.CLASSES, logger)

    @staticmethod
    def check_metrics(metric: Union[str, Sequence[str]] = 'accuracy',
                      metric_options: Optional[Dict[str, Any]] = None) -> None:
        """Raise DataError for arguments that `evaluate` would not accept, before training."""
        try:
            read_metrics(metric, metric_options)
        except ValueError as error:
            raise DataError(f'evaluation: {error}') from error

    @classmethod
    def check_names_of_metrics(cls, metric: Union[str, Sequence[str], None]) -> None:
        """Raise DataError for a metric that no dataset of this class knows."""
        if metric is not None and cls.evaluate is ClassificationDataset.evaluate:
            cls.check_metrics(metric)

    def result_items(self, results: Sequence[np.ndarray]) -> Dict[str, Any]:
        """Return V2's result columns: class_scores [N, K], pred_score [N], pred_label [N], pred_class (names)."""
        scores = np.vstack(results)
        labels = scores.argmax(1)
        names = self.CLASSES or ()  # fewer than scores where a class folder is missing
        classes = [names[label] if label < len(names) else int(label) for label in labels]
        return dict(
            class_scores=scores, pred_score=scores.max(1), pred_label=labels, pred_class=classes)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__} {"Test" if self.test_mode else "Train"} dataset with number of images '
            f'{len(self)}, data_prefix={self.data_prefix!r}, {len(self.CLASSES or ())} classes')
