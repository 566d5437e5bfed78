"""COCO with the recall of occluded and of separated objects (A Tri-Layer Plugin to Improve Occluded Detection)."""
from collections import defaultdict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.evaluation.table_output import LoggerLike, print_log, table_text
from mmdet_ft.registry import DATASETS
from mmdet_ft.untrusted import load_pickle
from mmdet_ft.visualization import decode_mask, split_result

URL = 'https://www.robots.ox.ac.uk/~vgg/research/tpod/datasets/'


class Truth(NamedTuple):
    """An object of one of the two sets."""
    image: str  # its file name
    name: str  # of its class
    mask: Dict[str, Any]  # run length


@DATASETS.register_module()
class OccludedSeparatedCocoDataset(CocoDataset):
    """CocoDataset that also reports how many partly occluded and separated objects are found.

    An object is found if a detection of its class has a mask IoU of at least `iou_thr`.

    Args:
        ann_file, pipeline, ...: see CocoDataset.
        occluded_ann, separated_ann: the sets, pickles of lists (file name, class, ..., box, run
            length): paths, also relative to data_root, or URLs.
    """

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
                 occluded_ann: str = f'{URL}occluded_coco.pkl',
                 separated_ann: str = f'{URL}separated_coco.pkl'):
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)
        self.occluded = self._read_set(occluded_ann, 'occluded_ann')
        self.separated = self._read_set(separated_ann, 'separated_ann')

    def _read_set(self, source: str, key: str) -> List[Truth]:
        if '://' in source:
            from mmengine.fileio import get_local_path
            with get_local_path(source) as path:
                items = load_pickle(str(path))
        else:
            items = load_pickle(self._local(self._under_root(source) or source, key))
        try:
            return [Truth(item[0], item[1], item[4]) for item in items]
        except (TypeError, IndexError, KeyError) as error:
            raise DataError(
                f'{type(self).__name__}: {key} {source!r} is not a list of (file name, class, ..., '
                f'box, run length): {error}') from None

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = [],
                 logger: LoggerLike = None,
                 jsonfile_prefix: Optional[str] = None,
                 classwise: bool = False,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thrs: Union[float, Sequence[float], None] = None,
                 metric_items: Union[str, List[str], None] = None,
                 max_dets: int = 100,
                 score_thr: float = 0.3,
                 iou_thr: float = 0.75) -> Dict[str, Any]:
        """Evaluate by CocoDataset.evaluate, and add `occluded_recall` and `separated_recall` in percent.

        Args:
            score_thr: detections with a lower score do not count.
            iou_thr: smallest mask IoU with an object that is found.
            metric, ...: see CocoDataset.evaluate; no metric gives the recalls alone.

        Raises DataError for results without masks.
        """
        values = super().evaluate(results, metric, logger, jsonfile_prefix, classwise,
                                  proposal_nums, iou_thrs, metric_items, max_dets)
        found = self._masks_by_image_and_class(results, score_thr)
        rows = []
        for name, truths in (('occluded', self.occluded), ('separated', self.separated)):
            count = sum(_is_found(truth, found, iou_thr) for truth in truths)
            values[f'{name}_recall'] = 100 * count / max(len(truths), 1)
            rows.append((name, f'{values[f"{name}_recall"]:.2f}%', count))
        print_log('\n' + table_text(['mask type', 'recall', 'num correct'], rows), logger=logger)
        return values

    def _masks_by_image_and_class(self, results: List[Any],
                                  score_thr: float) -> Dict[Tuple[str, str], List[Dict]]:
        found: Dict[Tuple[str, str], List[Dict]] = defaultdict(list)
        names = {info['filename'] for info in self.data_infos}
        missing = next((truth.image
                        for truth in (*self.occluded, *self.separated) if truth.image not in names),
                       None)
        if missing is not None:
            raise DataError(f'{type(self).__name__}: {self.ann_file} does not list {missing!r}, '
                            "which has an occluded or separated object; evaluate COCO's val2017")
        for info, result in zip(self.data_infos, results):
            boxes, masks = split_result(result)
            if masks is None:
                raise DataError(f'{type(self).__name__} needs masks: a detector with a mask head')
            for name, rows, of_class in zip(self.CLASSES, boxes, masks):
                found[info['filename'], name] += [
                    _as_runs(mask) for row, mask in zip(rows, of_class) if row[4] >= score_thr
                ]
        return found


def _is_found(truth: Truth, found: Dict[Tuple[str, str], List[Dict]], iou_thr: float) -> bool:
    masks = found[truth.image, truth.name]
    return bool(masks) and mask_api.iou(masks, [truth.mask], [0]).max() >= iou_thr


def _as_runs(mask: object) -> Dict[str, Any]:
    """Return a compressed run length."""
    if isinstance(mask, dict) and not isinstance(mask['counts'], list):
        return mask
    return mask_api.encode(np.asfortranarray(decode_mask(mask), dtype=np.uint8))
