"""Which GPU a process takes, and what processes tell each other: NCCL takes no tensors of the host."""
import ast
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as torch_dist
from torch import nn

import mmdet_ft
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.environment import choose_device
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.failures.signals import InterruptHook
from mmdet_ft.engine.reporting.meters import LogBuffer
from tests.fake_cuda import CUDA, fake_cuda, fake_cuda_works, on_fake_cuda

PACKAGE = Path(mmdet_ft.__file__).parent
COLLECTIVES = {
    name
    for name in dir(torch_dist)
    if name.startswith(('all_', 'broadcast', 'gather', 'reduce', 'scatter', 'send', 'recv',
                        'barrier')) or name == 'new_group'
}


@pytest.fixture
def two_gpus(monkeypatch):
    """Which of them was chosen."""
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: chosen[-1])
    return chosen


def test_a_run_of_one_process_has_the_gpu_that_is_asked_for(two_gpus):
    assert choose_device() == torch.device('cuda', 0)
    assert choose_device(1) == torch.device('cuda', 1)
    with pytest.raises(UserError, match='--gpu-id 2: there are 2 GPUs'):
        choose_device(2)


def test_each_process_has_a_gpu_of_its_own_before_it_joins(monkeypatch, two_gpus):
    joined = []
    monkeypatch.setattr(dist, '_connect', lambda *arguments: (None, 1, 2))
    monkeypatch.setattr(dist.watchdog, 'start', lambda *arguments: None)
    monkeypatch.setattr(
        torch_dist, 'init_process_group', lambda **options: joined.append(
            (two_gpus[-1].index, options['backend'], options.get('device_id'))))
    for name, value in dict(RANK=1, LOCAL_RANK=1, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2,
                            MASTER_ADDR='127.0.0.1', MASTER_PORT=1).items():  # yapf: disable
        monkeypatch.setenv(name, str(value))
    dist.init_dist('pytorch')
    dist.init_dist('pytorch', backend='gloo')
    assert joined == [(1, 'nccl', torch.device('cuda', 1)), (1, 'gloo', None)]
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3')
    with pytest.raises(UserError, match=r"3 processes .* 2 GPUs.*backend='gloo'"):
        dist.init_dist('pytorch')
    dist.init_dist('pytorch', backend='gloo')


def test_collectives_are_of_objects_or_of_the_tensors_looked_at_here():
    """Those of objects bring them to the device that the backend wants."""
    found = Counter()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Attribute) and node.attr in COLLECTIVES and ast.unparse(
                    node.value) in ('torch_dist', 'torch.distributed'):
                found[path.name, node.attr] += 1
    assert found == {
        ('dist.py', 'barrier'): 1,
        ('dist.py', 'all_gather_object'): 1,
        ('dist.py', 'broadcast_object_list'): 1,
        ('dist.py', 'broadcast'): 2,
        ('precise_bn.py', 'all_reduce'): 1,
        ('reduction.py', 'all_reduce'): 1,
        ('signals.py', 'new_group'): 1,
        ('signals.py', 'all_reduce'): 1,
        ('sync_norm.py', 'all_reduce'): 1
    }


@fake_cuda_works
def test_norm_statistics_travel_from_where_they_are(monkeypatch):
    text = []
    monkeypatch.setattr(dist, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(torch_dist, 'broadcast', lambda tensor, source: text.append(tensor))
    with fake_cuda():
        dist.broadcast_norm_buffers(
            on_fake_cuda(nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3))))
    assert len(text) == 4 and all(tensor.is_cuda for tensor in text)


def test_signals_travel_on_the_host_by_a_group_of_their_own(monkeypatch):
    text = []
    monkeypatch.setattr(dist, 'is_distributed', lambda: True)
    monkeypatch.setattr(torch_dist, 'new_group', lambda backend: backend)
    monkeypatch.setattr(
        torch_dist, 'all_reduce', lambda tensor, operation, group, async_op: text.append(
            (tensor.device.type, group, async_op)))
    hook = InterruptHook()
    hook.before_run(None)
    assert not hook._agree_on_signal() and text == [('cpu', 'gloo', True)]


@fake_cuda_works
def test_a_number_of_the_host_may_be_logged_among_those_of_the_device():
    with fake_cuda():
        loss = torch.ones((), device=CUDA)
        buffer = LogBuffer()
        buffer.update({'share': torch.tensor(.5), 'loss': loss, 'count': torch.tensor(3)})
        values, = buffer._history.values()
    assert values[0].values.is_cuda and values[0].values.shape == (3, )
