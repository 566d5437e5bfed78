from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.gap import GlobalAveragePooling
from mmdet_ft.models.necks.hrfpn import HRFPN

__all__ = ['FPN', 'GlobalAveragePooling', 'HRFPN']
