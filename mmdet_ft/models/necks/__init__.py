from mmdet_ft.models.necks.fpn import FPN

__all__ = ['FPN']
