"""Detectors of the YOLO family."""
from mmdet_ft.models.detectors.single_stage import SingleStageDetector
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class YOLOV3(SingleStageDetector):
    """YOLOv3 (Redmon and Farhadi 2018)."""
    settings_of_training = ('assigner', )
