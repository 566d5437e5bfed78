"""3x3 neighborhoods of single cells, gathered from the maps of all levels."""
from typing import Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def neighbour_table(sizes: Sequence[Tuple[int, int]], device: torch.device) -> Tensor:
    """Return the 3x3 neighbors of every cell, row by row: int32 [N, 9] for N cells of all levels.

    sizes (h, w) of each level. Cells are counted level by level, row by row; index N denotes a cell
    outside the map.
    """
    num_cells = sum(height * width for height, width in sizes)
    tables, start = [], 0
    for height, width in sizes:
        cell = torch.arange(start, start + height * width, dtype=torch.int32, device=device)
        framed = F.pad(cell.view(height, width), (1, 1, 1, 1), value=num_cells)
        tables.append(framed.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9))
        start += height * width
    return torch.cat(tables)


def take_patches(features: Sequence[Tensor], neighbours: Tensor) -> Tensor:
    """Gather the features around some cells, zero outside their map.

    These are the inputs of a 3x3 convolution with padding at the cells.

    features [B, C, H_l, W_l] of each level; neighbours int [B, S, 9], rows of `neighbour_table`.
    Returns [B, S, C * 9], in the order of a convolution's weight.
    """
    num_images, channels = features[0].shape[:2]
    maps = [x.flatten(2) for x in features] + [features[0].new_zeros(num_images, channels, 1)]
    index = neighbours.long().flatten(1)  # [B, S * 9]
    # Channels-last maps keep their memory format, in the gradient too: transposing all maps of a
    # step twice would take longer than everything else here.
    if features[0].is_contiguous():
        flat = torch.cat(maps, 2)  # [B, C, N + 1]
        patches = flat.gather(2, index[:, None].expand(-1, channels, -1))
    else:
        flat = torch.cat([x.mT for x in maps], 1)  # [B, N + 1, C]
        patches = flat.gather(1, index[..., None].expand(-1, -1, channels)).mT
    return patches.unflatten(2, (-1, 9)).transpose(1, 2).flatten(2)
