"""Mask head targets from polygons: rasterized at the head's size inside each positive box."""
import torch
from torch import Tensor

from mmdet_ft.structures import Outlines

# pycocotools rasterizes on a grid this much finer.
FINER = 5


def outline_targets(outlines: Outlines, image_index: Tensor, gt_index: Tensor, boxes: Tensor,
                    size: int) -> Tensor:
    """Return the ground-truth polygons inside each box, rasterized as size x size zeros and ones.

    Follows V2's PolygonMasks.crop_and_resize: polygons in box coordinates, a window at least one
    pixel wide and high, rasterized exactly as pycocotools does. The parts of an object are merged.

    image_index, gt_index int64 [T]; boxes [T, 4] in input pixels. Returns float32 [T, size, size].
    """
    start = outlines.start[image_index, gt_index][:, None]
    count = outlines.count[image_index, gt_index][:, None]
    slot = torch.arange(outlines.max_sides, device=boxes.device)
    side = (start + slot).clamp(max=max(len(outlines.sides) - 1, 0))  # [T, E]
    low = boxes[:, None, None, :2].double()
    scale = size / (boxes[:, None, None, 2:] - boxes[:, None, None, :2]).clamp(min=1).double()
    points = (outlines.sides[side].unflatten(2, (2, 2)) - low) * scale  # [T, E, 2 ends, x y]
    row, crosses = _crossings((points * FINER + .5).long(), size)  # [T, E, size] each
    crosses = crosses & (slot < count)[..., None]

    # Number of boundary crossings above a pixel in its column, part by part.
    column = torch.arange(size, device=boxes.device)
    index = (outlines.part[side][..., None] * size + column) * (size + 1) + row
    crossings = boxes.new_zeros(len(boxes), max(outlines.max_parts, 1) * size * (size + 1))
    crossings.scatter_add_(1, index.flatten(1), crosses.to(crossings.dtype).flatten(1))
    above = crossings.view(len(boxes), -1, size, size + 1)[..., :size].cumsum(-1)  # by x, y
    return (above % 2 > 0).any(1).transpose(1, 2).to(boxes.dtype)


def _crossings(ends: Tensor, size: int):
    """Find where sides cross column centers: pycocotools' rleFrPoly without its boundary walk.

    ends int64 [T, E, 2, 2], both ends (x, y) of each side on the finer grid. Returns the first row
    below the crossing, int64 [T, E, size] in 0..size, and whether there is a crossing.
    """
    (xs, ys), (xe, ye) = (end.unbind(-1) for end in ends.unbind(2))
    flat = (xe - xs).abs() >= (ye - ys).abs()  # one step in x, or one in y, is one point
    swap = torch.where(flat, xs > xe, ys > ye)
    xs, ys, xe, ye = (torch.where(swap, b, a)[..., None]
                      for a, b in ((xs, xe), (ys, ye), (xe, xs), (ye, ys)))
    flat = flat[..., None]
    centre = torch.arange(size, device=ends.device) * FINER + FINER // 2
    crosses = (torch.minimum(xs, xe) <= centre) & (centre < torch.maximum(xs, xe))

    slope = (ye - ys).double() / (xe - xs).clamp(min=1)
    step = centre - xs
    along_x = torch.minimum((ys + slope * step + .5).long(), (ys + slope * (step + 1) + .5).long())

    slope = (xe - xs).double() / (ye - ys).clamp(min=1)
    rises = slope > 0

    def is_past(step: Tensor) -> Tensor:
        x = (xs + slope * step + .5).long()
        return torch.where(rises, x > centre, x <= centre)

    # The first step past the center, up to the rounding of the division: one to either side.
    safe = torch.where(slope == 0, 1., slope)
    step = ((centre + .5 - xs) / safe).ceil().long()
    step = step - is_past(step - 1).long()
    step = step + (~is_past(step)).long()
    along_y = ys + step - 1

    y = torch.where(flat, along_x, along_y)
    return ((y + .5) / FINER - .5).clamp(0, size).ceil().long(), crosses
