"""Settings of worker processes, and of the process that starts them."""
import gc
import os
import platform
from typing import Optional

import cv2
import torch
from torch import Tensor

from mmdet_ft.processes import (end_with_parent, keep_freed_memory, leave_signals_to_parent,
                                show_stack_on_signal)


def init_worker(worker_id: int, pids: Optional[Tensor] = None) -> None:
    """Set up a worker: one thread each, because OpenCV and torch would start one per core in every worker.

    pids: int64 [workers] in shared memory, which takes the process id once it shows its stack on SIGUSR2.
    """
    gc.freeze()  # garbage of the parent, perhaps on a GPU, must not be freed by this process
    end_with_parent()
    leave_signals_to_parent()
    shows_stack = show_stack_on_signal()  # for the watchdog, when this process hangs
    keep_freed_memory()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if pids is not None and shows_stack:
        pids[worker_id] = os.getpid()


def raise_open_file_limit(wanted: int = 4096) -> None:
    """Raise the open file limit of this process for tensors in flight: each one in shared memory is a file."""
    if platform.system() == 'Windows':
        return
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (wanted if hard == unlimited else min(wanted, hard), hard))
