from mmdet_ft.models.necks.bfp import BFP
from mmdet_ft.models.necks.chain import build_necks
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.gap import GlobalAveragePooling
from mmdet_ft.models.necks.hrfpn import HRFPN
from mmdet_ft.models.necks.pafpn import PAFPN
from mmdet_ft.models.necks.ssd_neck import L2Norm, SSDNeck
from mmdet_ft.models.necks.yolo_neck import YOLOV3Neck
from mmdet_ft.models.necks.yolox_pafpn import YOLOXPAFPN

__all__ = [
    'BFP', 'FPN', 'GlobalAveragePooling', 'HRFPN', 'L2Norm', 'PAFPN', 'SSDNeck', 'YOLOV3Neck',
    'YOLOXPAFPN', 'build_necks'
]
