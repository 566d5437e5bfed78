"""The error of a bad checkpoint, where its readers look for it."""
from mmdet_ft.errors import CheckpointError

__all__ = ['CheckpointError']
