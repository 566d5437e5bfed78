"""tools/model_converters/npz_to_pth.py: arrays of classifiers as checkpoints of ours."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from mmdet_ft.commands import npz_to_pth as converter
from mmdet_ft.registry import MODELS
from tests import commands

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'npz_to_pth.py'
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def mobilenet():
    """torchvision's network with 1001 classes, and its arrays with batch norm folded into the convolutions."""
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(num_classes=1001).eval()
    arrays, convolution = {}, None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            convolution = (name, module)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -.1, .1)
            nn.init.uniform_(module.running_var, .5, 2)
            nn.init.uniform_(module.weight, .5, 2)
            nn.init.uniform_(module.bias, -.1, .1)
            scale = module.weight / (module.running_var + module.eps).sqrt()
            weight = convolution[1].weight * scale[:, None, None, None]
            arrays[f'{convolution[0]}.weight'] = weight.detach().numpy()
            arrays[f'{convolution[0]}.bias'] = (module.bias -
                                                module.running_mean * scale).detach().numpy()
        elif isinstance(module, nn.Linear):
            arrays[f'{name}.weight'] = module.weight.detach().numpy()
            arrays[f'{name}.bias'] = module.bias.detach().numpy()
    return model, arrays


def test_a_folded_mobilenet_gives_the_same_logits_without_the_background(mobilenet):
    theirs, arrays = mobilenet
    state_dict, notes = converter.convert(arrays)
    ours = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='MobileNetV2', norm_eval=True),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280)))
    ours.load_state_dict(state_dict)
    with torch.no_grad():
        expected = theirs(X)[:, 1:]
        for mode in (False, True):  # with norm_eval, in training as well
            assert torch.allclose(ours.train(mode).logits(X), expected, atol=1e-4)
    assert 'norm_eval=True' in notes[0] and '1000 classes' in notes[1]


def test_a_detectors_backbone_reads_its_names(mobilenet, tmp_path):
    _, arrays = mobilenet
    np.savez(tmp_path / 'mobilenet.npz', **arrays)
    target = tmp_path / 'new' / 'detector.pth'
    out, _ = commands.run(TOOL, tmp_path / 'mobilenet.npz', target, '--layout', 'mmdet')
    assert '314 weights' in out and 'norm_eval=True' in out
    backbone = MODELS.build(
        dict(
            type='MobileNetV2',
            norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint=str(target), prefix='backbone.')))
    backbone.init_weights()
    right, _ = converter.convert(arrays)
    other = MODELS.build(dict(type='MobileNetV2', layout='mmcls'))
    other.load_state_dict({
        name[len('backbone.'):]: value
        for name, value in right.items() if name.startswith('backbone.')
    })
    with torch.no_grad():
        for ours, theirs in zip(backbone.eval()(X), other.eval()(X)):
            assert torch.equal(ours, theirs)


def test_a_thin_resnet_keeps_all_it_has():
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ThinResNet_CIFAR', depth=32),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=64)))
    arrays = {
        name.replace('backbone.', '').replace('head.fc.', 'linear.'): value.numpy()
        for name, value in model.state_dict().items() if not name.endswith('num_batches_tracked')
    }
    state_dict, notes = converter.convert(arrays)
    assert notes == ['ThinResNet_CIFAR of depth 32']
    missing, unexpected = model.load_state_dict(state_dict, strict=False)
    assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)


def test_other_arrays_are_refused_with_one_line(tmp_path):
    np.savez(tmp_path / 'other.npz', a=np.zeros(3), b=np.zeros(2))
    done = subprocess.run([sys.executable, TOOL, tmp_path / 'other.npz', tmp_path / 'x.pth'],
                          capture_output=True,
                          text=True)
    assert done.returncode == 1 and not (tmp_path / 'x.pth').exists()
    assert done.stderr.strip().count('\n') == 0 and 'its arrays are a, b' in done.stderr
