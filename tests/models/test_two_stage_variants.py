"""What holds for every variant of a two-stage detector; VARIANTS has a slim one of each."""
import copy

import pytest
import torch
from mmcv.cnn.bricks.generalized_attention import GeneralizedAttention as Original

from mmdet_ft.models.attention import GeneralizedAttention
from mmdet_ft.models.roi_heads.roi_extractor import (GenericRoIExtractor, SingleRoIExtractor,
                                                     scale_rois)
from mmdet_ft.registry import MODELS
from tests.models.test_detectors import step
from tests.models.test_golden import fixed_weights
from tests.models.tiny import tiny_batch, tiny_config
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import NoSync, count_syncs

ALIGN = dict(type='RoIAlign', output_size=7, sampling_ratio=2)
GROIE = dict(
    type='GenericRoIExtractor',
    roi_layer=ALIGN,
    out_channels=16,
    featmap_strides=[4, 8, 16, 32],
    pre_cfg=dict(
        type='ConvModule', in_channels=16, out_channels=16, kernel_size=5, padding=2,
        inplace=False),
    post_cfg=dict(
        type='GeneralizedAttention',
        in_channels=16,
        spatial_range=-1,
        num_heads=3,
        attention_type='0100',
        kv_stride=2))


def libra(config):
    config['neck'] = [
        config['neck'],
        dict(type='BFP', in_channels=16, num_levels=5, refine_type='non_local')
    ]
    config['roi_head']['bbox_head']['loss_bbox'] = dict(type='BalancedL1Loss')
    config['train_cfg']['rcnn']['sampler'] = dict(
        type='CombinedSampler',
        num=24,
        pos_fraction=.25,
        pos_sampler=dict(type='InstanceBalancedPosSampler'),
        neg_sampler=dict(type='IoUBalancedNegSampler'))


def double_head(config):
    head = config['roi_head']
    head.update(type='DoubleHeadRoIHead', reg_roi_scale_factor=1.3)
    head['bbox_head'] = dict(
        type='DoubleConvFCBBoxHead',
        num_convs=1,
        num_fcs=1,
        in_channels=16,
        conv_out_channels=32,
        fc_out_channels=32,
        num_classes=3)


def groie(config):
    for branch, size in (('bbox', 7), ('mask', 14)):
        extractor = copy.deepcopy(GROIE)
        extractor['roi_layer']['output_size'] = size
        config['roi_head'][f'{branch}_roi_extractor'] = extractor


VARIANTS = dict(libra=libra, double_head=double_head, groie=groie)
WAITS = dict(double_head=2)  # its batch norm must not see empty slots; others wait once, for masks
# Printed by the test when they change.
RPN = dict(loss_rpn_cls=1.17272, loss_rpn_bbox=0.00282)
LOSSES = dict(
    libra=dict(
        loss_rpn_cls=2.44509,
        loss_rpn_bbox=0.00382,
        loss_cls=2.03376,
        loss_bbox=0.18517,
        loss_mask=0.71441),
    double_head=dict(RPN, loss_cls=2.17144, loss_bbox=0.05235, loss_mask=0.71941),
    groie=dict(RPN, loss_cls=0.50909, loss_bbox=0.05894, loss_mask=0.70075))
variants = pytest.mark.parametrize('name', VARIANTS)


def model_of(name, everything=True):
    config = tiny_config()
    VARIANTS[name](config)
    if everything:  # nothing is drawn by chance
        for part in ('rpn', 'rcnn'):
            config['train_cfg'][part]['sampler'].update(num=20000, pos_fraction=.5)
    return fixed_weights(MODELS.build(config)).train()


@variants
def test_losses_of_fixed_weights_are_the_golden_ones(name):
    losses, grads = step(model_of(name), tiny_batch((2, 1)))
    print(name, {key: round(value, 5) for key, value in losses.items()})
    assert losses == pytest.approx(LOSSES[name], rel=1e-3, abs=1e-5)
    assert all(grad.isfinite().all() for grad in grads.values())


@variants
def test_every_trained_weight_gets_a_gradient_even_without_any_object(name):
    for objects in ((2, 1), (0, 0)):
        model = model_of(name, everything=False)
        losses, grads = step(model, tiny_batch(objects))
        assert set(grads) == {key for key, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    assert losses['loss_bbox'] == losses['loss_mask'] == 0 and losses['loss_cls'] > 0


@variants
@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_empty_slots_changes_neither_losses_nor_gradients(name, garbage):
    batch = tiny_batch((2, 1))
    clean, clean_grads = step(model_of(name, everything=False), batch)
    boxes = batch.gt.boxes.masked_fill(~batch.gt.valid[..., None], garbage)
    poisoned, grads = step(
        model_of(name, everything=False), batch._replace(gt=batch.gt._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[key], clean_grads[key]) for key in clean_grads)


@variants
def test_more_empty_slots_change_nothing(name):
    few, few_grads = step(model_of(name), tiny_batch((2, 1), slots=8))
    many, many_grads = step(model_of(name), tiny_batch((2, 1), slots=24))
    assert few == pytest.approx(many, rel=1e-4)
    for key in few_grads:
        assert torch.allclose(few_grads[key], many_grads[key], rtol=1e-3, atol=1e-4), key


@variants
def test_a_step_waits_no_more_than_it_must_and_does_not_grow_with_the_batch(name):
    model = model_of(name, everything=False)
    step(model, tiny_batch())  # fills caches
    numbers = []
    for objects in ((2, 1), (3, 1, 0, 2)):
        batch = tiny_batch(objects)
        with count_syncs() as seen:
            model.loss(batch, num_mask_slots=16).total.backward()
        assert len(seen.syncs) <= WAITS.get(name, 1) - 1, seen.syncs
        numbers.append(seen.num_ops)
    assert numbers[0] == numbers[1]


@variants
def test_two_equal_views_tell_the_same_as_one(name):
    model, batch = model_of(name).eval(), tiny_batch((2, 1))
    one, two = model(batch), model((batch, batch))
    both = one.valid & two.valid
    assert one.valid.any() and torch.equal(one.valid, two.valid)
    assert torch.allclose(one.boxes[both], two.boxes[both], atol=1e-3)


# Region extractors and the attention of GRoIE

ROIS = torch.tensor([[0, 4., 6., 40., 30.], [1, 10., 0., 22., 60.], [1, 0., 0., 1., 1.]])


def features():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 16, 16 >> i, 24 >> i, generator=generator) for i in range(4)]


def test_a_region_is_pooled_from_a_larger_box_of_its_own_level():
    extractor = SingleRoIExtractor(ALIGN, 16, [4, 8, 16, 32], finest_scale=16)
    assert torch.allclose(
        scale_rois(ROIS, 2.)[0], torch.tensor([0., -14., -6., 58., 42.]), atol=1e-5)
    level = extractor.map_roi_levels(ROIS)
    extractor.map_roi_levels = lambda rois: level
    expected = extractor(features(), scale_rois(ROIS, 2.))
    del extractor.map_roi_levels
    assert torch.equal(extractor(features(), ROIS, 2.), expected)


@pytest.mark.parametrize('aggregation', ['sum', 'concat'])
def test_a_generic_extractor_joins_all_levels(aggregation):
    extractor = fixed_weights(MODELS.build(dict(GROIE, aggregation=aggregation, post_cfg=None)))
    levels = []
    for feature, stride in zip(features(), (4, 8, 16, 32)):
        pooled = SingleRoIExtractor(ALIGN, 16, [stride])([feature], ROIS)
        levels.append(extractor.pre_module(pooled))
    expected = torch.cat(levels, 1) if aggregation == 'concat' else sum(levels)
    assert torch.allclose(extractor(features(), ROIS), expected, atol=1e-5)


def test_a_single_level_has_no_layers_of_a_generic_extractor():
    extractor = MODELS.build(dict(GROIE, featmap_strides=[16]))
    expected = SingleRoIExtractor(ALIGN, 16, [16])(features()[2:3], ROIS)
    assert torch.equal(extractor(features()[2:3], ROIS), expected)
    with pytest.raises(ValueError, match="write 'sum' or 'concat'"):
        GenericRoIExtractor(ALIGN, 16, [4, 8], aggregation='mean')


@pytest.mark.parametrize('attention_type', ['0100', '1111', '0010'])
def test_attention_is_that_of_mmcv_and_waits_for_nothing(attention_type):
    arguments = dict(
        in_channels=16, spatial_range=-1, num_heads=2, attention_type=attention_type, kv_stride=2)
    ours, original = GeneralizedAttention(**arguments), Original(**arguments)
    ours.gamma.data.fill_(1)
    original.load_state_dict(ours.state_dict())
    x = torch.randn(3, 16, 7, 7)
    with torch.no_grad():
        assert torch.allclose(ours(x), original(x), atol=1e-6)
    with NoSync():
        ours(x).sum().backward()
