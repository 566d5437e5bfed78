import copy

import pytest
import torch
from torch import nn

from mmdet_ft.engine.optimizers.optimizer import build_optimizer, load_optimizer_state, step_unless
from mmdet_ft.registry import OPTIMIZER_BUILDERS
from tests.fake_cuda import fake_cuda, fake_cuda_works, on_fake_cuda


class Model(nn.Module):

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.conv_offset = nn.Conv2d(4, 18, 1)
        self.frozen = nn.Linear(4, 4)
        for parameter in self.frozen.parameters():
            parameter.requires_grad = False


def groups(paramwise_cfg, model=None, **settings):
    model = model or Model()
    optimizer = build_optimizer(
        model,
        dict(
            type='SGD',
            lr=1.,
            momentum=.9,
            weight_decay=.1,
            paramwise_cfg=paramwise_cfg,
            **settings))
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[group['params'][0]]: (group['lr'], round(group['weight_decay'], 6))
        for group in optimizer.param_groups
    }


def test_without_paramwise_all_parameters_are_one_group():
    model = Model()
    optimizer = build_optimizer(model, dict(type='AdamW', lr=.1, weight_decay=.2))
    assert isinstance(optimizer, torch.optim.AdamW) and len(optimizer.param_groups) == 1
    assert len(optimizer.param_groups[0]['params']) == len(list(model.parameters()))


def test_multipliers_go_where_v2_puts_them():
    table = groups(
        dict(
            bias_lr_mult=2.,
            bias_decay_mult=0.,
            norm_decay_mult=.5,
            dwconv_decay_mult=.25,
            dcn_offset_lr_mult=.1))
    assert table == {
        'backbone.0.weight': (1., .1),
        'backbone.0.bias': (2., 0.),
        'backbone.1.weight': (1., .05),
        'backbone.1.bias': (1., .05),
        'depthwise.weight': (1., .025),
        'depthwise.bias': (2., .025),
        'conv_offset.weight': (.1, .1),
        'conv_offset.bias': (.1, .1),
        'frozen.weight': (1., .1),
        'frozen.bias': (1., .1),
    }


def test_the_longest_custom_key_wins_and_silences_the_rest():
    table = groups(dict(bias_lr_mult=2., custom_keys={
        'backbone': dict(lr_mult=.1, decay_mult=.5),
        'backbone.1': dict(lr_mult=.01),
    }))  # yapf: disable
    assert table['backbone.0.bias'] == (.1, .05) and table['backbone.1.weight'] == (.01, .1)
    assert table['depthwise.bias'] == (2., .1) and table['frozen.weight'] == (1., .1)


def test_a_shared_parameter_counts_once_on_request():
    model = Model()
    model.again = model.backbone
    with pytest.raises(ValueError, match='more than one'):
        groups(dict(norm_decay_mult=0.), model)
    assert len(groups(dict(norm_decay_mult=0., bypass_duplicate=True), model)) == 10


@pytest.mark.parametrize('cfg,word', [
    (dict(type='SDG', lr=1.), 'SDG'),
    (dict(type='SGD', lr=1., paramwise_cfg=dict(norm_decay_mul=0.)), 'norm_decay_mul'),
    (dict(type='SGD', lr=1., paramwise_cfg=dict(norm_decay_mult=0.)), 'weight_decay'),
    (dict(type='SGD', lr=1.,
          paramwise_cfg=dict(custom_keys=dict(a=dict(decay_mult=0.)))), 'weight_decay'),
])
def test_a_mistake_is_named(cfg, word):
    with pytest.raises((KeyError, ValueError), match=word):
        build_optimizer(Model(), cfg)


def test_a_users_constructor_is_used():

    @OPTIMIZER_BUILDERS.register_module(force=True)
    class HalfRate:

        def __init__(self, optimizer_cfg, paramwise_cfg=None):
            self.cfg, self.factor = optimizer_cfg, paramwise_cfg['factor']

        def __call__(self, model):
            return torch.optim.SGD(model.parameters(), lr=self.cfg['lr'] * self.factor)

    optimizer = build_optimizer(
        Model(), dict(type='SGD', lr=1., constructor='HalfRate', paramwise_cfg=dict(factor=.5)))
    assert optimizer.param_groups[0]['lr'] == .5


@pytest.mark.parametrize('settings', [
    dict(type='SGD', lr=.1, momentum=.9, weight_decay=.01),
    dict(type='Adam', lr=.1),
    dict(type='AdamW', lr=.1, weight_decay=.1),
    dict(type='Adagrad', lr=.1)
])
def test_a_refused_step_changes_neither_weights_nor_state(settings):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, settings)

    def step(refuse):
        optimizer.zero_grad()
        (model(torch.ones(1, 3))**2).sum().backward()
        step_unless(optimizer, torch.tensor(refuse))

    step(False)
    weights = [parameter.clone() for parameter in model.parameters()]
    state = {key: value.clone() for key, value in optimizer.state[model.weight].items()}
    step(True)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters()))
    assert all(
        torch.equal(value, optimizer.state[model.weight][key]) for key, value in state.items())
    step(False)
    assert not torch.equal(weights[0], model.weight)


@pytest.mark.parametrize('before, after', [(torch.contiguous_format, torch.channels_last),
                                           (torch.channels_last, torch.contiguous_format)])
@pytest.mark.parametrize('settings',
                         [dict(type='SGD', lr=.1, momentum=.9),
                          dict(type='Adam', lr=.1)])
def test_a_state_of_another_memory_format_goes_on_as_in_its_own(settings, before, after):
    """A fused kernel walks through memory: with another order it would take the wrong numbers."""

    def model_and_optimizer(memory_format):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 2).to(memory_format=memory_format)
        return model, build_optimizer(model, settings)

    def step(model, optimizer):
        optimizer.zero_grad()
        (model(torch.arange(108.).reshape(1, 3, 6, 6) / 54 - 1)**3).sum().backward()
        step_unless(optimizer, torch.tensor(False))

    first, optimizer = model_and_optimizer(before)
    step(first, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    second, other = model_and_optimizer(after)
    second.load_state_dict(first.state_dict())
    load_optimizer_state(other, state)
    step(first, optimizer)
    step(second, other)
    torch.testing.assert_close(second.weight, first.weight)


@fake_cuda_works
def test_a_state_that_was_saved_unfused_counts_its_steps_on_the_gpu():
    """As files of V2: a fused Adam refuses a count on the host."""
    saved = torch.optim.Adam(nn.Linear(3, 2).parameters())
    for parameter in saved.param_groups[0]['params']:
        parameter.grad = torch.ones_like(parameter)
    saved.step()
    state = saved.state_dict()
    for values in state['state'].values():
        values['step'] = 1  # as torch before 1.12
    with fake_cuda():
        model = on_fake_cuda(nn.Linear(3, 2))
        optimizer = build_optimizer(model, dict(type='Adam', lr=.1))
        load_optimizer_state(optimizer, state)
    assert optimizer.param_groups[0]['fused']
    for values in optimizer.state.values():
        assert {value.device.type for value in values.values()} == {'cuda'}


def test_a_state_with_too_many_groups_is_refused():
    optimizer = build_optimizer(Model(), dict(type='SGD', lr=.1))
    state = copy.deepcopy(optimizer.state_dict())
    state['param_groups'] = state['param_groups'] * 2
    with pytest.raises(ValueError, match='different number of parameter groups'):
        load_optimizer_state(optimizer, state)
