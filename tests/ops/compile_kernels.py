"""Compile what the launches of the Triton kernels need to machine code, without a GPU: a line of JSON for each kernel.

    python -m tests.ops.compile_kernels 80 90

The launchers themselves are called, on tensors without data; in the place of a launch stands Triton's own compilation
of what would have been launched. For a process of its own: Triton must not be its interpreter here.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction, MockTensor

from mmdet_ft.ops import triton_kernels

CUOBJDUMP = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
LEVELS = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
SMALLER = [(1, 320), (95, 160), (48, 80), (24, 40)]


class Driver:
    """As much of a driver as compilation asks for."""

    def __init__(self, arch: int):
        self.arch = arch

    def get_current_device(self) -> int:
        return self.arch  # what is compiled is kept by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', self.arch, 32)


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def launch_all() -> None:
    for num_problems, num_boxes in ((80, 2000), (3, 77)):
        triton_kernels.nms(
            empty(num_problems, num_boxes, 4), empty(num_problems, num_boxes, dtype=torch.bool), .7)
    kinds = [(dtype, 256, 0, True) for dtype in (torch.bfloat16, torch.float16, torch.float32)]
    for dtype, channels, sampling_ratio, aligned in kinds + [(torch.float32, 6, 2, False)]:
        for sizes in (LEVELS, SMALLER):
            maps = [empty(2, channels, *size, dtype=dtype) for size in sizes]
            arguments = (empty(512, 5), empty(512, dtype=torch.int64), SCALES[:len(sizes)])
            pooled = triton_kernels.roi_align(maps, *arguments, 7, sampling_ratio, aligned)
            triton_kernels.roi_align_backward(pooled, *arguments, sampling_ratio, aligned, 2, sizes)
    triton_kernels.mask_targets(
        empty(5000, dtype=torch.uint8), empty(128, dtype=torch.int64),
        empty(128, 4, dtype=torch.int64), empty(128, 4), 28)


def record(name: str, kernel: Any, options: Dict[str, Any]) -> Dict[str, Any]:
    """What the machine code takes: registers of a thread, bytes of them spilled, accesses of global memory."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        Path(file.name).write_bytes(kernel.asm['cubin'])
        usage = subprocess.run([CUOBJDUMP, '-res-usage', file.name],
                               capture_output=True,
                               text=True,
                               check=True).stdout
    ptx = kernel.asm['ptx']
    return dict(
        name=name,
        target=re.search(r'^\.target\s+(\w+)', ptx, re.MULTILINE).group(1),
        channels=options.get('CHANNELS'),
        registers=int(re.search(r'REG:(\d+)', usage).group(1)),
        stack=int(re.search(r'STACK:(\d+)', usage).group(1)),
        memory=sorted(set(re.findall(r'\b(?:ld|st|red|atom)\.global[\w.]*', ptx))),
        in_order=re.findall(r'tt\.load|tt\.store|\w+\.barrier', kernel.asm['ttgir']))


def main(architectures: List[int]) -> None:
    run, seen = JITFunction.run, {}

    def compile_only(self, *arguments, grid, warmup, **options):
        arguments = [MockTensor(a.dtype) if isinstance(a, torch.Tensor) else a for a in arguments]
        kernel = run(self, *arguments, grid=grid, warmup=True, **options)
        if id(kernel) not in seen:
            seen[id(kernel)] = kernel
            print(json.dumps(record(self.fn.__name__, kernel, options)), flush=True)

    JITFunction.run = compile_only
    for arch in architectures:
        driver.set_active(Driver(arch))
        launch_all()


if __name__ == '__main__':
    main([int(word) for word in sys.argv[1:]])
