import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from torch import nn

from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.backbones.resnext import ResNeXt
from mmdet_ft.models.deform_conv import DeformConv2dPack, ModulatedDeformConv2dPack
from tests.reference.deform_conv import deform_conv

SMALL = dict(base_channels=16)
LAST_THREE = (False, True, True, True)


def shaken(layer, seed=0):
    """With offsets of some pixels, which differ from place to place."""
    torch.manual_seed(seed)
    nn.init.normal_(layer.conv_offset.weight, std=.5)
    nn.init.normal_(layer.conv_offset.bias, std=1.)
    return layer.double()


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
@pytest.mark.parametrize('arguments', [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=3, padding=2, dilation=2, deform_groups=2),
    dict(kernel_size=3, padding=1, groups=2, deform_groups=4),
    dict(kernel_size=1),
])
def test_the_layer_equals_the_paper(kind, arguments):
    layer = shaken(build_conv_layer(dict(type=kind), 4, 6, bias=False, **arguments))
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        found, text = layer(x), layer.conv_offset(x).numpy()
    # y and x of point after point; under DCNv2 the weights come after them all.
    split = len(text[0]) // layer.numbers_a_point * 2
    settings = dict(stride=1, padding=0, dilation=1, groups=1, deform_groups=1)
    settings.update((key, arguments[key]) for key in settings if key in arguments)
    for number in range(2):
        mask = 1 / (1 + np.exp(-text[number, split:])) if kind == 'DCNv2' else None
        expected = deform_conv(
            x[number].numpy(),
            layer.weight.detach().numpy(),
            text[number, :split],
            **settings,
            mask=mask)
        np.testing.assert_allclose(found[number].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_it_begins_as_the_plain_convolution():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 8)
    plain = nn.functional.conv2d
    for layer, share in ((DeformConv2dPack(4, 6, 3, 2,
                                           1), 1.), (ModulatedDeformConv2dPack(4, 6, 3, 2, 1), .5)):
        expected = plain(x, layer.weight, layer.bias, 2, 1) * share
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_names_are_those_of_mmcv():
    assert list(DeformConv2dPack(
        4, 6, 3).state_dict()) == ['weight', 'conv_offset.weight', 'conv_offset.bias']
    layer = ModulatedDeformConv2dPack(4, 6, 3, deformable_groups=2)  # the older name
    assert {
        name: list(value.shape)
        for name, value in layer.state_dict().items()
    } == {
        'weight': [6, 4, 3, 3],
        'bias': [6],
        'conv_offset.weight': [54, 4, 3, 3],
        'conv_offset.bias': [54]
    }


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_under_autocast_it_samples_in_float32_and_learns(kind):
    layer = shaken(build_conv_layer(dict(type=kind), 4, 6, 3, padding=1, bias=False)).float()
    x = torch.randn(2, 4, 6, 8, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.float32 and torch.allclose(out, layer(x), atol=.5)
    out.square().sum().backward()
    for value in (x, *layer.parameters()):
        assert value.grad.isfinite().all() and value.grad.abs().sum() > 0


def test_it_is_a_convolution_of_a_conv_cfg_too():
    module = ConvModule(4, 6, 3, padding=1, conv_cfg=dict(type='DCNv2'), norm_cfg=dict(type='BN'))
    assert isinstance(module.conv, ModulatedDeformConv2dPack) and module.conv.bias is None
    assert module(torch.randn(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    with pytest.raises(ValueError, match='DCN has no bias'):
        DeformConv2dPack(4, 6, 3, bias=True)


def deformable(model):
    return [
        name for name, module in model.named_modules()
        if isinstance(module, (DeformConv2dPack, ModulatedDeformConv2dPack))
    ]


def test_stages_of_a_backbone_have_them_where_it_is_said():
    dcn = dict(type='DCN', deform_groups=1, fallback_on_stride=False)
    model = ResNet(50, dcn=dcn, stage_with_dcn=LAST_THREE, **SMALL)
    names = [f'layer{i}.{j}.conv2' for i, blocks in ((2, 4), (3, 6), (4, 3)) for j in range(blocks)]
    assert deformable(model) == names
    assert model.layer2[0].conv2.stride == (2, 2) and model.layer2[0].conv2.groups == 1
    assert dcn['fallback_on_stride'] is False  # the config's dict is as it was
    assert 'layer2.0.conv2.conv_offset.weight' in model.state_dict()


def test_the_first_block_alone_falls_back_as_in_v2():
    dcn = dict(type='DCNv2', fallback_on_stride=True)
    assert deformable(ResNet(50, dcn=dcn, stage_with_dcn=LAST_THREE,
                             **SMALL))[0] == 'layer2.1.conv2'
    grouped = ResNeXt(50, groups=4, dcn=dcn, stage_with_dcn=LAST_THREE, **SMALL)
    assert deformable(grouped)[0] == 'layer2.0.conv2' and grouped.layer2[0].conv2.groups == 4


def test_without_offsets_a_backbone_tells_what_the_plain_one_does():
    torch.manual_seed(0)
    plain = ResNet(50, **SMALL).double().train()
    deformed = ResNet(50, dcn=dict(type='DCN'), stage_with_dcn=LAST_THREE, **SMALL).double().train()
    missing, _ = deformed.load_state_dict(plain.state_dict(), strict=False)
    assert len(missing) == 26 and all('.conv_offset.' in name for name in missing)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for mine, theirs in zip(deformed(x), plain(x)):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_random_weights_begin_without_offsets():
    for kind in ('DCN', 'DCNv2'):
        model = ResNet(50, dcn=dict(type=kind), stage_with_dcn=LAST_THREE, **SMALL)
        model.init_weights()
        assert (model.layer3[1].conv2.conv_offset.weight == 0).all()
        assert model.layer3[1].conv2.weight.abs().sum() > 0


@pytest.mark.parametrize('arguments, message', [
    (dict(depth=18, dcn=dict(type='DCN'),
          stage_with_dcn=LAST_THREE), 'dcn: networks of depth 18 and 34 have none'),
    (dict(depth=50, dcn=dict(type='DCN'), conv_cfg=dict(type='ConvWS')), 'exclude each other'),
    (dict(depth=50, dcn=dict(type='DCN'),
          stage_with_dcn=(True, True)), r'stage_with_dcn=\(True, True\) for num_stages=4'),
])
def test_arguments_that_mean_nothing_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)
