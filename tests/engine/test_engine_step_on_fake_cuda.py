"""The training step as the runner makes it, on a GPU that computes nothing."""
import pytest
import torch

from mmdet_ft.engine.optimizers.optimizer import build_optimizer, zero_missing_momentum
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.models import anchors
from mmdet_ft.models.roi_heads import regions, standard_roi_head
from tests.fake_cuda import CUDA, HostWork, fake_cuda, fake_cuda_works, on_fake_cuda
from tests.models.tiny import tiny_batch, tiny_model

pytestmark = fake_cuda_works


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Without what needs a driver: the read of the number of positives, and going back."""

    class Thirteen:

        def __init__(self, value, device):
            assert value.is_cuda

        def read(self):
            return 13

    def backward(loss):
        assert loss.is_cuda and loss.shape == ()
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)

    def fused_sgd(weights, gradients, momenta, *, grad_scale, found_inf, is_first_step, **rates):
        assert len(weights) == len(gradients) == len(momenta) > 50 and not is_first_step
        for tensors in zip(weights, gradients, momenta):  # what the kernel asks for
            assert len({tensor.stride() for tensor in tensors}) == 1
        assert grad_scale is None and found_inf.is_cuda and found_inf.dtype == torch.float32
        assert all(isinstance(rate, (bool, int, float)) for rate in rates.values())

    parameters = []
    monkeypatch.setattr(torch, '_fused_sgd_', fused_sgd)  # has no fake kernel
    for module in (regions, standard_roi_head):
        monkeypatch.setattr(module, 'HostCopy', Thirteen)
    monkeypatch.setattr(anchors, '_is_plain', lambda tensor: True)
    monkeypatch.setattr(torch.Tensor, 'backward', backward)
    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *arguments: True)
    return parameters


@pytest.mark.parametrize('settings', [
    dict(),
    dict(fp16=dict(loss_scale='dynamic')),
    dict(fp16=dict(dtype='bfloat16'), grad_clip=None),
    dict(optimizer=dict(type='AdamW', lr=1e-4, weight_decay=.1)),
    dict(cumulative_iters=2),
])
def test_a_step_needs_nothing_of_the_host(tmp_path, gpu, settings):
    settings = dict(settings)
    fp16 = settings.pop('fp16', None)
    optimizer = settings.pop('optimizer', dict(type='SGD', lr=.01, momentum=.9, weight_decay=1e-4))
    model, batch = tiny_model(), tiny_batch((2, 0))
    with fake_cuda():
        model, batch = on_fake_cuda(model), on_fake_cuda(batch)
        gpu += model.parameters()
        runner = EpochBasedRunner(
            model,
            build_optimizer(model, optimizer),
            str(tmp_path),
            update=Update(**{
                'grad_clip': dict(max_norm=35, norm_type=2),
                **settings
            }),
            precision=build_precision(fp16, CUDA),
            max_epochs=1)
        runner.max_iters, runner.mode = 100, 'train'
        zero_missing_momentum(runner.optimizer)
        runner.train_step(batch)
        runner.iter += 1
        with HostWork() as host:
            runner.train_step(batch)
    assert not host.seen, host.seen
    states = [value for state in runner.optimizer.state.values() for value in state.values()]
    text = [*runner.outputs['log_vars'].values(), runner.latch.closed, *states]
    assert len(text) > 50 and all(value.is_cuda for value in text)
