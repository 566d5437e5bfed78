"""Transforms that would leave boxes, masks or maps behind: told by the check of the config, however deep they stand."""
import sys
import types

import numpy as np
import pytest

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.moves import find_unmoved_objects, flatten
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.registry import PIPELINES
from tests.engine.test_engine_check import MAIN
from tests.engine.test_engine_check_pipelines import ALL, BUNDLE, LOAD, RESIZE, TRUTH, said

WHERE = 'data.train.dataset.pipeline'
ROTATE = dict(type='Rotate', angle=30., prob=1.)
TURN = dict(type='Rotate', level=10, max_rotate_angle=30.)
IMAGE_ONLY = [
    (ROTATE, "a detector writes dict(type='Rotate', level=10, max_rotate_angle=30.0)"),
    (dict(type='Shear', magnitude=.2), "dict(type='Shear', level=10, max_shear_magnitude=0.2)"),
    (dict(type='Translate', magnitude=.3), "dict(type='Translate', level=10, max_translate_offset=PIXELS)"),
    (dict(type='RandomResizedCrop', size=(64, 48)), "dict(type='RandomCrop', crop_size=(64, 48))"),
    (dict(type='RandomResizedCrop', size=64), "dict(type='RandomCrop', crop_size=(64, 64))"),
    (dict(type='CenterCrop', crop_size=64), "dict(type='RandomCrop', crop_size=(64, 64))"),
    (dict(type='RandomCrop', size=(64, 48)), "dict(type='RandomCrop', crop_size=(64, 48))"),
    (dict(type='Resize', size=(64, 48)), "dict(type='Resize', img_scale=(48, 64), keep_ratio=False)"),
    (dict(type='Resize', size=(64, -1)), "dict(type='Resize', img_scale=(WIDTH, HEIGHT))"),
]  # yapf: disable


def with_step(*steps):
    return {WHERE: [LOAD, TRUTH, RESIZE, *steps, BUNDLE, ALL]}


@pytest.fixture
def registered():
    """Types of a user's own, for one test."""
    table = dict(PIPELINES.module_dict)
    yield PIPELINES.register_module
    PIPELINES._table = table


@pytest.mark.parametrize('step, instead', IMAGE_ONLY)
def test_a_classifiers_transform_is_refused_where_boxes_are_loaded(step, instead):
    text = said(**with_step(step))
    name = step['type']
    assert f'{WHERE}.3: {name} moves the image and not its boxes and masks, which would stay where they were; ' in text
    assert instead in text


@pytest.mark.parametrize('step, path', [
    (dict(type='AutoAugment', policies=[[dict(type='Invert')], [dict(type='Equalize'), ROTATE]]), 'policies.1.1'),
    (dict(type='AutoAugment', policies=[[dict(type='AutoAugment', policies=[[ROTATE]])]]), 'policies.0.0.policies.0.0'),
    (dict(type='RandAugment', num_policies=1, magnitude_level=5, policies=[
        dict(type='Invert'), dict(type='Rotate', magnitude_key='angle', magnitude_range=(0, 30))]), 'policies.1'),
    (dict(type='Compose', transforms=[dict(type='Invert'), ROTATE]), 'transforms.1'),
])  # yapf: disable
def test_it_is_refused_inside_of_others(step, path):
    text = said(**with_step(step))
    assert f'{WHERE}.3.{path}: Rotate moves the image and not its boxes' in text
    assert ("AutoAugment', policies=[[dict(" in text) == (step['type'] == 'RandAugment')


def test_it_is_refused_inside_of_a_users_own_wrapper(registered):

    @registered('OneOfMine')
    class OneOfMine:

        def __init__(self, transforms, p=.5):
            pass

    assert f'{WHERE}.3.transforms.0: Rotate' in said(
        **with_step(dict(type='OneOfMine', transforms=[ROTATE])))


def test_it_is_refused_behind_the_pipeline_of_a_mixed_data_set():
    config = load_config(MAIN)
    inner = {**config.data.train.dataset, 'pipeline': [LOAD, TRUTH]}
    mixed = dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=inner,
        pipeline=[RESIZE, ROTATE, BUNDLE, ALL])
    assert 'data.train.pipeline.1: Rotate moves' in said(**{'data.train': mixed})
    nested = {key: value for key, value in mixed.items() if key != '_delete_'}
    assert 'data.train.0.dataset.pipeline.1: Rotate moves' in said(
        **{'data.train': [dict(type='RepeatDataset', times=2, dataset=nested)]})
    good = dict(mixed, pipeline=[RESIZE, TURN, BUNDLE, ALL])
    prepare(load_config(MAIN, {'data.train': good}))


def test_the_line_of_the_config_is_told(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = '{MAIN}'\n"
        "data = dict(train=dict(dataset=dict(pipeline=[\n"
        "    dict(type='LoadImageFromFile'),\n"
        "    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),\n"
        "    dict(type='CenterCrop', crop_size=64),\n"
        "    dict(type='DefaultFormatBundle'),\n"
        "    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])])))\n")
    with pytest.raises(CheckError, match=r'CenterCrop moves .*mine\.py:[25]\)'):
        prepare(load_config(str(config)))


@pytest.mark.parametrize('steps', [
    [TURN], [dict(type='Shear', level=4), dict(type='Translate', level=4)],
    [dict(type='AutoAugment', policies=[[TURN, dict(type='ColorTransform', level=3)],
                                        [dict(type='EqualizeTransform'), dict(type='BrightnessTransform', level=2)]])],
    [dict(type='RandAugment', num_policies=1, magnitude_level=5, policies=[
        dict(type='Invert'), dict(type='Rotate', magnitude_key='level', magnitude_range=(0, 10))])],
    [dict(type='ContrastTransform', level=2), dict(type='RandomErasing')],
])  # yapf: disable
def test_what_moves_everything_or_nothing_is_right(steps):
    prepare(load_config(MAIN, with_step(*steps)))


def test_what_moves_boxes_alone_is_refused_with_masks():
    assert f'{WHERE}.3: RandomAffine moves the image and not its masks' in said(
        **with_step(dict(type='RandomAffine')))


@pytest.mark.parametrize('mover', [RESIZE, TURN, dict(type='AutoAugment', policies=[[RESIZE]]),
                                   dict(type='Pad', size_divisor=32)])  # yapf: disable
def test_what_moves_stands_behind_the_annotations(mover):
    text = said(**{WHERE: [LOAD, mover, TRUTH, BUNDLE, ALL]})
    assert f'{mover["type"]} comes before LoadAnnotations' in text or 'Resize comes before LoadAnnotations' in text


def test_padding_before_boxes_alone_is_right():
    steps = [LOAD, dict(type='Pad', size_divisor=32), dict(type='LoadAnnotations', with_bbox=True)]
    assert not list(find_unmoved_objects(list(flatten(steps))))


def test_a_loader_of_a_users_own_loads_what_collect_asks_for(registered):

    @registered('MyAnnotations')
    class MyAnnotations:

        def __call__(self, results):
            return results

    steps = [LOAD, dict(type='MyAnnotations'), ROTATE, BUNDLE, ALL]
    assert f'{WHERE}.2: Rotate moves the image and not its boxes and masks' in said(
        **{WHERE: steps})


def test_a_test_refuses_what_it_cannot_undo():
    collect = dict(type='Collect', keys=['img'])
    for step in (dict(type='CenterCrop',
                      crop_size=64), TURN, dict(type='RandomCrop', crop_size=(9, 9))):
        views = dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=True, transforms=[
            RESIZE, dict(type='RandomFlip'), dict(type='Pad', size_divisor=32), step, collect])  # yapf: disable
        text = said(**{'data.test.pipeline': [LOAD, views]})
        assert f'data.test.pipeline.1.transforms.3: {step["type"]} changes the geometry of the image' in text
        assert 'Resize moves' not in text and 'RandomFlip moves' not in text and 'Pad moves' not in text


def test_a_users_resize_in_a_test_is_left_to_the_user(registered):
    registered('Letterbox')(type('Letterbox', (), dict(moves=('img', 'bbox', 'mask', 'seg'))))
    views = dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False, transforms=[
        dict(type='Letterbox'), dict(type='Collect', keys=['img'])])  # yapf: disable
    prepare(load_config(MAIN, {'data.test.pipeline': [LOAD, views]}))


@pytest.mark.parametrize('step, message', [
    (dict(type='Rotate', level=3, angle=30.),
     "Rotate with level= has no 'angle' (here 30.0), which belongs to the other Rotate. "
     'Write one of them: Rotate(level, scale, center, '),
    (dict(type='Shear', level=3, pad_val=0), "Shear with level= has no 'pad_val' (here 0)"),
    (dict(type='Translate', magnitude=.3, max_translate_offset=3),
     "Translate without level= has no 'max_translate_offset'"),
    (dict(type='Rotate', prob=.5), 'Rotate needs angle (a classifier), or level (a detector): add level=...'),
    (dict(type='RandomCrop'), 'RandomCrop needs crop_size (a detector), or size (a classifier): add crop_size=...'),
    (dict(type='Rotate', levels=3), "Rotate has no 'levels' (here 3); did you mean 'level'?"),
])  # yapf: disable
def test_arguments_of_two_worlds_or_of_none_are_told(step, message):
    assert message in said(**with_step(step))


# --- transforms of albumentations


@pytest.fixture
def albumentations(monkeypatch):
    """As much of the package as tells which transforms move pixels."""
    module = types.ModuleType('albumentations')
    module.ImageOnlyTransform = type('ImageOnlyTransform', (), {})
    module.DualTransform = type('DualTransform', (), {})
    for name in ('Blur', 'ChannelShuffle'):
        setattr(module, name, type(name, (module.ImageOnlyTransform, ), {}))
    for name in ('ShiftScaleRotate', 'CoarseDropout', 'Resize'):
        setattr(module, name, type(name, (module.DualTransform, ), {}))
    monkeypatch.setitem(sys.modules, 'albumentations', module)


BOX_PARAMS = dict(type='BboxParams', format='pascal_voc', label_fields=['gt_labels'])


@pytest.mark.parametrize('transforms, more, left', [
    ([dict(type='ShiftScaleRotate')], dict(), 'boxes'),
    ([dict(type='OneOf', transforms=[dict(type='Blur'), dict(type='ShiftScaleRotate')])], dict(), 'boxes'),
    ([dict(type='Resize', size=3)], dict(), 'boxes'),
    ([dict(type='ShiftScaleRotate')],
     dict(bbox_params=BOX_PARAMS, keymap=dict(img='image', gt_bboxes='bboxes')), 'masks'),
    ([dict(type='ShiftScaleRotate')], dict(bbox_params=BOX_PARAMS), None),
    ([dict(type='Blur'), dict(type='OneOf', transforms=[dict(type='ChannelShuffle')])], dict(), None),
    ([dict(type='CoarseDropout')], dict(), None),
])  # yapf: disable
def test_albu_moves_boxes_where_it_is_told_how(albumentations, transforms, more, left):
    options = with_step(dict(type='Albu', transforms=transforms, **more))
    if left is None:
        prepare(load_config(MAIN, options))
    else:
        text = said(**options)
        assert f'{WHERE}.3: Albu moves the image and not its {left}' in text
        assert ('bbox_params=dict(' if left == 'boxes' else "gt_masks='masks'") in text


# --- what a user's own transform does is looked at while it runs


def sample():
    img = np.random.RandomState(0).randint(0, 255, (40, 60, 3)).astype(np.uint8)
    return dict(
        img=img,
        img_fields=['img'],
        bbox_fields=['gt_bboxes'],
        gt_bboxes=np.array([[5, 5, 20, 20.]]))


def changing(change):

    class Mine:

        def __call__(self, results):
            results['img'] = change(results['img'])
            return results

    return Mine()


@pytest.mark.parametrize('change', [
    lambda img: img[::2, ::2], lambda img: img.repeat(2, axis=0).repeat(2, axis=1), lambda img: img[10:, 10:],
    lambda img: np.pad(img, ((20, 0), (20, 0), (0, 0)))
])  # yapf: disable
def test_a_users_transform_that_leaves_boxes_behind_is_named(change):
    with pytest.raises(
            CheckError,
            match=r'Mine has made an image of 40 x 60 .*has left gt_bboxes as they were'):
        Compose([changing(change)])(sample())


@pytest.mark.parametrize('change', [
    lambda img: np.pad(img, ((0, 4), (0, 20), (0, 0))), lambda img: img[:30], lambda img: 255 - img,
    lambda img: np.pad((img / 255).astype(np.float32), ((0, 24), (0, 4), (0, 0)))
])  # yapf: disable
def test_a_users_transform_that_pads_is_right(change):
    assert Compose([changing(change)])(sample()) is not None


def test_a_users_transform_may_declare_what_it_moves():
    mine = changing(lambda img: img[::2, ::2])
    type(mine).moves = ('img', 'bbox')
    assert Compose([mine])(sample())['img'].shape == (20, 30, 3)
    type(mine).moves = ('img', )
    with pytest.raises(CheckError, match='Mine moves the image and not its boxes'):
        Compose([dict(type='LoadAnnotations'), mine])
    type(mine).moves = 7  # an attribute of another meaning
    with pytest.raises(CheckError, match='has left gt_bboxes'):
        Compose([mine])(sample())


def test_what_is_built_is_refused_too():
    with pytest.raises(CheckError, match='Rotate moves the image and not its boxes'):
        Compose([dict(type='LoadAnnotations'), dict(type='AutoAugment', policies=[[ROTATE]])])
    with pytest.raises(CheckError, match='Rotate moves the image and not its boxes'):
        Compose([dict(type='AutoAugment', policies=[[ROTATE]])])(sample())


def test_a_type_of_a_users_own_takes_the_whole_name_by_force(registered):
    shared = dict(PIPELINES._by_argument)
    try:

        @registered('Rotate', force=True)
        class Mine:

            def __init__(self, level):
                self.level = level

        assert type(PIPELINES.build(dict(type='Rotate', level=3))) is Mine
    finally:
        PIPELINES._by_argument = shared
