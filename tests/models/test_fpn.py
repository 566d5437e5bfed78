import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.registry import MODELS
from tools.benchmarks.no_sync import NoSync

CHANNELS = [4, 8, 16, 32]


def inputs():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, 17 // 2**i + 1, 25 // 2**i + 1, generator=generator)
        for i, c in enumerate(CHANNELS)
    ]


def pyramid(fpn: FPN, x):
    """Figure 3 of the paper, pixel by pixel on the way down."""
    laterals = [
        F.conv2d(level, conv.conv.weight, conv.conv.bias)
        for level, conv in zip(x, fpn.lateral_convs)
    ]
    for fine, coarse in zip(reversed(laterals[:-1]), reversed(laterals[1:])):
        height, width = fine.shape[2:]
        for row in range(height):
            for column in range(width):
                fine[:, :, row, column] += coarse[:, :, row * coarse.shape[2] // height,
                                                  column * coarse.shape[3] // width]
    return [
        F.conv2d(level, conv.conv.weight, conv.conv.bias, padding=1)
        for level, conv in zip(laterals, fpn.fpn_convs)
    ]


def test_levels_are_summed_from_the_top():
    fpn = FPN(CHANNELS, 6, 5)
    with torch.no_grad():
        outputs, expected = fpn(inputs()), pyramid(fpn, inputs())
        for output, wanted in zip(outputs, expected):
            assert torch.allclose(output, wanted, atol=1e-5)
        assert torch.equal(outputs[4], outputs[3][:, :, ::2, ::2])


def test_levels_may_be_left_out_at_both_ends():
    fpn = FPN(CHANNELS, 6, 2, start_level=1, end_level=2)
    with torch.no_grad():
        for output, wanted in zip(fpn(inputs()), pyramid(fpn, inputs()[1:3])):
            assert torch.allclose(output, wanted, atol=1e-5)


@pytest.mark.parametrize('source, relu', [(True, False), ('on_input', True), ('on_lateral', True),
                                          ('on_output', False)])
def test_extra_levels_begin_where_they_are_told_to(source, relu):
    fpn = FPN(CHANNELS, 6, 5, start_level=1, add_extra_convs=source, relu_before_extra_convs=relu)
    x = inputs()
    with torch.no_grad():
        outputs = fpn(x)
        lateral = fpn.lateral_convs[2](x[3])
        start = {
            True: x[3],
            'on_input': x[3],
            'on_lateral': lateral,
            'on_output': outputs[2]
        }[source]
        first = fpn.fpn_convs[3](start)
        second = fpn.fpn_convs[4](F.relu(first) if relu else first)
    assert len(outputs) == 5
    assert torch.equal(outputs[3], first) and torch.equal(outputs[4], second)


def test_norms_and_activations_come_from_the_config():
    fpn = FPN(
        CHANNELS,
        8,
        4,
        norm_cfg=dict(type='GN', num_groups=2),
        act_cfg=dict(type='ReLU'),
        no_norm_on_lateral=True)
    assert isinstance(fpn.fpn_convs[0].gn, nn.GroupNorm) and fpn.fpn_convs[0].conv.bias is None
    assert not hasattr(fpn.lateral_convs[0], 'gn') and fpn.lateral_convs[0].conv.bias is not None
    assert all((output >= 0).all() for output in fpn(inputs()))


def test_a_fixed_factor_replaces_the_size():
    x = [torch.randn(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate(CHANNELS)]
    by_size = FPN(CHANNELS, 6, 4)
    by_factor = FPN(CHANNELS, 6, 4, upsample_cfg=dict(mode='nearest', scale_factor=2))
    by_factor.load_state_dict(by_size.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(by_size(x), by_factor(x)))


# Names, shapes and order of MMDetection 2.28.2's state_dicts.
@pytest.mark.parametrize('arguments, digest', [
    (dict(), '16 ec025bcb85f2a128'),
    (dict(start_level=1, add_extra_convs='on_output'), '16 6460af2ed8fd584f'),
    (dict(start_level=1, add_extra_convs='on_input'), '16 eab34908840d4bd2'),
    (dict(norm_cfg=dict(type='GN', num_groups=32),
          conv_cfg=dict(type='ConvWS')), '24 f723b56727ff643d'),
])
def test_checkpoints_keep_their_names_and_order(arguments, digest):
    with torch.device('meta'):
        fpn = MODELS.build(
            dict(
                type='FPN',
                in_channels=[256, 512, 1024, 2048],
                out_channels=256,
                num_outs=5,
                **arguments))
    table = [(name, list(value.shape)) for name, value in fpn.state_dict().items()]
    assert f'{len(table)} {hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]}' == digest


def test_weights_begin_even():
    torch.manual_seed(0)
    fpn = FPN(CHANNELS, 64, 5)
    fpn.init_weights()
    weight = fpn.fpn_convs[0].conv.weight
    bound = (6 / (2 * 64 * 9))**.5
    assert weight.abs().max().item() == pytest.approx(
        bound, rel=.01) and (fpn.fpn_convs[0].conv.bias == 0).all()


def test_nothing_waits_for_the_device():
    fpn, x = FPN(CHANNELS, 6, 6, add_extra_convs='on_output'), inputs()
    with NoSync():
        sum(output.sum() for output in fpn(x)).backward()


@pytest.mark.parametrize('arguments, message', [
    (dict(in_channels=256), 'give a list'),
    (dict(num_outs=3), 'num_outs is 3 for the 4 levels'),
    (dict(end_level=2), 'num_outs is 5 for the 3 levels'),
    (dict(start_level=4), 'levels 4 to -1 of 4'),
    (dict(add_extra_convs='on_top'), "'on_top'"),
])
def test_levels_that_do_not_add_up_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MODELS.build({
            **dict(type='FPN', in_channels=CHANNELS, out_channels=6, num_outs=5),
            **arguments
        })
