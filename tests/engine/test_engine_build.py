import logging

import pytest
from torch import nn

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.config import Config, ConfigError
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.wrappers import ConcatDataset, RepeatDataset
from mmdet_ft.engine import loaders
from mmdet_ft.engine.batch_size import scaled_rate
from mmdet_ft.engine.build import checkpoint_to_resume
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.evaluate import check_evaluation_options
from mmdet_ft.engine.hooks import CheckpointHook, EvalHook, Hook, TextLoggerHook
from mmdet_ft.engine.hooks import build as hooks_build
from mmdet_ft.engine.hooks.build import build_hooks
from mmdet_ft.engine.legacy.old_configs import modernize
from mmdet_ft.engine.models.build import cancel_pretrained, initialize_weights
from mmdet_ft.engine.optimizers.optimizer_step import Update, read_update
from mmdet_ft.engine.settings.read import read_data, read_run_settings, read_weights
from mmdet_ft.registry import HOOKS, MODELS
from tests.engine.fakes import FakeDataset, FakeLoader, FakeModel


def config(**values):
    values.setdefault(
        'data', dict(samples_per_gpu=2, workers_per_gpu=1, train=dict(), val=dict(), test=dict()))
    values.setdefault('model', dict(type='FasterRCNN', backbone=dict(type='ResNet')))
    values.setdefault('runner', dict(type='EpochBasedRunner', max_epochs=12))
    return Config(values)


def test_older_lengths_of_a_run_become_a_runner():
    cfg = config(total_epochs=8)
    cfg.pop('runner')
    new, notes = modernize(cfg)
    assert new.runner == dict(type='EpochBasedRunner', max_epochs=8) and 'total_epochs' not in new
    assert 'total_epochs' in notes[0] and 'runner' not in cfg
    assert modernize(config(runner=dict(max_epochs=8)))[0].runner.type == 'EpochBasedRunner'
    assert modernize(config(runner=dict(max_iters=8)))[0].runner.type == 'IterBasedRunner'
    assert modernize(config())[1] == []
    with pytest.raises(ConfigError, match='total_epochs=8'):
        modernize(config(total_epochs=8))


def test_older_places_of_settings_are_moved():
    new, notes = modernize(
        config(data=dict(imgs_per_gpu=3), train_cfg=dict(rpn=1), test_cfg=dict(rcnn=2)))
    assert new.data == dict(samples_per_gpu=3)
    assert new.model.train_cfg == dict(rpn=1) and new.model.test_cfg == dict(
        rcnn=2) and 'train_cfg' not in new
    assert len(notes) == 3
    with pytest.raises(ConfigError, match='model.train_cfg'):
        modernize(config(train_cfg=dict(rpn=1), model=dict(train_cfg=dict(rpn=1))))


def test_target_means_go_into_the_inherited_coder():
    head = dict(
        type='Shared2FCBBoxHead',
        target_means=[0.] * 4,
        target_stds=[.2] * 4,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[.1] * 4, clip_border=False))
    new, notes = modernize(config(model=dict(type='MaskRCNN', roi_head=dict(bbox_head=[head]))))
    assert new.model.roi_head.bbox_head[0] == dict(
        type='Shared2FCBBoxHead',
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.] * 4,
            target_stds=[.2] * 4,
            clip_border=False))
    assert 'model.roi_head.bbox_head.0' in notes[0]
    coder_only = config(
        model=dict(rpn_head=dict(type='RPNHead', bbox_coder=dict(type='X', target_stds=[1.] * 4))))
    assert modernize(coder_only)[1] == []


def test_loader_settings_come_from_v2s_places():
    cfg = config(
        data=dict(
            samples_per_gpu=4,
            workers_per_gpu=3,
            train=dict(),
            val=dict(samples_per_gpu=5),
            test=[dict(samples_per_gpu=2), dict()],
            test_dataloader=dict(workers_per_gpu=7)))
    train = read_data(cfg).train_loader()
    assert train.samples_per_gpu == 4 and train.workers_per_gpu == 3
    val, test = (read_data(cfg).test_loader(split) for split in ('val', 'test'))
    assert (val.samples_per_gpu, val.workers_per_gpu, val.shuffle) == (5, 3, False)
    assert (test.samples_per_gpu, test.workers_per_gpu) == (2, 7)
    newer = config(
        data=dict(train=dict(), train_dataloader=dict(samples_per_gpu=8, workers_per_gpu=0)))
    assert read_data(newer).train_loader().samples_per_gpu == 8
    both = config(
        data=dict(samples_per_gpu=4, train=dict(), train_dataloader=dict(samples_per_gpu=8)))
    with pytest.raises(UserError, match='samples_per_gpu'):
        read_data(both).train_loader()


def test_a_classifier_is_evaluated_in_batches_of_the_training(monkeypatch):

    class Classes(FakeDataset):
        evaluated_in_batches = True

    monkeypatch.setattr(loaders, 'build_loader', lambda dataset, settings: settings)
    cfg = config(
        data=dict(samples_per_gpu=16, train=dict(), val=dict(), test=dict(samples_per_gpu=3)))
    monkeypatch.setattr(loaders, 'build_test_dataset', lambda data, split: Classes())
    assert loaders.build_test_loader(read_data(cfg), 'val').samples_per_gpu == 16
    assert loaders.build_test_loader(read_data(cfg), 'test').samples_per_gpu == 3
    monkeypatch.setattr(loaders, 'build_test_dataset', lambda data, split: FakeDataset())
    assert loaders.build_test_loader(read_data(cfg), 'val').samples_per_gpu == 1


def test_what_a_wrapper_of_val_holds_is_in_test_mode(monkeypatch):
    monkeypatch.setattr(loaders, 'build_dataset', lambda settings: settings)
    parts = [dict(type='X', test_mode=False), dict(type='RepeatDataset', dataset=dict(type='X'))]
    wrapped = dict(type='ConcatDataset', separate_eval=False, samples_per_gpu=4, datasets=parts)
    cfg = config(data=dict(val=wrapped, test=[dict(type='X', samples_per_gpu=2), dict(type='X')]))
    built = dict(type='X', test_mode=True)
    assert loaders.build_test_dataset(read_data(cfg), 'val') == dict(
        type='ConcatDataset',
        separate_eval=False,
        datasets=[built, dict(type='RepeatDataset', dataset=built)])
    assert loaders.build_test_dataset(read_data(cfg), 'test') == [built, built]


def test_pretrained_none_cancels_the_backbones_weights():
    pretrained = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    model = dict(pretrained=None, backbone=dict(type='ResNet', init_cfg=pretrained))
    assert cancel_pretrained(model) and model['backbone']['init_cfg'] is None
    assert not cancel_pretrained(model)
    model = dict(
        type='FasterRCNN',
        pretrained=None,
        backbone={},
        roi_head=dict(shared_head=dict(init_cfg=pretrained)))
    assert cancel_pretrained(model) and model['roi_head']['shared_head']['init_cfg'] is None
    other = dict(type='Constant', val=1, layer='BatchNorm2d')
    model = dict(pretrained=None, backbone=dict(init_cfg=[other, pretrained]))
    assert cancel_pretrained(model) and model['backbone']['init_cfg'] == [other]
    assert not cancel_pretrained(dict(backbone=dict(init_cfg=pretrained)))
    assert not cancel_pretrained(
        dict(pretrained='torchvision://resnet50', backbone=dict(init_cfg=pretrained)))


@pytest.fixture
def messages(monkeypatch):
    """What the engine's logger says."""
    lines = []

    class Collect(logging.Handler):

        def emit(self, record):
            lines.append(record.getMessage())

    logger = logging.getLogger('mmdet_ft.tests')
    logger.setLevel('INFO')
    logger.addHandler(Collect())
    logger.lines = lines
    return logger


@MODELS.register_module(force=True)
class TinyWithBackbone(nn.Module):
    """A model whose backbone asks for a checkpoint that is not there."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.backbone.init_cfg = dict(type='Pretrained', checkpoint='/nowhere.pth')
        self.head = nn.Linear(2, 2)

    def init_weights(self, load=None):
        if self.backbone.init_cfg is not None:
            load(self.backbone.init_cfg['checkpoint'])


def test_a_checkpoint_that_covers_the_backbone_saves_its_download(tmp_path, messages):
    from mmdet_ft.checkpoints.writing import save
    path = str(tmp_path / 'a.pth')
    save(path, TinyWithBackbone().state_dict(), {})
    begin = config(load_from=path, work_dir=str(tmp_path))
    initialize_weights(TinyWithBackbone(), read_weights(begin), messages, str(tmp_path))
    assert 'backbone.init_cfg is not used' in messages.lines[
        0] and 'loaded 4 of 4 (100 %)' in messages.lines[1]
    with pytest.raises(CheckpointError, match='/nowhere.pth'):
        initialize_weights(TinyWithBackbone(), read_weights(config()), messages)


def test_auto_resume_takes_the_newest_and_an_explicit_one_counts_more(tmp_path):
    writing.save(str(tmp_path / 'epoch_3.pth'), FakeModel().state_dict(), dict(epoch=3, iter=9))
    (tmp_path / 'epoch_4.pth').touch()

    def source(cfg):
        return checkpoint_to_resume(read_run_settings(cfg), logging.getLogger('mmdet_ft.tests'))

    cfg = config(work_dir=str(tmp_path), auto_resume=True)
    assert source(cfg) == str(tmp_path / 'epoch_3.pth')
    assert source(config(work_dir=str(tmp_path), auto_resume=True, resume_from='x.pth')) == 'x.pth'
    assert source(config(work_dir=str(tmp_path))) is None


def test_the_learning_rate_is_scaled_to_the_batch(messages):
    cfg = config(optimizer=dict(lr=.02), auto_scale_lr=dict(enable=True, base_batch_size=16))
    assert scaled_rate(read_run_settings(cfg),
                       messages) == pytest.approx(.0025) and '0.0025' in messages.lines[-1]
    cfg = config(optimizer=dict(lr=.02), auto_scale_lr=dict(enable=False, base_batch_size=16))
    assert scaled_rate(read_run_settings(cfg), messages) == .02


def test_optimizer_config_is_read_in_v2s_spellings():
    assert read_update(None) == read_update(dict(grad_clip=None)) == Update()
    clip = dict(max_norm=35, norm_type=2)
    assert read_update(
        dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4,
             grad_clip=clip)) == (clip, 4)
    for wrong, word in ((dict(gradclip=1), 'gradclip'), (dict(type='MyHook'), 'MyHook'),
                        (dict(cumulative_iters=0), 'cumulative')):
        with pytest.raises(UserError, match=word):
            read_update(wrong)


def test_the_default_hooks_stand_in_one_order(monkeypatch):

    @HOOKS.register_module(force=True)
    class UsersHook(Hook):
        pass

    class Dataset(FakeDataset):

        def evaluate(self, results, logger=None, metric=None, classwise=False):
            return {}

    monkeypatch.setattr(hooks_build, 'build_test_loader', lambda data, split: FakeLoader(Dataset()))
    cfg = config(
        data=dict(train=dict(), val=dict(type='X')),
        custom_hooks=[dict(type='UsersHook', priority='HIGH')],
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            interval=3, metric='bbox', classwise=True, gpu_collect=True, save_best='auto'),
        log_config=dict(interval=7, hooks=[dict(type='TextLoggerHook')]),
        runner=dict(type='IterBasedRunner', max_iters=9))
    hooks = build_hooks(read_run_settings(cfg), validate=True)
    assert [(type(hook), priority) for hook, priority in hooks] == [(UsersHook, 'HIGH'),
                                                                    (CheckpointHook, 'NORMAL'),
                                                                    (EvalHook, 'LOW'),
                                                                    (TextLoggerHook, 'VERY_LOW')]
    _, checkpoint, evaluation, text = (hook for hook, _ in hooks)
    assert not checkpoint.by_epoch and checkpoint.interval == 2 and not text.by_epoch and text.interval == 7
    assert not evaluation.by_epoch and evaluation.eval_options == dict(
        metric='bbox', classwise=True)
    assert EvalHook not in [
        type(hook) for hook, _ in build_hooks(read_run_settings(cfg), validate=False)
    ]
    cfg.evaluation.metrics = 'bbox'
    with pytest.raises(
            UserError, match='evaluation has no metrics; Dataset.evaluate knows metric, classwise'):
        build_hooks(read_run_settings(cfg), True)


def test_options_are_checked_for_each_data_set_that_is_joined():
    joined = ConcatDataset([FakeDataset(), FakeDataset()])
    check_evaluation_options(joined, dict(metric='bbox'))
    with pytest.raises(
            UserError, match='evaluation has no metrics; FakeDataset.evaluate knows metric'):
        check_evaluation_options(joined, dict(metrics='bbox'))
    for repeated in (RepeatDataset(FakeDataset(),
                                   2), ConcatDataset([RepeatDataset(FakeDataset(), 1)])):
        with pytest.raises(
                UserError, match='RepeatDataset has no metrics.*the FakeDataset that it'):
            check_evaluation_options(repeated, dict(metric='bbox'))


def test_losses_of_several_validation_sets_are_those_of_each(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name / 'x').mkdir(parents=True)
        (tmp_path / name / 'x' / '1.png').write_bytes(b'')
    parts = [
        dict(type='CustomDataset', data_prefix=str(tmp_path / name), pipeline=[])
        for name in ('a', 'b')
    ]
    pipeline = [dict(type='ToTensor', keys=['gt_label'])]
    for val in (parts, dict(type='ConcatDataset', samples_per_gpu=2, datasets=parts),
                dict(parts[0], data_prefix=[part['data_prefix'] for part in parts]),
                dict(type='RepeatDataset', times=2, dataset=parts[0])):
        cfg = config(data=dict(train=dict(parts[0], pipeline=pipeline), val=val))
        _, losses = loaders.build_workflow_datasets(read_data(cfg), [('train', 1), ('val', 1)])
        assert len(losses) == 2
        kinds = [
            type(transform).__name__ for leaf in innermost(losses)
            for transform in leaf.pipeline.transforms
        ]
        assert set(kinds) == {'ToTensor'}


@pytest.mark.parametrize('build', [
    lambda data: loaders.build_test_loader(data, 'val'),
    lambda data: loaders.build_workflow_datasets(data, [('val', 1), ('train', 1)])
])
def test_a_split_that_the_config_lacks_is_refused_with_the_line_to_write(build):
    cfg = config(data=dict(train=dict(type='CustomDataset', pipeline=[]), val=None))
    with pytest.raises(UserError, match=r'has no data\.val; write data = dict\(val=dict\('):
        build(read_data(cfg))


def test_the_training_pipeline_is_found_under_wrappers():
    wrapped = dict(
        type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[dict(pipeline=[1])]))
    assert loaders._pipeline_of(wrapped) == loaders._pipeline_of([dict(pipeline=[1])]) == [1]


def test_mistakes_and_bugs_are_told_apart():
    assert is_user_mistake(UserError('x')) and is_user_mistake(
        ConfigError('x')) and is_user_mistake(FileNotFoundError('x'))
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type='ResNett'))
    assert is_user_mistake(error.value)
    assert not is_user_mistake(KeyError('x')) and not is_user_mistake(RuntimeError('x'))


def test_what_a_constructor_of_ours_refuses_is_a_users_mistake_and_an_error_inside_user_code_is_not(
):

    class Own:

        def __init__(self, text):
            int(text)
            raise ValueError('a bug')

    for settings, expected in ((dict(type='MobileNetV2', frozen_stages=99), True),
                               (dict(type=Own, text='1'), False), (dict(type=Own,
                                                                        text='x'), False)):
        with pytest.raises(ValueError) as error:
            MODELS.build(settings)
        assert is_user_mistake(error.value) is expected
    assert is_user_mistake(ImportError('Albu needs albumentations: pip install albumentations'))
    assert not is_user_mistake(ImportError('cannot import name x'))
