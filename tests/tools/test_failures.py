"""A failed run leaves `failure_<rank>.pt`, and tools/misc/replay.py repeats the step."""
import os
import re
import shutil
import signal

import pytest
import torch

from mmdet_ft.engine.failures.forensics import pack, unpack
from mmdet_ft.engine.failures.replay import read_failure, replay
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.registry import HOOKS, PIPELINES
from mmdet_ft.structures import Batch, GroundTruth
from tests.tools.test_train_command import call, rows, train
from tests.tools.tiny_world import write_world


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('world')
    write_world(root)
    return root


@HOOKS.register_module(force=True)
class SpoilBatch(Hook):
    """In an iteration: an image of NaN ('nan'), more memory than there is ('memory'), or an exception ('bug')."""

    def __init__(self, how, at=3):
        self.how, self.at = how, at

    def before_train_iter(self, runner):
        if runner.iter == self.at and self.how == 'nan':
            runner.data_batch.mean.fill_(float('nan'))

    def after_train_iter(self, runner):
        if runner.iter == self.at and self.how == 'memory':
            torch.empty(2**48, dtype=torch.float64)
        if runner.iter == self.at and self.how == 'bug':
            raise ZeroDivisionError('mine')


@PIPELINES.register_module(force=True)
class Die:
    """Ends the loader process at one image."""

    def __init__(self, flip_ratio):
        self.flip_ratio = flip_ratio

    def __call__(self, results):
        if os.path.basename(results['filename']) == '2.png':
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def fail(world, folder, *options):
    out, err = train(
        world / 'tiny.py',
        '--work-dir',
        folder,
        '--no-validate',
        '--seed',
        '1',
        '--cfg-options',
        *options,
        expect=1)
    return err.split('error: ')[1], torch.load(folder / 'failure_0.pt', weights_only=True)


def spoil(how):
    return ['custom_hooks.0.type=SpoilBatch', f'custom_hooks.0.how={how}']


@pytest.mark.parametrize('averages', [False, True])
@pytest.mark.parametrize('at', [3, 2])
def test_a_loss_that_is_not_finite_is_kept_and_repeated(world, tmp_path, averages, at):
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = '{world}/tiny.py'\ncustom_hooks = [dict(type='SpoilBatch', how='nan', at={at})" +
        (", dict(type='EMAHook', momentum=.3, warm_up=1)" if averages else '') + ']\n')
    words = ['--no-validate', '--seed', '1']
    out, err = train(config, '--work-dir', tmp_path / 'run', *words, expect=1)
    assert f'not finite at iteration {at + 1}' in err and 'tools/misc/replay.py' in err
    path = tmp_path / 'run' / 'failure_0.pt'
    failure = torch.load(path, weights_only=True)
    assert failure['iteration'] == at and failure['files'] and failure['learning_rates'][0] > 0
    assert failure['losses']['loss'] != failure['losses']['loss'] and 'NonFiniteError' in failure[
        'error']
    out, err = call('misc/replay.py', path)
    assert f'iteration {at + 1} of epoch 2' in out
    if at == 3:  # noticed at once
        assert re.search(r'^not finite: .*loss', out, re.M)
        return
    # Noticed one iteration later, the batch is made once more; whole, as the hook spoils it outside of the loader.
    assert 'all finite: the step went through' in out
    train(world / 'tiny.py', '--work-dir', tmp_path / 'good', *words, '--cfg-options',
          'log_config.interval=1')
    third = rows(tmp_path / 'good')[at + 1]
    for name in ('loss', 'loss_mask', 'loss_rpn_cls'):
        now = re.search(rf'^{name} .* ([\d.e+-]+)$', out, re.M).group(1)
        assert float(now) == pytest.approx(third[name], abs=2e-5)


def test_out_of_memory_names_images_truths_and_settings(world, tmp_path):
    message, failure = fail(world, tmp_path / 'run', *spoil('memory'))
    assert message.startswith(
        'out of memory on cpu in iteration 4') and '.png (96 x 64, ' in message
    assert ' truths)' in message and 'data.samples_per_gpu below 2' in message and 'img_scale' in message
    assert failure['files'] and failure['batch']['__type__'] == 'Batch'
    batch = unpack(failure['batch'])
    assert isinstance(batch, Batch) and isinstance(batch.gt, GroundTruth)
    assert pack(batch).keys() == failure['batch'].keys()


def test_a_bug_keeps_its_traceback_and_leaves_the_batch(world, tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        train(world / 'tiny.py', '--work-dir', tmp_path / 'run', '--no-validate', '--cfg-options',
              *spoil('bug'))
    assert 'tools/misc/replay.py' in error.value.__notes__[0]
    failure = torch.load(tmp_path / 'run' / 'failure_0.pt', weights_only=True)
    assert 'ZeroDivisionError: mine' in failure['error'] and 'after_train_iter' in failure[
        'traceback']


def test_a_step_in_float16_is_repeated_by_a_cpu_in_float32(world, tmp_path):
    fail(world, tmp_path / 'run', *spoil('memory'))
    failure = read_failure(tmp_path / 'run' / 'failure_0.pt')
    expected = replay(failure)
    failure['config'] += "\nfp16 = dict(loss_scale='dynamic')"
    assert replay(failure) == expected


def damaged(world, folder):
    """The options of a copy of the training images in which the third is damaged between its head and its end."""
    shutil.copytree(world / 'train', folder / 'train')
    content = (folder / 'train' / '2.png').read_bytes()
    middle = len(content) // 2
    (folder / 'train' / '2.png').write_bytes(content[:middle] + b'damaged' + content[middle + 7:])
    return [f'data.train.img_prefix={folder}/train/']


@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_image_is_named_and_can_be_met_again(world, tmp_path, workers):
    options = [*damaged(world, tmp_path), f'data.workers_per_gpu={workers}']
    message, failure = fail(world, tmp_path / 'run', *options)
    assert message.startswith(f"cannot decode the image '{tmp_path}/train/2.png'")
    assert failure['batch'] is None and failure['places'] and failure['state_dict'] is None
    out, err = call('misc/replay.py', tmp_path / 'run' / 'failure_0.pt', expect=1)
    assert f"cannot decode the image '{tmp_path}/train/2.png'" in err


@pytest.mark.parametrize('workers', [0, 1])
def test_bad_images_are_left_out_and_counted_if_asked_for(world, tmp_path, workers):
    out, err = train(world / 'tiny.py', '--work-dir', tmp_path / 'run', '--no-validate',
                     '--cfg-options', *damaged(world, tmp_path), f'data.workers_per_gpu={workers}',
                     'data.train_dataloader.skip_bad_images=True')
    assert err.count('skipped: cannot decode the image') == 1
    assert re.search(r'skip_bad_images: 1 images were left out, [2-4] times in all', err)
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_all_images_bad_is_an_error_all_the_same(world, tmp_path):
    message, _ = fail(world, tmp_path / 'run', 'data.train.img_prefix=/nowhere/',
                      'data.train_dataloader.skip_bad_images=True')
    assert message.startswith("there is no image '/nowhere/")


def test_a_dead_loader_process_says_what_to_change(world, tmp_path):
    message, failure = fail(world, tmp_path / 'run', 'data.train.pipeline.3.type=Die',
                            'data.workers_per_gpu=1')
    assert re.match(r'DataLoader worker \(pid.* (killed by signal: Killed|exited unexpectedly)',
                    message)
    assert 'data.workers_per_gpu' in message and failure['places']
