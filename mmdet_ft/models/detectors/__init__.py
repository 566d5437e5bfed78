"""Whole detectors."""
from mmdet_ft.models.detectors.two_stage import FasterRCNN, MaskRCNN, TwoStageDetector

__all__ = ['FasterRCNN', 'MaskRCNN', 'TwoStageDetector']
