"""WIDER FACE, from xml files in PASCAL VOC's format."""
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmdet_ft.datasets.detection.xml_style import VOCFile, XMLDataset, image_beside
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.evaluation.wider_face import evaluate_wider_face
from mmdet_ft.registry import DATASETS


@DATASETS.register_module()
class WIDERFaceDataset(XMLDataset):
    """XMLDataset of faces: `img_prefix`/Annotations/NAME.xml, whose <folder> is that of the image.

    `python tools/dataset_converters/wider_face.py` writes such files from the official lists;
    invalid faces become difficult ones. img_subdir is ignored, as in V2: images are in
    `img_prefix`/<folder>/.
    """

    CLASSES = ('face', )
    PALETTE = [(0, 255, 0)]
    METRICS = ('wider', *XMLDataset.METRICS)

    def _image_name(self, img_id: str, content: VOCFile) -> str:
        if content.folder is None:
            raise DataError(f'{self._xml_path(img_id)} has no folder: that of its image')
        folder = osp.join(self.img_prefix, content.folder)
        return osp.join(content.folder, image_beside(folder, img_id, content.filename))

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'mAP',
                 logger: LoggerLike = None,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thr: Union[float, List[float]] = 0.5,
                 scale_ranges: Optional[List[Tuple[int, int]]] = None,
                 gt_lists: Optional[str] = None) -> Dict[str, Any]:
        """Evaluate 'mAP' and 'recall' like CustomDataset.evaluate, 'wider' by the official protocol.

        gt_lists: for 'wider', the folder of wider_face_val.mat and wider_easy_val.mat, medium and
        hard (eval_tools/ground_truth of the official package), or a json; see
        `evaluation.wider_face.read_lists`. Returns `easy_AP`, `medium_AP`, `hard_AP`, `mAP`.
        """
        if metric != 'wider' and list(metric) != ['wider']:
            return self._evaluate_boxes(results, metric, logger, proposal_nums, iou_thr,
                                        scale_ranges)
        self._check_results(results)
        if gt_lists is None:
            raise DataError(
                "metric 'wider' needs the official lists: write evaluation = dict(metric='wider', "
                "gt_lists='data/WIDERFace/eval_tools/ground_truth')")
        boxes = [(result[0] if isinstance(result, tuple) else result)[0] for result in results]
        names = [osp.splitext(osp.basename(info['filename']))[0] for info in self.data_infos]
        return evaluate_wider_face(dict(zip(names, boxes)), gt_lists, logger)
