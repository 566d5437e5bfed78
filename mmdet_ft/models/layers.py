"""Layers that mmcv-lite's own tables lack, and what is done to layers of a whole model."""
from mmcv.cnn.bricks import norm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

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


def freeze(module: nn.Module) -> None:
    """Neither weights nor statistics change any more; to be called again after each `train()`."""
    module.eval()
    module.requires_grad_(False)


def keep_statistics(model: nn.Module) -> None:
    """`norm_eval`: batch norm goes by its running statistics, and keeps them, in training too."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` next to a number of channels, but not below nine tenths of it (MobileNetV2)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < .9 * value else rounded


def check_layout(layout: str) -> str:
    """The package whose names of weights a backbone has."""
    if layout not in ('mmdet', 'mmcls'):
        raise ValueError(f"layout is {layout!r}; write 'mmdet' or 'mmcls'")
    return layout
