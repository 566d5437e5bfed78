"""The choice of kernels for the operators on a CUDA device."""
import importlib
from typing import Any, Optional

import torch

_kernels: Any = None


def use_triton(wanted: bool, device: Optional[torch.device] = None) -> Optional[str]:
    """Switch the Triton kernels on or off; return why they are unavailable, or None.

    With a device, launch one kernel there first: Triton may be installed without the compiler that
    it calls, or may not support the GPU.
    """
    global _kernels
    _kernels = None
    if wanted:
        try:
            kernels = importlib.import_module('mmdet_ft.ops.triton_kernels')
            if device is not None:
                one = torch.ones(1, 1, dtype=torch.bool, device=device)
                kernels.nms(torch.ones(1, 1, 4, device=device), one, .5)
        except Exception as error:  # of many types
            return (str(error).strip() or type(error).__name__).splitlines()[0]
        _kernels = kernels
    return None


def triton_kernels() -> Any:
    """Return the module of the Triton kernels if they are switched on, else None."""
    return _kernels
