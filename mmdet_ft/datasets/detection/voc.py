"""PASCAL VOC 2007 and 2012."""
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmdet_ft.datasets.detection.xml_style import XMLDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.registry import DATASETS


@DATASETS.register_module()
class VOCDataset(XMLDataset):
    """XMLDataset with VOC's classes and its metric of the year that `img_prefix` names.

    For both years, lists of ann_file and img_prefix give a ConcatDataset. Custom datasets in this
    format go into a folder VOC2007 or VOC2012, or use XMLDataset.

    Raises DataError when img_prefix holds neither 'VOC2007' nor 'VOC2012'.
    """

    CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair',
               'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep',
               'sofa', 'train', 'tvmonitor')
    PALETTE = [(106, 0, 228), (119, 11, 32), (165, 42, 42), (0, 0, 192), (197, 226, 255),
               (0, 60, 100), (0, 0, 142), (255, 77, 255), (153, 69, 1), (120, 166, 157),
               (0, 182, 199), (0, 226, 252), (182, 182, 255), (0, 0, 230), (220, 20, 60),
               (163, 255, 0), (0, 82, 0), (3, 95, 161), (0, 80, 100), (183, 130, 88)]
    METRICS = XMLDataset.METRICS

    @property
    def year(self) -> int:
        """Return 2007 or 2012; the year selects the rule for averaging precisions."""
        for year in (2007, 2012):
            if f'VOC{year}' in self.img_prefix:
                return year
        raise DataError(
            f"VOCDataset takes the year from img_prefix, and {self.img_prefix!r} holds neither 'VOC2007' nor "
            f"'VOC2012'; rename the folder, or write type='XMLDataset' (its metric is that of 2012, with "
            f'boxes measured without the pixel at their end)')

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        self.year  # raises at the start
        return super().load_annotations(ann_file)

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'mAP',
                 logger: LoggerLike = None,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thr: Union[float, List[float]] = 0.5,
                 scale_ranges: Optional[List[Tuple[int, int]]] = None) -> Dict[str, Any]:
        """Evaluate like CustomDataset.evaluate, in VOC's protocol.

        It uses eleven points of recall in 2007 and the whole area later, and boxes whose sides
        count both end pixels. scale_ranges is not used, as in V2.
        """
        values = self._evaluate_boxes(
            results,
            metric,
            logger,
            proposal_nums,
            iou_thr,
            mode='11points' if self.year == 2007 else 'area',
            use_legacy_coordinate=True)
        values = OrderedDict(values)
        if 'mAP' in values:
            values.move_to_end('mAP', last=False)
        return values
