"""Dataset wrappers, which nest in any order."""
import bisect
import copy
import inspect
import math
from collections import Counter
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.shared.compose import apply, defer_normalize
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.evaluation.table_output import LoggerLike, print_log
from mmdet_ft.registry import DATASETS, PIPELINES


def check_options(dataset: Dataset, options: Dict[str, Any]) -> None:
    """Pass the arguments of `evaluate` that a dataset's `check_metrics` accepts to it; it raises DataError."""
    check = getattr(dataset, 'check_metrics', None)
    if check is None:
        return
    parameters = inspect.signature(check).parameters
    takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    check(**{key: value for key, value in options.items() if takes_all or key in parameters})


def _flags(dataset: Dataset) -> Any:
    return getattr(dataset, 'flag', None)


@DATASETS.register_module()
class ConcatDataset:
    """A concatenation of several datasets.

    Args:
        datasets: datasets with the same CLASSES.
        separate_eval: evaluate each dataset separately, with its number as the key's prefix
            ('0_bbox_mAP'). False evaluates all by the first one's rule, where possible (not for
            COCO files).
    """

    def __init__(self, datasets: Sequence[Any], separate_eval: bool = True):
        if not datasets:
            raise DataError('ConcatDataset needs at least one dataset')
        self.datasets = list(datasets)
        self.cumulative_sizes = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()
        self.CLASSES = self.datasets[0].CLASSES
        self.PALETTE = getattr(self.datasets[0], 'PALETTE', None)
        for index, dataset in enumerate(self.datasets):
            if self.CLASSES is not None and list(dataset.CLASSES or ()) != list(self.CLASSES):
                raise DataError(
                    f'ConcatDataset: dataset {index} has the classes {list(dataset.CLASSES or ())}, the '
                    f'first one has {list(self.CLASSES)}; a label would mean two things. Give all the '
                    f'same classes=(...)')
        self.separate_eval = separate_eval
        if not separate_eval:
            self._check_joint_evaluation()
        flags = [_flags(dataset) for dataset in self.datasets]
        if all(flag is not None for flag in flags):
            self.flag = np.concatenate(flags)

    def _check_joint_evaluation(self) -> None:
        from mmdet_ft.datasets.detection.coco import CocoDataset
        if any(isinstance(dataset, CocoDataset) for dataset in self.datasets):
            raise DataError(
                'ConcatDataset: evaluating joined COCO datasets as a whole is not supported; write '
                'separate_eval=True')
        if len({type(dataset) for dataset in self.datasets}) != 1:
            raise DataError('ConcatDataset: separate_eval=False needs datasets of one type; write '
                            'separate_eval=True')

    def _locate(self, idx: int) -> Tuple[Any, int]:
        if not -len(self) <= idx < len(self):
            raise IndexError(f'{idx} in a dataset of {len(self)}')
        idx = int(idx) % len(self)
        index = bisect.bisect_right(self.cumulative_sizes, idx)
        return self.datasets[index], idx - (self.cumulative_sizes[index - 1] if index else 0)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, idx: int) -> Any:
        dataset, index = self._locate(idx)
        return dataset[index]

    def get_cat_ids(self, idx: int) -> List[int]:
        dataset, index = self._locate(idx)
        return dataset.get_cat_ids(index)

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        dataset, index = self._locate(idx)
        return dataset.get_ann_info(index)

    def check_metrics(self, **options: Any) -> None:
        for dataset in self.datasets:
            check_options(dataset, options)

    def evaluate(self,
                 results: List[Any],
                 logger: LoggerLike = None,
                 **options: Any) -> Dict[str, Any]:
        """Return the metrics of the parts; `options` are the arguments of their evaluate."""
        if len(results) != len(self):
            raise ValueError(f'{len(results)} results for {len(self)} images')
        if not self.separate_eval:
            self._check_joint_evaluation()
            first = self.datasets[0]
            own = first.data_infos
            try:
                first.data_infos = [
                    info for dataset in self.datasets for info in dataset.data_infos
                ]
                return first.evaluate(results, logger=logger, **options)
            finally:
                first.data_infos = own
        values: Dict[str, Any] = {}
        begin = 0
        for index, (end, dataset) in enumerate(zip(self.cumulative_sizes, self.datasets)):
            name = getattr(dataset, 'ann_file', None) or type(dataset).__name__
            print_log(f'\nEvaluating {name} with {end - begin} images now', logger=logger)
            part = dataset.evaluate(results[begin:end], logger=logger, **options)
            values.update({f'{index}_{key}': value for key, value in part.items()})
            begin = end
        return values


class _IndexedDataset:
    """Base of the wrappers that index one dataset by a list."""

    def __init__(self, dataset: Any, indices: np.ndarray):
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        self.CLASSES = dataset.CLASSES
        self.PALETTE = getattr(dataset, 'PALETTE', None)
        if _flags(dataset) is not None:
            self.flag = np.asarray(dataset.flag)[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, idx: int) -> Any:
        return self.dataset[int(self.indices[idx])]

    def get_cat_ids(self, idx: int) -> List[int]:
        return self.dataset.get_cat_ids(int(self.indices[idx]))

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        return self.dataset.get_ann_info(int(self.indices[idx]))


@DATASETS.register_module()
class RepeatDataset(_IndexedDataset):
    """A dataset repeated `times` times, so that an epoch of a small one lasts longer."""

    def __init__(self, dataset: Any, times: int):
        self.check_arguments(times=times)
        super().__init__(dataset, np.tile(np.arange(len(dataset)), times))
        self.times = times

    @staticmethod
    def check_arguments(times: object = None, **others: Any) -> None:
        """Raise DataError for an invalid number of times; check_data calls this without building anything."""
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise DataError(
                f'RepeatDataset: times={times!r} is how often an epoch sees each image, '
                f'a whole number from 1; write times=8')


@DATASETS.register_module()
class ClassBalancedDataset(_IndexedDataset):
    """A dataset that repeats images of rare classes (LVIS, arXiv:1908.03195, appendix B).

    An image is repeated ceil(max over its classes of max(1, sqrt(oversample_thr / f(c)))) times,
    where f(c) is the fraction of images with class c.

    Args:
        dataset: a dataset with get_cat_ids.
        oversample_thr: fraction of images from which on a class is not rare.
        filter_empty_gt: use images without objects once; otherwise they count as a separate class.
    """

    def __init__(self, dataset: Any, oversample_thr: float, filter_empty_gt: bool = True):
        self.check_arguments(oversample_thr=oversample_thr)
        if not hasattr(dataset, 'get_cat_ids'):
            raise DataError(
                f'ClassBalancedDataset: {dataset_name(dataset)} has no get_cat_ids(idx), which returns the '
                f'classes of an image; give it one')
        self.oversample_thr = oversample_thr
        self.filter_empty_gt = filter_empty_gt
        shown = [set(dataset.get_cat_ids(idx)) for idx in range(len(dataset))]
        if not filter_empty_gt:
            shown = [categories or {None} for categories in shown]
        images = Counter(category for categories in shown for category in categories)
        factor = {
            category: max(1.0, math.sqrt(oversample_thr / (count / len(dataset))))
            for category, count in images.items()
        }
        times = [
            math.ceil(max((factor[category] for category in categories), default=1))
            for categories in shown
        ]
        super().__init__(dataset, np.repeat(np.arange(len(dataset)), times))
        self.repeat_indices = self.indices.tolist()

    @staticmethod
    def check_arguments(oversample_thr: object = None, **others: Any) -> None:
        """Raise DataError for an invalid fraction; check_data calls this without building anything."""
        if not isinstance(oversample_thr, (int, float)) or not 0 < oversample_thr < math.inf:
            raise DataError(
                f'ClassBalancedDataset: oversample_thr={oversample_thr!r} is the share of images below '
                f'which a class is rare; write oversample_thr=0.001')


@DATASETS.register_module()
class MultiImageMixDataset(_IndexedDataset):
    """A dataset whose samples may mix several images: for Mosaic, MixUp and similar transforms.

    A transform with a method `get_indexes(dataset)` receives the samples of these indices in
    `results['mix_results']`.

    Args:
        dataset: the dataset to mix; its own pipeline loads images and annotations.
        pipeline: transforms of the samples.
        dynamic_scale: refused, as in V2; use Resize.
        skip_type_keys: types of transforms to skip.
        max_refetch: how often to retry a pipeline that returns None, before a RuntimeError.
    """

    def __init__(self,
                 dataset: Any,
                 pipeline: Sequence[Any],
                 dynamic_scale: Optional[Tuple[int, int]] = None,
                 skip_type_keys: Optional[Sequence[str]] = None,
                 max_refetch: int = 15):
        if dynamic_scale is not None:
            raise ValueError(
                f'MultiImageMixDataset: dynamic_scale={dynamic_scale} is gone since V2.17; put '
                f"dict(type='Resize', img_scale=..., keep_ratio=True) into its pipeline")
        if isinstance(pipeline, (str, bytes, dict)) or not isinstance(pipeline, Sequence):
            raise TypeError(f'a pipeline is a list of transforms, not a {type(pipeline).__name__}')
        super().__init__(dataset, np.arange(len(dataset)))
        self.num_samples = len(dataset)
        self.max_refetch = max_refetch
        self._skip_type_keys: Optional[Tuple[str, ...]] = None
        if skip_type_keys is not None:
            self.update_skip_type_keys(skip_type_keys)
        built = [PIPELINES.build(transform) for transform in pipeline]
        self.pipeline_types = [
            str(transform['type']) if isinstance(transform, dict)
            and not callable(transform['type']) else type(made).__name__
            for transform, made in zip(pipeline, built)
        ]
        self.pipeline = defer_normalize(built)

    def update_skip_type_keys(self, skip_type_keys: Sequence[str]) -> None:
        """Set other transforms to skip, from the next sample on, in this process only."""
        if isinstance(skip_type_keys,
                      str) or not all(isinstance(key, str) for key in skip_type_keys):
            raise TypeError(
                f"skip_type_keys is a list of types like ['Mosaic', 'MixUp'], found {skip_type_keys!r}"
            )
        self._skip_type_keys = tuple(skip_type_keys)

    def __getitem__(self, idx: int) -> Any:
        results = self.dataset[idx]
        for transform, kind in zip(self.pipeline, self.pipeline_types):
            if kind in (self._skip_type_keys or ()):
                continue
            if hasattr(transform, 'get_indexes'):
                results = {**results, 'mix_results': self._others(transform)}
            results = self._apply(transform, results)
            results.pop('mix_results', None)
        return results

    def _others(self, transform: Any) -> List[Any]:
        for _ in range(self.max_refetch):
            indices = transform.get_indexes(self.dataset)
            if not isinstance(indices, Sequence):
                indices = [indices]
            others = [self.dataset[index] for index in indices]
            if all(other is not None for other in others):
                return others
        raise RuntimeError(
            f'MultiImageMixDataset: the pipeline of the inner dataset gave None {self.max_refetch} '
            f'times for what {type(transform).__name__} mixes in')

    def _apply(self, transform: Callable[..., Any], results: Dict[str, Any]) -> Dict[str, Any]:
        for _ in range(self.max_refetch):
            # changes by one try must not affect the next
            changed = apply(transform, copy.deepcopy(results))
            if changed is not None:
                return changed
        raise RuntimeError(
            f'MultiImageMixDataset: {type(transform).__name__} gave None {self.max_refetch} times '
            f'for one sample; let it be, or raise max_refetch')


def dataset_name(dataset: Dataset) -> str:
    """Return the name in configs of the innermost dataset's type, inside RepeatDataset and the like."""
    while getattr(dataset, 'dataset', None) is not None:
        dataset = dataset.dataset
    return DATASETS.name_of(type(dataset))
