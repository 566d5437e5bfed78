"""Triton kernels for operators that have no good CUDA kernel in PyTorch. Imported only on request.

    nms          greedy suppression of many problems, exact for chains of any length
    roi_align    over all levels at once, channels last, half precision in and float32 inside
    mask_targets straight from the packed crops

Each has a counterpart in plain PyTorch, in ops.nms, ops.roi_align and ops.masks. It is the path of
CPUs and the reference of the kernel's test, which runs in Triton's interpreter. Another test
compiles every launch to GPU machine code, without a GPU.

Triton's `/` is not IEEE-rounded. tl.div_rn is used where a threshold or a number of samples depends
on the quotient (14 / 7 must not be slightly more than 2).
"""
from typing import List, Sequence, Tuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 64, 128  # boxes resolved at once, boxes they are compared with
LEVELS = 5  # levels that the RoIAlign kernels take
PARTS = 8  # programs that share the pixels of a region


@triton.jit
def _overlaps(x0, y0, x1, y1, u0, v0, u1, v1, threshold, margin):
    """Check whether boxes [a] and [b] overlap by more than the threshold: [a, b].

    A quotient rounds to more than the threshold if it is more than half of the threshold's last bit
    above it. This test costs a third of a division.
    """
    width = tl.minimum(x1[:, None], u1[None, :]) - tl.maximum(x0[:, None], u0[None, :])
    height = tl.minimum(y1[:, None], v1[None, :]) - tl.maximum(y0[:, None], v0[None, :])
    inter = tl.maximum(width, 0.) * tl.maximum(height, 0.)
    whole = ((x1 - x0) * (y1 - y0))[:, None] + ((u1 - u0) * (v1 - v0))[None, :] - inter
    return (tl.fma(whole, -threshold, inter) > whole * margin) & (inter > 0.)


@triton.jit
def _load_boxes(boxes, index, inside):
    x0 = tl.load(boxes + index * 4, mask=inside, other=0.)
    y0 = tl.load(boxes + index * 4 + 1, mask=inside, other=0.)
    x1 = tl.load(boxes + index * 4 + 2, mask=inside, other=0.)
    y1 = tl.load(boxes + index * 4 + 3, mask=inside, other=0.)
    return x0, y0, x1, y1


@triton.jit(do_not_specialize=['num_boxes'])
def _nms_kernel(boxes, alive, num_boxes, threshold, margin, ROWS: tl.constexpr,
                COLUMNS: tl.constexpr):
    """Run greedy suppression, one program per problem.

    A block of rows resolves itself by rounds to the fixed point, then removes later boxes it
    overlaps.
    """
    boxes += tl.program_id(0).to(tl.int64) * num_boxes * 4
    alive += tl.program_id(0).to(tl.int64) * num_boxes
    for start in range(0, num_boxes, ROWS):
        row = start + tl.arange(0, ROWS)
        x0, y0, x1, y1 = _load_boxes(boxes, row, row < num_boxes)
        real = tl.load(alive + row, mask=row < num_boxes, other=0).to(tl.int32)
        worse = _overlaps(x0, y0, x1, y1, x0, y0, x1, y1, threshold, margin)
        worse = (worse & (row[:, None] < row[None, :])).to(tl.int32)  # [better, worse]
        kept = real
        changed = 1
        while changed > 0:
            settled = real * (1 - tl.max(worse * kept[:, None], 0))
            changed = tl.sum(tl.abs(settled - kept), 0)
            kept = settled
        tl.store(alive + row, kept.to(tl.int8), mask=row < num_boxes)
        for first in range(start + ROWS, num_boxes, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            u0, v0, u1, v1 = _load_boxes(boxes, column, column < num_boxes)
            over = _overlaps(x0, y0, x1, y1, u0, v0, u1, v1, threshold, margin)
            struck = tl.max((over & (kept[:, None] > 0)).to(tl.int32), 0)
            left = tl.load(alive + column, mask=column < num_boxes, other=0)
            left = left * (1 - struck).to(tl.int8)
            tl.store(alive + column, left, mask=column < num_boxes)
        tl.debug_barrier()  # the next rows were written by other threads


def nms(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Return survivors, bool [R, N], of sorted boxes float32 [R, N, 4], best first; valid [R, N]."""
    alive = valid.to(torch.int8).contiguous()
    num_problems, num_boxes = alive.shape
    if alive.numel():
        with torch.cuda.device_of(alive):
            _nms_kernel[(num_problems, )](
                boxes.contiguous(),
                alive,
                num_boxes,
                iou_threshold,
                float(np.spacing(np.float32(iou_threshold)) / 2),
                ROWS=ROWS,
                COLUMNS=COLUMNS,
                num_warps=16,
                enable_fp_fusion=True)
    return alive.bool()


@triton.jit
def _of_level(level, a0, a1, a2, a3, a4):
    return tl.where(
        level == 0, a0,
        tl.where(level == 1, a1, tl.where(level == 2, a2, tl.where(level == 3, a3, a4))))


@triton.jit
def _corners(y, x, height, width):
    """Return the indices of the four pixels around a point, the point's offsets between them, and
    whether it counts, as 1 or 0: torchvision's rules at the border."""
    inside = (y >= -1.) & (y <= height.to(tl.float32)) & (x >= -1.) & (x <= width.to(tl.float32))
    y, x = tl.where(y > 0., y, 0.), tl.where(x > 0., x, 0.)  # 0 for NaN too
    y0 = tl.minimum(y.to(tl.int32), height - 1)
    x0 = tl.minimum(x.to(tl.int32), width - 1)
    y1, x1 = tl.minimum(y0 + 1, height - 1), tl.minimum(x0 + 1, width - 1)
    y = tl.where(y0 >= height - 1, y0.to(tl.float32), y)
    x = tl.where(x0 >= width - 1, x0.to(tl.float32), x)
    down, right = y - y0, x - x0
    return inside.to(tl.float32), y0, x0, y1, x1, down, right


@triton.jit
def _axis(ends, scale, ALIGNED: tl.constexpr, SIZE: tl.constexpr, SAMPLES: tl.constexpr):
    """Return start, bin width and number of samples of a region along one axis of its map.

    `ends` is the address of the region's lower end.
    """
    shift = 0.5 if ALIGNED else 0.
    start = tl.load(ends) * scale - shift
    extent = tl.load(ends + 2) * scale - shift - start
    if not ALIGNED:
        extent = tl.maximum(extent, 1.)
    step = tl.div_rn(extent, SIZE)
    if SAMPLES > 0:
        samples = tl.full((), SAMPLES, tl.int32)
    else:
        samples = tl.ceil(step).to(tl.int32)
    return start, step, samples


# They change with the batch size: compiling a kernel again for 1, and for multiples of 16, would
# interrupt training on varying sizes again and again.
SIZES = [f'{name}{level}' for name in ('height', 'width') for level in range(LEVELS)]


@triton.jit(do_not_specialize=SIZES)
def _pool_kernel(map0, map1, map2, map3, map4, height0, height1, height2, height3, height4, width0,
                 width1, width2, width3, width4, scale0, scale1, scale2, scale3, scale4, rois,
                 level, out, CHANNELS: tl.constexpr, SAMPLES: tl.constexpr, ALIGNED: tl.constexpr,
                 SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Pool a region and bin per program, all channels: maps [B, H, W, C] -> out [R, SIZE, SIZE, C]."""
    program = tl.program_id(0)
    region, index = program // (SIZE * SIZE), program % (SIZE * SIZE)
    at = tl.load(level + region)
    height = _of_level(at, height0, height1, height2, height3, height4)
    width = _of_level(at, width0, width1, width2, width3, width4)
    scale = _of_level(at, scale0, scale1, scale2, scale3, scale4)
    top, step_y, rows = _axis(rois + region * 5 + 2, scale, ALIGNED, SIZE, SAMPLES)
    left, step_x, columns = _axis(rois + region * 5 + 1, scale, ALIGNED, SIZE, SAMPLES)
    top += (index // SIZE) * step_y
    left += (index % SIZE) * step_x
    between_y, between_x = step_y / rows, step_x / columns

    channel = tl.arange(0, BLOCK)
    here = channel < CHANNELS
    image = tl.load(rois + region * 5).to(tl.int64)
    cells = _of_level(at, map0, map1, map2, map3,
                      map4) + image * height * width * CHANNELS + channel
    total = tl.zeros((BLOCK, ), tl.float32)
    for row in range(rows):
        for column in range(columns):
            inside, y0, x0, y1, x1, down, right = _corners(top + (row + .5) * between_y,
                                                           left + (column + .5) * between_x, height,
                                                           width)
            up, down = (1 - down) * inside, down * inside
            a = tl.load(cells + (y0 * width + x0) * CHANNELS, mask=here, other=0.)
            b = tl.load(cells + (y0 * width + x1) * CHANNELS, mask=here, other=0.)
            c = tl.load(cells + (y1 * width + x0) * CHANNELS, mask=here, other=0.)
            d = tl.load(cells + (y1 * width + x1) * CHANNELS, mask=here, other=0.)
            total += up * (1 - right) * a.to(tl.float32)
            total += up * right * b.to(tl.float32)
            total += down * (1 - right) * c.to(tl.float32)
            total += down * right * d.to(tl.float32)
    total *= 1. / tl.maximum(rows * columns, 1)
    out += program.to(tl.int64) * CHANNELS + channel
    tl.store(out, total.to(out.dtype.element_ty), mask=here)


@triton.jit
def _touched(start, step, size, SIZE: tl.constexpr):
    """Return the first pixel that a region's samples touch along an axis, and how many they touch."""
    end = start + step * SIZE
    low, high = tl.minimum(start, end), tl.maximum(start, end)
    low = tl.minimum(tl.where(low > 0., low, 0.), size - 1.).to(tl.int32)  # 0 for NaN too
    high = tl.minimum(tl.where(high > 0., high, 0.), size - 1.).to(tl.int32)
    return low, tl.minimum(high + 1, size - 1) - low + 1


@triton.jit
def _bins(pixel, start, step, size, SIZE: tl.constexpr):
    """Return the first and the last bin with samples less than one pixel away from a pixel.

    Border pixels also receive the samples beyond the border.
    """
    low = tl.where((pixel > 0) & (step > 0), tl.floor((pixel - 1 - start) / step), 0.)
    high = tl.where((pixel < size - 1) & (step > 0), tl.floor((pixel + 1 - start) / step), SIZE)
    return (tl.maximum(low, 0.).to(tl.int32), tl.minimum(high, SIZE - 1.).to(tl.int32))


@triton.jit
def _weight(pixel, start, step, samples, size):
    """Return the weight of a pixel in a bin's samples along an axis, summed as in _corners."""
    weight = 0.
    for sample in range(samples):
        at = start + (sample + .5) * (step / samples)
        inside = (at >= -1.) & (at <= size.to(tl.float32))
        at = tl.minimum(tl.maximum(at, 0.), size - 1.)
        weight += tl.where(inside, tl.maximum(1. - tl.abs(at - pixel), 0.), 0.)
    return weight


@triton.jit(do_not_specialize=SIZES)
def _pool_backward_kernel(map0, map1, map2, map3, map4, height0, height1, height2, height3, height4,
                          width0, width1, width2, width3, width4, scale0, scale1, scale2, scale3,
                          scale4, rois, level, grad, CHANNELS: tl.constexpr, SAMPLES: tl.constexpr,
                          ALIGNED: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
                          PARTS: tl.constexpr):
    """Add gradients to the maps, one program per region and PARTS-th row of its pixels.

    grad [R, SIZE, SIZE, C] -> maps float32 [B, H, W, C]. A pixel of a region gathers the
    contributions of its bins' samples and is added to once. Scattering from the samples would add
    to a pixel four to six times as often.
    """
    program = tl.program_id(0)
    region, part = program // PARTS, program % PARTS
    at = tl.load(level + region)
    height = _of_level(at, height0, height1, height2, height3, height4)
    width = _of_level(at, width0, width1, width2, width3, width4)
    scale = _of_level(at, scale0, scale1, scale2, scale3, scale4)
    top, step_y, rows = _axis(rois + region * 5 + 2, scale, ALIGNED, SIZE, SAMPLES)
    left, step_x, columns = _axis(rois + region * 5 + 1, scale, ALIGNED, SIZE, SAMPLES)

    channel = tl.arange(0, BLOCK)
    here = channel < CHANNELS
    image = tl.load(rois + region * 5).to(tl.int64)
    cells = _of_level(at, map0, map1, map2, map3,
                      map4) + image * height * width * CHANNELS + channel
    grad += region.to(tl.int64) * SIZE * SIZE * CHANNELS + channel
    y_first, y_count = _touched(top, step_y, height, SIZE)
    x_first, x_count = _touched(left, step_x, width, SIZE)
    for row in range(part, y_count, PARTS):
        y = y_first + row
        above, below = _bins(y, top, step_y, height, SIZE)
        for column in range(x_count):
            x = x_first + column
            before, behind = _bins(x, left, step_x, width, SIZE)
            total = tl.zeros((BLOCK, ), tl.float32)
            for bin_y in range(above, below + 1):
                of_row = _weight(y, top + bin_y * step_y, step_y, rows, height)
                for bin_x in range(before, behind + 1):
                    weight = of_row * _weight(x, left + bin_x * step_x, step_x, columns, width)
                    text = tl.load(grad + (bin_y * SIZE + bin_x) * CHANNELS, mask=here, other=0.)
                    total += weight * text.to(tl.float32)
            total *= 1. / tl.maximum(rows * columns, 1)
            tl.atomic_add(cells + (y * width + x) * CHANNELS, total, mask=here, sem='relaxed')


def _launch(kernel: 'triton.JITFunction', programs: int, maps: Sequence[Tensor],
            scales: Sequence[float], rois: Tensor, level: Tensor, bins: Tensor, sampling_ratio: int,
            aligned: bool, **constants: int) -> None:
    """Run a kernel on maps [B, H_l, W_l, C] and bins [R, size, size, C], channels innermost.

    Missing levels repeat the first. A lane has eight channels: 16 bytes of a half-precision map are
    one load, and the 256 channels of FPN one warp.
    """
    assert len(maps) <= LEVELS, f'the kernels know {LEVELS} levels'
    columns = (maps, [x.shape[1] for x in maps], [x.shape[2] for x in maps], scales)
    missing = LEVELS - len(maps)
    channels = bins.shape[3]
    block = triton.next_power_of_2(channels)
    if bins.numel():
        with torch.cuda.device_of(bins):
            kernel[(programs, )](
                *(x for column in columns for x in [*column, *[column[0]] * missing]),
                rois.float().contiguous(),
                level.contiguous(),
                bins,
                CHANNELS=channels,
                SAMPLES=sampling_ratio,
                ALIGNED=aligned,
                SIZE=bins.shape[1],
                BLOCK=block,
                num_warps=min(max(block // 256, 1), 8),
                enable_fp_fusion=True,
                **constants)


def roi_align(features: Sequence[Tensor], rois: Tensor, level: Tensor, scales: Sequence[float],
              output_size: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """Compute ops.roi_align.multi_level_roi_align: [R, C, size, size], channels last in memory."""
    maps = [x.permute(0, 2, 3, 1).contiguous() for x in features]  # no copy for channels-last maps
    out = maps[0].new_empty(rois.shape[0], output_size, output_size, maps[0].shape[3])
    _launch(_pool_kernel, rois.shape[0] * output_size**2, maps, scales, rois, level, out,
            sampling_ratio, aligned)
    return out.permute(0, 3, 1, 2)


def roi_align_backward(grad: Tensor, rois: Tensor, level: Tensor, scales: Sequence[float],
                       sampling_ratio: int, aligned: bool, batch: int,
                       sizes: Sequence[Tuple[int, int]]) -> List[Tensor]:
    """Return the gradients of all maps, [B, C, H_l, W_l], channels last in memory.

    They have the dtype of grad [R, C, size, size] and are summed in float32.
    """
    bins = grad.permute(0, 2, 3, 1).contiguous()
    maps = [torch.zeros(batch, *size, bins.shape[3], device=grad.device) for size in sizes]
    _launch(
        _pool_backward_kernel,
        rois.shape[0] * PARTS,
        maps,
        scales,
        rois,
        level,
        bins,
        sampling_ratio,
        aligned,
        PARTS=PARTS)
    return [x.to(grad.dtype).permute(0, 3, 1, 2) for x in maps]


@triton.jit
def _mask_kernel(data, offset, rect, boxes, targets, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Compute mask targets, one program per box.

    RoIAlign with adaptive sampling on the object's crop; 1 from one half up.
    """
    slot = tl.program_id(0)
    data += tl.load(offset + slot)
    left, top = tl.load(rect + slot * 4), tl.load(rect + slot * 4 + 1)
    width = tl.load(rect + slot * 4 + 2).to(tl.int32)
    height = tl.load(rect + slot * 4 + 3).to(tl.int32)
    x0 = tl.load(boxes + slot * 4) - left - .5
    y0 = tl.load(boxes + slot * 4 + 1) - top - .5
    step_x = tl.div_rn(tl.load(boxes + slot * 4 + 2) - left - .5 - x0, SIZE)
    step_y = tl.div_rn(tl.load(boxes + slot * 4 + 3) - top - .5 - y0, SIZE)
    rows, columns = tl.ceil(step_y).to(tl.int32), tl.ceil(step_x).to(tl.int32)
    index = tl.arange(0, BLOCK)
    here = index < tl.where((width > 0) & (height > 0), SIZE * SIZE, 0)  # nothing for an empty crop
    total = tl.zeros((BLOCK, ), tl.float32)
    for row in range(rows):
        y = y0 + (index // SIZE) * step_y + tl.div_rn((row + .5) * step_y, rows.to(tl.float32))
        for column in range(columns):
            x = x0 + (index % SIZE) * step_x + tl.div_rn(
                (column + .5) * step_x, columns.to(tl.float32))
            inside, a, b, c, d, down, right = _corners(y, x, height, width)
            value = (1 - down) * (1 - right) * tl.load(data + a * width + b, mask=here, other=0)
            value += (1 - down) * right * tl.load(data + a * width + d, mask=here, other=0)
            value += down * (1 - right) * tl.load(data + c * width + b, mask=here, other=0)
            value += down * right * tl.load(data + c * width + d, mask=here, other=0)
            total += inside * value
    covered = total >= .5 * tl.maximum(rows * columns, 1)
    targets += slot.to(tl.int64) * SIZE * SIZE + index
    tl.store(targets, covered.to(tl.float32), mask=index < SIZE * SIZE)


def mask_targets(data: Tensor, offset: Tensor, rect: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Compute ops.masks.mask_targets of given crops: offset [T], rect [T, 4], boxes float32 [T, 4].

    The arithmetic equals torchvision's on a CPU, and so V2's, bit for bit: nothing is fused.
    """
    targets = boxes.new_empty(boxes.shape[0], size, size)
    if targets.numel():
        with torch.cuda.device_of(targets):
            _mask_kernel[(len(boxes), )](
                data,
                offset.contiguous(),
                rect.contiguous(),
                boxes.contiguous(),
                targets,
                SIZE=size,
                BLOCK=triton.next_power_of_2(size * size),
                enable_fp_fusion=False)
    return targets
