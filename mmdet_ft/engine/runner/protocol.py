"""A runner as hooks see it: V2's attributes and methods, and those that the package's own hooks need."""
import logging
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol, Tuple, Union

import torch
from torch import nn

from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.reporting.meters import FiniteLatch, LogBuffer
from mmdet_ft.engine.schedules.groups import Schedules
from mmdet_ft.engine.schedules.schedule import Progress
from mmdet_ft.engine.speed.precision import Precision

if TYPE_CHECKING:
    from mmdet_ft.engine.runner.hook import Hook, Priority
    from mmdet_ft.engine.runner.resume_state import Call, Resumed


class Runner(Protocol):
    """A run in progress; BaseRunner is the implementation, and tests have smaller ones."""
    by_epoch: bool
    # the run
    model: nn.Module  # possibly in DistributedDataParallel
    optimizer: Optional[torch.optim.Optimizer]
    schedules: Schedules
    update: Update
    precision: Precision
    latch: FiniteLatch
    device: torch.device
    seed: int
    rank: int
    world_size: int
    hooks: 'List[Hook]'
    # its output
    work_dir: str
    logger: logging.Logger
    log_buffer: LogBuffer
    meta: Dict[str, Any]  # config, seed, exp_name, env_info, hook_msgs
    timestamp: str
    run_id: str
    # its progress
    mode: Optional[str]  # 'train' or 'val'
    epoch: int
    iter: int
    inner_iter: int
    start_iter: int
    max_epochs: Optional[int]
    max_iters: Optional[int]
    epoch_length: int  # in iterations
    stop_reason: Optional[str]  # set by a hook to end the run early
    calling: 'Optional[Call]'
    resumed: 'Resumed'
    # this iteration
    data_loader: Any
    data_batch: Any
    outputs: Dict[str, Any]  # 'loss' and 'log_vars', tensors on the device; 'num_samples'

    @property
    def model_name(self) -> str:
        ...

    @property
    def progress(self) -> Progress:
        ...

    def current_lr(self) -> List[float]:
        ...

    def current_momentum(self) -> List[float]:
        ...

    def register_hook(self, hook: 'Hook', priority: 'Union[int, str, Priority]' = ...) -> None:
        ...

    def read_meters(self, n: int) -> None:
        ...

    def check_finite(self) -> None:
        ...

    def broadcast_norm_buffers(self) -> None:
        ...

    def num_done(self) -> Tuple[int, int]:
        ...

    def iterations_done(self) -> int:
        ...

    def save_checkpoint(self,
                        out_dir: str,
                        filename_tmpl: Optional[str] = None,
                        save_optimizer: bool = True,
                        meta: Optional[Dict[str, Any]] = None,
                        create_symlink: bool = True) -> None:
        ...
