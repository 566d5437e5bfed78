"""Pipelines in a wrong order and numbers that are none: told by the check of the config, before anything is read."""
import pytest

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.engine.config_check.check import prepare
from tests.engine.test_engine_check import MAIN

LOAD = dict(type='LoadImageFromFile')
TRUTH = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
RESIZE = dict(type='Resize', img_scale=(64, 64))
BUNDLE = dict(type='DefaultFormatBundle')
ALL = dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])
FEW = dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])
TEST = dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False,
            transforms=[RESIZE, dict(type='Collect', keys=['img'])])  # yapf: disable


def said(**options):
    with pytest.raises(CheckError) as caught:
        prepare(load_config(MAIN, options))
    return str(caught.value)


@pytest.mark.parametrize('steps, message', [
    ([LOAD, RESIZE, TRUTH, BUNDLE, ALL], 'data.train.dataset.pipeline.1: Resize comes before LoadAnnotations'),
    ([LOAD, TRUTH, RESIZE, BUNDLE], "the last transform is DefaultFormatBundle; add dict(type='Collect', "
     "keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])"),
    ([LOAD, RESIZE, BUNDLE, ALL], "asks for 'gt_bboxes', which no transform makes"),
    ([LOAD, dict(type='LoadAnnotations'), BUNDLE, ALL], 'with_bbox=True, with_mask=True) after LoadImageFromFile'),
    ([LOAD, TRUTH, RESIZE, BUNDLE, FEW], 'Collect leaves out gt_masks'),
    ([LOAD, TRUTH, RESIZE, ALL], 'no DefaultFormatBundle before Collect'),
    ([LOAD, TEST], 'MultiScaleFlipAug makes the views of a test'),
])  # yapf: disable
def test_a_training_pipeline_in_a_wrong_order_is_named(steps, message):
    assert message in said(**{'data.train.dataset.pipeline': steps})


@pytest.mark.parametrize('kind', ['Mosaic', 'MixUp'])
def test_one_that_mixes_images_needs_the_wrapper_that_hands_them_out(kind):
    load, mix = [LOAD, dict(TRUTH, with_mask=False)], dict(type=kind, img_scale=(64, 64))
    end = [BUNDLE, FEW]
    message = f"{kind} mixes several images, and here it is given one. Write it into the pipeline of a wrapper: " \
        "dict(type='MultiImageMixDataset'"
    assert f'data.train.dataset.pipeline.2: {message}' in said(
        **{'data.train.dataset.pipeline': [*load, mix, *end]})
    cfg = load_config(MAIN)
    inner = cfg.data.train.dataset
    wrap = dict(_delete_=True, type='MultiImageMixDataset', dataset=dict(inner, pipeline=load))
    aside = dict(type='AutoAugment', policies=[[mix]])
    text = said(**{'data.train': dict(wrap, pipeline=[mix, aside, *end])})
    assert f'data.train.pipeline.1.policies.0.0: {message}' in text
    assert 'data.train.pipeline.0:' not in text


def test_what_is_to_be_mixed_is_no_batch_yet():
    inner = dict(
        load_config(MAIN).data.train.dataset,
        pipeline=[LOAD, dict(TRUTH, with_mask=False), BUNDLE, FEW])
    text = said(
        **{
            'data.train':
            dict(
                _delete_=True,
                type='MultiImageMixDataset',
                dataset=inner,
                pipeline=[dict(type='Mosaic', img_scale=(64, 64)), BUNDLE, FEW])
        })
    assert 'data.train.dataset.pipeline.2: DefaultFormatBundle, Collect come before the images are mixed' in text


def test_training_data_in_test_mode_are_named():
    assert 'data.train.dataset.test_mode: a dataset in test_mode gives no annotations' in said(
        **{'data.train.dataset.test_mode': True})


def test_a_training_pipeline_as_that_of_a_test_is_named():
    text = said(**{'data.val.pipeline': [LOAD, TRUTH, RESIZE, BUNDLE, ALL]})
    assert 'data.val.pipeline.1: a test gives no annotations' in text
    without = dict(TEST, transforms=[RESIZE])
    assert 'the last transform is Resize' in said(**{'data.test.pipeline': [LOAD, without]})


@pytest.mark.parametrize('path, value, message', [
    ('optimizer.lr', '1e-3', "must be a number, not the text '1e-3'; without quotes: lr=1e-3"),
    ('evaluation.interval', 0, 'must be a whole number from 1 on, not 0'),
    ('log_config.interval', 0, 'must be a whole number from 1 on, not 0'),
    ('data.samples_per_gpu', 2.5, 'must be a whole number from 1 on, not 2.5'),
    ('data.workers_per_gpu', -1, 'must be a whole number from 0 on, not -1'),
    ('runner.max_epochs', 'many', "must be a number, not the text 'many'"),
    ('model.roi_head.bbox_head.num_classes', 8.0, "must be a whole number from 1 on, or 'auto', not 8.0"),
    ('model.roi_head.mask_head.num_classes', 'eight', "must be a whole number from 1 on, or 'auto', not 'eight'"),
    ('model.roi_head.mask_head.num_classes', [8], "must be a whole number from 1 on, or 'auto', not [8]"),
])  # yapf: disable
def test_a_number_that_is_none_is_named(path, value, message):
    assert f'{path}: {message}' in said(**{path: value})


def test_an_architecture_that_is_not_here_is_told_those_that_are():
    text = said(**{'model.type': 'TwoStagePanopticSegmentor'})
    assert 'is a type of MMDetection 2.28.2 that is not supported here; nearest: ' in text
    assert 'the models here are ' in text and 'MaskRCNN' in text
    assert "did you mean 'MaskRCNN'? the models here are" in said(**{'model.type': 'MaskRCN'})


@pytest.mark.parametrize('key', ['backbone', 'rpn_head', 'roi_head'])
def test_a_part_that_a_model_cannot_do_without_is_told(key):
    text = f'model.{key}: MaskRCNN needs it: write a dict with a type, not None'
    assert text in said(**{f'model.{key}': None})


def test_a_config_without_training_data_is_told():
    assert 'data.train: must be a dict(type=...) of a dataset' in said(**{'data.train': None})
