"""Parsing of device names."""
import logging
from typing import List, Union

import torch

from mmdet_ft.errors import UsageError

Device = Union[str, int, torch.device, None]
logger = logging.getLogger('mmdet_ft')


def devices_here() -> List[str]:
    """List the devices of this machine, as torch names them."""
    names = ['cpu'] + [f'cuda:{number}' for number in range(torch.cuda.device_count())]
    return names + ['mps'] if _has_mps() else names


def _has_mps() -> bool:
    mps = getattr(torch.backends, 'mps', None)
    return mps is not None and mps.is_available()


def read_device(name: Device) -> torch.device:
    """Read the name of a device: 'cpu', 'cuda:1', 'cuda' or 'gpu', '1' or 1 (the number of a GPU), 'mps'.

    None is the first GPU. Without CUDA a CUDA device becomes the CPU, with a line in the log.

    Raises UsageError for a device that this machine lacks.
    """
    text = str(name).strip().lower()
    if name is None or text in ('gpu', 'cuda', 'none'):
        text = 'cuda:0'
    elif text.isdecimal():
        text = f'cuda:{int(text)}'
    try:
        device = torch.device(text)
    except RuntimeError:
        raise UsageError(_refusal(name)) from None
    if device.type == 'cuda' and not torch.cuda.is_available():
        logger.info('no CUDA device is here: running on the CPU')
        return torch.device('cpu')
    if device.type == 'cpu' and not device.index:
        return torch.device('cpu')
    if str(device) not in devices_here():
        raise UsageError(_refusal(name))
    return device


def _refusal(name: Device) -> str:
    return f'device {name!r}: the devices here are {", ".join(devices_here())}'
