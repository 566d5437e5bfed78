"""Optimizations of a step that change no result beyond rounding: `channels_last`, `compile`,
`cuda_graphs` and `triton` of a config.

All are off unless the config enables them. An unavailable one stays off, and one line of the log
gives the reason.
"""
import logging
from typing import Any, Callable, Dict, List, Optional

import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from torch import nn

from mmdet_ft.engine.errors import UserError, first_line
from mmdet_ft.engine.reporting.log import get_root_logger
from mmdet_ft.engine.settings.records import Acceleration
from mmdet_ft.engine.speed.cuda_graphs import CudaRecorder, Replayed
from mmdet_ft.ops.backends import use_triton

# Parts of the models here whose output shapes depend on the image shape only.
STATIC_PARTS = ('backbone', 'neck')
# Modes of torch.compile that record CUDA graphs.
GRAPH_MODES = ('reduce-overhead', 'max-autotune')


def accelerate(model: nn.Module, settings: Acceleration, device: torch.device,
               logger: logging.Logger) -> None:
    """Apply the switches of a config to a model that is already on its device.

        channels_last = True             # images and weights with the channels innermost
        compile = True                   # torch.compile of backbone and neck
        compile = dict(mode='max-autotune-no-cudagraphs')  # with its arguments
        cuda_graphs = True               # backbone and neck recorded and replayed, shape by shape
        triton = True                    # the kernels of ops/triton_kernels.py, on a GPU
    """
    compiled = settings.compile
    if settings.cuda_graphs and isinstance(compiled, dict) and compiled.get('mode') in GRAPH_MODES:
        raise UserError(
            f'compile.mode {compiled["mode"]!r} replays CUDA graphs itself: take out cuda_graphs, or '
            'the mode')
    for name, switch in SWITCHES.items():
        setting = getattr(settings, name)
        reason = switch(model, device, setting)
        if setting is not False:
            logger.info('%s = %r', name, setting) if reason is None else logger.warning(
                '%s = %r is left off: %s', name, setting, reason)


def use_channels_last(model: nn.Module, device: torch.device, setting: bool) -> Optional[str]:
    if setting:
        if any(isinstance(module, ConvWS2d) for module in model.modules()):
            return 'ConvWS2d standardizes weights whose channels are outermost'
        if device.type == 'cpu' and any(map(_harms_memory, model.modules())):
            return ('a strided 1x1 convolution of fewer than 16 channels writes beyond its memory '
                    'on a CPU in this layout (oneDNN, seen in PyTorch 2.6 and 2.15)')
        model.to(memory_format=torch.channels_last)
    return None


def _harms_memory(module: nn.Module) -> bool:
    """Return whether the weight gradient of a module, with several threads, crashes or corrupts memory."""
    return (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
            and max(module.stride) > 1 and module.in_channels < 16)


def _static_parts(model: nn.Module) -> List[nn.Module]:
    parts = [getattr(model, name, None) for name in STATIC_PARTS]
    return [part for part in parts if isinstance(part, nn.Module)]


def use_compile(model: nn.Module, device: torch.device, setting: object) -> Optional[str]:
    if setting is False:
        return None
    options = dict(setting) if isinstance(setting, dict) else {}
    parts = _static_parts(model)
    if not parts:
        return f'{type(model).__name__} has none of {", ".join(STATIC_PARTS)}'
    reason = _why_not_compile(device, options)
    if reason is None:
        for part in parts:
            part.compile(**options)  # in place, so that names in the state_dict do not change
    return reason


def _why_not_compile(device: torch.device, options: Dict[str, Any]) -> Optional[str]:
    """Return why code cannot be compiled here, or None."""
    try:
        compiled: Callable = torch.compile(lambda x: x * 2 + 1, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f'compile = {options!r}: {error}; it takes the arguments of torch.compile')
    try:
        compiled(torch.ones(4, device=device))
    except Exception as error:  # many possible reasons: no compiler, no Triton, an old Python
        return first_line(error)
    return None


def use_cuda_graphs(model: nn.Module, device: torch.device, setting: bool) -> Optional[str]:
    if not setting:
        return None
    parts = _static_parts(model)
    if not parts or not hasattr(model, 'extract_features'):
        return f'{type(model).__name__} has no extract_features from {" and ".join(STATIC_PARTS)}'
    for module in (module for part in parts for module in part.modules()):
        if isinstance(module, nn.SyncBatchNorm):
            return 'SyncBN talks to the other processes; BN with norm_eval=True does not'
        if getattr(module, 'with_cp', False):
            return 'with_cp computes again in the backward pass; write with_cp=False'
    if device.type != 'cuda':
        return f'the model is on {device.type}, and they are of a GPU'
    model.extract_features = Replayed(model.extract_features, model, parts,
                                      get_root_logger().warning, CudaRecorder())
    return None


def use_triton_kernels(model: nn.Module, device: torch.device, setting: bool) -> Optional[str]:
    if setting and device.type != 'cuda':
        use_triton(False)
        return f'the model is on {device.type}, and the kernels are for a GPU'
    return use_triton(bool(setting), device)


# In the order of application: the recording must see the layout and the compiled parts.
SWITCHES: Dict[str, Callable[[nn.Module, torch.device, Any], Optional[str]]] = dict(
    channels_last=use_channels_last,
    compile=use_compile,
    cuda_graphs=use_cuda_graphs,
    triton=use_triton_kernels)
