"""Layers that mmcv-lite's own tables lack."""
from mmcv.cnn.bricks import norm
from torch import nn

# mmcv's compiled synchronised batch norm; PyTorch's has the same parameters and arithmetic.
norm.MODELS.register_module('MMSyncBN', module=nn.SyncBatchNorm, force=True)
