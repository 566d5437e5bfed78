"""The halves of Faster R-CNN by themselves: RPN gives proposals, FastRCNN takes those of the dataset."""
import pickle

import numpy as np
import pytest
import torch

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.evaluate import parts_of_one_size
from mmdet_ft.evaluation.recall import recalls
from mmdet_ft.models.detectors.views import merge_views
from mmdet_ft.ops.boxes import flip
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Regions
from tests.datasets import formats
from tests.engine.test_engine_check import MAIN, heir
from tests.models.test_detectors import step
from tests.models.test_golden import fixed_weights
from tests.models.tiny import tiny_batch, tiny_config
from tests.ops.helpers import GARBAGE
from tools.benchmarks.no_sync import NoSync

CONFIGS = MAIN.parents[1]


def model_of(kind, with_mask=False):
    """FasterRCNN, or one of its halves with the same weights."""
    config = tiny_config(with_mask)
    for part in ('rpn', 'rcnn'):  # nothing is drawn by chance
        config['train_cfg'][part]['sampler'].update(num=20000, pos_fraction=.5)
    config['type'] = kind
    for other in dict(RPN=['roi_head'], FastRCNN=['rpn_head']).get(kind, ()):
        del config[other]
    return fixed_weights(MODELS.build(config)).train()


def batch_with_proposals(objects=(2, 1), num_slots=64):
    """A batch, and the proposals of the RPN for it."""
    model, batch = model_of('RPN').eval(), tiny_batch(objects)
    with torch.no_grad():
        found = model(batch)
    boxes, valid = torch.zeros(len(objects), num_slots, 4), torch.zeros(
        len(objects), num_slots, dtype=torch.bool)
    count = found.boxes.shape[1]
    boxes[:, :count], valid[:, :count] = found.boxes, found.valid
    return batch._replace(proposals=Regions(boxes, valid))


def test_each_half_has_the_losses_of_the_whole():
    batch = batch_with_proposals()
    whole, grads = step(model_of('FasterRCNN'), batch)
    first, first_grads = step(model_of('RPN'), batch)
    second, second_grads = step(model_of('FastRCNN'), batch)
    assert {**first, **second} == pytest.approx(whole, rel=1e-4)
    name = 'neck.fpn_convs.1.conv.weight'
    assert torch.allclose(first_grads[name] + second_grads[name], grads[name], atol=1e-5)


@pytest.mark.parametrize('garbage', GARBAGE)
def test_garbage_in_slots_without_a_proposal_changes_nothing(garbage):
    batch = batch_with_proposals()
    clean, clean_grads = step(model_of('FastRCNN'), batch)
    boxes = batch.proposals.boxes.masked_fill(~batch.proposals.valid[..., None], garbage)
    poisoned, grads = step(
        model_of('FastRCNN'), batch._replace(proposals=batch.proposals._replace(boxes=boxes)))
    assert poisoned == clean
    assert all(torch.equal(grads[name], clean_grads[name]) for name in clean_grads)


@pytest.mark.parametrize('kind', ['RPN', 'FastRCNN'])
def test_every_trained_weight_gets_a_gradient_even_without_any_object(kind):
    for objects in ((2, 1), (0, 0)):
        model = model_of(kind)
        losses, grads = step(model, batch_with_proposals(objects))
        assert set(grads) == {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(grad.isfinite().all() for grad in grads.values())
    assert next(value for name, value in losses.items() if 'bbox' in name) == 0


@pytest.mark.parametrize('kind', ['RPN', 'FastRCNN'])
def test_a_step_never_waits(kind):
    model, batch = model_of(kind), batch_with_proposals()
    model(batch)
    with NoSync():
        model(batch).total.backward()


def test_proposals_are_an_array_per_image_with_the_best_first():
    model, batch = model_of('RPN').eval(), tiny_batch((2, 1))
    batch = batch._replace(scale_factors=batch.scale_factors * 2)
    with torch.no_grad():
        features = model.features_of(batch)
        found = model.rpn_head.proposals(model.rpn_head(features), batch)
        results = model.results(model(batch), batch.metas)
    for image, result in enumerate(results):
        assert result.dtype == np.float32 and result.shape == (int(found.valid[image].sum()), 5)
        assert (np.diff(result[:, 4]) <= 0).all()
        assert np.allclose(result[:, :4], found.boxes[image, :len(result)] / 2)
    assert not model.gives_masks and model.count_classes() == 1
    truth = [result[5:7, :4] for result in results]
    assert recalls(truth, results, [5, 20], [.99]).tolist() == [[0.], [1.]]


def test_proposals_of_several_views_are_suppressed_together():
    model, batch = model_of('RPN').eval(), tiny_batch((2, 1))
    with torch.no_grad():
        one, two = model.results(model(batch),
                                 batch.metas), model.results(model((batch, batch)), batch.metas)
    for single, joined in zip(one, two):  # of several levels too, unlike those of one view
        assert 0 < len(joined) <= len(single)
        assert set(map(tuple, joined)) <= set(map(tuple, single))
        assert np.array_equal(joined[0], single[0])


def test_two_equal_views_tell_the_same_as_one():
    model, batch = model_of('FastRCNN').eval(), batch_with_proposals()
    with torch.no_grad():
        one, two = model(batch), model((batch, batch))
    both = one.valid & two.valid
    assert one.valid.any() and torch.equal(one.valid, two.valid)
    assert torch.allclose(one.boxes[both], two.boxes[both], atol=1e-3)


def test_views_of_given_proposals_are_those_of_a_whole_detector():
    """Of one mirrored and enlarged view: the proposals go there and the detections come back."""
    batch = batch_with_proposals()
    metas = [dict(meta, flip=True, flip_direction='horizontal') for meta in batch.metas]
    mirrored = batch._replace(
        metas=metas,
        images=batch.images.flip(3),
        proposals=batch.proposals._replace(
            boxes=flip(batch.proposals.boxes, batch.sizes, 'horizontal')))
    with torch.no_grad():
        found = model_of('FastRCNN', with_mask=True).eval()((batch, mirrored))
        other = model_of('FastRCNN', with_mask=True).eval()((mirrored, batch))
        whole = model_of('MaskRCNN', with_mask=True).eval()
        assert found.valid.any() and found.masks is not None
        assert torch.allclose(found.scores, other.scores, atol=1e-4)
        assert merge_views(whole, (batch, batch)).boxes.shape == found.boxes.shape


def test_a_batch_without_proposals_is_named():
    with pytest.raises(
            DataError, match="FastRCNN: the batch has no proposals; write proposal_file="):
        model_of('FastRCNN')(tiny_batch())


def test_images_of_unequal_size_keep_their_proposals():
    batch = batch_with_proposals()._replace(own_sizes=[(64, 96), (64, 64)])
    (_, (first, )), (_, (second, )) = parts_of_one_size((batch, ))
    assert torch.equal(first.proposals.boxes, batch.proposals.boxes[:1])
    assert torch.equal(second.proposals.valid, batch.proposals.valid[1:])


# Datasets and configs

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadProposals', num_max_proposals=3),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(64, 64), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=1.),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'proposals', 'gt_bboxes', 'gt_labels'])
]


def dataset_with(tmp_path, proposals, pipeline=PIPELINE):
    paths = formats.write_coco_json(tmp_path, formats.draw_things(3))
    (tmp_path / 'proposals.pkl').write_bytes(pickle.dumps(proposals))
    return build_dataset(
        dict(
            type='CocoDataset',
            classes=('Pedestrian', 'Car'),
            pipeline=pipeline,
            filter_empty_gt=False,
            proposal_file=str(tmp_path / 'proposals.pkl'),
            **paths))


def boxes_of(count, columns=5):
    return np.tile(np.array([1., 2., 11., 22., .9], np.float32)[:columns], (count, 1))


def test_proposals_of_the_dataset_follow_their_image_into_the_batch(tmp_path):
    dataset = dataset_with(tmp_path, [boxes_of(5), boxes_of(2), boxes_of(0)])
    batch = collate([dataset[index] for index in range(3)])
    boxes, valid = batch.proposals
    assert boxes.shape == (3, 64, 4) and valid.sum(1).tolist() == [3, 2, 1]
    scale, width = batch.scale_factors[0], batch.sizes[0, 1]
    there = torch.tensor([1., 2., 11., 22.]) * scale
    expected = torch.stack([width - there[2], there[1], width - there[0], there[3]])
    assert torch.allclose(boxes[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize('proposals, message', [
    ([boxes_of(2)] * 2, 'has 2 entries, expected a list with one for each of the 3 images'),
    ({}, 'expected a list with one for each'),
    ([boxes_of(2), [boxes_of(2)], boxes_of(1)], 'for image 1, expected an array .n, 4. or .n, 5.'),
    ([boxes_of(2), boxes_of(2), boxes_of(2, 3)], 'for image 2'),
])
def test_a_file_of_other_proposals_is_named(tmp_path, proposals, message):
    with pytest.raises(DataError, match=message) as caught:
        dataset_with(tmp_path, proposals)
    assert 'proposals.pkl' in str(caught.value) and '--out FILE.pkl' in str(caught.value)


FAST = CONFIGS / 'fast_rcnn/fast_rcnn_r50_fpn_1x_coco.py'
STEPS = "[dict(type='LoadImageFromFile'), {}dict(type='LoadAnnotations', with_bbox=True), " \
    "dict(type='Resize', img_scale=(64, 64)), dict(type='DefaultFormatBundle'), dict(type='Collect', keys={})]"
GIVEN = "['img', 'proposals', 'gt_bboxes', 'gt_labels']"


@pytest.mark.parametrize('base, text, path, words', [
    (FAST, 'data = dict(train=dict(proposal_file=None))', 'data.train.proposal_file',
     "is missing, and FastRCNN classifies the regions in it"),
    (FAST, 'data = dict(train=dict(pipeline=%s))' % STEPS.format('', GIVEN), 'data.train.pipeline',
     "has no LoadProposals, and FastRCNN classifies proposals; add dict(type='LoadProposals')"),
    (FAST, 'data = dict(train=dict(pipeline=%s))' %
     STEPS.format("dict(type='LoadProposals'), ", "['img', 'gt_bboxes', 'gt_labels']"),
     'data.train.pipeline.5.keys', "leaves out 'proposals', which FastRCNN takes"),
    (FAST, "data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadProposals'), "
     "dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False, transforms=[dict(type='Resize'), "
     "dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]))",
     'data.test.pipeline.2.transforms.2.keys', "leaves out 'proposals'"),
    (FAST, 'model = dict(train_cfg=None)', 'model.train_cfg.rcnn', 'FastRCNN is trained by it'),
    (FAST, 'model = dict(neck=dict(out_channels=128))', 'model.roi_head.bbox_head.in_channels',
     'write in_channels=128'),
    (CONFIGS / 'rpn/rpn_r50_fpn_1x_coco.py', 'model = dict(neck=dict(out_channels=128))',
     'model.rpn_head.in_channels', 'write in_channels=128'),
    (CONFIGS / 'rpn/rpn_r50_fpn_1x_coco.py', 'model = dict(train_cfg=dict(rpn=dict(asigner=1)))',
     'model.train_cfg.rpn.asigner', "'assigner'"),
])  # yapf: disable
def test_mistakes_in_a_config_are_named(tmp_path, monkeypatch, base, text, path, words):
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    found = {mistake.path: str(mistake) for mistake in caught.value.mistakes}
    assert path in found and words in found[path], found


@pytest.mark.parametrize(
    'name', ['rpn/rpn_r50_caffe_c4_1x_coco.py', 'fast_rcnn/fast_rcnn_r50_fpn_1x_coco.py'])
def test_right_configs_pass(name):
    assert prepare(load_config(CONFIGS / name))[1] == []
