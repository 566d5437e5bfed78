"""Values outside their range, and parts that cannot work together, are refused before a run starts."""
import math

import pytest

from mmdet_ft.config import CheckError, Config, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.run_check.preflight import check_schedules
from mmdet_ft.engine.schedules.schedule import Progress, build_learning_rate, find_fault
from mmdet_ft.engine.settings.read import read_acceleration, read_evaluation
from tests.engine.test_engine_check import MAIN, heir

CONFIGS = MAIN.parents[1]
RETINA = CONFIGS / 'retinanet/retinanet_r50_fpn_1x_coco.py'
FCOS = CONFIGS / 'fcos/fcos_r50_caffe_fpn_gn-head_1x_coco.py'
ATSS = CONFIGS / 'atss/atss_r50_fpn_1x_coco.py'
FASTER = CONFIGS / 'faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py'
ITERATIONS = "runner = dict(_delete_=True, type='IterBasedRunner', max_iters=9)\n"
GIOU = "dict(_delete_=True, type='GIoULoss')"


def refusals(tmp_path, monkeypatch, text, base):
    """The mistakes of a child of a config: its text begins in line 2."""
    with pytest.raises(CheckError) as caught:
        prepare(heir(tmp_path, monkeypatch, text, base))
    return caught.value.mistakes


def in_head(text):
    return f'model = dict(bbox_head=dict({text}))'


def in_schedule(text):
    return f'lr_config = dict(_delete_=True, {text})'


RATES = [
    ("policy='CosineAnnealing', min_lr=-1.", 'min_lr', 'must be a number 0 or more, not -1.0'),
    ("policy='poly', min_lr=-1.", 'min_lr', '0 or more'),
    ("policy='poly', power=-1", 'power', '0 or more'),
    ("policy='step', step=[1], gamma=-1", 'gamma', '0 or more'),
    ("policy='step', step=[1], gamma=float('inf')", 'gamma', '0 or more, not inf'),
    ("policy='step', step=[0]", 'step', 'whole numbers from 1 on'),
    ("policy='inv', gamma=-1", 'gamma', '0 or more'),
    ("policy='cyclic', cyclic_times=0, by_epoch=False", 'cyclic_times', 'from 1 on'),
    ("policy='OneCycle', max_lr=.1, div_factor=0", 'div_factor', 'above 0'),
    ("policy='OneCycle', max_lr=.1, final_div_factor=0", 'final_div_factor', 'above 0'),
    ("policy='CosineRestart', min_lr=0, periods=[]", 'periods', 'that is not empty'),
]


@pytest.mark.parametrize('text, key, words', RATES)
def test_a_schedule_outside_its_range_is_refused_with_its_line(tmp_path, monkeypatch, text, key,
                                                               words):
    mistake, = refusals(tmp_path, monkeypatch, in_schedule(text), RETINA)
    assert mistake.path.startswith(f'lr_config.{key}') and words in str(mistake)
    assert 'heir.py:2' in str(mistake)


def test_a_momentum_outside_its_range_is_refused(tmp_path, monkeypatch):
    text = "momentum_config = dict(policy='CosineAnnealing', min_momentum=2.)"
    mistake, = refusals(tmp_path, monkeypatch, text, RETINA)
    assert mistake.path == 'momentum_config.min_momentum' and 'from 0 to 1, not 2.0' in str(mistake)


@pytest.mark.parametrize('base, text, path, words', [
    (RETINA, in_head(f'loss_bbox={GIOU}'), 'model.bbox_head.loss_bbox',
     'compares boxes, and reg_decoded_bbox=False gives it deltas; write reg_decoded_bbox=True'),
    (FASTER, f'model = dict(rpn_head=dict(loss_bbox={GIOU}))', 'model.rpn_head.loss_bbox', 'RPNHead'),
    (FASTER, f'model = dict(roi_head=dict(bbox_head=dict(loss_bbox={GIOU})))', 'model.roi_head.bbox_head.loss_bbox',
     'write reg_decoded_bbox=True'),
    (RETINA, in_head('anchor_generator=dict(ratios=[-1.0, 1.0])'), 'model.bbox_head.anchor_generator.ratios',
     'must be a list of numbers above 0 that is not empty, not [-1.0, 1.0]'),
    (RETINA, in_head('anchor_generator=dict(ratios=[])'), 'model.bbox_head.anchor_generator.ratios', 'not empty'),
    (RETINA, in_head('anchor_generator=dict(strides=[-8, 16, 32, 64, 128])'),
     'model.bbox_head.anchor_generator.strides', 'above 0'),
    (RETINA, in_head('anchor_generator=dict(strides=[])'), 'model.bbox_head.anchor_generator.strides', 'not empty'),
    (RETINA, in_head('anchor_generator=dict(scales_per_octave=0)'),
     'model.bbox_head.anchor_generator.scales_per_octave', 'from 1 on, not 0'),
    (RETINA, in_head('loss_cls=dict(loss_weight=-1)'), 'model.bbox_head.loss_cls.loss_weight', '0 or more'),
    (ATSS, 'model = dict(train_cfg=dict(assigner=dict(topk=0)))', 'model.train_cfg.assigner.topk', 'from 1 on, not 0'),
    (ATSS, in_head('pred_kernel_size=0'), 'model.bbox_head.pred_kernel_size', 'from 1 on'),
    (FCOS, in_head('strides=[]'), 'model.bbox_head.strides', 'not empty'),
    (FCOS, in_head('center_sample_radius=-1'), 'model.bbox_head.center_sample_radius', 'above 0'),
    (FCOS, in_head('feat_channels=0'), 'model.bbox_head.feat_channels', 'from 1 on'),
    (FCOS, in_head('regress_ranges=((-1, 64), (128, 64), (1, 2), (1, 2), (1, 2))'), 'model.bbox_head.regress_ranges',
     'has (128, 64); write the smaller distance first'),
])  # yapf: disable
def test_a_part_outside_its_range_is_refused_with_its_line(tmp_path, monkeypatch, base, text, path,
                                                           words):
    mistake, *_ = refusals(tmp_path, monkeypatch, text, base)
    assert mistake.path == path and words in str(mistake) and 'heir.py:2' in str(mistake), mistake


@pytest.mark.parametrize('text, path, words', [
    ('data = dict(val_dataloader=dict(shuffle=True))', 'data.val_dataloader.shuffle', 'by their order'),
    ('data = dict(test_dataloader=dict(skip_bad_images=True))', 'data.test_dataloader.skip_bad_images',
     'must be False, not True'),
    ('data = dict(test_dataloader=dict(drop_last=True))', 'data.test_dataloader.drop_last', 'leave drop_last out'),
    ("data = dict(train_dataloader=dict(runner_type='IterBasedRunner'))", 'data.train_dataloader.runner_type',
     'is set by the run'),
    ('data = dict(val_dataloader=dict(num_gpus=4))', 'data.val_dataloader.num_gpus', 'leave num_gpus out'),
    ('data = dict(train_dataloader=dict(seed=-1))', 'data.train_dataloader.seed', 'from 0 on'),
    (f'{ITERATIONS}checkpoint_config = dict(interval=4, by_epoch=True)', 'checkpoint_config.by_epoch', 'by_epoch=False'),  # noqa: E501
    ("optimizer_config = dict(_delete_=True, type='Fp16OptimizerHook', loss_scale=-5)", 'optimizer_config.loss_scale',
     'above 0'),
    ('fp16 = dict(loss_scale=dict(growth_factor=.5))', 'fp16.loss_scale.growth_factor', 'more than 1'),
    ("custom_hooks = [dict(type='EMAHook'), dict(type='ExpMomentumEMAHook')]", 'custom_hooks.1',
     'is a second hook that keeps the averages of the weights, after custom_hooks.0'),
    ("custom_hooks = [dict(type='EMAHook', warm_up=-5)]", 'custom_hooks.0.warm_up', 'from 1 on'),
    ("custom_hooks = [dict(type='ExpMomentumEMAHook', total_iter=0)]", 'custom_hooks.0.total_iter', 'from 1 on'),
])  # yapf: disable
def test_a_setting_of_a_run_that_would_be_wrong_in_silence_is_refused(tmp_path, monkeypatch, text,
                                                                      path, words):
    mistake, *_ = refusals(tmp_path, monkeypatch, text, RETINA)
    assert mistake.path == path and words in str(mistake) and 'heir.py' in str(mistake), mistake


def test_an_evaluation_counts_as_its_runner_does(tmp_path, monkeypatch):
    config, notes = prepare(
        heir(tmp_path, monkeypatch, f'{ITERATIONS}evaluation = dict(interval=5, by_epoch=True)',
             RETINA))
    assert read_evaluation(config)['by_epoch'] is False
    assert any('evaluation.by_epoch (heir.py:3) has no effect' in note for note in notes)
    assert 'by_epoch' not in read_evaluation(load_config(RETINA))


@pytest.mark.parametrize('written, read', [({}, {}), (None, False), (0, False), (True, True)])
def test_arguments_of_compile_switch_it_on(written, read):
    assert read_acceleration(Config(dict(compile=written))).compile == read


@pytest.mark.parametrize('settings, words', [
    (dict(policy='CosineRestart', periods=[2, 3], restart_weights=[1, 1], min_lr=0), 'add up to 5, but the run has 8'),
    (dict(policy='cyclic', cyclic_times=1000, by_epoch=False), '1000 cycles (cyclic_times) in 80 iterations'),
    (dict(policy='onecycle', max_lr=.1, total_steps=9), 'total_steps = 9 is less than the 80'),
    (dict(policy='onecycle', max_lr=[.1, .2]), 'max_lr has 2 values for 1 parameter groups'),
    (dict(policy='exp', gamma=1e300), 'at iteration'),
    (dict(policy='poly'), None),
    (dict(policy='step', step=[3, 5], warmup='linear', warmup_iters=50, warmup_ratio=.001), None),
])  # yapf: disable
def test_a_schedule_is_followed_to_its_end_before_the_run(settings, words):
    fault = find_fault(build_learning_rate(settings), [.1], Progress(0, 0, 10, 8, 80))
    assert fault is None if words is None else words in fault or 'too large' in fault


def test_a_run_ends_before_its_first_step_for_a_schedule_that_cannot_be_followed(tmp_path):
    from mmdet_ft.errors import UserError
    from tests.engine.test_engine_resume import make_runner
    runner = make_runner(tmp_path)
    runner.schedules.learning_rate = build_learning_rate(
        dict(policy='CosineRestart', periods=[1], restart_weights=[1], min_lr=0), by_epoch=False)
    with pytest.raises(UserError, match='lr_config: lr_config.periods'):
        check_schedules(runner, 4)
    assert math.isfinite(runner.current_lr()[0])


def test_a_seed_and_auto_resume_of_a_config_are_read(tmp_path, monkeypatch):
    from argparse import Namespace

    from mmdet_ft.commands.train import read_config
    from mmdet_ft.engine import build
    config = heir(tmp_path, monkeypatch, 'seed = 5\nauto_resume = True', RETINA)
    given = dict(
        config='heir.py', cfg_options=None, work_dir='w', resume_from=None, auto_scale_lr=False)
    for flag in (False, True):
        read = read_config(Namespace(auto_resume=flag, **given))
        assert read.auto_resume is True
    seeds = []

    def choose(resume_from, seed, logger):
        seeds.append(seed)
        raise InterruptedError

    monkeypatch.setattr(build, 'choose_seed', choose)
    for seed in (None, 0):
        config.work_dir = str(tmp_path / 'w')
        config.auto_resume = False
        with pytest.raises(InterruptedError):
            build.assemble(config, seed=seed)
        build.release(config.work_dir)
    assert seeds == [5, 0]
