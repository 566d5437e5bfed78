"""Pixels as the network wants them."""
import torch
from torch import Tensor

from mmdet_ft.structures import Batch


def normalised_images(batch: Batch) -> Tensor:
    """The images in float32, mean and std applied, zero where there is only padding: [B, C, H, W].

    Images that travelled as uint8 are normalised here, which is V2's Normalize before its Pad;
    others were in the pipeline.
    """
    images = batch.images
    if batch.mean is None:
        return images
    # Divided, not multiplied by the inverse: then all bits are those of OpenCV in V2's pipeline.
    images = (images.float() - batch.mean[:, :, None, None]) / batch.std[:, :, None, None]
    height, width = images.shape[2:]
    row = torch.arange(
        height, device=images.device)[:, None] < batch.sizes[:, 0, None, None]  # [B, H, 1]
    column = torch.arange(width, device=images.device) < batch.sizes[:, 1, None, None]  # [B, 1, W]
    return images * (row & column)[:, None]
