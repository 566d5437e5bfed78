"""What makes a step faster and changes no result beyond rounding: `channels_last`, `compile` and
`triton` of a config.

All are off unless the config asks for them. What cannot be had here is left off, with one line of
the log that says why.
"""
from typing import Any, Callable, Dict, Optional

import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from torch import nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.ops.switches import use_triton

# Of the models here, parts whose shapes follow from the images' alone.
STATIC_PARTS = ('backbone', 'neck')


def accelerate(model: nn.Module, cfg: Any, device: torch.device, logger: Any) -> None:
    """Apply a config's switches to a model that stands on its device.

        channels_last = True             # images and weights with the channels innermost
        compile = True                   # torch.compile of backbone and neck
        compile = dict(mode='reduce-overhead')  # with its arguments; this one replays CUDA graphs
        triton = True                    # the kernels of ops/triton_kernels.py, on a GPU
    """
    for name, switch in (('channels_last', use_channels_last), ('compile', use_compile),
                         ('triton', use_triton_kernels)):
        setting = cfg.get(name, False)
        reason = switch(model, device, setting)
        if setting:
            logger.info('%s = %r', name, setting) if reason is None else logger.warning(
                '%s = %r is left off: %s', name, setting, reason)


def use_channels_last(model: nn.Module, device: torch.device, setting: bool) -> Optional[str]:
    if setting:
        if any(isinstance(module, ConvWS2d) for module in model.modules()):
            return 'ConvWS2d standardises weights whose channels are outermost'
        model.to(memory_format=torch.channels_last)
    return None


def use_compile(model: nn.Module, device: torch.device, setting: Any) -> Optional[str]:
    if not setting:
        return None
    options = dict(setting) if isinstance(setting, dict) else {}
    parts = [
        getattr(model, name) for name in STATIC_PARTS
        if isinstance(getattr(model, name, None), nn.Module)
    ]
    if not parts:
        return f'{type(model).__name__} has none of {", ".join(STATIC_PARTS)}'
    reason = _why_not_compile(device, options)
    if reason is None:
        for part in parts:
            part.compile(**options)  # in place: names in the state_dict stay
    return reason


def _why_not_compile(device: torch.device, options: Dict[str, Any]) -> Optional[str]:
    """Why a line of code cannot be compiled here, or None."""
    try:
        compiled: Callable = torch.compile(lambda x: x * 2 + 1, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f'compile = {options!r}: {error}; it takes the arguments of torch.compile')
    try:
        compiled(torch.ones(4, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, an old Python
        return str(error).strip().splitlines()[0]
    return None


def use_triton_kernels(model: nn.Module, device: torch.device, setting: bool) -> Optional[str]:
    if setting and device.type != 'cuda':
        use_triton(False)
        return f'the model is on {device.type}, and the kernels are for a GPU'
    return use_triton(bool(setting))
