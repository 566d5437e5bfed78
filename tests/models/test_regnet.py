import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.config import CheckError, Config
from mmdet_ft.engine.config_check.check import check
from mmdet_ft.models.backbones.regnet import ARCHITECTURES, RegNet, stages_of
from mmdet_ft.models.classification_defaults import build_for_classification


def in_our_names(theirs):
    """torchvision's weights: stem.0, trunk_output.block1.block1-0.f.a.0 -> conv1, layer1.0.conv1."""
    ours = {}
    for name, value in theirs.state_dict().items():
        part, *rest = name.split('.')
        if part == 'stem':
            layer, value_name = rest
            ours[f'{["conv1", "bn1"][int(layer)]}.{value_name}'] = value
        elif part == 'trunk_output':
            stage, block, *inside = rest
            prefix = f'layer{stage[5:]}.{block.split("-")[1]}'
            if inside[0] == 'proj':
                ours[f'{prefix}.downsample.{inside[1]}.{inside[2]}'] = value
            else:
                kind = ['conv', 'bn'][int(inside[2])]
                ours[f'{prefix}.{kind}{"abc".index(inside[1]) + 1}.{inside[3]}'] = value
    return ours


@torch.no_grad()
@pytest.mark.parametrize(
    'arch, theirs',
    [
        ('regnetx_800mf', torchvision.models.regnet_x_800mf),  # its 400mf is a little wider
        ('regnetx_1.6gf', torchvision.models.regnet_x_1_6gf),
    ])
def test_torchvision_weights_give_torchvision_features(arch, theirs):
    theirs = theirs().eval().double()
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -.1, .1)
            nn.init.uniform_(module.weight, .8, 1.2)
    ours = RegNet(arch).eval().double()
    ours.load_state_dict(in_our_names(theirs))
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = theirs.stem(x)
    for output, block in zip(ours(x), theirs.trunk_output):
        expected = block(expected)
        torch.testing.assert_close(output, expected, rtol=1e-8, atol=1e-8)


def test_stages_are_those_of_the_paper():
    stages = {name: stages_of(arch) for name, arch in ARCHITECTURES.items()}
    assert stages['regnetx_3.2gf'] == [(96, 2, 2, 48), (192, 6, 4, 48), (432, 15, 9, 48),
                                       (1008, 2, 21, 48)]
    assert [width for width, *_ in stages['regnetx_12gf']] == [224, 448, 896, 2240]
    for name, arch in ARCHITECTURES.items():
        assert sum(blocks for _, blocks, _, _ in stages[name]) == arch.depth
        assert len(stages[name]) == 4


def test_an_architecture_of_ones_own():
    arch = dict(w0=8, wa=8., wm=2., group_w=8, depth=4)
    with torch.device('meta'):
        model = RegNet(arch, strides=(2, 2, 2), dilations=(1, 1, 1), out_indices=(2, ))
    assert [width for width, *_ in model.stages] == [8, 16, 32]
    assert model.feat_dim == 32 and model.layer3[0].conv2.groups == 4
    backbone = dict(type='RegNet', arch=dict(arch, groups_w=8))
    with pytest.raises(CheckError, match="'group_w'"):
        check(Config(dict(model=backbone)), for_training=False)


@pytest.mark.parametrize('arguments, message', [
    (dict(arch='regnetx_500mf'), "arch is 'regnetx_500mf'; write one of regnetx_400mf"),
    (dict(arch='regnetx_400mf', deep_stem=True), 'remove deep_stem'),
])
def test_arguments_that_mean_nothing_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegNet(**arguments)


def test_a_classifier_has_mmclassifications_defaults():
    model = build_for_classification(dict(type='RegNet', arch='regnetx_400mf'))
    assert (model.out_indices, model.norm_eval, model.layout) == ((3, ), False, 'mmcls')
    model.init_weights()
    assert (model.layer1[0].bn3.weight == 0).all()
