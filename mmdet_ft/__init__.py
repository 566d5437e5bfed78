"""Fine-tuning in the style of MMDetection V2 on current PyTorch."""
from mmdet_ft.old_paths import install

__version__ = '0.1.0'

install()
