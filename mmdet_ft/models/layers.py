"""Layers missing in mmcv-lite's registries, and operations on all layers of a model."""
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import norm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# mmcv's compiled synchronized batch norm; PyTorch's has the same parameters and arithmetic.
norm.MODELS.register_module('MMSyncBN', module=nn.SyncBatchNorm, force=True)


def unsynchronize(model: nn.Module) -> int:
    """Replace every SyncBatchNorm by a BatchNorm2d with its weights; return the number replaced.

    For CPUs: PyTorch synchronizes batch norm between GPUs only.
    """
    count = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.SyncBatchNorm):
                plain = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine,
                                       layer.track_running_stats)
                # The same tensors, with their attributes (requires_grad).
                plain._parameters, plain._buffers = layer._parameters, layer._buffers
                plain.training = layer.training
                setattr(parent, name, plain)
                count += 1
    return count


def freeze(module: nn.Module) -> None:
    """Freeze weights and statistics; must be called again after each `train()`."""
    module.eval()
    module.requires_grad_(False)


def keep_statistics(model: nn.Module) -> None:
    """Apply `norm_eval`: batch norm uses its running statistics, and keeps them, also in training."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def learns_statistics(module: nn.Module) -> bool:
    """Check whether any batch norm currently uses batch statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in module.modules())


def apply_to_valid(head: nn.Module, x: Union[Tensor, Tuple[Tensor, ...]],
                   valid: Tensor) -> Tuple[Tensor, ...]:
    """Return `head(x)`, a tuple of tensors [N, ...] of x [N, ...]; invalid rows (bool [N]) must not count.

    A tuple of several inputs is given as `head(*x)`.

    If batch norm uses batch statistics, padding would enter them. Such a head gets only the valid rows, at the
    cost of one synchronization with the device, and the others are zero.
    """
    inputs = (x, ) if isinstance(x, Tensor) else x
    if not learns_statistics(head):
        return head(*inputs)
    index = valid.nonzero()[:, 0]
    if not len(index):
        return head(*inputs)  # ignored by the losses, but every process must take part
    return tuple(
        rows.new_zeros(len(valid), *rows.shape[1:]).index_copy(0, index, rows)
        for rows in head(*(part[index] for part in inputs)))


def make_divisible(value: float, divisor: int) -> int:
    """Return the nearest multiple of `divisor`, but at least nine tenths of the value (MobileNetV2)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < .9 * value else rounded


def check_layout(layout: str) -> str:
    """Return `layout`, the package whose weight names a backbone uses; raises ValueError for others."""
    if layout not in ('mmdet', 'mmcls'):
        raise ValueError(f"layout is {layout!r}; write 'mmdet' or 'mmcls'")
    return layout


# Convolutions with a folded norm layer: convolution -> weight and bias.
Folded = Dict[nn.Module, Tuple[Tensor, Tensor]]
NOT_FOLDED: Folded = {}


def conv_norm(conv: nn.Module, norm_layer: nn.Module, x: Tensor, folded: Folded) -> Tensor:
    """Run `norm_layer(conv(x))`, as one convolution if it is in `folded`."""
    if conv not in folded:
        return norm_layer(conv(x))
    assert isinstance(conv, nn.Conv2d)
    weight, bias = folded[conv]
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def fold_norms(pairs: Sequence[Tuple[nn.Module, nn.Module]]) -> Folded:
    """Return the pairs (convolution, norm layer) that make one convolution, with its weight and bias.

    Batch norm in evaluation mode is a fixed scale and shift of each channel, in training as well (V2's
    `norm_eval` and `frozen_stages`), so the weights can include the scale. Gradients reach the convolution's
    and the norm layer's own parameters as without folding. A pair is skipped if it is of another type or either
    has a hook. Under autocast the folded tensors have its dtype already, all cast at once. Nothing is folded
    while a model is traced or exported: exporters know convolutions and norm layers, and fold them by
    themselves.
    """
    if is_exported():
        return {}
    fixed: List[Tuple[nn.Module, nn.Module]] = []
    trained: List[Tuple[nn.Module, nn.Module]] = []
    for conv, norm_layer in pairs:
        if _can_fold(conv, norm_layer):
            parameters = (conv.weight, norm_layer.weight, norm_layer.bias)
            learns = any(parameter.requires_grad for parameter in parameters)
            (trained if learns else fixed).append((conv, norm_layer))
    folded: Folded = {}
    for part in (fixed, trained):
        if part:
            tensors = _FoldNorms.apply(
                _autocast_dtype(str(part[0][0].weight.device.type)),
                [layer.eps for _, layer in part], *(conv.weight for conv, _ in part),
                *(layer.weight for _, layer in part), *(layer.bias for _, layer in part),
                *(layer.running_mean for _, layer in part),
                *(layer.running_var for _, layer in part))
            convs = [conv for conv, _ in part]
            folded.update(zip(convs, zip(tensors[:len(part)], tensors[len(part):])))
    return folded


def is_exported() -> bool:
    """Return whether torch.jit.trace, torch.onnx.export or torch.export is recording the model."""
    if torch.jit.is_tracing():
        return True
    if hasattr(torch.compiler, 'is_exporting'):  # since torch 2.7
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def _can_fold(conv: nn.Module, norm_layer: nn.Module) -> bool:
    return (type(conv) is nn.Conv2d and conv.bias is None and conv.padding_mode == 'zeros'
            and isinstance(norm_layer, _BatchNorm) and not norm_layer.training and norm_layer.affine
            and norm_layer.track_running_stats and not is_watched(conv)
            and not is_watched(norm_layer))


def _autocast_dtype(device: str) -> Optional[torch.dtype]:
    is_on = device in ('cpu', 'cuda') and torch.is_autocast_enabled(device)  # 'meta' has none
    return torch.get_autocast_dtype(device) if is_on else None


def is_watched(module: nn.Module) -> bool:
    """Check whether the module has a hook."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                or module._backward_pre_hooks)


class _FoldNorms(torch.autograd.Function):
    """Fold all pairs at once: the host launches each operation once, not once per layer."""

    @staticmethod
    def forward(ctx, dtype: Optional[torch.dtype], eps: List[float], *tensors:
                Tensor) -> Tuple[Tensor, ...]:
        weights, gammas, betas, means, variances = _in_parts(tensors, 5)
        inverse = torch._foreach_add(variances, eps)
        torch._foreach_sqrt_(inverse)
        torch._foreach_reciprocal_(inverse)
        scales = torch._foreach_mul(gammas, inverse)
        ctx.save_for_backward(*weights, *means, *inverse, *scales)
        folded = (*torch._foreach_mul(weights, _columns(scales)),
                  *torch._foreach_sub(betas, torch._foreach_mul(means, scales)))
        return folded if dtype is None else tuple(_cast(folded, dtype))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tuple:
        weights, means, inverse, scales = _in_parts(ctx.saved_tensors, 4)
        grad_weights, grad_biases = _in_parts(_cast(grads, weights[0].dtype), 2)
        grad_gammas: Sequence[Optional[Tensor]] = [None] * len(weights)
        if any(ctx.needs_input_grad[2 + len(weights):2 + 2 * len(weights)]):
            sums = [product.sum((1, 2, 3)) for product in torch._foreach_mul(grad_weights, weights)]
            torch._foreach_sub_(sums, torch._foreach_mul(means, grad_biases))
            torch._foreach_mul_(sums, inverse)
            grad_gammas = sums
        scaled = torch._foreach_mul(grad_weights, _columns(scales))
        return (None, None, *scaled, *grad_gammas, *grad_biases, *[None] * (2 * len(weights)))


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> List[Tensor]:
    """Cast all tensors at once, each in its own memory format."""
    if tensors[0].dtype == dtype:
        return list(tensors)
    cast = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(cast, list(tensors))
    return cast


def _in_parts(tensors: Sequence[Tensor], number: int) -> List[List[Tensor]]:
    length = len(tensors) // number
    return [list(tensors[i * length:(i + 1) * length]) for i in range(number)]


def _columns(scales: Sequence[Tensor]) -> List[Tensor]:
    return [scale.view(-1, 1, 1, 1) for scale in scales]


def linear_of_map(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a fully connected layer to maps [R, C, h, w], or to flat inputs [R, C*h*w].

    Flattening channels-last maps would copy them, some hundred million numbers per step, and again
    in the backward pass. Instead they are flattened in their memory order, and the weight is
    permuted for this call. The weight is not stored that way: checkpoints, and the momentum of a
    resumed run, would be silently wrong for another memory format.
    """
    if (x.dim() == 2 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
            or type(layer) is not nn.Linear or is_watched(layer)):
        return layer(x.flatten(1))
    weight = layer.weight.unflatten(1, x.shape[1:]).permute(0, 2, 3, 1)
    # autocast would cast it in a separate pass
    weight = weight.to(x.dtype, memory_format=torch.contiguous_format)
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight.flatten(1), layer.bias)
