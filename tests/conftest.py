"""Tests run on the CPU, where there is a GPU too: what they expect is exact. Those marked `gpu` run on one, or are
skipped.

Where there is no GPU, Triton's kernels run in its interpreter: it asks for that when it is first imported, and torch
may import it.
"""
import os
import shutil
import signal

if shutil.which('nvidia-smi') is None and not os.path.exists('/dev/nvidiactl'):
    os.environ['TRITON_INTERPRET'] = '1'
if 'PYTEST_XDIST_WORKER' in os.environ:  # pytest -n 2: a core has one process
    os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402
import torch  # noqa: E402

gpu_is_available, visible = torch.cuda.is_available, os.environ.get('CUDA_VISIBLE_DEVICES')
HAS_GPU = gpu_is_available()


def pytest_sessionstart() -> None:
    signal.signal(signal.SIGINT,
                  signal.default_int_handler)  # ignored where a shell runs in the background
    if HAS_GPU:
        torch.cuda.init()  # before it is hidden: what CUDA has not seen at its start it never sees


@pytest.hookimpl(tryfirst=True)  # before the fixtures of a module too
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker('gpu') is None:
        torch.cuda.is_available = lambda: False
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # for the processes that a test starts
        return
    if not HAS_GPU:
        pytest.skip('needs a GPU')
    torch.cuda.is_available = gpu_is_available
    if visible is None:
        os.environ.pop('CUDA_VISIBLE_DEVICES', None)
    else:
        os.environ['CUDA_VISIBLE_DEVICES'] = visible


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each kind of device once: what a test does on a GPU is tried on every machine."""
    return torch.device(request.param)
