import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdet_ft.config import CheckError, Config
from mmdet_ft.engine.config_check.check import check
from mmdet_ft.models.backbones.hrnet import HRNet
from mmdet_ft.models.necks.hrfpn import HRFPN


def small_stages():
    """Of an HRNet of 4 channels at its finest."""

    def stage(num_branches, num_modules, block='BASIC', width=4):
        return dict(
            num_modules=num_modules,
            num_branches=num_branches,
            block=block,
            num_blocks=(1, ) * num_branches,
            num_channels=tuple(width * 2**branch for branch in range(num_branches)))

    return dict(
        stage1=stage(1, 1, 'BOTTLENECK', 8),
        stage2=stage(2, 1),
        stage3=stage(3, 2),
        stage4=stage(4, 1))


@torch.no_grad()
def test_each_map_is_the_sum_of_all_at_its_resolution():
    torch.manual_seed(0)
    module = HRNet(small_stages()).eval().stage3[1]
    maps = [torch.randn(2, 4 * 2**branch, 16 // 2**branch, 24 // 2**branch) for branch in range(3)]
    after = [branch(x) for branch, x in zip(module.branches, maps)]
    for goal, found in enumerate(module(maps)):
        expected = after[goal]
        for source, x in enumerate(after):
            layers = module.fuse_layers[goal][source]
            if source > goal:  # 1x1 and norm, then each pixel 2^steps times
                x, times = layers[1](layers[0](x)), 2**(source - goal)
                expected = expected + x.repeat_interleave(times, 2).repeat_interleave(times, 3)
            elif source < goal:  # 3x3 of stride 2, with a ReLU between two of them
                for number, (conv, norm, *_) in enumerate(layers):
                    x = norm(conv(x.relu() if number else x))
                expected = expected + x
        torch.testing.assert_close(found, expected.relu())


def test_maps_and_names():
    model = HRNet(small_stages())
    shapes = [tuple(x.shape) for x in model(torch.randn(1, 3, 64, 96))]
    assert shapes == [(1, 4, 16, 24), (1, 8, 8, 12), (1, 16, 4, 6), (1, 32, 2, 3)]
    names = set(model.state_dict())
    assert {
        'conv2.weight', 'bn2.bias', 'layer1.0.downsample.0.weight', 'transition1.0.0.weight',
        'transition2.2.0.0.weight', 'stage3.1.branches.2.0.conv1.weight',
        'stage3.0.fuse_layers.2.0.1.0.weight', 'stage4.0.fuse_layers.0.3.1.running_var'
    } <= names
    finest = HRNet(small_stages(), multiscale_output=False)
    assert [x.shape[1] for x in finest(torch.randn(1, 3, 64, 96))] == [4]
    assert not any(module.training
                   for module in model.train().modules() if isinstance(module, nn.BatchNorm2d))


@torch.no_grad()
@pytest.mark.parametrize('pooling_type, pool', [('AVG', F.avg_pool2d), ('MAX', F.max_pool2d)])
def test_the_pyramid_is_one_map_pooled(pooling_type, pool):
    neck = HRFPN([4, 8], 6, num_outs=3, pooling_type=pooling_type)
    maps = [torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)]
    finer = F.interpolate(maps[1], (8, 12), mode='bilinear')
    x = neck.reduction_conv.conv(torch.cat([maps[0], finer], 1))
    for level, found in enumerate(neck(maps)):
        pooled = pool(x, 2**level) if level else x
        torch.testing.assert_close(found, neck.fpn_convs[level].conv(pooled))


def changed(stage, **values):
    stages = small_stages()
    stages[stage].update(values)
    return stages


@pytest.mark.parametrize('extra, error, message', [
    (changed('stage2',
             block='BASICS'), ValueError, "block is 'BASICS'; write 'BASIC' or 'BOTTLENECK'"),
    (changed('stage2', num_blocks=(4, )), ValueError, r'num_blocks=\(4,\) for num_branches=2'),
    (changed('stage3',
             num_channel=4), TypeError, "unknown key 'num_channel'; did you mean 'num_channels'"),
    (dict(stage1={}), TypeError, "'stage2' is missing"),
])
def test_stages_that_cannot_be_are_named(extra, error, message):
    with pytest.raises(error, match=message):
        HRNet(extra)


def test_the_check_of_a_config_knows_the_stages():

    def of(extra):
        return Config(dict(model=dict(type='HRNet', extra=extra)))

    with pytest.raises(CheckError, match="'num_channels'"):
        check(of(changed('stage3', num_channel=4)), for_training=False)
    with pytest.raises(CheckError, match='the config has no data'):
        check(of(small_stages()), for_training=False)
