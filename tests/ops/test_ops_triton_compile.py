"""The Triton kernels as machine code: the interpreter takes much that the compiler does not."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

try:
    from triton.backends.compiler import GPUTarget  # noqa: F401
    from triton.runtime.jit import JITFunction, MockTensor  # noqa: F401
except ImportError as error:
    pytest.skip(f'no Triton that compiles without a GPU: {error}', allow_module_level=True)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def kernels(tmp_path_factory):
    """What each kernel that the launches need takes of a GPU of compute capability 8.0 and 9.0."""
    environment = {**os.environ, 'TRITON_CACHE_DIR': str(tmp_path_factory.mktemp('triton'))}
    environment.pop('TRITON_INTERPRET', None)
    done = subprocess.run([sys.executable, '-m', 'tests.ops.compile_kernels', '80', '90'],
                          cwd=ROOT,
                          env=environment,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_launch_compiles_and_sizes_of_images_need_no_kernel_of_their_own(kernels):
    """Maps of 256 channels of three types, and of six channels of one."""
    for target in ('sm_80', 'sm_90'):
        names = [kernel['name'] for kernel in kernels if kernel['target'].startswith(target)]
        assert {name: names.count(name) for name in names} == {
            '_nms_kernel': 1, '_pool_kernel': 4, '_pool_backward_kernel': 4, '_mask_kernel': 1
        }  # yapf: disable


def test_registers_are_not_spilled(kernels):
    for kernel in kernels:
        assert kernel['stack'] <= 16, kernel  # two numbers, outside the loops


def test_channels_travel_16_bytes_at_a_time(kernels):
    pooling = [kernel for kernel in kernels if kernel['channels'] == 256]
    assert len(pooling) == 12
    for kernel in pooling:
        assert 'ld.global.v4.b32' in kernel['memory'], kernel
        if kernel['name'] == '_pool_kernel':
            assert 'st.global.v4.b32' in kernel['memory'], kernel
        elif kernel['target'].startswith('sm_90'):  # the first that adds four numbers at once
            assert any(access.endswith('add.v4.f32') for access in kernel['memory']), kernel


def test_additions_to_memory_order_nothing(kernels):
    """An addition that other threads may synchronise by waits for all earlier accesses."""
    for kernel in kernels:
        added = [access for access in kernel['memory'] if '.add' in access]
        assert all('.relaxed' in access for access in added), kernel
        assert bool(added) == (kernel['name'] == '_pool_backward_kernel'), kernel


def test_suppression_waits_for_all_threads_before_it_reads_what_they_have_struck_out(kernels):
    for kernel in kernels:
        if kernel['name'] == '_nms_kernel':
            last = kernel['in_order'][-1]
            assert last.endswith('.barrier') and 'tt.store' in kernel['in_order'], kernel
