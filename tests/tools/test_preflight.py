"""What would fail in the night fails in the first minute: `train.py --dry-run`, and its short form before a run."""
import json
import os
import re
import shutil
import tempfile
from collections import namedtuple

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.config import Config
from mmdet_ft.engine import dry_run
from mmdet_ft.engine.dry_run import duration
from mmdet_ft.engine.run_check.preflight import CheckpointSpace
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.registry import HOOKS
from tests.tools.test_train_command import ROOT, train
from tests.tools.tiny_world import write_world


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('world')
    write_world(root)
    return root


@HOOKS.register_module(force=True)
class RaisingHook(Hook):

    def after_train_iter(self, runner):
        if runner.iter == 1:
            raise ZeroDivisionError('in a hook of mine')


def spoilt_annotations(world, folder, change):
    content = json.loads((world / 'train.json').read_text())
    change(content)
    path = folder / 'train.json'
    path.write_text(json.dumps(content))
    return f'data.train.ann_file={path}'


def missing_file(world, folder):
    return [f'data.train.ann_file={folder}/gone.json'], f'{folder}/gone.json'


def wrong_classes(world, folder):
    return ["data.train.classes=('box','bar','dott')"], 'dott'


def wrong_shape(world, folder):
    from mmdet_ft.engine.models.build import build_model
    cfg = Config.fromfile(world / 'tiny.py')
    weights = build_model(cfg.model, None).state_dict()
    name = 'backbone.conv1.weight'
    weights[name] = torch.zeros(2, *weights[name].shape[1:])
    torch.save(dict(state_dict=weights), folder / 'other.pth')
    return [f'load_from={folder}/other.pth'], name


def bad_evaluator(world, folder):
    return ['evaluation.metric=bboxes'], "evaluation.metric='bboxes'"


def nan_image(world, folder):
    (folder / 'train').mkdir()
    for index in range(4):
        image = cv2.imread(str(world / 'train' / f'{index}.png')).astype(np.float32)
        image[10:20, 10:20] = np.nan
        cv2.imwrite(str(folder / 'train' / f'{index}.tiff'), image)

    def rename(content):
        for index, image in enumerate(content['images']):
            image['file_name'] = f'{index}.tiff'

    return [
        spoilt_annotations(world, folder, rename), f'data.train.img_prefix={folder}/train/',
        'data.train.pipeline.0.color_type=unchanged'
    ], '.tiff'


def empty_dataset(world, folder):
    change = spoilt_annotations(world, folder, lambda content: content.update(annotations=[]))
    return [change], f'{folder}/train.json'


def unreachable_url(world, folder):
    return ['load_from=http://127.0.0.1:9/weights.pth'], 'http://127.0.0.1:9/weights.pth'


def wrong_num_classes(world, folder):
    return ['model.roi_head.bbox_head.num_classes=80'], 'model.roi_head.bbox_head.num_classes'


def raising_hook(world, folder):
    return ['custom_hooks.0.type=RaisingHook'
            ], 'RaisingHook.after_train_iter raised ZeroDivisionError: in a hook of mine'


def lr_out_of_range(world, folder):
    return ['optimizer.lr=2000'], 'optimizer.lr=2000'


def wrong_best(world, folder):
    return ['evaluation.save_best=mask_mAP'], "evaluation.save_best='mask_mAP'"


def misspelt_monitor(world, folder):
    return ['early_stop.monitor=bbox_mAP50'], "early_stop.monitor='bbox_mAP50'"


def misspelt_monitor_of_a_model_that_finds_nothing(world, folder):
    return ['early_stop.monitor=segm_mAP50',
            'model.test_cfg.rcnn.score_thr=0.999'], "early_stop.monitor='segm_mAP50'"


def masks_asked_of_boxes(world, folder):
    return [
        'model.type=FasterRCNN', 'model.roi_head.mask_roi_extractor=None',
        'model.roi_head.mask_head=None'
    ], 'segm is not in the results'


def read_only(world, folder):
    return ['work_dir=/proc/self/run'], '/proc/self/run'


FAULTS = [
    missing_file, wrong_classes, wrong_shape, bad_evaluator, read_only, nan_image, empty_dataset,
    unreachable_url, wrong_num_classes, raising_hook, lr_out_of_range, wrong_best, misspelt_monitor,
    misspelt_monitor_of_a_model_that_finds_nothing, masks_asked_of_boxes
]


@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_stops_the_dry_run(world, tmp_path, fault):
    options, named = fault(world, tmp_path)
    out, err = train(
        world / 'tiny.py',
        '--dry-run',
        '--cfg-options',
        f'work_dir={tmp_path}/run',
        *options,
        expect=1)
    assert named in err.split('error: ')[-1] and (out + err).count('error: ') == 1, err
    failed, = [line for line in out.splitlines() if line.startswith('FAILED')]
    assert named not in failed and 'Traceback' not in err
    assert not (tmp_path / 'run').exists()


def test_a_disk_that_is_too_small_stops_the_dry_run_and_the_run(world, tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(10**7, 10**7, 10**6))
    for words in (['--dry-run'], []):
        out, err = train(world / 'tiny.py', '--work-dir', tmp_path / 'run', *words, expect=1)
        assert 'no room for checkpoints' in err and '1 MB are free' in err and 'Traceback' not in err
        assert not list(tmp_path.glob('run/*.pth'))


def test_what_is_said_of_a_full_disk_can_be_done():
    many, few = (
        str(CheckpointSpace(one=10, all_kept=10 * number, num_kept=number, free=15))
        for number in (12, 4))
    assert 'max_keep_ckpts=3) keeps the last three' in many
    assert 'max_keep_ckpts' not in few and '--work-dir' in few


@pytest.mark.parametrize(
    'fault, code', [(bad_evaluator, 2), (lr_out_of_range, 1), (wrong_best, 1)],
    ids=lambda value: getattr(value, '__name__', None))
def test_the_short_form_stops_a_run_before_its_first_iteration(world, tmp_path, fault, code):
    options, named = fault(world, tmp_path)
    out, err = train(
        world / 'tiny.py', '--work-dir', tmp_path / 'run', '--cfg-options', *options, expect=code)
    assert named in err.split('error: ')[-1] and 'Epoch [1]' not in err and 'Traceback' not in err


def test_a_good_config_passes_and_nothing_is_left(world, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'mine.txt').write_text('stays')
    out, err = train(world / 'tiny.py', '--work-dir', tmp_path / 'run', '--dry-run',
                     '--cfg-options', 'lr_config.warmup_iters=50', 'early_stop.monitor=bbox_mAP')
    for line in ('work_dir', '2 training steps: loss ', '2 validation images: metrics: bbox_mAP',
                 'a checkpoint written and read', 'memory', 'early stop: bbox_mAP, 5 evaluations',
                 'last batch of an epoch: 2 images'):
        assert f'ok      {line}' in out, out
    assert re.search(
        r'ok      time: about [\d.]+ s a step: 2 epochs of 2 steps = [\d.]+ s; evaluation [\d.]+ s each, 2 of them = '
        r'[\d.]+ s; 3 checkpoints of \d MB = \d MB', out), out
    assert 'lr_config.warmup_iters: the warmup of 50 iterations is as long as the whole run of 4' in out
    assert 'early_stop.patience=5' in out
    assert os.listdir(tmp_path / 'run') == ['mine.txt'] and not err


def test_the_short_form_changes_nothing(world, tmp_path, monkeypatch):
    from mmdet_ft.checkpoints.reading import read
    from mmdet_ft.engine.run_check import preflight
    from tests.engine.fakes import same
    words = ['--seed', '3', '--cfg-options', 'runner.max_epochs=1']
    train(world / 'tiny.py', '--work-dir', tmp_path / 'a', *words)
    monkeypatch.setattr(preflight, 'before_run', lambda runner: None)
    train(world / 'tiny.py', '--work-dir', tmp_path / 'b', *words)
    first, second = (read(str(tmp_path / name / 'epoch_1.pth')) for name in 'ab')
    assert same(first.state_dict, second.state_dict)
    assert str(first.content['random_state']) == str(second.content['random_state'])


def test_the_dry_run_shows_what_the_data_say(world, tmp_path):

    def without_dots(content):
        for annotation in content['annotations']:
            annotation['category_id'] = 1

    out, err = train(world / 'tiny.py', '--work-dir',
                     tmp_path / 'run', '--dry-run', '--cfg-options',
                     spoilt_annotations(world, tmp_path, without_dots), 'log_level=ERROR')
    assert 'note    Data. To check every image and object' in out and 'class without objects' in out
    assert not err


def test_ctrl_c_ends_a_dry_run_in_one_line(world, tmp_path, monkeypatch):

    def interrupt(self, runner):
        raise KeyboardInterrupt

    monkeypatch.setattr(RaisingHook, 'after_train_iter', interrupt)
    out, err = train(
        world / 'tiny.py',
        '--work-dir',
        tmp_path / 'run',
        '--dry-run',
        '--cfg-options',
        'custom_hooks.0.type=RaisingHook',
        expect=130)
    assert out.splitlines()[-1] == 'stopped by Ctrl-C; the dry run leaves no files'
    assert not err and not (tmp_path / 'run').exists()


def test_the_first_screen_is_short_and_the_last_lines_say_how_to_go_on(world, tmp_path):
    _, err = train(world / 'tiny.py', '--work-dir', tmp_path / 'run', '--seed', '0',
                   '--cfg-options', 'runner.max_epochs=1')
    config = f'{tmp_path}/run/tiny.py'
    head = err[:err.index('Start running')]
    assert f'Config: {config} (print it with' in head and 'pipeline = [' not in head
    log, = (tmp_path / 'run').glob('*.log')
    kept = log.read_text()
    for text in ('Environment info:', 'Config:\npipeline = [', 'Hooks will be executed'):
        assert text in kept and text not in err
    last = err[err.index('The run is done:'):]
    assert f'python {ROOT}/tools/test.py {config} ' in last and '--eval bbox segm' in last
    assert f'  last:    {tmp_path}/run/latest.pth (epoch_1.pth)' in last


@pytest.mark.parametrize('seconds,text', [(.31, '0.31 s'), (39.2, '40 s'), (99, '99 s'),
                                          (101, '1.7 min'), (2999, '50 min'), (12600, '3.5 h'),
                                          (10**6, '11.6 days')])
def test_durations_are_told_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_dry_run_leaves_the_folders_of_other_runs(tmp_path, monkeypatch):
    """Runs begin beside it in a work_dirs that it has made; it goes without their files."""

    def other_run_begins(cfg, check, settings):
        os.makedirs(tmp_path / 'work_dirs' / 'other')
        (tmp_path / 'work_dirs' / 'other' / 'epoch_1.pth').write_text('weights')

    monkeypatch.setattr(dry_run, '_try', other_run_begins)
    dry_run.dry_run(Config(dict(work_dir=str(tmp_path / 'work_dirs' / 'mine'))))
    assert (tmp_path / 'work_dirs' / 'other' / 'epoch_1.pth').read_text() == 'weights'
    assert os.listdir(tmp_path / 'work_dirs') == ['other']


def test_a_dry_run_leaves_no_folder_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, '_try', lambda *arguments: None)
    dry_run.dry_run(Config(dict(work_dir=str(tmp_path / 'work_dirs' / 'deep' / 'mine'))))
    assert not os.listdir(tmp_path)


def test_two_dry_runs_share_a_work_dir(tmp_path, monkeypatch):
    """The end of the one removes the folder between the two calls by which the other makes its own."""
    folder, make, ends = tmp_path / 'mine', tempfile.mkdtemp, [1]

    def make_late(**settings):
        if ends:
            ends.pop()
            folder.rmdir()
        return make(**settings)

    monkeypatch.setattr(tempfile, 'mkdtemp', make_late)
    monkeypatch.setattr(dry_run, '_try', lambda *arguments: None)
    dry_run.dry_run(Config(dict(work_dir=str(folder))))
    assert not ends and not folder.exists()
