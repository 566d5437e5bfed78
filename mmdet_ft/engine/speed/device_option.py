"""The `--device` of a command, read before torch is imported."""
import os
from typing import Union

from mmdet_ft.errors import UsageError


def take_device_option(name: Union[str, None]) -> Union[int, None]:
    """Apply `--device` of a command: 'cpu' hides the GPUs from torch; for 'cuda:1' returns the number.

    Returns None if the option names no particular GPU. Raises UsageError for other names.
    """
    text = (name or '').strip().lower()
    if text == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # read when torch first looks for GPUs
        return None
    kind, _, number = text.partition(':')
    if text.isdecimal() or kind in ('cuda', 'gpu') and number.isdecimal():
        return int(number or text)
    if text in ('', 'cuda', 'gpu'):
        return None
    raise UsageError(f'--device is cpu, cuda or cuda:NUMBER, not {name!r}')
