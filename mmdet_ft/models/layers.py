"""Layers that mmcv-lite's own tables lack, and what is done to layers of a whole model."""
from mmcv.cnn.bricks import norm
from torch import nn

# mmcv's compiled synchronised batch norm; PyTorch's has the same parameters and arithmetic.
norm.MODELS.register_module('MMSyncBN', module=nn.SyncBatchNorm, force=True)


def unsynchronise(model: nn.Module) -> int:
    """Put BatchNorm2d in the place of every SyncBatchNorm, with its weights; returns how many.

    For CPUs: PyTorch synchronises batch norm between GPUs only.
    """
    count = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.SyncBatchNorm):
                plain = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine,
                                       layer.track_running_stats)
                # The very tensors, with what is set on them (requires_grad).
                plain._parameters, plain._buffers = layer._parameters, layer._buffers
                plain.training = layer.training
                setattr(parent, name, plain)
                count += 1
    return count
