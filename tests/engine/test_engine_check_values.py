"""Every value of a config is compared with what may stand in its place: by the table of settings, or by a signature."""
import copy
import random
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import pytest

from mmdet_ft.config import Config, ConfigError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.config_check.run_settings import SETTINGS
from mmdet_ft.engine.config_check.top_level import ENGINE_NAMES
from mmdet_ft.engine.config_check.value_kinds import describe_values, fits
from mmdet_ft.ranges import Positive, Strides, Whole
from tests.engine.test_engine_check import MAIN


@pytest.mark.parametrize('annotation, right, wrong, words', [
    (int, [0, -3], [True, 1.0, '1', None, [1], {}], 'a whole number'),
    (float, [1, .5], [False, '1e-3', None, [.5]], 'a number'),
    (bool, [True, 0, 1], [2, 'True', None, []], 'True or False'),
    (str, ['', 'a'], [1, None, ['a'], True], 'a text'),
    (Optional[int], [None, 2], ['2', 2.5, []], 'a whole number'),
    (Any, [{}, [dict(a=1)]], [None, [], 3, 'x', [1]], 'a dict'),
    (Dict[str, int], [{}, dict(a=1)], [[], 'x', None], 'a dict'),
    (Sequence[float], [[1, .5], (1, ), []], ['ab', ['a'], {}, 1, None], 'a list of numbers'),
    (List[Dict], [[], [{}], ['left to the walk']], [{}, 3], 'a list'),
    (Tuple[int, int], [(1, 2), [1, 2]], [(1, ), (1, 2, 3), (1, 'a'), 2], 'a list of 2 whole numbers'),
    (Tuple[float, ...], [(), (1, 2, 3)], [('a', ), 1], 'a list of numbers'),
    (Union[str, Sequence[str], None], [None, 'a', ['a']], [[1], 1, {}], 'a list of texts or a text'),
    (Positive, [1, .5], [0, -1, float('inf'), float('nan'), '1', True], 'a number above 0'),
    (Optional[Whole], [None, 0, 3], [-1, .5], 'a whole number from 0 on'),
    (Strides, [[8, (16, 8)], (4, )], [[], [0], [(8, )], [(8, -8)], 8],
     'a list of numbers above 0 or lists of 2 numbers above 0 that is not empty'),
    (Sequence[Tuple[float, float]], [[(-1, 64)]], [[(1, )], [1]], 'a list of lists of 2 numbers'),
    (Literal['a', 'b'], ['a'], ['c', None, 1], "'a' or 'b'"),
    (object, [None, 1, {}], [], ''),
])  # yapf: disable
def test_an_annotation_says_what_a_value_may_be(annotation, right, wrong, words):
    assert all(fits(annotation, value) for value in right)
    assert not any(fits(annotation, value) for value in wrong)
    assert describe_values(annotation) == words


def changed(path, value):
    config = load_config(MAIN)
    node = config
    steps = path.split('.')
    for step in steps[:-1]:
        key = int(step) if step.isdigit() else step
        if not isinstance(node, list) and node.get(key) is None:
            node[key] = {}
        node = node[key]
    node[int(steps[-1]) if steps[-1].isdigit() else steps[-1]] = copy.deepcopy(value)
    return config


def refused(path, value):
    with pytest.raises(ConfigError) as caught:
        prepare(changed(path, value))
    return str(caught.value)


@pytest.mark.parametrize('path, value, words', [
    ('evaluation.metric', [], 'must be the name of a metric, or a list of names, not []'),
    ('evaluation.metric', {}, 'must be the name of a metric'),
    ('evaluation.save_best', True, "write save_best='auto'"),
    ('log_level', 'LOUD', "'ERROR', 'CRITICAL', not 'LOUD'; write log_level='INFO'"),
    ('workflow', [('train', 0)], "must be like [('train', 1)]"),
    ('workflow', [('val', 1)], "must be like [('train', 1)]"),
    ('workflow', {}, "must be like [('train', 1)]"),
    ('runner.max_epochs', 0, 'must be a whole number from 1 on, not 0; write max_epochs=12'),
    ('runner.max_epochs', -3, 'must be a whole number from 1 on'),
    ('runner.max_epochs', None, 'EpochBasedRunner needs max_epochs: add max_epochs=12'),
    ('runner', dict(type='IterBasedRunner', max_iters=0), 'runner.max_iters: must be a whole number from 1 on'),
    ('load_from', {}, "must be a path or URL that is not empty"),
    ('load_from', [], "must be a path or URL that is not empty"),
    ('load_from', '', "must be a path or URL that is not empty"),
    ('load_from', dict(strict=False), "must be a path or URL that is not empty"),
    ('data.val.classes', {}, 'data.val.classes: must be a list of texts or a text, not {}'),
    ('data.val.classes', {'car'}, "must be a list, for a set has no order, not {'car'}; write classes=['car']"),
    *((name, value, f'{name}: must be True or False, not {value!r}; write {name}=True')
      for name in ('channels_last', 'cuda_graphs', 'triton', 'cudnn_benchmark', 'find_unused_parameters', 'auto_resume')
      for value in ('maybe', [], 2)),
    ('compile', 'yes', 'must be True, False, or a dict of arguments of torch.compile'),
    ('checkpoint_config.out_dir', 's3://x', 'must be a folder on this machine, not a URL'),
    ('work_dir', 's3://x', 'must be a folder on this machine, not a URL'),
    ('checkpoint_config.interval', 0, 'must be a whole number from 1 on, or -1, not 0'),
    ('checkpoint_config.filename_tmpl', 'x.pth', "such as 'epoch_{}.pth'"),
    ('checkpoint_config.save_last', 'no', 'must be True or False'),
    ('log_config.hooks.0.interval', 0, 'must be a whole number from 1 on'),
    ('optimizer.lr', None, 'must be a number, not None'),
    ('optimizer_config.grad_clip', dict(max_norm='35'), 'without quotes: max_norm=35'),
    ('lr_config.step', 'x', 'must be a list of whole numbers from 1 on or a whole number from 1 on'),
    ('data.val_dataloader', dict(prefetch_factor=0), 'must be a whole number from 1 on'),
    ('data.val.pipeline', [], 'data.val.pipeline: has no transform'),
    ('data.train', {}, 'must be a dict(type=...) of a dataset'),
    ('data.val.pipeline.0', None, 'must be a dict with the type of a pipeline'),
    ('model.backbone', None, 'model.backbone: must be a dict, not None'),
    ('model.rpn_head', [], 'model.rpn_head: must be a dict, not []'),
    ('model.train_cfg', None, 'model.train_cfg.rpn: MaskRCNN is trained by it, and it is missing'),
    ('model.neck.in_channels', [256, 'x'], 'must be a list of whole numbers'),
    ('model.backbone.depth', '50', 'without quotes: depth=50'),
    ('model.neck.type', 3, 'type must be the name of a model, not 3'),
    ('runner', '', "runner: must be a dict, not ''"),
])  # yapf: disable
def test_a_value_that_cannot_be_right_is_refused_with_what_to_write(path, value, words):
    assert words in refused(path, value)


@pytest.mark.parametrize('path, value', [
    ('checkpoint_config.interval', -1), ('log_level', 'DEBUG'), ('log_level', 20), ('compile', dict(mode='default')),
    ('workflow', [('train', 2), ('val', 1)]), ('load_from', ['a.pth', 'https://x/b.pth']), ('channels_last', None),
    ('load_from', dict(checkpoint='a.pth', strict=False)), ('opencv_num_threads', -1), ('model.neck', None),
    ('seed', 3), ('cudnn_benchmark', 1), ('evaluation.metric', 'bbox'), ('evaluation', {}), ('workflow', None),
])  # yapf: disable
def test_unusual_values_that_mean_something_are_right(path, value):
    if path == 'model.neck':  # of C4 models; here the heads do not fit
        assert 'must be' not in refused(path, value) if value else True
        return
    prepare(changed(path, value))


JUNK = [None, [], {}, '', 'x', 0, -1, 2.5, True, [1], dict(a=1), float('nan'), (), [None], [[]]]


def test_whatever_a_name_of_the_first_level_is_set_to_ends_in_a_message_or_is_right():
    """Each name with a few values, drawn anew for each; all of the table with one that it refuses."""
    draw = random.Random(3)
    for name in (*ENGINE_NAMES, 'total_epochs', 'train_cfg', 'test_cfg'):
        for value in draw.sample(JUNK, 4):
            try:
                prepare(changed(name, value))
            except ConfigError as error:
                assert name.split('.')[0] in str(error), (name, value)
    for pattern, setting in SETTINGS.items():
        if '*' not in pattern:
            wrong = next(value for value in ([[]], 'x', -7) if not setting.fits(value))
            assert pattern in refused(pattern, wrong), pattern


@pytest.mark.parametrize('kind, metric, known', [
    ('CocoDataset', 'mAP', 'bbox, segm, proposal, proposal_fast'),
    ('CityscapesDataset', ['bbox', 'AP'], 'cityscapes, bbox'),
    ('VOCDataset', ['bbox'], 'mAP, recall'), ('KittiDataset', 'bbox', 'kitti, mAP, recall'),
    ('WIDERFaceDataset', 'bbox', 'wider, mAP, recall'), ('MNIST', 'acuracy', 'accuracy, precision'),
])  # yapf: disable
def test_a_metric_that_the_dataset_lacks_is_a_mistake_in_the_config(kind, metric, known):
    from mmdet_ft.engine.config_check.sections import check_metrics
    from mmdet_ft.engine.config_check.traverse import Walk
    walk = Walk(Config(dict(data=dict(val=dict(type=kind)), evaluation=dict(metric=metric))))
    check_metrics(walk)
    assert [mistake.path for mistake in walk.mistakes] == ['evaluation.metric']
    assert f'there are {known}' in str(walk.mistakes[0])


@pytest.mark.parametrize('values, path, words', [
    (dict(model=dict(test_cfg=dict(rcnn=dict(score_thr=float('nan'))))), 'model.test_cfg.rcnn.score_thr', 'not nan'),
    (dict(model=dict(test_cfg=dict(rcnn=dict(score_thr=1.5)))), 'model.test_cfg.rcnn.score_thr', 'from 0 to 1, not'),
    (dict(optimizer=dict(betas=(.9, float('nan')))), 'optimizer.betas.1', 'not nan'),
    (dict(model=dict(init_cfg=dict(type='Normal', std=-1))), 'model.init_cfg.std', 'must be 0 or more, not -1'),
    (dict(data=dict(train=dict(pipeline=[dict(type='Normalize', std=[1, 0, 1])]))), 'data.train.pipeline.0.std.1',
     'must be more than 0, not 0'),
])  # yapf: disable
def test_a_number_that_cannot_be_right_is_a_mistake(values, path, words):
    from mmdet_ft.engine.config_check.run_settings import check_numbers
    from mmdet_ft.engine.config_check.traverse import Walk
    walk = Walk(Config(values))
    check_numbers(walk)
    assert [mistake.path for mistake in walk.mistakes] == [path] and words in str(walk.mistakes[0])
