import hashlib
import json

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.models import layers
from mmdet_ft.models.backbones.residual import Bottleneck
from mmdet_ft.models.backbones.resnet import ResNet, ResNetV1d
from mmdet_ft.models.backbones.resnext import ResNeXt
from mmdet_ft.registry import MODELS
from tools.benchmarks.no_sync import count_syncs

GN = dict(type='GN', num_groups=32, requires_grad=True)
WS = dict(type='ConvWS')
SMALL = dict(base_channels=16)
X = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def table_digest(module: nn.Module) -> str:
    table = [(name, list(value.shape)) for name, value in module.state_dict().items()]
    return f'{len(table)} {hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]}'


# Names, shapes and order of MMDetection 2.28.2's state_dicts. A change here orphans every checkpoint there is.
@pytest.mark.parametrize('arguments, digest', [
    (dict(depth=18), '120 5f547bf6f1840f5f'),
    (dict(depth=50), '318 5b57e54266145899'),
    (dict(depth=50, style='caffe', norm_cfg=dict(type='BN',
                                                 requires_grad=False)), '318 5b57e54266145899'),
    (dict(depth=50, norm_cfg=dict(type='SyncBN')), '318 5b57e54266145899'),
    (dict(depth=50, norm_cfg=GN, conv_cfg=WS), '159 c4f7690c6c56462b'),
    (dict(depth=101), '624 75f680ddfee4e45f'),
    (dict(type='ResNetV1d', depth=50), '330 4bbdf7372f780c07'),
    (dict(type='ResNeXt', depth=101, groups=32, base_width=4), '624 bf1450e574ae4d44'),
    (dict(type='ResNeXt', depth=101, groups=64, base_width=4), '624 e59e65a522347c95'),
    (dict(type='ResNeXt', depth=50, groups=32, base_width=4, norm_cfg=GN,
          conv_cfg=WS), '159 28851f140d0c67c3'),
])
def test_checkpoints_keep_their_names_and_order(arguments, digest):
    with torch.device('meta'):
        assert table_digest(MODELS.build({'type': 'ResNet', **arguments})) == digest


def test_a_few_names_by_hand():
    with torch.device('meta'):
        names = list(ResNet(50).state_dict())
        groups = list(ResNet(50, norm_cfg=GN).state_dict())
        deep = list(ResNetV1d(50).state_dict())
    assert names[:3] == ['conv1.weight', 'bn1.weight', 'bn1.bias']
    assert 'layer1.0.downsample.0.weight' in names and 'layer1.0.downsample.1.running_var' in names
    assert names[-1] == 'layer4.2.bn3.num_batches_tracked'
    assert groups[:3] == ['conv1.weight', 'gn1.weight', 'gn1.bias']
    assert deep[0] == 'stem.0.weight' and 'layer2.0.downsample.1.weight' in deep  # 0 is the average


@pytest.mark.parametrize('ours, theirs', [
    (lambda: ResNet(18), torchvision.models.resnet18),
    (lambda: ResNet(50), torchvision.models.resnet50),
    (lambda: ResNeXt(50, groups=32, base_width=4), torchvision.models.resnext50_32x4d),
])
def test_torchvision_weights_give_torchvision_features(ours, theirs):
    theirs = theirs().eval().double()  # so that what differs is not the rounding
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -.1, .1)
            nn.init.uniform_(module.weight, .8, 1.2)
    ours = ours().eval().double()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing and set(unexpected) == {'fc.weight', 'fc.bias'}
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(X.double()))))
    with torch.no_grad():
        for output, layer in zip(
                ours(X.double()), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
            x = layer(x)
            assert torch.allclose(output, x, rtol=1e-4, atol=1e-5)


def test_the_stride_is_where_the_style_puts_it():
    block = Bottleneck(8, 4, stride=2, style='pytorch')
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
    block = Bottleneck(8, 4, stride=2, style='caffe')
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


def test_weight_standardisation_is_of_each_filter():
    conv = ResNet(18, norm_cfg=dict(type='GN', num_groups=4), conv_cfg=WS, **SMALL).conv1
    expected = conv.weight.detach().clone()
    for number, kernel in enumerate(expected):
        expected[number] = (kernel - kernel.mean()) / (kernel.std() + 1e-5)
    assert torch.allclose(
        conv(X), nn.functional.conv2d(X, expected, stride=2, padding=3), atol=1e-4)


def test_stages_are_chosen_and_halve_the_size():
    shapes = [tuple(output.shape) for output in ResNet(18, **SMALL)(X)]
    assert shapes == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    model = ResNet(
        18, num_stages=3, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(0, 2), **SMALL)
    assert [tuple(output.shape) for output in model(X)] == [(2, 16, 16, 24), (2, 64, 8, 12)]
    assert model.feat_dim == 64


@pytest.mark.parametrize('deep_stem', [False, True])
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2])
def test_frozen_stages_neither_learn_nor_count(deep_stem, frozen_stages):
    model = ResNet(18, frozen_stages=frozen_stages, norm_eval=False, deep_stem=deep_stem, **SMALL)
    frozen = (['stem', 'conv1', 'bn1'] if frozen_stages >= 0 else
              []) + [f'layer{i + 1}' for i in range(max(frozen_stages, 0))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.train() is model
    sum(output.sum() for output in model(X)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name.split('.')[0] in frozen), name
    for name, value in model.state_dict().items():
        if name.endswith('running_mean'):
            assert torch.equal(value, before[name]) == (name.split('.')[0] in frozen), name


def test_norm_eval_keeps_statistics_and_trains_weights():
    model = ResNet(18, **SMALL)
    assert not any(module.training
                   for module in model.train().modules() if isinstance(module, _BatchNorm))
    assert model.layer1.training and model.bn1.weight.requires_grad
    assert all(module.training for module in ResNet(18, norm_eval=False, **SMALL).train().modules())
    assert not model.eval().training


def test_fixed_norms_have_no_gradient():
    model = ResNet(18, norm_cfg=dict(type='BN', requires_grad=False), **SMALL)
    assert not model.bn1.weight.requires_grad and model.conv1.weight.requires_grad


@pytest.mark.parametrize('depth', [18, 50])
def test_recomputation_gives_the_same_gradients(depth):
    torch.manual_seed(0)
    plain, frugal = ResNet(
        depth, norm_eval=True, **SMALL), ResNet(
            depth, norm_eval=True, with_cp=True, **SMALL)
    frugal.load_state_dict(plain.state_dict())
    kept = []
    for model in (plain, frugal):
        kept.append(0)

        def count(tensor):
            kept[-1] += tensor.numel() if len(tensor) == len(X) else 0  # of images, not weights
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = sum(output.square().mean() for output in model.train()(X))
        loss.backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-7), name
    assert kept[1] < .75 * kept[0]


def test_random_weights_begin_as_identities():
    model = ResNet(50, **SMALL)
    model.init_weights()
    block = model.layer1[1]
    x = torch.rand(1, 64, 4, 4)
    assert torch.equal(block.eval()(x), x)
    assert (model.bn1.weight == 1).all()
    fan_out = 16 * 49
    assert model.conv1.weight.std().item() == pytest.approx((2 / fan_out)**.5, rel=.1)
    loud = ResNet(50, zero_init_residual=False, **SMALL)
    loud.init_weights()
    assert (loud.layer1[1].bn3.weight == 1).all()


@pytest.mark.parametrize('arguments', [
    dict(pretrained='torchvision://resnet18'),
    dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
])
def test_pretrained_weights_are_asked_for_and_kept(arguments):
    weights = ResNet(18, **SMALL).state_dict()
    asked = []
    model = ResNet(18, **arguments, **SMALL)
    model.init_weights(load=lambda path: asked.append(path) or weights)
    assert asked == ['torchvision://resnet18']
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('arguments, message', [
    (dict(depth=49), 'depth is 49; write one of 18, 34, 50, 101, 152'),
    (dict(depth=18, num_stages=5), 'num_stages is 5'),
    (dict(depth=18, strides=(1, 2)), r'strides=\(1, 2\) for num_stages=4'),
    (dict(depth=18, out_indices=(4, )), 'the stages are 0 to 3'),
    (dict(depth=18, style='tensorflow'), "style is 'tensorflow'"),
    (dict(depth=18, frozen_stages=5), 'frozen_stages is 5 of 4'),
    (dict(depth=18, pretrained='a', init_cfg=dict(type='Kaiming')), 'remove pretrained'),
    (dict(type='ResNeXt', depth=18), 'ResNeXt: depth is 18; write one of 50, 101, 152'),
])
def test_arguments_that_mean_nothing_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({'type': 'ResNet', **arguments})


@pytest.mark.parametrize('make', [
    lambda: ResNet(18, frozen_stages=1, **SMALL), lambda: ResNet(50, frozen_stages=1, **SMALL),
    lambda: ResNet(50, style='caffe', norm_cfg=dict(type='BN', requires_grad=False), **SMALL),
    lambda: ResNetV1d(50, with_cp=True, **SMALL),
    lambda: ResNeXt(50, groups=4, base_width=4, **SMALL)
])
def test_norms_in_the_weights_change_nothing(monkeypatch, make):
    torch.manual_seed(0)
    model = make().double().train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, .5, 2)
            nn.init.uniform_(module.weight, .5, 2)
            nn.init.uniform_(module.bias, -1, 1)

    def run():
        model.zero_grad()
        outputs = model(X.double())
        sum(output.square().mean() for output in outputs).backward()
        return outputs, [parameter.grad for parameter in model.parameters()]

    outputs, gradients = run()
    assert layers.fold_norms(model._pairs())  # there was something to fold
    monkeypatch.setattr(layers, '_can_fold', lambda *pair: False)
    for mine, theirs in zip(outputs, run()[0]):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(gradients, run()[1]):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_folded_norms_are_cast_at_once_as_autocast_would_one_by_one(monkeypatch):
    torch.manual_seed(0)
    model = ResNet(50, frozen_stages=1, **SMALL).train()

    def run():
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16), count_syncs() as seen:
            outputs = model(X)
        sum(output.float().square().mean() for output in outputs).backward()
        assert all(output.dtype == torch.bfloat16 for output in outputs)
        return [*outputs, *(p.grad for p in model.parameters() if p.requires_grad)], seen

    mine, seen = run()
    assert seen.ops['aten::_to_copy'] == 1  # the images
    monkeypatch.setattr(layers, '_autocast_dtype', lambda device: None)
    theirs, seen = run()
    assert seen.ops['aten::_to_copy'] > 100
    for one, other in zip(mine, theirs):
        assert torch.equal(one, other)


def test_statistics_that_change_and_layers_that_are_watched_are_not_folded():
    model = ResNet(18, norm_eval=False, frozen_stages=1, **SMALL).train()
    names = {id(module): name for name, module in model.named_modules()}
    folded = {names[id(conv)] for conv in layers.fold_norms(model._pairs())}
    assert folded == {'conv1'} | {f'layer1.{i}.conv{j}' for i in (0, 1) for j in (1, 2)}
    seen = []
    model.bn1.register_forward_hook(lambda *arguments: seen.append(arguments))
    model(X)
    assert len(seen) == 1
