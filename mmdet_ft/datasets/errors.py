"""The error of bad data, where data sets look for it."""
from mmdet_ft.errors import DataError

__all__ = ['DataError']
