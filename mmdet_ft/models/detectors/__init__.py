"""Complete detectors."""
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.detectors.two_stage import FasterRCNN, MaskRCNN, TwoStageDetector

__all__ = ['Detector', 'FasterRCNN', 'MaskRCNN', 'TwoStageDetector']
