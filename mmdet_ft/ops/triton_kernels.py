"""Triton kernels of what PyTorch has no good CUDA kernel for. Imported only where they are asked
for.

    nms          greedy suppression of many problems, exact for chains of any length
    roi_align    over all levels at once, channels last, half precision in and float32 inside
    mask_targets straight from the packed crops

Each has a twin in plain PyTorch, in ops.nms, ops.roi_align and ops.masks, which is the path of CPUs
and what its test compares it with, in Triton's interpreter.
"""
from typing import List, Sequence, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 64, 256  # boxes settled at once, boxes they are held against


@triton.jit
def _overlaps(x0, y0, x1, y1, u0, v0, u1, v1, threshold):
    """Whether boxes [a] and [b] overlap by more than the threshold: [a, b]."""
    width = tl.minimum(x1[:, None], u1[None, :]) - tl.maximum(x0[:, None], u0[None, :])
    height = tl.minimum(y1[:, None], v1[None, :]) - tl.maximum(y0[:, None], v0[None, :])
    inter = tl.maximum(width, 0.) * tl.maximum(height, 0.)
    whole = ((x1 - x0) * (y1 - y0))[:, None] + ((u1 - u0) * (v1 - v0))[None, :] - inter
    return inter / whole > threshold


@triton.jit
def _load_boxes(boxes, index, inside):
    x0 = tl.load(boxes + index * 4, mask=inside, other=0.)
    y0 = tl.load(boxes + index * 4 + 1, mask=inside, other=0.)
    x1 = tl.load(boxes + index * 4 + 2, mask=inside, other=0.)
    y1 = tl.load(boxes + index * 4 + 3, mask=inside, other=0.)
    return x0, y0, x1, y1


@triton.jit
def _nms_kernel(boxes, alive, num_boxes, threshold, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One program a problem. A block of rows settles among itself by rounds to the fixed point,
    then strikes out what it overlaps further down."""
    boxes += tl.program_id(0) * num_boxes * 4
    alive += tl.program_id(0) * num_boxes
    for start in range(0, num_boxes, ROWS):
        row = start + tl.arange(0, ROWS)
        x0, y0, x1, y1 = _load_boxes(boxes, row, row < num_boxes)
        real = tl.load(alive + row, mask=row < num_boxes, other=0).to(tl.int32)
        over = _overlaps(x0, y0, x1, y1, x0, y0, x1, y1, threshold)
        over = (over & (row[:, None] < row[None, :])).to(tl.int32)  # [better, worse]
        kept = real
        changed = 1
        while changed > 0:
            settled = real * (1 - tl.max(over * kept[:, None], 0))
            changed = tl.sum(tl.abs(settled - kept), 0)
            kept = settled
        tl.store(alive + row, kept.to(tl.int8), mask=row < num_boxes)
        for first in range(start + ROWS, num_boxes, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            u0, v0, u1, v1 = _load_boxes(boxes, column, column < num_boxes)
            over = _overlaps(x0, y0, x1, y1, u0, v0, u1, v1, threshold).to(tl.int32)
            struck = tl.max(over * kept[:, None], 0)
            left = tl.load(alive + column, mask=column < num_boxes, other=0)
            left = left * (1 - struck).to(tl.int8)
            tl.store(alive + column, left, mask=column < num_boxes)
        tl.debug_barrier()  # the next rows were written by other threads


def nms(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Survivors of boxes float32 [R, N, 4] that are sorted, best first; valid [R, N]. Bool [R,
    N]."""
    alive = valid.to(torch.int8).contiguous()
    num_problems, num_boxes = alive.shape
    if num_problems and num_boxes:
        _nms_kernel[(num_problems, )](
            boxes.contiguous(), alive, num_boxes, iou_threshold, ROWS=ROWS, COLUMNS=COLUMNS)
    return alive.bool()


@triton.jit
def _of_level(level, a0, a1, a2, a3, a4):
    return tl.where(
        level == 0, a0,
        tl.where(level == 1, a1, tl.where(level == 2, a2, tl.where(level == 3, a3, a4))))


@triton.jit
def _corners(y, x, height, width):
    """Places of the four pixels around a point and the point's place between them; whether it
    counts, as 1 or 0: torchvision's rules at the border."""
    inside = (y >= -1.) & (y <= height.to(tl.float32)) & (x >= -1.) & (x <= width.to(tl.float32))
    y, x = tl.maximum(y, 0.), tl.maximum(x, 0.)
    y0 = tl.minimum(y.to(tl.int32), height - 1)
    x0 = tl.minimum(x.to(tl.int32), width - 1)
    y1, x1 = tl.minimum(y0 + 1, height - 1), tl.minimum(x0 + 1, width - 1)
    y = tl.where(y0 >= height - 1, y0.to(tl.float32), y)
    x = tl.where(x0 >= width - 1, x0.to(tl.float32), x)
    down, right = y - y0, x - x0
    return inside.to(tl.float32), y0, x0, y1, x1, down, right


@triton.jit
def _roi_kernel(flat, out, rois, level, num_cells, start0, start1, start2, start3, start4, height0,
                height1, height2, height3, height4, width0, width1, width2, width3, width4, scale0,
                scale1, scale2, scale3, scale4, channels, sampling_ratio, ALIGNED: tl.constexpr,
                SIZE: tl.constexpr, BLOCK: tl.constexpr, BACKWARD: tl.constexpr):
    """One program a region and bin, all channels at once. Forward reads `flat` [B, N, C] and writes
    `out` [R, SIZE, SIZE, C]; backward adds to `flat` what `out` holds."""
    region, place = tl.program_id(0), tl.program_id(1)
    bin_y, bin_x = place // SIZE, place % SIZE
    at = tl.load(level + region)
    begin = _of_level(at, start0, start1, start2, start3, start4)
    height = _of_level(at, height0, height1, height2, height3, height4)
    width = _of_level(at, width0, width1, width2, width3, width4)
    scale = _of_level(at, scale0, scale1, scale2, scale3, scale4)
    image = tl.load(rois + region * 5).to(tl.int32)
    shift = 0.5 if ALIGNED else 0.
    left = tl.load(rois + region * 5 + 1) * scale - shift
    top = tl.load(rois + region * 5 + 2) * scale - shift
    roi_width = tl.load(rois + region * 5 + 3) * scale - shift - left
    roi_height = tl.load(rois + region * 5 + 4) * scale - shift - top
    if not ALIGNED:
        roi_width, roi_height = tl.maximum(roi_width, 1.), tl.maximum(roi_height, 1.)
    step_y, step_x = roi_height / SIZE, roi_width / SIZE
    rows = tl.where(sampling_ratio > 0, sampling_ratio, tl.ceil(step_y).to(tl.int32))
    columns = tl.where(sampling_ratio > 0, sampling_ratio, tl.ceil(step_x).to(tl.int32))
    count = tl.maximum(rows * columns, 1).to(tl.float32)

    channel = tl.arange(0, BLOCK)
    here = channel < channels
    out += (region * SIZE * SIZE + place).to(tl.int64) * channels + channel
    flat += (image.to(tl.int64) * num_cells + begin) * channels + channel
    total = tl.zeros((BLOCK, ), tl.float32)
    if BACKWARD:
        total = tl.load(out, mask=here, other=0.).to(tl.float32) / count
    for row in range(rows):
        y = top + bin_y * step_y + (row + .5) * step_y / rows
        for column in range(columns):
            x = left + bin_x * step_x + (column + .5) * step_x / columns
            inside, y0, x0, y1, x1, down, right = _corners(y, x, height, width)
            up, down = (1 - down) * inside, down * inside
            a, b = flat + (y0 * width + x0) * channels, flat + (y0 * width + x1) * channels
            c, d = flat + (y1 * width + x0) * channels, flat + (y1 * width + x1) * channels
            if BACKWARD:
                tl.atomic_add(a, total * (up * (1 - right)), mask=here)
                tl.atomic_add(b, total * (up * right), mask=here)
                tl.atomic_add(c, total * (down * (1 - right)), mask=here)
                tl.atomic_add(d, total * (down * right), mask=here)
            else:
                total += up * (1 - right) * tl.load(a, mask=here, other=0.).to(tl.float32)
                total += up * right * tl.load(b, mask=here, other=0.).to(tl.float32)
                total += down * (1 - right) * tl.load(c, mask=here, other=0.).to(tl.float32)
                total += down * right * tl.load(d, mask=here, other=0.).to(tl.float32)
    if not BACKWARD:
        tl.store(out, (total / count).to(out.dtype.element_ty), mask=here)


def _launch(flat: Tensor, out: Tensor, rois: Tensor, level: Tensor, scales: Sequence[float],
            sizes: Sequence[Tuple[int, int]], sampling_ratio: int, aligned: bool,
            backward: bool) -> None:
    assert len(sizes) <= 5, 'the kernel knows five levels'
    starts, start = [], 0
    for height, width in sizes:
        starts.append(start)
        start += height * width
    missing = 5 - len(sizes)
    levels = [
        list(numbers) + [numbers[0]] * missing
        for numbers in (starts, [size[0] for size in sizes], [size[1] for size in sizes], scales)
    ]
    num_rois, size, _, channels = out.shape
    if num_rois:
        _roi_kernel[(num_rois, size * size)](
            flat,
            out,
            rois.float().contiguous(),
            level.int(),
            start,
            *(number for numbers in levels for number in numbers),
            channels,
            sampling_ratio,
            ALIGNED=aligned,
            SIZE=size,
            BLOCK=triton.next_power_of_2(channels),
            BACKWARD=backward)


def roi_align(features: Sequence[Tensor], rois: Tensor, level: Tensor, scales: Sequence[float],
              output_size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """As ops.roi_align.multi_level_roi_align; [R, C, size, size], channels last in memory."""
    flat = torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in features], 1)  # [B, N, C]
    out = flat.new_empty(rois.shape[0], output_size, output_size, flat.shape[2])
    sizes = [tuple(x.shape[2:]) for x in features]
    _launch(flat, out, rois, level, scales, sizes, sampling_ratio, aligned, False)
    return out.permute(0, 3, 1, 2)


def roi_align_backward(grad: Tensor, rois: Tensor, level: Tensor, scales: Sequence[float],
                       sampling_ratio: int, aligned: bool, batch: int,
                       sizes: Sequence[Tuple[int, int]]) -> List[Tensor]:
    """Gradients of all maps, float32 [B, C, H_l, W_l], channels last; grad [R, C, size, size]."""
    channels = grad.shape[1]
    cells = [height * width for height, width in sizes]
    flat = torch.zeros(batch, sum(cells), channels, device=grad.device)
    rows = grad.permute(0, 2, 3, 1).contiguous()
    _launch(flat, rows, rois, level, scales, sizes, sampling_ratio, aligned, True)
    return [
        part.view(batch, *size, channels).permute(0, 3, 1, 2)
        for part, size in zip(flat.split(cells, 1), sizes)
    ]


@triton.jit
def _mask_kernel(data, offset, rect, boxes, targets, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One program a box: RoIAlign with adaptive sampling on its object's crop, one from a half
    up."""
    slot = tl.program_id(0)
    data += tl.load(offset + slot)
    left, top = tl.load(rect + slot * 4), tl.load(rect + slot * 4 + 1)
    width = tl.load(rect + slot * 4 + 2).to(tl.int32)
    height = tl.load(rect + slot * 4 + 3).to(tl.int32)
    x0 = tl.load(boxes + slot * 4) - left - .5
    y0 = tl.load(boxes + slot * 4 + 1) - top - .5
    step_x = (tl.load(boxes + slot * 4 + 2) - left - .5 - x0) / SIZE
    step_y = (tl.load(boxes + slot * 4 + 3) - top - .5 - y0) / SIZE
    rows, columns = tl.ceil(step_y).to(tl.int32), tl.ceil(step_x).to(tl.int32)
    place = tl.arange(0, BLOCK)
    here = place < tl.where((width > 0) & (height > 0), SIZE * SIZE, 0)  # nothing of an empty crop
    total = tl.zeros((BLOCK, ), tl.float32)
    for row in range(rows):
        y = y0 + (place // SIZE) * step_y + (row + .5) * step_y / rows
        for column in range(columns):
            x = x0 + (place % SIZE) * step_x + (column + .5) * step_x / columns
            inside, a, b, c, d, down, right = _corners(y, x, height, width)
            value = (1 - down) * (1 - right) * tl.load(data + a * width + b, mask=here, other=0)
            value += (1 - down) * right * tl.load(data + a * width + d, mask=here, other=0)
            value += down * (1 - right) * tl.load(data + c * width + b, mask=here, other=0)
            value += down * right * tl.load(data + c * width + d, mask=here, other=0)
            total += inside * value
    covered = total / tl.maximum(rows * columns, 1) >= .5
    tl.store(targets + slot * SIZE * SIZE + place, covered.to(tl.float32), mask=place < SIZE * SIZE)


def mask_targets(data: Tensor, offset: Tensor, rect: Tensor, boxes: Tensor, size: int) -> Tensor:
    """As ops.masks.mask_targets for chosen crops: offset [T], rect [T, 4], boxes float32 [T, 4]."""
    targets = boxes.new_empty(boxes.shape[0], size, size)
    if len(boxes):
        _mask_kernel[(len(boxes), )](
            data,
            offset.contiguous(),
            rect.contiguous(),
            boxes.contiguous(),
            targets,
            SIZE=size,
            BLOCK=triton.next_power_of_2(size * size))
    return targets
