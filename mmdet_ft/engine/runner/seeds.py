"""Seeds of the random numbers of a run."""
import numbers
import os
import random

import numpy as np
import torch
from torch import nn

from mmdet_ft.errors import UserError


def require_seed(seed: int) -> None:
    """Raise UserError for a seed that random generators refuse."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise UserError(f'a seed is a whole number from 0 on, not {seed!r}')


def seed_everything(seed: int, deterministic: bool = False) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(
            True, warn_only=True)  # warns about operations without a deterministic version


def seed_of(seed: int, iteration: int, rank: int) -> int:
    """Mix a seed of 63 bits for a step from seed, iteration and rank.

    (A splitmix64 round for each: neighboring iterations and ranks share nothing.)
    """
    mixed = 0
    for number in (seed, iteration, rank):
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        mixed ^= mixed >> 31
    return mixed >> 1


def begin_step(model: nn.Module, iteration: int, seed: int) -> None:
    """Call the model's `begin_step(iteration, seed)`, if it has one: for choices that all ranks must share."""
    begin = getattr(getattr(model, 'module', model), 'begin_step', None)
    if begin is not None:
        begin(iteration, seed)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of the model's device.

    torch.manual_seed would seed every kind of device. For each missing one it formats a stack trace
    and keeps it: milliseconds per step, and unbounded memory.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == 'cuda':
        torch.cuda.manual_seed(seed)
    elif device.type != 'cpu':
        torch.manual_seed(seed)
