"""Random boxes, and garbage for padding."""
import torch

GARBAGE = [float('nan'), 1e30, -float('inf')]


def random_boxes(*shape: int,
                 size: float = 100.,
                 generator: torch.Generator = None) -> torch.Tensor:
    corner = torch.rand(*shape, 2, generator=generator) * size * .8
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2, generator=generator) * size * .4],
                     -1)
