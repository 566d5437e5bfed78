"""MobileNetV2 under a detector and under a classifier; VGG and the CIFAR ResNets."""
import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import vgg

from mmdet_ft.models.backbones import mobilenet_v2
from mmdet_ft.models.backbones.mobilenet_v2 import MobileNetV2
from mmdet_ft.models.backbones.resnet_cifar import ThinResNet_CIFAR
from mmdet_ft.models.backbones.vgg import VGG
from mmdet_ft.registry import MODELS
from tests.models.tiny import fall_along_gradient, tiny_batch, tiny_config

X = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def with_random_statistics(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -.1, .1)
            nn.init.uniform_(module.running_var, .8, 1.2)
    return model.eval()


def same_order(ours, theirs):
    """Weights of another network of the same layers, in order."""
    table = zip(ours.state_dict().items(), theirs.state_dict().values())
    ours.load_state_dict({name: other for (name, value), other in table})
    return ours


@pytest.mark.parametrize('layout', ['mmdet', 'mmcls'])
def test_torchvisions_weights_give_its_features(layout):
    theirs = with_random_statistics(torchvision.models.mobilenet_v2())
    ours = same_order(MobileNetV2(layout=layout), theirs.features).eval()
    with torch.no_grad():
        stages = ours(X)
        x = X
        expected = []
        for i, layer in enumerate(theirs.features):
            x = layer(x)
            if i in (3, 6, 13, 18):  # the last layers of stages 1, 2, 4 and 7
                expected.append(x)
    assert [stage.shape[1] for stage in stages] == [24, 32, 96, 1280]
    for stage, right in zip(stages, expected):
        assert torch.allclose(stage, right, rtol=1e-4, atol=1e-5)


def test_names_of_weights_are_those_of_the_package():
    with torch.device('meta'):
        detection, classification = (
            set(MobileNetV2(layout=layout).state_dict()) for layout in ('mmdet', 'mmcls'))
    assert 'layer2.0.expand_conv.conv.weight' in detection
    assert 'layer1.0.depthwise_conv.bn.bias' in detection
    assert 'layer1.0.expand_conv.conv.weight' not in detection
    assert {'layer2.0.conv.0.conv.weight', 'layer2.0.conv.2.bn.bias',
            'conv2.conv.weight'} <= classification


@pytest.mark.parametrize('frozen_stages', [-1, 0, 3])
def test_frozen_stages_neither_learn_nor_count_but_the_stem_counts(frozen_stages):
    model = MobileNetV2(widen_factor=.25, frozen_stages=frozen_stages).train()
    frozen = ['conv1', 'layer1', 'layer2', 'layer3'][:frozen_stages + 1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sum(stage.sum() for stage in model(X)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name.split('.')[0] in frozen), name
    for name, value in model.state_dict().items():
        if name.endswith('running_mean'):
            stays = name.split('.')[0] in frozen[1:]
            assert torch.equal(value, before[name]) == stays, name


def test_norm_eval_keeps_statistics_and_trains_weights():
    model = MobileNetV2(widen_factor=.25, norm_eval=True).train()
    assert not any(layer.training for layer in model.modules() if isinstance(layer, _BatchNorm))
    assert model.conv1.bn.weight.requires_grad
    usual = MobileNetV2(widen_factor=.25).train()
    assert all(layer.training for layer in usual.modules())


def test_recomputation_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = MobileNetV2(widen_factor=.25, norm_eval=True)
    frugal = MobileNetV2(widen_factor=.25, norm_eval=True, with_cp=True)
    frugal.load_state_dict(plain.state_dict())
    for model in (plain, frugal):
        sum(stage.square().mean() for stage in model.train()(X)).backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-7), name


def test_mask_rcnn_trains_on_it(tmp_path):
    torch.manual_seed(0)
    source = MobileNetV2(widen_factor=.25)
    names = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=names), tmp_path / 'classifier.pth')
    config = tiny_config()
    config['backbone'] = dict(
        type='MobileNetV2',
        widen_factor=.25,
        out_indices=(1, 2, 4, 6),
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'))
    config['neck']['in_channels'] = [8, 8, 24, 80]
    model = MODELS.build(config)
    model.init_weights()
    assert torch.equal(model.backbone.layer3[0].linear_conv.conv.weight,
                       source.layer3[0].linear_conv.conv.weight)
    batch = tiny_batch((2, 1))
    model.train()

    def loss_of_rpn():
        torch.manual_seed(
            0)  # the same anchors are drawn; proposals jump with any change of the weights
        terms = model(batch).terms
        return terms['loss_rpn_cls'] + terms['loss_rpn_bbox']

    # Of 20 seeds the farthest was 0.3 % away.
    falls = fall_along_gradient(loss_of_rpn, list(model.parameters()), shares=(1e-3, ))
    assert falls == pytest.approx(1, abs=.2)
    model.zero_grad()
    model(batch).total.backward()
    assert model.backbone.conv1.conv.weight.grad.abs().max() > 0
    idle = {name: value for name, value in model.named_parameters() if value.grad is None}
    # conv2 makes stage 7, which nobody asked for.
    assert {name.rsplit('.', 2)[0] for name in idle} == {'backbone.conv2'}
    assert not any(value.requires_grad for value in idle.values())
    with torch.no_grad():
        assert len(model.eval().results(model(batch), batch.metas)) == 2


@pytest.mark.parametrize('depth, arguments, theirs', [
    (11, {}, 'A'),
    (16, dict(norm_cfg=dict(type='BN')), 'D'),
])
def test_a_vgg_of_torchvisions_weights_is_torchvisions(depth, arguments, theirs):
    theirs = with_random_statistics(vgg.make_layers(vgg.cfgs[theirs], batch_norm=depth == 16))
    ours = same_order(VGG(depth, out_indices=(2, 4), **arguments), theirs).eval()
    with torch.no_grad():
        middle, last = ours(X)
        assert torch.allclose(last, theirs(X), rtol=1e-4, atol=1e-5)
    assert middle.shape == (2, 256, 8, 12)


def test_a_vgg_freezes_stages_and_drops_its_last_pooling():
    model = VGG(11, norm_cfg=dict(type='BN'), frozen_stages=2, with_last_pool=False).train()
    (x, ) = model(X)
    assert x.shape == (2, 512, 4, 6)
    x.sum().backward()
    idle = {
        int(name.split('.')[1])
        for name, value in model.named_parameters() if value.grad is None
    }
    assert idle == {0, 2}  # one convolution a stage, each followed by its pooling
    assert not model.features[2].bn.training and model.features[4].bn.training


def test_a_padded_shortcut_takes_every_second_pixel_and_adds_empty_channels():
    model = ThinResNet_CIFAR(20)
    x = torch.rand(1, 16, 8, 8)
    shortcut = model.layer2[0].downsample(x)
    assert shortcut.shape == (1, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any() and not shortcut[:, 24:].any()
    assert model.layer1[0].downsample is None
    assert sum(value.numel()
               for value in model.parameters()) == 269_722 - 650  # He et al., table 6: 0.27 M


def test_depths_of_the_thin_networks_count_their_layers():
    for depth in (20, 56):
        with torch.device('meta'):
            convolutions = [
                m for m in ThinResNet_CIFAR(depth).modules() if isinstance(m, nn.Conv2d)
            ]
        assert len(convolutions) == depth - 1  # and the linear layer of the head


def test_statistics_that_stay_go_into_the_weights_with_the_same_gradients(monkeypatch):
    torch.manual_seed(0)
    model = with_random_statistics(MobileNetV2(widen_factor=.25, norm_eval=True)).train()
    results = []
    for folds in (True, False):
        if not folds:
            monkeypatch.setattr(mobilenet_v2, 'fold_norms', lambda pairs: {})
        else:
            assert len(mobilenet_v2.fold_norms(model._pairs())) == 52
        model.zero_grad()
        stages = model(X)
        sum(stage.square().mean() for stage in stages).backward()
        results.append((stages, [value.grad.clone() for value in model.parameters()]))
    for ours, plain in zip(results[0][0] + tuple(results[0][1]),
                           results[1][0] + tuple(results[1][1])):
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('make, stage', [
    (lambda: MobileNetV2(widen_factor=.25, norm_eval=True), 'layer3'),
    (lambda: ThinResNet_CIFAR(20, norm_eval=True), 'layer3'),
])
def test_a_hook_on_a_stage_or_layer_is_called(make, stage):
    model, seen = make().train(), []
    for module in (getattr(model, stage), getattr(model, stage)[0], model.conv1):
        module.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    model(X)
    assert len(seen) == 3
