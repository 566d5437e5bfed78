"""RoI heads."""
from mmdet_ft.models.roi_heads.bbox_heads import (BBoxHead, ConvFCBBoxHead, Shared2FCBBoxHead,
                                                  Shared4Conv1FCBBoxHead)
from mmdet_ft.models.roi_heads.cascade_roi_head import CascadeRoIHead
from mmdet_ft.models.roi_heads.double_head import DoubleConvFCBBoxHead, DoubleHeadRoIHead
from mmdet_ft.models.roi_heads.htc_roi_head import HybridTaskCascadeRoIHead
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead, HTCMaskHead
from mmdet_ft.models.roi_heads.mask_scoring_roi_head import MaskIoUHead, MaskScoringRoIHead
from mmdet_ft.models.roi_heads.roi_extractor import GenericRoIExtractor, SingleRoIExtractor
from mmdet_ft.models.roi_heads.semantic_head import FusedSemanticHead
from mmdet_ft.models.roi_heads.shared_head import ResLayer
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead

__all__ = [
    'BBoxHead', 'CascadeRoIHead', 'ConvFCBBoxHead', 'DoubleConvFCBBoxHead', 'DoubleHeadRoIHead',
    'FCNMaskHead', 'FusedSemanticHead', 'GenericRoIExtractor', 'HTCMaskHead',
    'HybridTaskCascadeRoIHead', 'MaskIoUHead', 'MaskScoringRoIHead', 'ResLayer',
    'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'SingleRoIExtractor', 'StandardRoIHead'
]
