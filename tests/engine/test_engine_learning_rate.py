"""Which learning rates `auto_scale_lr` scales: those that its own file and the files below it set, and no others."""
from pathlib import Path

import pytest

from mmdet_ft.config import Config, load_config
from mmdet_ft.engine import batch_size
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.run_check.run_size import remarks
from mmdet_ft.engine.settings.rate import AT_HAND, read_rate, settle_rate
from mmdet_ft.engine.settings.read import read_run_settings
from .test_engine_resume import make_runner

ROOT = Path(__file__).parents[2]
RUNTIME = 'auto_scale_lr = dict(enable={}, base_batch_size=16)\n'
SCHEDULE = "optimizer = dict(type='SGD', lr=0.02)\n"
REST = ("data = dict(samples_per_gpu=2, train=dict(), val=dict(), test=dict())\n"
        "runner = dict(type='EpochBasedRunner', max_epochs=1)\n")


class Lines(list):
    """A log."""

    def info(self, text, *values):
        self.append(text % values)

    warning = info


def scaled(cfg, processes=1):
    """(the rate that a run trains with, what the log says)."""
    lines = Lines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_size.dist, 'get_dist_info', lambda: (0, processes))
        settings = read_run_settings(cfg)
        settle_rate(cfg, batch_size.images_per_step(settings))
        return batch_size.scaled_rate(settings, lines), '\n'.join(lines)


def advice(cfg, tmp_path, images=2):
    return [
        text for text in remarks(make_runner(tmp_path), read_rate(cfg), 10, images, 20)
        if 'lr=' in text
    ]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A config over two bases, of which one sets the rate and the other one what it is meant for."""
    monkeypatch.chdir(tmp_path)

    def write(leaf='', options=None, enable=True, middle='', **files):
        texts = dict(
            schedule=SCHEDULE,
            runtime=RUNTIME.format(enable),
            middle=f"_base_ = ['schedule.py', 'runtime.py']\n{REST}{middle}",
            leaf=f"_base_ = 'middle.py'\n{leaf}",
            **files)
        for name, text in texts.items():
            Path(f'{name}.py').write_text(text)
        return load_config('leaf.py', options)

    return write


def test_a_rate_of_a_base_follows_the_images_of_a_step(written):
    assert scaled(written())[0] == pytest.approx(.0025)
    assert scaled(written(), processes=8)[0] == pytest.approx(.02)


def test_a_batch_that_is_set_later_than_the_rate_scales_it(written):
    assert scaled(written('data = dict(samples_per_gpu=4)'))[0] == pytest.approx(.005)
    assert scaled(written('', {'data.samples_per_gpu': 4}))[0] == pytest.approx(.005)


def test_accumulated_iterations_count_as_images_of_a_step(written):
    accumulate = "optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)\n"
    assert scaled(written(accumulate))[0] == pytest.approx(.01)
    cfg = written(f'{accumulate}optimizer = dict(lr=0.01)\n')
    assert scaled(cfg)[0] == .01
    assert cfg.auto_scale_lr.base_batch_size == 8
    dumped = Config.fromstring(cfg.pretty_text, '.py')
    assert scaled(dumped)[0] == pytest.approx(.01)


@pytest.mark.parametrize('leaf, middle, options, rate, where', [
    ('optimizer = dict(lr=0.0025)\n', '', None, .0025, 'leaf.py:2'),
    ("optimizer = dict(_delete_=True, type='SGD', lr=0.3)\n", '', None, .3, 'leaf.py:2'),
    ('', 'optimizer = dict(lr=0.004)\n', None, .004, 'middle.py:4'),
    ('', '', {
        'optimizer.lr': .0025,
        'data.samples_per_gpu': 2
    }, .0025, '--cfg-options optimizer.lr'),
])
def test_a_rate_set_later_is_taken_as_written_and_the_log_says_where(written, tmp_path, leaf,
                                                                     middle, options, rate, where):
    for enable in (True, False):
        cfg = written(leaf, options, enable, middle)
        assert advice(cfg, tmp_path) == []
        lr, text = scaled(cfg)
        assert lr == rate
        assert f'lr {rate:g} as written ({where}) for 2 images a step; not scaled' in text


def test_a_base_size_set_with_or_after_the_rate_speaks_of_it(written):
    both = 'optimizer = dict(lr=0.01)\nauto_scale_lr = dict(base_batch_size=8)\n'
    assert scaled(written(both))[0] == pytest.approx(.0025)
    assert scaled(
        written('auto_scale_lr = dict(base_batch_size=8)',
                middle='optimizer = dict(lr=0.01)'))[0] == pytest.approx(.0025)
    options = {'optimizer.lr': .01, 'auto_scale_lr.base_batch_size': 8}
    assert scaled(written('', options))[0] == pytest.approx(.0025)


def test_who_enables_scaling_beside_the_rate_gets_it(written):
    leaf = 'optimizer = dict(lr=0.01)\nauto_scale_lr = dict(enable=True)\n'
    assert scaled(written(leaf, enable=False))[0] == pytest.approx(.00125)


def test_a_rate_set_by_a_program_is_taken_as_written(written):
    cfg = written()
    cfg.optimizer.lr = .02 / 8
    lr, text = scaled(cfg)
    assert lr == .0025 and 'as written (set by the program) for 2 images a step' in text


def test_the_advice_is_given_for_a_rate_of_a_base_only(written, tmp_path):
    text, = advice(written(enable=False), tmp_path)
    assert 'optimizer.lr=0.02 (schedule.py:1) is meant for 16 images a step' in text
    assert 'in proportion that is 0.0025, which --auto-scale-lr sets' in text
    assert advice(written(enable=False), tmp_path, images=16) == []


def test_an_adaptive_optimizer_is_not_scaled_unless_the_flag_asks_for_it(written, tmp_path):
    for kind in ('Adam', 'AdamW', 'Adamax', 'NAdam', 'RAdam', 'Adagrad', 'Adadelta', 'RMSprop'):
        adaptive = dict(schedule=f"optimizer = dict(type='{kind}', lr=0.02)\n")
        cfg = rewritten(written, adaptive)
        assert advice(rewritten(written, adaptive, enable=False), tmp_path) == []
        lr, text = scaled(cfg)
        assert lr == .02 and f'linear scaling is a rule for SGD, not for {kind}' in text
    cfg = rewritten(written, adaptive)
    cfg.override('auto_scale_lr', dict(cfg.auto_scale_lr, enable=True), '--auto-scale-lr')
    lr, text = scaled(cfg)
    assert lr == pytest.approx(
        .0025) and '--auto-scale-lr: optimizer.lr of RMSprop is scaled' in text


def rewritten(written, files, **arguments):
    written(**arguments)
    for name, text in files.items():
        Path(f'{name}.py').write_text(text)
    return load_config('leaf.py')


def test_the_flag_scales_a_rate_that_was_set_later_too(written):
    cfg = written('optimizer = dict(lr=0.01)', enable=False)
    cfg.override('auto_scale_lr', dict(cfg.auto_scale_lr, enable=True), '--auto-scale-lr')
    lr, text = scaled(cfg)
    assert lr == pytest.approx(.00125) and 'is meant for 16' in text


def test_a_config_built_by_a_program_is_scaled_as_in_v2():
    cfg = Config(
        dict(
            data=dict(samples_per_gpu=2),
            optimizer=dict(type='SGD', lr=.02),
            runner=dict(type='EpochBasedRunner', max_epochs=1),
            auto_scale_lr=dict(enable=True, base_batch_size=16)))
    assert scaled(cfg)[0] == pytest.approx(.0025)


def test_a_dump_of_a_rate_as_written_says_what_it_is_meant_for(written):
    cfg = written('optimizer = dict(lr=0.0025)')
    assert scaled(cfg)[0] == .0025 and cfg.where('auto_scale_lr.base_batch_size') == AT_HAND
    dumped = Config.fromstring(cfg.pretty_text, '.py')
    assert scaled(dumped)[0] == .0025
    dumped.merge_from_dict({'data.samples_per_gpu': 4})
    assert scaled(dumped)[0] == pytest.approx(.005)


def test_a_one_stage_detector_for_own_data_begins_from_its_own_rate():
    cfg = load_config(ROOT / 'configs/custom/retinanet.py', {'data.samples_per_gpu': 4})
    assert prepare(cfg)[0].model.bbox_head.num_classes == 'auto'
    assert scaled(cfg)[0] == pytest.approx(.01 * 4 / 16)


@pytest.mark.parametrize('leaf', ['mask_rcnn', 'faster_rcnn'])
def test_the_rate_of_the_readme_is_trained_with(leaf):
    options = {'data.samples_per_gpu': 2, 'optimizer.lr': .0025}
    cfg = load_config(ROOT / f'configs/custom/{leaf}.py', options)
    assert scaled(cfg)[0] == .0025
    cfg = load_config(ROOT / f'configs/custom/{leaf}.py', {'data.samples_per_gpu': 4})
    assert scaled(cfg)[0] == pytest.approx(.02 * 4 / 16)


@pytest.mark.parametrize('name', ['sample/mask_rcnn_slim_ft.py', 'custom/mask_rcnn_small.py'])
def test_a_shipped_config_is_not_warned_against_its_own_rate(name, tmp_path):
    cfg = load_config(ROOT / 'configs' / name)
    images = cfg.data.samples_per_gpu
    assert read_rate(cfg).base == images and advice(cfg, tmp_path, images) == []
