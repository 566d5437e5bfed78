"""RoI heads."""
from mmdet_ft.models.roi_heads.bbox_heads import (BBoxHead, ConvFCBBoxHead, Shared2FCBBoxHead,
                                                  Shared4Conv1FCBBoxHead)
from mmdet_ft.models.roi_heads.cascade_roi_head import CascadeRoIHead
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.shared_head import ResLayer
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead

__all__ = [
    'BBoxHead', 'CascadeRoIHead', 'ConvFCBBoxHead', 'FCNMaskHead', 'ResLayer', 'Shared2FCBBoxHead',
    'Shared4Conv1FCBBoxHead', 'SingleRoIExtractor', 'StandardRoIHead'
]
