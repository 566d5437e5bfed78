import pytest
import torch
from torch import nn

from mmdet_ft.engine.optimizer import build_optimizer, step_unless
from mmdet_ft.registry import OPTIMIZER_BUILDERS


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
