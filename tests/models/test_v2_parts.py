"""Detectors with the parts of V2 that few configs have: C4 with a shared head, deformable
convolutions, plugins, HRNet."""
import pytest
import torch
import torchvision
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.backbones.resnext import ResNeXt
from mmdet_ft.models.roi_heads.shared_head import ResLayer
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Detections, to_device
from tests.models.test_golden import fixed_weights
from tests.models.test_hrnet import small_stages
from tests.models.tiny import tiny_batch, tiny_config
from tools.benchmarks.no_sync import NoSync, count_syncs

LAST_THREE = (False, True, True, True)
CONTEXT = dict(
    cfg=dict(type='ContextBlock', ratio=1. / 4), stages=LAST_THREE, position='after_conv3')
DEFORMED = dict(dcn=dict(type='DCNv2', deform_groups=2), stage_with_dcn=LAST_THREE)


def c4(with_mask=True):
    """One level of stride 8 without a neck, and a stage of a ResNet on regions."""
    config = tiny_config(with_mask)
    del config['neck']
    config['backbone'].update(
        base_channels=32, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1, ))
    config['rpn_head'].update(
        in_channels=64,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[2, 4, 8], ratios=[.5, 1., 2.], strides=[8]))
    head = config['roi_head']
    head['shared_head'] = dict(type='ResLayer', depth=18, stage=1)
    head['bbox_roi_extractor'].update(out_channels=64, featmap_strides=[8])
    head['bbox_roi_extractor']['roi_layer']['output_size'] = 14
    head['bbox_head'] = dict(type='BBoxHead', with_avg_pool=True, in_channels=128, num_classes=3)
    config['train_cfg']['rcnn']['mask_size'] = 14
    if with_mask:
        head['mask_roi_extractor'] = None
        head['mask_head'].update(num_convs=0, in_channels=128)
    return config


def hrnet():
    config = tiny_config()
    config['backbone'] = dict(type='HRNet', extra=small_stages())
    config['neck'] = dict(type='HRFPN', in_channels=[4, 8, 16, 32], out_channels=16)
    return config


def with_bottlenecks(**arguments):
    config = tiny_config()
    config['backbone'].update(depth=50, **arguments)
    config['neck']['in_channels'] = [32, 64, 128, 256]
    return config


KINDS = dict(
    c4=c4,
    faster_c4=lambda: c4(with_mask=False),
    deformed=lambda: with_bottlenecks(**DEFORMED),
    hrnet=hrnet,
    context=lambda: with_bottlenecks(plugins=[CONTEXT]))


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    model = MODELS.build(KINDS[request.param]())
    model.init_weights()
    return model.train()


def test_a_step_trains_every_weight_with_objects_and_without(model):
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for objects in ((2, 1), (0, 0)):
        model.zero_grad()
        losses = model(tiny_batch(objects))
        losses.total.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert set(grads) == trained and all(grad.isfinite().all() for grad in grads.values())
        assert all(value.isfinite() for value in losses.terms.values())
        assert (losses.terms['loss_bbox'] > 0) == (objects != (0, 0))


def test_a_step_waits_for_the_number_of_positives_alone(model):
    batch = tiny_batch()
    model(batch)  # anchors are made once for a size
    with count_syncs() as seen:
        model(batch).total.backward()
    assert len(seen.syncs) <= (2 if model.roi_head.mask_head is not None else 0), seen.syncs
    with NoSync():
        model.loss(batch, num_mask_slots=16).total.backward()


def test_a_step_is_traced_without_any_value_being_known(model):
    meta = torch.device('meta')
    model, batch = model.to(meta), to_device(tiny_batch((2, 0, 3)), meta)
    with FakeTensorMode(allow_non_fake_inputs=True):
        losses = model.loss(batch, num_mask_slots=16)
        losses.total.backward()
    assert losses.total.shape == ()


@torch.no_grad()
def test_predictions_have_boxes_and_masks(model):
    model, batch = model.eval(), tiny_batch((2, 1))
    for views in (batch, (batch, batch)):
        detections = model(views)
        assert detections.valid.any() and detections.boxes[detections.valid].isfinite().all()
        assert (detections.masks is None) == (model.roi_head.mask_head is None)
    assert len(model.results(detections, batch.metas)) == 2


# Printed by the test when they change. A change that should not change numbers leaves them alone.
LOSSES = dict(
    c4=dict(
        loss_rpn_cls=1.15722,
        loss_rpn_bbox=0.00132,
        loss_cls=1.91788,
        loss_bbox=0.11048,
        loss_mask=1.2508),
    deformed=dict(
        loss_rpn_cls=0.49419,
        loss_rpn_bbox=0.00223,
        loss_cls=0.42842,
        loss_bbox=0.01649,
        loss_mask=0.68774),
    context=dict(
        loss_rpn_cls=0.59065,
        loss_rpn_bbox=0.007,
        loss_cls=0.60456,
        loss_bbox=0.1009,
        loss_mask=0.77682))


@pytest.mark.parametrize('kind', LOSSES)
def test_losses_of_fixed_weights_are_the_golden_ones(kind):
    config = KINDS[kind]()
    for part in ('rpn', 'rcnn'):  # all boxes, so that nothing is drawn by chance
        config['train_cfg'][part]['sampler'].update(num=20000, pos_fraction=.5)
    model = fixed_weights(MODELS.build(config)).train()
    losses = {
        name: round(value.item(), 5)
        for name, value in model(tiny_batch((2, 1))).terms.items()
    }
    print(kind, losses)
    assert losses == pytest.approx(LOSSES[kind], rel=1e-3, abs=1e-5)


def test_the_mask_branch_on_the_features_of_the_box_branch_pools_nothing_anew():
    """The same losses and gradients as with an extractor of its own and the same settings."""
    found = []
    for own in (False, True):
        config = c4()
        if own:
            config['roi_head']['mask_roi_extractor'] = config['roi_head']['bbox_roi_extractor']
        torch.manual_seed(0)
        model = MODELS.build(config).train()
        pooled = []
        model.roi_head.shared_head.register_forward_hook(
            lambda module, inputs, output: pooled.append(len(output)))
        losses = model(tiny_batch((2, 1)))
        losses.total.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((losses.terms, grads))
        assert len(pooled) == 1 + own
    for (name, value), other in zip(found[0][0].items(), found[1][0].values()):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=name)
    for name, grad in found[0][1].items():
        torch.testing.assert_close(grad, found[1][1][name], rtol=1e-3, atol=1e-5, msg=name)


@torch.no_grad()
def test_a_c4_model_tells_of_each_region_what_it_would_of_that_one_alone():
    torch.manual_seed(0)
    model, batch = MODELS.build(c4()).eval(), tiny_batch((2, 1))
    head = model.roi_head
    features = model.extract_features(batch.images)
    proposals = model.rpn_head.proposals(model.rpn_head(features), batch).boxes[:, :6]

    def pooled(image, box):
        region = [box[None]]
        x = torchvision.ops.roi_align(features[0][image:image + 1], region, 14, 1 / 8, 0, True)
        for block in head.shared_head.layer2:
            x = block(x)  # norm layers as they are, not in the weights
        return x

    boxes, scores = head.box_predictions(features, proposals, batch.sizes)
    detections = Detections(boxes[:, :, 1], scores[..., 1], torch.ones(2, 6, dtype=torch.long),
                            torch.ones(2, 6, dtype=torch.bool))
    masks = head.mask_predictions(features, detections, batch)
    for image in range(2):
        for slot in range(6):
            vector = pooled(image, proposals[image, slot]).mean((2, 3))
            expected = head.bbox_head.fc_cls(vector).softmax(-1)[0, :-1]
            torch.testing.assert_close(scores[image, slot], expected, rtol=1e-4, atol=1e-5)
            x = pooled(image, detections.boxes[image, slot])
            x = head.mask_head.conv_logits(head.mask_head.upsample(x).relu())
            torch.testing.assert_close(masks[image, slot], x[0, 1].sigmoid(), rtol=1e-4, atol=1e-5)


# --- Shared head


@pytest.mark.parametrize('depth, theirs', [(18, torchvision.models.resnet18),
                                           (50, torchvision.models.resnet50)])
def test_the_shared_head_is_the_last_stage_of_a_network(depth, theirs):
    theirs = theirs().eval().double()
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -.1, .1)
            nn.init.uniform_(module.weight, .8, 1.2)
    ours = ResLayer(depth).double().train()  # norms go by their statistics
    missing, _ = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert list(
        ours.state_dict()) == [name for name in theirs.state_dict() if name.startswith('layer4.')]
    x = torch.randn(3, 256 if depth == 18 else 1024, 14, 14, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs.layer4(x), rtol=1e-9, atol=1e-9)


def test_norm_layers_of_a_shared_head_are_all_as_the_config_says():
    fixed = ResLayer(18, norm_cfg=dict(type='BN', requires_grad=False))
    assert {name
            for name, parameter in fixed.named_parameters() if parameter.requires_grad
            } == {name
                  for name, parameter in fixed.named_parameters() if parameter.dim() == 4}
    groups = [
        type(module) for module in ResLayer(18, norm_cfg=dict(type='GN', num_groups=4)).modules()
    ]
    assert nn.GroupNorm in groups and nn.BatchNorm2d not in groups


def test_the_shared_head_takes_pretrained_weights_of_a_backbone():
    weights, asked = ResNet(18).state_dict(), []
    config = c4()
    config['pretrained'] = 'torchvision://resnet18'
    config['backbone']['base_channels'] = 64
    config['rpn_head']['in_channels'] = 128
    config['roi_head']['shared_head']['stage'] = 2
    config['roi_head']['bbox_head']['in_channels'] = 256
    config['roi_head']['mask_head']['in_channels'] = 256
    model = MODELS.build(config)
    model.init_weights(load=lambda path: asked.append(path) or weights)
    assert asked == ['torchvision://resnet18'] * 2
    for name, value in model.roi_head.shared_head.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize('arguments, message', [
    (dict(depth=49), 'depth is 49; write one of 18, 34, 50, 101, 152'),
    (dict(depth=50, stage=4), 'stage is 4; write 1, 2 or 3'),
    (dict(depth=50, pretrained='a', init_cfg=dict(type='Kaiming')), 'remove pretrained'),
    (dict(depth=18, dcn=dict(type='DCN')), 'dcn: networks of depth 18 and 34 have none'),
])
def test_a_shared_head_that_means_nothing_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResLayer(**arguments)


# --- Plugins


def test_plugins_stand_where_they_are_asked_for():
    model = ResNeXt(50, groups=4, base_channels=16, plugins=[CONTEXT])
    names = {name.split('.context_block')[0] for name in model.state_dict() if 'context' in name}
    assert names == {
        f'layer{i}.{j}'
        for i, blocks in ((2, 4), (3, 6), (4, 3))
        for j in range(blocks)
    }
    assert model.layer2[0].context_block.in_channels == 128  # what the block gives


@pytest.mark.parametrize('position, scaled', [('after_conv1', 1), ('after_conv2', 2),
                                              ('after_conv3', 3)])
def test_a_plugin_works_on_what_its_convolution_gives(position, scaled):
    """A context block that adds 0 but multiplies by sigmoid(0): half of what the norm layer (and
    ReLU) gives."""
    cfg = dict(type='ContextBlock', ratio=1., pooling_type='avg', fusion_types=('channel_mul', ))
    torch.manual_seed(0)
    block = ResNet(
        50, base_channels=8, plugins=[dict(cfg=cfg, position=position)]).double().eval().layer1[1]
    x, given = torch.randn(2, 32, 4, 5, dtype=torch.float64), []
    block.context_block.register_forward_hook(lambda module, inputs, output: given.append(
        (inputs[0], output.clone())))
    with torch.no_grad():
        block(x)
        hidden = x
        for i in range(1, scaled + 1):
            hidden = getattr(block, f'norm{i}')(getattr(block, f'conv{i}')(hidden))
            hidden = hidden if i == 3 else hidden.relu()
    torch.testing.assert_close(given[0][0], hidden)
    torch.testing.assert_close(given[0][1], hidden / 2)


@pytest.mark.parametrize('plugin, message', [
    (dict(CONTEXT, position='after_conv4'), "one of 'after_conv1', 'after_conv2', 'after_conv3'"),
    (dict(CONTEXT, stages=(True, )), r'stages=\(True,\) for num_stages=4'),
    (dict(position='after_conv3'), 'a plugin is dict'),
])
def test_plugins_that_mean_nothing_are_named(plugin, message):
    with pytest.raises(ValueError, match=message):
        ResNet(50, plugins=[plugin])
    with pytest.raises(ValueError, match='plugins: networks of depth 18 and 34 have none'):
        ResNet(18, plugins=[CONTEXT])
    with pytest.raises(ValueError, match="two of the name 'context_block'"):
        ResNet(50, plugins=[CONTEXT, CONTEXT])
    postfixed = dict(CONTEXT, cfg=dict(CONTEXT['cfg'], postfix=1))
    assert hasattr(ResNet(50, plugins=[CONTEXT, postfixed]).layer2[0], 'context_block1')
