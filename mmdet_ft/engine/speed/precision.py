"""Half precision: `fp16 = dict(loss_scale=...)` of a config, or `fp16 = dict(dtype='bfloat16')`."""
from typing import Any, Dict, List, Optional, Union

import torch
from torch import Tensor

from mmdet_ft.engine.errors import UserError


class LossScaler:
    """The factor that keeps half-precision gradients above the smallest float16, all on the device.

    A static scale is constant. A dynamic one halves when a gradient overflows and doubles after
    `growth_interval` steps without overflow (Micikevicius et al. 2018, sec. 3.2). torch's
    GradScaler does the same; its step needs a host sync unless the optimizer is fused.
    """

    def __init__(self,
                 device: torch.device,
                 init_scale: float = 2.**16,
                 dynamic: bool = True,
                 growth_factor: float = 2.,
                 backoff_factor: float = .5,
                 growth_interval: int = 2000):
        self.scale = torch.tensor(float(init_scale), device=device)
        self.good_steps = torch.tensor(0, device=device)
        self.dynamic = dynamic
        self.growth_factor = growth_factor
        self.backoff_factor = backoff_factor
        self.growth_interval = growth_interval

    def update(self, overflow: Tensor) -> None:
        if not self.dynamic:
            return
        good_steps = torch.where(overflow, 0, self.good_steps + 1)
        grow = good_steps == self.growth_interval
        self.scale = torch.where(overflow, self.scale * self.backoff_factor,
                                 torch.where(grow, self.scale * self.growth_factor, self.scale))
        self.good_steps = torch.where(grow, 0, good_steps)

    def state_dict(self) -> Dict[str, Any]:
        """Return torch.amp.GradScaler's keys, which V2's checkpoints hold."""
        return dict(
            scale=self.scale.item(),
            growth_factor=self.growth_factor,
            backoff_factor=self.backoff_factor,
            growth_interval=self.growth_interval,
            _growth_tracker=self.good_steps.item())

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        if self.dynamic:
            self.scale.fill_(state['scale'])
            self.good_steps.fill_(state['_growth_tracker'])


class Precision:
    """Precision of a step: float32, or float16 / bfloat16 where autocast considers it safe.

    Args:
        device: of the model.
        dtype: None (float32), torch.float16 or torch.bfloat16.
        scaler: with float16 only.
    """

    def __init__(self,
                 device: torch.device,
                 dtype: Optional[torch.dtype] = None,
                 scaler: Optional[LossScaler] = None):
        self.device = device
        self.dtype = dtype
        self.scaler = scaler

    def __repr__(self) -> str:
        return 'float32' if self.dtype is None else str(self.dtype).replace('torch.', '')

    def scale(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else loss * self.scaler.scale

    def unscale(self, gradients: List[Tensor]) -> None:
        if self.scaler is not None:
            torch._foreach_mul_(gradients, self.scaler.scale.reciprocal())

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)


def build_precision(fp16: Optional[Dict[str, Any]], device: Union[str, torch.device]) -> Precision:
    """Build the Precision of a config's `fp16`.

    V2's `dict(loss_scale=512.)` (static), `dict(loss_scale='dynamic')`,
    `dict(loss_scale=dict(init_scale=...))` (dynamic, with GradScaler's arguments); and
    `dict(dtype='bfloat16')`, which needs no scale.

    Raises UserError for anything else, and for float16 on a CPU.
    """
    device = torch.device(device)
    if fp16 is None:
        return Precision(device)
    settings = dict(fp16)
    dtype = settings.pop('dtype', 'float16')
    loss_scale = settings.pop('loss_scale', 512.)
    settings.pop('distributed', None)  # V2's argument; the engine detects it
    if settings:
        raise UserError(f'fp16 has no {", ".join(sorted(settings))}; it knows loss_scale and dtype')
    if dtype in ('bfloat16', 'bf16', torch.bfloat16):
        return Precision(device, torch.bfloat16)
    if dtype not in ('float16', 'fp16', torch.float16):
        raise UserError(f"fp16.dtype must be 'float16' or 'bfloat16', not {dtype!r}")
    if device.type == 'cpu':
        raise UserError(
            "fp16 needs a GPU: on a CPU float16 has no fast kernels and overflows. Write fp16 = None, or "
            "fp16 = dict(dtype='bfloat16'), which a CPU can do")
    if loss_scale == 'dynamic':
        scaler = LossScaler(device)
    elif isinstance(loss_scale, (int, float)):
        scaler = LossScaler(device, init_scale=loss_scale, dynamic=False)
    elif isinstance(loss_scale, dict):
        known = ('init_scale', 'growth_factor', 'backoff_factor', 'growth_interval')
        unknown = sorted(set(loss_scale) - set(known) - {'enabled', 'mode'})
        if unknown:
            raise UserError(
                f'fp16.loss_scale has no {", ".join(unknown)}; it knows {", ".join(known)}')
        scaler = LossScaler(device, **{key: loss_scale[key] for key in known if key in loss_scale})
    else:
        raise UserError(
            f"fp16.loss_scale must be a number, 'dynamic' or a dict, not {loss_scale!r}")
    return Precision(device, torch.float16, scaler)
