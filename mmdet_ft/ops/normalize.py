"""Normalization of image batches on the device."""
import torch
from torch import Tensor

from mmdet_ft.structures import Batch


def normalize_images(batch: Batch) -> Tensor:
    """Return the images in float32, normalized, with zeros in the padding: [B, C, H, W].

    Images transferred as uint8 are normalized here, which equals V2's Normalize before its Pad;
    others were normalized in the pipeline.
    """
    images = batch.images
    if batch.mean is None:
        return images
    assert batch.std is not None, 'a mean has a std'
    # Dividing, not multiplying by the inverse, equals OpenCV in V2's pipeline bit for bit.
    images = (images.float() - batch.mean[:, :, None, None]) / batch.std[:, :, None, None]
    height, width = images.shape[2:]
    row = torch.arange(
        height, device=images.device)[:, None] < batch.sizes[:, 0, None, None]  # [B, H, 1]
    column = torch.arange(width, device=images.device) < batch.sizes[:, 1, None, None]  # [B, 1, W]
    return images * (row & column)[:, None]
