"""Dense heads, which predict at every location of the feature maps."""
from mmdet_ft.models.dense_heads.rpn_head import RPNHead

__all__ = ['RPNHead']
