"""Cityscapes instances, from the json of tools/dataset_converters/cityscapes.py."""
import os
import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.evaluation.numpy_compat import numpy_names
from mmdet_ft.evaluation.table_output import LoggerLike, print_log, table_text
from mmdet_ft.registry import DATASETS

# ids of the eight classes in Cityscapes' label files
CITYSCAPES_IDS = dict(
    person=24, rider=25, car=26, truck=27, bus=28, train=31, motorcycle=32, bicycle=33)


@DATASETS.register_module()
class CityscapesDataset(CocoDataset):
    """CocoDataset with Cityscapes' classes, its filter (images with only groups are dropped) and its metric."""

    CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
    PALETTE = [(220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100),
               (0, 0, 230), (119, 11, 32)]
    METRICS = ('cityscapes', *CocoDataset.METRICS)
    MADE_BY = (f', or write the file: {how_to_run("convert cityscapes")} data/cityscapes '
               '--out-dir data/cityscapes/annotations')

    def _images_with_classes(self) -> np.ndarray:
        image = np.repeat(np.arange(len(self._file.image_ids)), np.diff(self._file.starts))
        single = np.zeros(len(self._file.image_ids), dtype=bool)
        single[image[~self._file.crowd]] = True
        return super()._images_with_classes() & single

    def _seg_map(self, img_info: Dict[str, Any]) -> str:
        return img_info['segm_file'] if 'segm_file' in img_info else super()._seg_map(img_info)

    def results2txt(self, results: List[Any], outfile_prefix: str) -> List[str]:
        """Write Cityscapes' text files of (mask file, label id, score) lines, one per image, and the masks as png."""
        os.makedirs(outfile_prefix, exist_ok=True)
        files = []
        for info, result in zip(self.data_infos, results):
            if not isinstance(result, tuple):
                raise ValueError('the cityscapes metric needs masks: a detector with a mask head')
            stem = osp.splitext(osp.basename(info['filename']))[0]
            boxes, masks = result
            masks, scores = masks if isinstance(masks, tuple) else (masks,
                                                                    [box[:, 4] for box in boxes])
            lines = []
            for name, class_masks, class_scores in zip(self.CLASSES, masks, scores):
                for mask, score in zip(class_masks, class_scores):
                    bitmap = mask_api.decode(mask) if isinstance(mask, dict) else np.asarray(
                        mask, dtype=np.uint8)
                    file_name = f'{stem}_{len(lines)}_{name}.png'
                    cv2.imwrite(osp.join(outfile_prefix, file_name), bitmap)
                    lines.append(f'{file_name} {CITYSCAPES_IDS[name]} {score}\n')
            files.append(osp.join(outfile_prefix, stem + '_pred.txt'))
            with open(files[-1], 'w') as file:
                file.writelines(lines)
        return files

    def format_results(self,
                       results: List[Any],
                       txtfile_prefix: Optional[str] = None) -> Tuple[List[str], Optional[Any]]:
        """Write Cityscapes' files to the folder `txtfile_prefix`, or to a temporary one; return files and folder."""
        self._check_results(results)
        folder = None
        if txtfile_prefix is None:
            folder = tempfile.TemporaryDirectory()
            txtfile_prefix = osp.join(folder.name, 'results')
        return self.results2txt(results, txtfile_prefix), folder

    def evaluate(
            self,
            results: List[Any],
            metric: Union[str, List[str]] = 'bbox',
            logger: LoggerLike = None,
            outfile_prefix: Optional[str] = None,
            classwise: bool = False,
            proposal_nums: Sequence[int] = (100, 300, 1000),
            # V2's; rounding makes 0.75 slightly different, and V2's logs have -1 for bbox_mAP_75
            iou_thrs: Union[float, Sequence[float]] = np.arange(0.5, 0.96, 0.05),
            metric_items: Union[str, List[str], None] = None,
            jsonfile_prefix: Optional[str] = None,
            max_dets: int = 100) -> Dict[str, Any]:
        """Evaluate 'cityscapes' by the official scripts (keys `mAP`, `AP@50`), others by CocoDataset.evaluate."""
        metrics = list(metric) if isinstance(metric, (list, tuple)) else [metric]
        prefix = outfile_prefix if outfile_prefix is not None else jsonfile_prefix
        values: Dict[str, Any] = OrderedDict()
        if 'cityscapes' in metrics:
            values.update(self._evaluate_cityscapes(results, prefix, logger))
            metrics.remove('cityscapes')
        if metrics:
            values.update(super().evaluate(results, metrics, logger, prefix, classwise,
                                           proposal_nums, iou_thrs, metric_items, max_dets))
        return values

    def _evaluate_cityscapes(self, results: List[Any], prefix: Optional[str],
                             logger: LoggerLike) -> Dict[str, float]:
        try:
            from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
        except ImportError as error:
            raise ImportError(
                "metric 'cityscapes' is computed by the official package: pip install cityscapesscripts "
                "(or evaluate with metric=['bbox', 'segm'])") from error
        names = [name for name in self.CLASSES if name not in CITYSCAPES_IDS]
        if names:
            raise ValueError(
                f"metric 'cityscapes' knows {', '.join(CITYSCAPES_IDS)} only, not {', '.join(names)}"
            )
        print_log('Evaluating in Cityscapes style', logger=logger)
        root = self.img_prefix.replace('leftImg8bit', 'gtFine')
        images = [
            osp.join(root, info['filename'].replace('leftImg8bit.png', 'gtFine_instanceIds.png'))
            for info in self.data_infos
        ]
        missing = [image for image in images if not osp.isfile(image)]
        if missing:
            raise FileNotFoundError(
                f"metric 'cityscapes' reads the official truth, and {len(missing)} files are not "
                f'there, the first one {missing[0]!r} (img_prefix is {self.img_prefix!r})')
        files, folder = self.format_results(results, prefix)
        with tempfile.TemporaryDirectory() as cache, numpy_names(
                in1d=np.isin):  # cityscapesScripts 2.3 calls it, NumPy 2.4 has removed it
            arguments = official.args  # the official script keeps its settings in this global
            arguments.predictionPath = osp.dirname(osp.abspath(files[0]))
            arguments.predictionWalk = None
            arguments.JSONOutput = False
            arguments.colorized = False
            arguments.quiet = True
            arguments.gtInstancesFile = osp.join(cache, 'gtInstances.json')
            # its evaluateImgLists, without the matches.json that it writes to the working directory
            official.setInstanceLabels(arguments)
            truth = official.getGtInstances(images, arguments)
            matches = official.matchGtWithPreds([osp.abspath(file) for file in files], images,
                                                truth, arguments)
            averages = official.computeAverages(
                official.evaluateMatches(matches, arguments), arguments)
        rows = [(name, f'{values["ap"]:.3f}', f'{values["ap50%"]:.3f}')
                for name, values in averages['classes'].items()]
        rows.append(('average', f'{averages["allAp"]:.3f}', f'{averages["allAp50%"]:.3f}'))
        print_log('\n' + table_text(['category', 'AP', 'AP@50'], rows), logger=logger)
        if folder is not None:
            folder.cleanup()
        return OrderedDict([('mAP', float(averages['allAp'])),
                            ('AP@50', float(averages['allAp50%']))])
