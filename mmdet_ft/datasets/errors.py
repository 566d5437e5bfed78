"""The error of invalid data, importable from the datasets package."""
from mmdet_ft.errors import DataError

__all__ = ['DataError']
