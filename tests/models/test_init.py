import logging
import math

import pytest
import torch
from torch import nn

from mmdet_ft.models.base_module import (BaseModule, ModuleDict, ModuleList, Sequential,
                                         bias_init_with_prob, initialize, load_pretrained)


class Head(BaseModule):

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(16, 32, 3)
        self.norm = nn.BatchNorm2d(32)
        self.fc_cls = nn.Linear(64, 64)
        self.fc_reg = nn.Linear(64, 8)


def initialized(init_cfg) -> Head:
    torch.manual_seed(0)
    head = Head(init_cfg)
    head.init_weights()
    return head


def test_constant_fills_weight_and_bias_of_the_named_layers_only():
    head = initialized(dict(type='Constant', val=3, bias=2, layer='Linear'))
    assert (head.fc_cls.weight == 3).all() and (head.fc_reg.bias == 2).all()
    assert (head.conv.weight != 3).all() and (head.norm.weight == 1).all()


def test_a_base_class_names_its_layers_too():
    head = initialized(dict(type='Constant', val=3, layer=['_BatchNorm', 'Conv2d']))
    assert (head.norm.weight == 3).all() and (head.conv.weight == 3).all() and (head.conv.bias
                                                                                == 0).all()


@pytest.mark.parametrize('rule, std', [
    (dict(type='Normal', std=.02), .02),
    (dict(type='TruncNormal', std=.5, a=-5, b=5), .5),
    (dict(type='Uniform', a=-1, b=1), 1 / math.sqrt(3)),
    (dict(type='Xavier'), math.sqrt(2 / 128)),
    (dict(type='Xavier', distribution='uniform', gain=2), 2 * math.sqrt(2 / 128)),
    (dict(type='Kaiming'), math.sqrt(2 / 64)),
    (dict(type='Kaiming', distribution='uniform', mode='fan_in'), math.sqrt(2 / 64)),
    (dict(type='Caffe2Xavier'), math.sqrt(1 / 64)),
])
def test_spread_is_that_of_the_rule(rule, std):
    head = initialized(dict(rule, layer='Linear', bias=.5))
    assert head.fc_cls.weight.std().item() == pytest.approx(std, rel=.05)
    assert head.fc_cls.weight.mean().abs().item() < .1 * std
    assert (head.fc_cls.bias == .5).all()


def test_truncation_holds():
    assert initialized(dict(type='TruncNormal', layer='Linear', a=-.1,
                            b=.2)).fc_cls.weight.max() <= .2


def test_kaiming_counts_the_outputs_by_default():
    head = initialized(dict(type='Kaiming', layer='Conv2d'))
    assert head.conv.weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 9)), rel=.05)


def test_a_prior_probability_is_a_bias():
    head = initialized(dict(type='Normal', std=.01, bias_prob=.01, layer='Linear'))
    assert head.fc_cls.bias.sigmoid().tolist() == pytest.approx([.01] * 64)
    assert bias_init_with_prob(.5) == 0


def test_overrides_reach_one_attribute():
    head = initialized(
        dict(
            type='Normal',
            std=.01,
            layer='Linear',
            override=dict(type='Constant', name='fc_reg', val=7, bias=1)))
    assert (head.fc_reg.weight == 7).all() and (head.fc_reg.bias == 1).all()
    assert head.fc_cls.weight.abs().max() < 1


def test_an_override_by_name_alone_repeats_the_rule_without_layers():
    head = initialized(
        [dict(type='Constant', val=7, override=[dict(name='fc_reg'),
                                                dict(name='norm')])])
    assert (head.fc_reg.weight == 7).all() and (head.norm.weight == 7).all() and (head.fc_cls.weight
                                                                                  != 7).all()


@pytest.mark.parametrize('rule, error, message', [
    (dict(type='Kaimin', layer='Conv2d'), KeyError, "did you mean 'Kaiming'"),
    (dict(type='Normal', stdd=1,
          layer='Conv2d'), TypeError, 'Normal has no stdd; it takes mean, std'),
    (dict(type='Xavier', layer='Conv2d', distribution='even'), ValueError, "'even'"),
    (dict(type='Constant', val=0, override=dict(type='Normal')), ValueError, 'override'),
    (dict(type='Constant', val=0, override=dict(name='fc_reg', std=1)), ValueError, 'override'),
    (dict(type='Constant', val=0,
          override=dict(name='fc_rag')), ValueError, "'fc_rag', which Head"),
])
def test_a_rule_that_means_nothing_is_named(rule, error, message):
    with pytest.raises(error, match=message):
        initialized(rule)


def test_the_child_knows_better_than_its_parent():

    class Parent(BaseModule):

        def __init__(self):
            super().__init__(dict(type='Constant', val=1, layer='Linear'))
            self.plain = nn.Linear(2, 2)
            self.heads = ModuleList([Head(dict(type='Constant', val=2, layer='Linear'))])
            self.more = Sequential(
                ModuleDict(dict(a=Head(dict(type='Constant', val=3, layer='Linear')))))
            self.opaque = nn.ModuleList([Head(dict(type='Constant', val=4, layer='Linear'))])

    parent = Parent()
    parent.init_weights()
    assert (parent.plain.weight == 1).all()
    assert (parent.heads[0].fc_cls.weight == 2).all()
    assert (parent.more[0]['a'].fc_cls.weight == 3).all()
    assert (
        parent.opaque[0].fc_cls.weight == 1).all()  # as in V2: a plain container passes nothing on


def test_weights_are_initialized_once():
    head = initialized(dict(type='Constant', val=1, layer='Linear'))
    head.fc_cls.weight.data.fill_(5)
    head.init_weights()
    assert (head.fc_cls.weight == 5).all()


def test_a_users_init_weights_without_arguments_is_called():

    class Users(BaseModule):

        def __init__(self):
            super().__init__()
            self.head = Head(dict(type='Pretrained', checkpoint='any'))

        def init_weights(self):
            super().init_weights()
            nn.init.constant_(self.head.fc_reg.weight, 9)

    class Model(BaseModule):

        def __init__(self):
            super().__init__()
            self.users = Users()

    weights = {name: torch.full_like(value, 4) for name, value in Head().state_dict().items()}
    model = Model()
    model.init_weights(load=lambda path: weights)
    assert (model.users.head.fc_cls.weight == 4).all() and (model.users.head.fc_reg.weight
                                                            == 9).all()


def test_pretrained_weights_win_over_every_rule():
    weights = {name: torch.full_like(value, 4) for name, value in Head().state_dict().items()}
    asked = []
    head = Head([
        dict(type='Pretrained', checkpoint='torchvision://some'),
        dict(type='Constant', val=1, layer='Linear')
    ])
    head.init_weights(load=lambda path: asked.append(path) or weights)
    assert asked == ['torchvision://some'] and (head.fc_cls.weight
                                                == 4).all() and (head.norm.running_mean == 4).all()


def test_a_local_file_is_read_without_the_engine(tmp_path):
    source = Head()
    torch.save(
        dict(
            meta={},
            state_dict={
                f'module.{name}': value
                for name, value in source.state_dict().items()
            }), tmp_path / 'a.pth')
    head = Head(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), map_location='cpu'))
    head.init_weights()
    assert torch.equal(head.conv.weight, source.conv.weight)


def test_names_and_urls_are_for_the_engine():
    with pytest.raises(ValueError, match='torchvision://resnet50.*local file'):
        initialized(dict(type='Pretrained', checkpoint='torchvision://resnet50'))


def test_a_prefix_takes_a_part():
    source = Head()
    weights = {f'roi_head.bbox_head.{name}': value for name, value in source.state_dict().items()}
    weights['backbone.conv.weight'] = torch.zeros(1)
    for prefix in ('roi_head.bbox_head', 'roi_head.bbox_head.'):
        head = Head(dict(type='Pretrained', checkpoint='any', prefix=prefix))
        head.init_weights(load=lambda path: weights)
        assert torch.equal(head.fc_reg.weight, source.fc_reg.weight)


def test_what_does_not_fit_is_logged(caplog):
    weights = Head().state_dict()
    weights['fc_reg.weight'] = torch.zeros(324, 64)
    del weights['conv.bias'], weights['norm.num_batches_tracked']
    head = Head()
    with caplog.at_level(logging.INFO, logger='mmdet_ft'):
        load_pretrained(head, weights, 'some.pth')
    assert caplog.messages == [
        'Head: 8 of 10 weights from some.pth; other shape: fc_reg.weight (324, 64) -> (8, 64); missing: conv.bias'
    ]


def test_weights_of_another_network_are_refused():
    with pytest.raises(
            ValueError, match='some.pth holds 1 of the 10 weights of this Head.*init_cfg=None'):
        load_pretrained(Head(), {'conv.weight': torch.zeros(32, 16, 3, 3)}, 'some.pth')


def test_the_config_is_not_shared_with_the_module():
    rule = dict(type='Constant', val=1, layer='Linear')
    module = Sequential(nn.Linear(1, 1), init_cfg=rule)
    rule['val'] = 2
    assert module.init_cfg['val'] == 1
    initialize(module, [])
    assert 'init_cfg' in repr(module)
