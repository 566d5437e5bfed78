"""Necks after or instead of FPN: PAFPN, BFP, and lists of necks."""
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F

from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.necks.bfp import BFP, EmbeddedGaussian
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.pafpn import PAFPN
from mmdet_ft.registry import MODELS
from tests.models.test_fpn import CHANNELS, inputs, pyramid
from tests.models.test_golden import fixed_weights
from tools.benchmarks.no_sync import NoSync

PYRAMID = dict(type='FPN', in_channels=CHANNELS, out_channels=6, num_outs=5)


def convolved(x, conv, **arguments):
    return F.conv2d(x, conv.conv.weight, conv.conv.bias, **arguments)


def test_the_second_pass_of_a_pafpn_goes_from_fine_to_coarse():
    neck = fixed_weights(PAFPN(CHANNELS, 6, 5))
    with torch.no_grad():
        outputs, sums = neck(inputs()), pyramid(neck, inputs())
        for i in range(3):
            sums[i + 1] += convolved(sums[i], neck.downsample_convs[i], stride=2, padding=1)
        assert torch.allclose(outputs[0], sums[0], atol=1e-5)
        for output, x, conv in zip(outputs[1:], sums[1:], neck.pafpn_convs):
            assert torch.allclose(output, convolved(x, conv, padding=1), atol=1e-5)
        assert torch.equal(outputs[4], outputs[3][:, :, ::2, ::2])


def test_extra_levels_of_a_pafpn_follow_its_last_level():
    neck = PAFPN(CHANNELS, 6, 5, start_level=1, add_extra_convs='on_output')
    with torch.no_grad():
        outputs = neck(inputs())
        assert len(neck.downsample_convs) == 2
        assert torch.equal(outputs[3], neck.fpn_convs[3](outputs[2]))


def maps(channels=4, sizes=((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator) for size in sizes]


def test_every_level_gets_the_mean_of_all_levels():
    x = maps()
    outputs = BFP(4, 5)(x)
    finest = F.max_pool2d(x[0], 4)
    coarser = [level.repeat_interleave(2, 2).repeat_interleave(2, 3) for level in x]
    last = x[4][..., [0, 0, 0, 1, 1, 1]].expand(-1, -1, 4, -1)
    mean = (finest + F.max_pool2d(x[1], 2) + x[2] + coarser[3] + last) / 5
    assert torch.allclose(outputs[2], x[2] + mean, atol=1e-6)
    wide = mean.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(outputs[0], x[0] + wide, atol=1e-6)
    assert torch.allclose(outputs[3], x[3] + F.max_pool2d(mean, 2), atol=1e-6)


def test_a_pixel_learns_from_similar_pixels_of_the_whole_map():
    layer, x = fixed_weights(EmbeddedGaussian(4, None, None)), maps()[2] * 3
    with torch.no_grad():
        theta, phi, g = (convolved(x, conv) for conv in (layer.theta, layer.phi, layer.g))
        y = torch.zeros_like(x)
        for image in range(2):
            for row in range(4):
                for column in range(6):
                    likeness = (theta[image, :, row, column, None, None] * phi[image]).sum(0)
                    share = likeness.flatten().softmax(0).view(4, 6)
                    y[image, :, row, column] = (share * g[image]).sum((1, 2))
        assert torch.allclose(layer(x), x + convolved(y, layer.conv_out), atol=1e-5)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_a_non_local_refinement_begins_as_the_identity(norm_cfg):
    torch.manual_seed(0)
    neck = BFP(4, 5, refine_type='non_local', norm_cfg=norm_cfg)
    neck.init_weights()
    refine = neck.refine
    assert torch.equal(refine(maps()[2]), maps()[2])
    assert .005 < refine.theta.conv.weight.std() < .02


# Names, shapes and order of MMDetection 2.28.2's state_dicts.
@pytest.mark.parametrize('neck, digest', [
    (dict(type='PAFPN', in_channels=[256, 512, 1024, 2048], out_channels=256,
          num_outs=5), '28 58f1096caaaced83'),
    (dict(type='BFP', in_channels=256, num_levels=5,
          refine_type='non_local'), '8 e3fe76d457fef3f6'),
    (dict(type='BFP', in_channels=256, num_levels=5, refine_type='conv'), '2 7c1910f20430fd7c'),
])
def test_checkpoints_keep_their_names_and_order(neck, digest):
    with torch.device('meta'):
        built = MODELS.build(neck)
    table = [(name, list(value.shape)) for name, value in built.state_dict().items()]
    assert f'{len(table)} {hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]}' == digest


def test_a_list_of_necks_is_one_after_another():
    balance = dict(type='BFP', in_channels=6, num_levels=5, refine_type='conv')
    backbone = dict(type='ResNet', depth=18)
    model = fixed_weights(Detector(backbone, [PYRAMID, balance]))
    assert isinstance(model.neck[0], FPN) and 'neck.1.refine.conv.weight' in model.state_dict()
    with torch.no_grad():
        expected = model.neck[1](model.neck[0](inputs()))
        assert all(torch.equal(a, b) for a, b in zip(model.neck(inputs()), expected))


@pytest.mark.parametrize('neck', [
    dict(PYRAMID, type='PAFPN', add_extra_convs='on_input'),
    dict(type='BFP', in_channels=4, num_levels=5, refine_type='non_local'),
])
def test_nothing_waits_for_the_device(neck):
    built = MODELS.build(neck)
    x = inputs() if neck['type'] == 'PAFPN' else maps()
    with NoSync():
        sum(output.sum() for output in built(x)).backward()


@pytest.mark.parametrize('arguments, message', [
    (dict(refine_level=5), 'refine_level is 5; write one of 0 to 4'),
    (dict(refine_type='nonlocal'), "'nonlocal'; write 'conv', 'non_local' or None"),
])
def test_a_wrong_refinement_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BFP(4, 5, **arguments)
