from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.gap import GlobalAveragePooling

__all__ = ['FPN', 'GlobalAveragePooling']
