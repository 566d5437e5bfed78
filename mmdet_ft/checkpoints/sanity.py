"""Checks for weights that are invalid for any model."""
from typing import List, Mapping, Optional

import torch
from torch import Tensor


def find_faults(given: Mapping[str, Tensor],
                own: Optional[Mapping[str, Tensor]] = None) -> List[str]:
    """Return what is wrong with the values of a state_dict: a line each for the first three weights.

    A NaN or infinite weight makes every loss NaN from the first step: the run that wrote the file
    had diverged. Minus infinity is allowed because masks contain it. `own`: the model's state_dict,
    whose kinds of dtypes (floating point, integer) must be the same.
    """
    faults: List[str] = []
    for name, value in given.items():
        if value.dtype.itemsize == 1 and value.is_floating_point():
            value = value.float()  # 8-bit floats cannot be summed
        mine = value if own is None else own[name]
        if value.is_complex() or value.is_floating_point() != mine.is_floating_point():
            faults.append(f'{name} is of {value.dtype}' +
                          ('' if mine is value else f', the model has {mine.dtype}'))
        elif value.is_floating_point() and not _is_finite(value):
            bad = int((value.isnan() | (value == float('inf'))).sum())
            faults.append(
                f'{bad} of {value.numel()} numbers of {name} are NaN or infinite, so whatever wrote them '
                'had diverged: take an earlier checkpoint')
    if len(faults) > 3:
        faults[3:] = [f'so it is with {len(faults) - 3} more weights']
    return faults


def _is_finite(value: Tensor) -> bool:
    """Check by the sum, which needs no memory and propagates NaN and infinity."""
    total = value.sum(dtype=torch.float64 if value.dtype == torch.float64 else torch.float32)
    if total < float('inf'):  # False for NaN too
        return True
    return not bool((value.isnan() | (value == float('inf'))).any())  # a sum may overflow
