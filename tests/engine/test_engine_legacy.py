"""Older spellings mean what they meant, with one warning each; newer ones are answered with today's."""
from pathlib import Path

import pytest

from mmdet_ft.config import CheckError, ConfigError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.legacy.old_configs import NEWER_NAMES

BASES = Path(__file__).parents[2] / 'configs' / '_base_'
HEAD = f'''_base_ = [
    '{BASES}/models/mask_rcnn_r50_fpn.py', '{BASES}/datasets/cityscapes_instance.py',
    '{BASES}/default_runtime.py'
]
'''
PLAN = '''optimizer = dict(type='SGD', lr=0.01)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[7])
'''
CODER_OF_A_HEAD = '''model = dict(
    pretrained=None,
    roi_head=dict(
        bbox_head=dict(
            num_classes=8,
            target_means=[0., 0., 0., 0.],
            target_stds=[0.2, 0.2, 0.4, 0.4]),
        mask_head=dict(num_classes=8)))
'''
EIGHT = '''model = dict(
    pretrained=None,
    roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
'''
RUNNER = "runner = dict(type='EpochBasedRunner', max_epochs=8)\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_config(*parts, **options):
        Path('mine.py').write_text(HEAD + ''.join(parts))
        return load_config('mine.py', options)

    return write_config


def line_of(text):
    return f'mine.py:{Path("mine.py").read_text().split(text)[0].count(chr(10)) + 1}'


def test_a_config_of_2020_runs_with_a_warning_for_each_older_spelling(write):
    config, notes = prepare(write(CODER_OF_A_HEAD, PLAN, 'total_epochs = 8\n'))
    assert config.runner == dict(type='EpochBasedRunner', max_epochs=8)
    head = config.model.roi_head.bbox_head
    assert 'target_stds' not in head and head.bbox_coder == dict(
        type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[.2, .2, .4, .4])
    assert len(notes) == 2
    assert f"total_epochs ({line_of('total_epochs')}) is now runner = dict(type='EpochBasedRunner'" in notes[
        0]
    assert f"bbox_head.target_means and target_stds ({line_of('target_means')}) is now " in notes[1]


def test_a_config_of_2021_runs_with_one_warning(write):
    config, notes = prepare(write(EIGHT, PLAN, 'runner = dict(max_epochs=8)\n'))
    assert config.runner.type == 'EpochBasedRunner'
    assert notes == [
        f'runner has no type ({line_of("runner")}): EpochBasedRunner is taken; '
        "write runner = dict(type='EpochBasedRunner', ...)"
    ]


def test_moved_values_keep_their_lines(write):
    config, _ = prepare(
        write(CODER_OF_A_HEAD, PLAN, 'total_epochs = 8\ndata = dict(imgs_per_gpu=3)\n'))
    assert config.where('runner.max_epochs') == line_of('total_epochs')
    assert config.where('data.samples_per_gpu') == line_of('data = ')
    history = config.history('model.roi_head.bbox_head.bbox_coder.target_stds')
    assert [setting.value for setting in history] == [[.1, .1, .2, .2], [.2, .2, .4, .4]]
    assert history[-1].where == line_of('target_stds')


def test_a_mistake_in_a_moved_value_is_told_where_it_was_written(write):
    text = "test_cfg = dict(rcnn=dict(\n    scor_thr=0.1))\nmodel = dict(test_cfg=None)\n"
    with pytest.raises(CheckError) as caught:
        prepare(write(EIGHT, PLAN, RUNNER, text))
    mistake = next(item for item in caught.value.mistakes if item.path.endswith('scor_thr'))
    assert mistake.where == line_of('scor_thr') and "'score_thr'" in mistake.message


def test_imgs_per_gpu_wins_over_an_inherited_samples_per_gpu(write):
    config, notes = prepare(write(EIGHT, PLAN, RUNNER, 'data = dict(imgs_per_gpu=4)\n'))
    assert config.data.samples_per_gpu == 4 and 'imgs_per_gpu' not in config.data
    assert notes == [f'data.imgs_per_gpu ({line_of("data = ")}) is now data.samples_per_gpu = 4']


def test_settings_at_the_top_level_belong_to_the_model(write):
    text = '''rcnn = dict(score_thr=0.3, nms=dict(type='nms', iou_thr=0.5), max_per_img=9)
test_cfg = dict(rpn=dict(nms_pre=10, nms_post=10, max_num=10, nms_thr=0.7, min_bbox_size=0), rcnn=rcnn)
'''
    config, notes = prepare(
        write(EIGHT.replace('roi_head', 'test_cfg=None,\n    roi_head'), PLAN, RUNNER, text))
    assert config.model.test_cfg.rcnn.score_thr == 0.3 and 'test_cfg' not in config
    assert notes == [f'test_cfg at the top level ({line_of("test_cfg = ")}) is now model.test_cfg']
    with pytest.raises(
            ConfigError,
            match=r'top level \(mine.py:\d+\) and in model \(.*mask_rcnn_r50_fpn.py:\d+\)'):
        prepare(write(EIGHT, PLAN, RUNNER, text))


def test_a_loader_section_of_today_is_no_newer_spelling(write):
    text = 'data = dict(train_dataloader=dict(samples_per_gpu=3), val_dataloader=dict(samples_per_gpu=2))\n'
    config = write(EIGHT, PLAN, RUNNER, text)
    assert prepare(config)[1] == []


PASTED = {
    'train_dataloader': ("dict(batch_size=2, num_workers=2, dataset=dict(type='CocoDataset'))", 'samples_per_gpu'),
    'val_dataloader': ('dict(batch_size=1)', 'data = dict(val=dict(...))'),
    'test_dataloader': ('dict(batch_size=1)', 'data = dict(test=dict(...))'),
    'val_evaluator': ("dict(type='CocoMetric', metric='bbox')",
                      "evaluation = dict(interval=1, metric=['bbox', 'segm'])"),
    'test_evaluator': ("dict(type='CocoMetric', metric='bbox')", '--eval bbox segm'),
    'optim_wrapper': ("dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02))", "optimizer = dict(type='SGD'"),
    'param_scheduler': ("[dict(type='MultiStepLR', milestones=[8, 11])]", "lr_config = dict(policy='step'"),
    'default_hooks': ("dict(checkpoint=dict(type='CheckpointHook', interval=1))", 'checkpoint_config'),
    'train_cfg': ("dict(by_epoch=True, max_epochs=12)", "runner = dict(type='EpochBasedRunner', max_epochs=12)"),
    'val_cfg': ("dict(type='ValLoop')", 'evaluation = dict(interval=1)'),
    'test_cfg': ("dict(type='TestLoop')", 'tools/test.py'),
    'env_cfg': ('dict(cudnn_benchmark=False)', 'cudnn_benchmark = False'),
    'visualizer': ("dict(type='DetLocalVisualizer')", 'log_config'),
    'default_scope': ("'mmdet'", 'no scopes'),
    'log_processor': ("dict(type='LogProcessor')", 'log_config'),
    'resume': ('True', 'resume_from'),
}  # yapf: disable


@pytest.mark.parametrize('name', PASTED)
def test_a_name_of_version_three_is_answered_with_todays_spelling(write, name):
    value, answer = PASTED[name]
    assert name in NEWER_NAMES
    with pytest.raises(CheckError) as caught:
        prepare(write(EIGHT, PLAN, RUNNER, f'{name} = {value}\n'))
    message = str(caught.value)
    assert answer in message and f'({line_of(name + " =")})' in message, message
    assert caught.value.exit_code == 2


def test_all_names_of_version_three_are_told_at_once(write):
    with pytest.raises(CheckError) as caught:
        prepare(write(EIGHT, ''.join(f'{name} = {value}\n' for name, (value, _) in PASTED.items())))
    assert len(str(caught.value).splitlines()) == len(PASTED)


def test_keys_and_types_of_version_three_inside_the_sections_are_answered(write):
    text = '''pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
data = dict(train=dict(dataset=dict(pipeline=pipeline)))
'''
    with pytest.raises(CheckError) as caught:
        prepare(write(EIGHT, PLAN, RUNNER, text))
    answers = ['file_client_args', 'img_scale=(width, height)', 'flip_ratio', 'DefaultFormatBundle']
    lines = [line_of(word) for word in ('backend_args', 'scale=', 'prob=', "'PackDetInputs'")]
    for mistake, answer, line in zip(caught.value.mistakes, answers, lines):
        assert answer in mistake.message and mistake.where == line
