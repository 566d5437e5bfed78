"""Mask head targets: the part of the object's bitmap inside each positive box."""
from typing import List, Tuple, Union

import torch
import torchvision
from torch import Tensor

from mmdet_ft.ops.backends import triton_kernels
from mmdet_ft.ops.polygons import outline_targets
from mmdet_ft.structures import Masks, Outlines

# Pixels of the bitmaps that are unpacked at a time on a CUDA device.
MAX_PIXELS = 1 << 26


def mask_targets(masks: Union[Masks, Outlines], image_index: Tensor, gt_index: Tensor,
                 boxes: Tensor, size: int) -> Tensor:
    """Return the ground-truth bitmap inside each box, as size x size zeros and ones.

    Follows V2's BitmapMasks.crop_and_resize: RoIAlign with adaptive sampling on the bitmap, 1 where
    at least half is covered. Crops give the exact result: each has a margin of empty pixels
    wherever the image continues.

    Polygons are rasterized in the box instead, see ops.polygons.

    image_index, gt_index int64 [T]; boxes [T, 4] in input pixels. Returns float32 [T, size, size].
    """
    if isinstance(masks, Outlines):
        return outline_targets(masks, image_index, gt_index, boxes.float(), size)
    offset = masks.offset[image_index, gt_index]
    rect = masks.rect[image_index, gt_index]
    return _mask_targets(masks.data, offset, rect, boxes.float(), size, list(masks.max_size))


@torch.library.custom_op('mmdet_ft::mask_targets', mutates_args=())
def _mask_targets(data: Tensor, offset: Tensor, rect: Tensor, boxes: Tensor, size: int,
                  max_size: List[int]) -> Tensor:
    targets = boxes.new_zeros(boxes.shape[0], size, size)
    for slot, (start, (x0, y0, width, height)) in enumerate(zip(offset.tolist(), rect.tolist())):
        if width and height:
            crop = data[start:start + width * height].view(1, 1, height, width).float()
            roi = boxes[slot:slot + 1] - boxes.new_tensor([x0, y0, x0, y0])
            targets[slot] = torchvision.ops.roi_align(crop, [roi], size, 1., 0, True)[0, 0]
    return (targets >= .5).float()


@_mask_targets.register_kernel('cuda')
def _mask_targets_padded(data: Tensor, offset: Tensor, rect: Tensor, boxes: Tensor, size: int,
                         max_size: List[int]) -> Tensor:
    """Compute the targets from crops padded to one size.

    A crop ends in an empty margin or at the image border, where the padding repeats the border.
    """
    if not data.numel():  # images without objects only
        return boxes.new_zeros(boxes.shape[0], size, size)
    kernels = triton_kernels()
    if kernels is not None:
        return kernels.mask_targets(data, offset, rect, boxes, size)
    height, width = max(max_size[0], 1), max(max_size[1], 1)
    step = max(1, MAX_PIXELS // (height * width))
    x0, y0, crop_width, crop_height = rect[:, :, None, None].unbind(1)  # [T, 1, 1] each
    y = torch.arange(height, device=data.device)[:, None]
    x = torch.arange(width, device=data.device)
    parts = []
    for start in range(0, boxes.shape[0], step):
        part = slice(start, start + step)
        inside = (y <= crop_height[part]) & (x <= crop_width[part]) & (crop_width[part] > 0)
        row = torch.minimum(y, crop_height[part] - 1)
        column = torch.minimum(x, crop_width[part] - 1)
        index = (offset[part, None, None] + row * crop_width[part] + column).clamp(
            0, max(data.numel() - 1, 0))
        bitmap = data[index].masked_fill(~inside, 0).float()
        roi = boxes[part] - torch.cat([rect[part, :2], rect[part, :2]], 1)
        number = torch.arange(bitmap.shape[0], device=data.device, dtype=roi.dtype)[:, None]
        rois = torch.cat([number, roi], 1)
        parts.append(
            torch.ops.torchvision.roi_align(bitmap[:, None], rois, 1., size, size, 0, True)[:, 0])
    return (torch.cat(parts) >= .5).float() if parts else boxes.new_zeros(0, size, size)


@_mask_targets.register_fake
def _(data: Tensor, offset: Tensor, rect: Tensor, boxes: Tensor, size: int,
      max_size: List[int]) -> Tensor:
    return boxes.new_empty(boxes.shape[0], size, size)


def area_inside(masks: Masks, image_index: Tensor, gt_index: Tensor,
                boxes: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the pixels of each object inside its box, and all of them: float32 [T] each.

    As V2's BitmapMasks.crop a box is cut to whole pixels, toward zero, and has at least one in each direction.

    image_index, gt_index int64 [T]; boxes [T, 4] in input pixels.
    """
    sums = torch.nn.functional.pad(masks.data.cumsum(0, dtype=torch.int64), [1, 0])
    offset = masks.offset[image_index, gt_index]
    x, y, width, height = masks.rect[image_index, gt_index].unbind(1)
    corner = boxes[:, :2].long().clamp(min=0)
    x0, y0 = (corner - torch.stack([x, y], 1)).unbind(1)
    columns, rows = (boxes[:, 2:].long() - corner).clamp(min=1).unbind(1)
    left = torch.minimum(x0.clamp(min=0), width)
    right = torch.minimum((x0 + columns).clamp(min=0), width)
    row = torch.arange(max(masks.max_size[0], 1), device=boxes.device)  # [H] of the largest crop
    is_inside = (row >= y0[:, None]) & (row < (y0 + rows)[:, None]) & (row < height[:, None])
    start = (offset[:, None] + row * width[:, None]).masked_fill(~is_inside, 0)  # [T, H]
    part = sums[start + right[:, None] * is_inside] - sums[start + left[:, None] * is_inside]
    return part.sum(1).float(), (sums[offset + width * height] - sums[offset]).float()
