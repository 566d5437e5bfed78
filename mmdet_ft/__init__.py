"""MMDetection-V2-style fine-tuning on today's PyTorch."""
__version__ = '0.1.0'
