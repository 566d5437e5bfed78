"""Settings of `optimizer_config`, between the gradients and the step."""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.engine.errors import UserError

# V2's hook types as `optimizer_config.type`: the loop does their work.
OPTIMIZER_HOOKS = ('OptimizerHook', 'Fp16OptimizerHook', 'GradientCumulativeOptimizerHook',
                   'GradientCumulativeFp16OptimizerHook')
# Arguments of V2's optimizer hooks without effect: DistributedDataParallel decides how gradients
# are reduced.
INERT_OF_UPDATE = ('detect_anomalous_params', 'coalesce', 'bucket_size_mb', 'distributed')


class Update(NamedTuple):
    """`optimizer_config`: gradient clipping and accumulation.

    grad_clip: arguments of torch.nn.utils.clip_grad_norm_, or None. cumulative_iters: iterations
    whose gradients make one step; the last window of a run may be shorter.
    """
    grad_clip: Optional[Dict[str, Any]] = None
    cumulative_iters: int = 1

    def window(self, iteration: int, max_iters: int) -> Tuple[int, bool, bool]:
        """Return (length of the window of `iteration`, whether it is the first, the last of the window)."""
        index = iteration % self.cumulative_iters
        length = min(self.cumulative_iters, max_iters - iteration + index)
        return length, index == 0, index + 1 == length

    def clip(self, parameters: List[Tensor]) -> Tensor:
        """Clip the gradients if configured; returns their norm before."""
        if self.grad_clip is not None:
            return nn.utils.clip_grad_norm_(parameters, **self.grad_clip)
        return torch.stack(torch._foreach_norm([parameter.grad for parameter in parameters])).norm()


def read_update(optimizer_config: Optional[Dict[str, Any]]) -> Update:
    """Read `optimizer_config` into an Update: `grad_clip`, `cumulative_iters`."""
    settings = dict(optimizer_config or {})
    kind = settings.pop('type', 'OptimizerHook')
    if kind not in OPTIMIZER_HOOKS:
        raise UserError(
            f'unknown optimizer_config.type {kind!r}; there are {", ".join(OPTIMIZER_HOOKS)}, and none is needed'
        )
    for name in INERT_OF_UPDATE:
        settings.pop(name, None)
    if 'Fp16' in kind:
        settings.pop('loss_scale', None)  # see read_fp16
    unknown = sorted(set(settings) - set(Update._fields))
    if unknown:
        raise UserError(
            f'optimizer_config has no {", ".join(unknown)}; it knows {", ".join(Update._fields)}')
    update = Update(**settings)
    if update.cumulative_iters < 1:
        raise UserError(
            f'optimizer_config.cumulative_iters must be at least 1, not {update.cumulative_iters}')
    return update
