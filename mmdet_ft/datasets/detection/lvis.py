"""LVIS v0.5 and v1."""
import importlib.util
import logging
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.evaluation.coco import log_classes
from mmdet_ft.evaluation.numpy_compat import numpy_names
from mmdet_ft.evaluation.table_output import LoggerLike, print_log, table_text
from mmdet_ft.registry import DATASETS


@DATASETS.register_module(name=['LVISDataset', 'LVISV05Dataset', 'LVISV1Dataset'])
class LVISDataset(CocoDataset):
    """CocoDataset for LVIS's json files, with LVIS's metric; arguments as CocoDataset.

    The classes are those of the file, in the order of their ids, unless `classes` selects some. In
    v1 img_prefix is the folder of train2017/ and val2017/, in v0.5 one of them.

    The metric is computed by the package `lvis` (pip install lvis): absent and not exhaustively
    annotated categories of an image are treated by LVIS's rules. Without it the metric is COCO's,
    and the log says so.
    """

    CLASSES: Optional[Sequence[str]] = None
    PALETTE = None
    METRICS = CocoDataset.METRICS

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        if self.test_mode and importlib.util.find_spec('lvis') is None:
            self._warn(
                'the package lvis is not installed, so the metric will be COCO\'s (bbox_mAP ...) instead of '
                'LVIS\'s (bbox_AP, bbox_APr ...): pip install lvis')
        infos = super().load_annotations(ann_file)
        # v0.5 lists COCO_val2014_000000000001.jpg for val2017/000000000001.jpg
        return PackedList({
            **info, 'filename': info['filename'][-16:]
        } if info['filename'].startswith('COCO') else info for info in infos)

    def _use_file(self) -> Sequence[Dict[str, Any]]:
        if self.CLASSES is None:
            categories = sorted(self._file.categories, key=lambda item: item['id'])
            self.CLASSES = tuple(dict.fromkeys(category['name'] for category in categories))
        return super()._use_file()

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'bbox',
                 logger: LoggerLike = None,
                 jsonfile_prefix: Optional[str] = None,
                 classwise: bool = False,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thrs: Union[float, Sequence[float], None] = None,
                 metric_items: Union[str, List[str], None] = None,
                 max_dets: int = 100) -> Dict[str, Any]:
        """Evaluate 'bbox' and 'segm' by LVIS, with 300 detections per image.

        Keys: `bbox_AP`, `bbox_AP50`, ..., and `bbox_APr`, `bbox_APc`, `bbox_APf` of rare, common
        and frequent classes. Other metrics, iou_thrs, metric_items and max_dets are CocoDataset's.
        """
        metrics = list(metric) if isinstance(metric, (list, tuple)) else [metric]
        official = [name for name in metrics if name in ('bbox', 'segm')]
        if importlib.util.find_spec('lvis') is None or not official:
            if official:
                print_log(
                    'The package lvis is not installed: the metric is COCO\'s, not LVIS\'s.',
                    logger=logger,
                    level=logging.WARNING)
            return super().evaluate(results, metric, logger, jsonfile_prefix, classwise,
                                    proposal_nums, iou_thrs, metric_items, max_dets)
        values: Dict[str, Any] = OrderedDict()
        others = [name for name in metrics if name not in official]
        if others:
            values.update(super().evaluate(results, others, logger, None, classwise, proposal_nums,
                                           iou_thrs, metric_items, max_dets))
        self._check_results(results)
        if jsonfile_prefix is not None:
            self.results2json(results, jsonfile_prefix)
        records = self._records(results)
        from lvis import LVIS
        truth = LVIS(self._local(self.ann_file, 'ann_file'))
        self._check_truth(truth)
        for name in official:
            if name not in records:
                raise DataError(f'{name} is not in the results; they hold {", ".join(records)}. '
                                f"metric 'segm' needs a detector with a mask head")
            print_log(f'Evaluating {name}...', logger=logger)
            if not records[name]:
                print_log(
                    'The testing results of the whole dataset is empty.',
                    logger=logger,
                    level=logging.ERROR)
                break
            values.update(self._evaluate_officially(truth, name, records[name], classwise, logger))
        return values

    def _check_truth(self, truth: Any) -> None:
        for items, keys in ((truth.dataset['images'], ('neg_category_ids',
                                                       'not_exhaustive_category_ids')),
                            (truth.dataset['categories'], ('frequency', ))):
            missing = [key for key in keys if items and key not in items[0]]
            if missing:
                raise DataError(
                    f'{self.ann_file} has no {" and no ".join(missing)}, which the metric of LVIS needs; '
                    f"for a json without them write type='CocoDataset'")

    def _evaluate_officially(self, truth: Any, metric: str, records: List[Dict[str, Any]],
                             classwise: bool, logger: LoggerLike) -> Dict[str, Any]:
        from lvis import LVISEval, LVISResults
        if metric == 'segm':  # areas are those of the masks, as in V2
            records = [{key: record[key] for key in record if key != 'bbox'} for record in records]
        with numpy_names(float=float):  # lvis 0.5.3 uses it
            evaluation = LVISEval(truth, LVISResults(truth, [dict(record) for record in records]),
                                  metric)
            evaluation.params.img_ids = list(self.img_ids)
            evaluation.params.cat_ids = sorted(self.cat_ids)
            evaluation.run()
        numbers = {
            key: float(value)
            for key, value in evaluation.get_results().items() if key.startswith('AP')
        }
        rows = [(key, f'{value:.4f}') for key, value in numbers.items()]
        print_log('\n' + table_text(['metric', 'value'], rows), logger=logger)
        if classwise:
            self._log_classes(evaluation.eval['precision'], logger)
        values: Dict[str, Any] = OrderedDict(
            (f'{metric}_{key}', float(f'{value:.4f}')) for key, value in numbers.items())
        values[f'{metric}_mAP_copypaste'] = ' '.join(f'{key}:{value:.4f}'
                                                     for key, value in numbers.items())
        return values

    def _log_classes(self, precision: np.ndarray, logger: LoggerLike) -> None:
        """Log the AP of every class; `precision` is [thresholds, recalls, classes by id, area ranges]."""
        indices = np.argsort(np.argsort(self.cat_ids))
        log_classes(precision[:, :, indices, :, None], list(self.CLASSES), logger)


LVISV05Dataset = LVISV1Dataset = LVISDataset  # V2's classes; the files show what differs
