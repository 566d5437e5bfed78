"""The last lines of a run: what is best, where things lie, and commands that can be copied."""
import sys

import pytest

from mmdet_ft.config import Config
from mmdet_ft.engine import summary
from mmdet_ft.engine.hooks import CheckpointHook, EvalHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.read import read_test_settings
from tests.engine.fakes import FakeDataset, FakeLoader, make_runner


def ended(tmp_path,
          monkeypatch,
          words,
          metric=None,
          save_best='fake_mAP',
          stop_reason=None,
          **last):
    work_dir = tmp_path / 'work_dirs' / 'pets'
    work_dir.mkdir(parents=True)
    (work_dir / 'pets.py').write_text('a = 1\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', words.split())
    runner = make_runner(work_dir, length=2)
    runner.meta['exp_name'] = 'pets.py'
    runner.register_hook(CheckpointHook(interval=1))
    options = dict(metric=metric) if metric else {}
    if save_best:
        loader = FakeLoader(Judge(2), views=True)
        runner.register_hook(EvalHook(loader, save_best=save_best, eval_options=options), 'LOW')
    runner.run([FakeLoader()])
    runner.stop_reason = stop_reason
    cfg = Config(dict(data=dict(test=dict(type='CocoDataset'))))
    return summary.describe_end(runner, read_test_settings(cfg), **last).splitlines()


class Judge(FakeDataset):

    def evaluate(self, results, logger=None, metric='bbox'):
        return {'fake_mAP': .25}


def test_a_run_ends_with_its_best_checkpoint_and_commands(tmp_path, monkeypatch):
    lines = ended(tmp_path, monkeypatch, 'tools/train.py configs/pets.py --seed 0',
                  ['bbox', 'segm'])
    best = 'work_dirs/pets/best_fake_mAP_epoch_1.pth'
    assert lines[0] == f'  best:    {best} (fake_mAP 0.2500, epoch 1)'
    assert lines[1] == '  last:    work_dirs/pets/latest.pth (epoch_2.pth)'
    assert lines[2].startswith('  logs:    work_dirs/pets/') and lines[2].endswith('.log[.json]')
    assert lines[3:] == [
        f'  test:    python tools/test.py work_dirs/pets/pets.py {best} --eval bbox segm',
        f'  predict: python tools/predict.py {best} IMAGES --out FOLDER',
        '  resume:  python tools/train.py configs/pets.py --auto-resume --seed 0 --cfg-options runner.max_epochs=4'
    ]


@pytest.mark.parametrize(
    'words,stop_reason,last,command',
    [
        ('tools/train.py a.py --cfg-options runner.max_epochs=2 b=1', None, {},
         'python tools/train.py a.py --auto-resume --cfg-options runner.max_epochs=4 b=1'),
        ('tools/train.py a.py --resume-from x.pth --auto-resume', None, dict(is_interrupted=True),
         'python tools/train.py a.py --auto-resume'),
        # at the last epoch
        ('tools/train.py a.py --work-dir w', 'early_stop', {},
         'python tools/train.py a.py --auto-resume --work-dir w --cfg-options runner.max_epochs=4'),
        ('tools/train.py a.py --resume-from=x.pth', None, dict(is_interrupted=True),
         'python tools/train.py a.py --auto-resume'),
        ('/usr/bin/ipykernel_launcher.py -f x', None, {},
         'the same command with --auto-resume and a higher runner.max_epochs'),
        ('/usr/bin/ipykernel_launcher.py -f x', None, dict(is_interrupted=True),
         'the same command with --auto-resume'),
    ])
def test_to_go_on_is_the_same_command(tmp_path, monkeypatch, words, stop_reason, last, command):
    lines = ended(tmp_path, monkeypatch, words, stop_reason=stop_reason, **last)
    assert lines[-1] == f'  resume:  {command}'


def test_without_a_best_checkpoint_the_last_is_tested(tmp_path, monkeypatch):
    lines = ended(tmp_path, monkeypatch, 'tools/train.py a.py', save_best=None)
    assert not [line for line in lines if 'best' in line]
    assert 'python tools/test.py work_dirs/pets/pets.py work_dirs/pets/latest.pth' in lines[2]


def test_what_an_earlier_failure_has_left_is_told(tmp_path, monkeypatch):
    left = tmp_path / 'work_dirs' / 'pets' / 'failure_0.pt'
    monkeypatch.setattr(summary.glob, 'glob', lambda pattern: [str(left)])
    lines = ended(tmp_path, monkeypatch, 'tools/train.py a.py')
    assert lines[-1] == ('  left:    work_dirs/pets/failure_0.pt, of an earlier failure; '
                         'remove what you do not need')


class Stopped:
    """A run of which nothing is known but where it stands."""
    by_epoch, max_epochs, max_iters, work_dir = True, 4, 8, 'runs'

    def __init__(self, epoch, *hooks):
        self.epoch, self.hooks = epoch, hooks

    def num_done(self):
        return self.epoch, 2 * self.epoch


def waiting(waited):
    hook = EarlyStopHook('bbox_mAP', patience=3)
    hook.waited = waited
    return hook


@pytest.mark.parametrize('epoch, waited, changes', [
    (2, 3, {
        'early_stop.patience': 6
    }),
    (4, 3, {
        'runner.max_epochs': 8,
        'early_stop.patience': 6
    }),
    (4, 1, {
        'runner.max_epochs': 8
    }),
    (2, 1, {}),
])
def test_what_has_ended_a_run_is_what_must_change_for_it_to_go_on(epoch, waited, changes):
    assert summary._changes(Stopped(epoch, waiting(waited)), ConfigKeys(Config({}))) == changes


def test_a_run_goes_on_by_the_keys_of_its_own_config(tmp_path, monkeypatch):
    (tmp_path / 'old.py').write_text("total_epochs = 4\nresume_from = 'first.pth'\n")
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'old.py'])
    cfg = Config.fromfile(tmp_path / 'old.py')
    assert summary._changes(Stopped(4), ConfigKeys(cfg)) == {'total_epochs': 8}
    line = summary._resume_command(Stopped(4), read_test_settings(cfg), 'runs/latest.pth', False)
    assert line == 'python tools/train.py old.py --resume-from runs/latest.pth --cfg-options total_epochs=8'
