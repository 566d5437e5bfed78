import logging

import pytest
import torch

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.settings.records import Acceleration
from mmdet_ft.engine.speed.acceleration import accelerate
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_batch, tiny_config, tiny_model

CPU = torch.device('cpu')
logger = logging.getLogger('acceleration')


def gradients(model, batch):
    torch.manual_seed(0)
    losses = model(batch)
    model.zero_grad()
    losses.total.backward()
    return losses.total.detach(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    'setting',
    [dict(channels_last=True), dict(compile=dict(backend='aot_eager'))],
    ids=['channels_last', 'compile'])
def test_a_switch_changes_nothing_but_the_rounding(setting, caplog):
    batch = tiny_batch((2, 1))
    loss, expected = gradients(tiny_model(base_channels=16), batch)
    model = tiny_model(base_channels=16)
    names = list(model.state_dict())
    with caplog.at_level(logging.INFO):
        accelerate(model, Acceleration(**setting), CPU, logger)
    assert 'left off' not in caplog.text and list(setting)[0] in caplog.text
    assert list(model.state_dict()) == names
    mine, theirs = gradients(model, batch)
    torch.testing.assert_close(mine, loss, rtol=1e-4, atol=1e-5)
    for a, b in zip(theirs, expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    if 'channels_last' in setting:
        assert model.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_had_is_left_off_with_its_reason(caplog, monkeypatch):
    accelerate(tiny_model(), Acceleration(triton=True), CPU, logger)
    assert 'triton = True is left off: the model is on cpu' in caplog.text
    accelerate(tiny_model(), Acceleration(channels_last=True), CPU, logger)
    assert 'channels_last = True is left off: a strided 1x1 convolution' in caplog.text
    settings = tiny_config()
    settings['backbone'].update(
        conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='GN', num_groups=2))
    accelerate(MODELS.build(settings), Acceleration(channels_last=True), CPU, logger)
    assert 'channels_last = True is left off: ConvWS2d' in caplog.text
    monkeypatch.setattr(torch, 'compile', lambda function, **options: _raise)
    accelerate(tiny_model(), Acceleration(compile=True), CPU, logger)
    assert 'compile = True is left off: no compiler here' in caplog.text


def _raise(*arguments):
    raise RuntimeError('no compiler here\nand much more')


def test_arguments_that_torch_compile_does_not_know_are_refused():
    with pytest.raises(UserError, match="compile = {'mod': 'x'}.*torch.compile"):
        accelerate(tiny_model(), Acceleration(compile=dict(mod='x')), CPU, logger)
