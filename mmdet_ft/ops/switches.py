"""Which kernels the operators use on a CUDA device."""
import importlib
from typing import Any, Optional

_kernels: Any = None


def use_triton(wanted: bool) -> Optional[str]:
    """Switch the Triton kernels on or off; why they cannot be had, or None."""
    global _kernels
    _kernels = None
    if wanted:
        try:
            _kernels = importlib.import_module('mmdet_ft.ops.triton_kernels')
        except ImportError as error:
            return str(error)
    return None


def triton_kernels() -> Any:
    """The module of the kernels where they are switched on, else None."""
    return _kernels
