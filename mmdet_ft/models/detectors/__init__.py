"""Complete detectors."""
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.fast_rcnn import FastRCNN
from mmdet_ft.models.detectors.rpn import RPN
from mmdet_ft.models.detectors.single_stage import (ATSS, FCOS, FOVEA, FSAF, GFL, PAA, TOOD,
                                                    RetinaNet, SingleStageDetector, VFNet)
from mmdet_ft.models.detectors.two_stage import (CascadeRCNN, FasterRCNN, HybridTaskCascade,
                                                 MaskRCNN, MaskScoringRCNN, TwoStageDetector)
from mmdet_ft.models.detectors.yolo import YOLOV3, YOLOX

__all__ = [
    'ATSS', 'CascadeRCNN', 'Detector', 'FCOS', 'FOVEA', 'FSAF', 'FastRCNN', 'FasterRCNN', 'GFL',
    'HybridTaskCascade', 'MaskRCNN', 'MaskScoringRCNN', 'PAA', 'RPN', 'RetinaNet',
    'SingleStageDetector', 'TOOD', 'TwoStageDetector', 'VFNet', 'YOLOV3', 'YOLOX'
]
