"""Metrics of detections and classifications."""
from mmdet_ft.evaluation.coco import evaluate_det_segm, results_to_records
from mmdet_ft.evaluation.recall import recalls

__all__ = ['evaluate_det_segm', 'recalls', 'results_to_records']
