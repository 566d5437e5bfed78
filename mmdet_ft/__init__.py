"""MMDetection-V2-style fine-tuning on today's PyTorch."""
from mmdet_ft.old_paths import install

__version__ = '0.1.0'

install()
