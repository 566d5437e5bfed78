"""Backbones can be traced and exported: nothing in their forward is beyond torch's exporters."""
import pytest
import torch

from mmdet_ft.models.layers import is_exported
from mmdet_ft.registry import MODELS

BACKBONES = [
    dict(type='ResNet', depth=18, base_channels=4),
    dict(type='ResNetV1d', depth=50, base_channels=4, stem_channels=8, num_stages=1, strides=(1, ), dilations=(1, ),
         out_indices=(0, )),
    dict(type='SEResNet', depth=50, base_channels=16, num_stages=1, strides=(1, ), dilations=(1, ), out_indices=(0, )),
    dict(type='RegNet', arch=dict(w0=8, wa=8., wm=2., group_w=8, depth=8)),
    dict(type='MobileNetV2', widen_factor=.25),
    dict(type='VGG', depth=11, num_stages=2, dilations=(1, 1), norm_cfg=dict(type='BN')),
    dict(type='HRNet', extra={
        f'stage{i + 1}': dict(num_modules=1, num_branches=i + 1, block='BASIC' if i else 'BOTTLENECK',
                              num_blocks=(1, ) * (i + 1), num_channels=tuple(4 * 2**k for k in range(i + 1)))
        for i in range(4)
    }),
]  # yapf: disable


def backbone_and_images(config):
    torch.manual_seed(0)
    return MODELS.build(dict(config)).eval().requires_grad_(False), torch.randn(1, 3, 32, 32)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('config', BACKBONES, ids=lambda config: config['type'])
def test_a_traced_backbone_gives_the_same_features(config):
    model, images = backbone_and_images(config)
    traced = torch.jit.trace(model, images, check_trace=False)
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert 'aten::batch_norm' in kinds and not any('foreach' in kind for kind in kinds)
    assert_same(traced(images), model(images))


@pytest.mark.parametrize('config', BACKBONES, ids=lambda config: config['type'])
def test_an_exported_backbone_gives_the_same_features(config):
    model, images = backbone_and_images(config)
    program = torch.export.export(model, (images, ), strict=False)
    targets = {str(node.target) for node in program.graph.nodes}
    assert any('batch_norm' in target for target in targets)
    assert not any('foreach' in target for target in targets)
    assert_same(program.module()(images), model(images))


def test_nothing_else_counts_as_an_export():
    assert not is_exported()


def test_a_strict_export_does_not_fold_and_a_compiled_backbone_does():
    config = dict(
        type='ResNet',
        depth=18,
        base_channels=4,
        num_stages=1,
        strides=(1, ),
        dilations=(1, ),
        out_indices=(0, ))
    model, images = backbone_and_images(config)
    program = torch.export.export(model, (images, ), strict=True)
    assert not any('foreach' in str(node.target) for node in program.graph.nodes)
    graphs = []

    def record(module, _):
        graphs.append(str(module.graph))
        return module

    torch._dynamo.reset()
    torch.compile(model, backend=record)(images)
    torch._dynamo.reset()
    assert len(graphs) == 1 and 'batch_norm' not in graphs[0]
