"""Complete detectors."""
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.single_stage import ATSS, FCOS, RetinaNet, SingleStageDetector
from mmdet_ft.models.detectors.two_stage import FasterRCNN, MaskRCNN, TwoStageDetector

__all__ = [
    'ATSS', 'Detector', 'FCOS', 'FasterRCNN', 'MaskRCNN', 'RetinaNet', 'SingleStageDetector',
    'TwoStageDetector'
]
