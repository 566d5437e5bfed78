"""Heads on the whole feature map."""
from mmdet_ft.models.dense_heads.rpn_head import RPNHead

__all__ = ['RPNHead']
