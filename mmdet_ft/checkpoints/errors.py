"""The error for a bad checkpoint, re-exported for the modules of this package."""
from mmdet_ft.errors import CheckpointError

__all__ = ['CheckpointError']
