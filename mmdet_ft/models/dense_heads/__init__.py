"""Dense heads, which predict at every location of the feature maps."""
from mmdet_ft.models.dense_heads.atss_head import ATSSHead
from mmdet_ft.models.dense_heads.dense_head import AnchorHead, DenseHead
from mmdet_ft.models.dense_heads.fcos_head import FCOSHead, TorchvisionFCOSHead
from mmdet_ft.models.dense_heads.fovea_head import FoveaHead
from mmdet_ft.models.dense_heads.free_anchor_head import FreeAnchorRetinaHead
from mmdet_ft.models.dense_heads.fsaf_head import FSAFHead
from mmdet_ft.models.dense_heads.gfl_head import GFLHead
from mmdet_ft.models.dense_heads.paa_head import PAAHead
from mmdet_ft.models.dense_heads.retina_head import RetinaHead, RetinaSepBNHead
from mmdet_ft.models.dense_heads.rpn_head import RPNHead
from mmdet_ft.models.dense_heads.ssd_head import SSDHead
from mmdet_ft.models.dense_heads.tood_head import TOODHead
from mmdet_ft.models.dense_heads.vfnet_head import VFNetHead
from mmdet_ft.models.dense_heads.yolo_head import YOLOV3Head
from mmdet_ft.models.dense_heads.yolox_head import YOLOXHead

__all__ = [
    'ATSSHead', 'AnchorHead', 'DenseHead', 'FCOSHead', 'FSAFHead', 'FoveaHead',
    'FreeAnchorRetinaHead', 'GFLHead', 'PAAHead', 'RPNHead', 'RetinaHead', 'RetinaSepBNHead',
    'SSDHead', 'TOODHead', 'TorchvisionFCOSHead', 'VFNetHead', 'YOLOV3Head', 'YOLOXHead'
]
