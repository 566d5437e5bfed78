"""tools/train.py, tools/test.py and tools/dist_train.sh as a user types them."""
import contextlib
import io
import json
import os
import pickle
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet_ft.checkpoints.reading import read
from tests import commands
from tests.engine.fakes import same
from tests.tools.tiny_world import CLASSES, write_world

ROOT = Path(__file__).resolve().parents[2]


def run(*words, cwd=None, expect=0, **environment):
    """A command's (stdout, stderr); fails with both when it does not exit with `expect`."""
    env = {
        **os.environ, 'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'CUDA_VISIBLE_DEVICES': '',
        **environment
    }
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd or ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300)
    assert done.returncode == expect, f'{words} exited with {done.returncode}\n{done.stdout}\n{done.stderr}'
    return done.stdout, done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def call(script, *words, expect=0):
    """The same in this process, which saves the seconds of importing torch; (stdout, stderr)."""
    out, err, argv, status = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = list(map(str, [ROOT / 'tools' / script, *words]))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = argv
    assert status == expect, f'{words} exited with {status}\n{out.getvalue()}\n{err.getvalue()}'
    return out.getvalue(), err.getvalue()


def train(*words, expect=0):
    return call('train.py', *words, expect=expect)


def test(*words, expect=0):
    return call('test.py', *words, expect=expect)


test.__test__ = False  # a command, not a test


def rows(work_dir):
    """The json log of the newest run."""
    path = sorted(Path(work_dir).glob('*.log.json'))[-1]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """As the commands in processes of their own have: sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run of two epochs, from the command line."""
    root = tmp_path_factory.mktemp('world')
    config = write_world(root)
    out, err = run(sys.executable, ROOT / 'tools/train.py', config, '--work-dir', root / 'run',
                   '--seed', '1')
    return dict(root=root, config=config, work_dir=root / 'run', err=err)


def test_training_leaves_v2s_files(trained):
    names = set(os.listdir(trained['work_dir']))
    assert {'tiny.py', 'epoch_1.pth', 'epoch_2.pth', 'latest.pth'} <= names
    assert [name for name in names if name.startswith('best_bbox_mAP_epoch_')]
    log, = trained['work_dir'].glob('*.log')
    assert (trained['work_dir'] / f'{log.name}.json').exists()
    head, *lines = rows(trained['work_dir'])
    assert head['exp_name'] == 'tiny.py' and head['seed'] == 1 and 'PyTorch' in head['env_info']
    assert 'runner = dict' in head['config']
    training = [line for line in lines if line['mode'] == 'train']
    assert [line['epoch'] for line in training] == [1, 2]
    assert {
        'lr', 'time', 'data_time', 'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox',
        'loss_mask', 'acc', 'loss', 'grad_norm'
    } <= set(training[0])
    validation = [line for line in lines if line['mode'] == 'val']
    assert len(validation) == 2 and {'bbox_mAP', 'segm_mAP_50'} <= set(
        validation[0]) and validation[0]['iter'] == 3


def test_a_checkpoint_carries_its_config_and_classes(trained):
    meta = read(str(trained['work_dir'] / 'latest.pth')).meta
    assert tuple(meta['CLASSES']) == CLASSES and meta['epoch'] == 2
    from mmdet_ft.config import Config
    assert Config.fromstring(meta['config'], '.py').runner.max_epochs == 2


def test_the_same_seed_gives_the_same_weights(trained, tmp_path):
    train(trained['config'], '--work-dir', tmp_path, '--seed', '1', '--no-validate',
          '--cfg-options', 'runner.max_epochs=1')
    assert same(
        read(str(tmp_path / 'epoch_1.pth')).state_dict,
        read(str(trained['work_dir'] / 'epoch_1.pth')).state_dict)
    assert not [line for line in rows(tmp_path)[1:] if line['mode'] == 'val']


@pytest.mark.parametrize('how', ['--resume-from', '--auto-resume'])
def test_a_resumed_command_ends_where_the_whole_one_did(trained, tmp_path, how):
    words = ['--work-dir', tmp_path, '--no-validate', how]  # its seed stands in the checkpoint
    if how == '--resume-from':
        words += [trained['work_dir'] / 'epoch_1.pth']
    else:
        (tmp_path / 'epoch_1.pth').write_bytes((trained['work_dir'] / 'epoch_1.pth').read_bytes())
    out, err = train(trained['config'], *words)
    assert 'Seed 1 of the resumed checkpoint is used' in err and 'Set random seed to 1,' in err
    assert same(
        read(str(tmp_path / 'epoch_2.pth')).state_dict,
        read(str(trained['work_dir'] / 'epoch_2.pth')).state_dict)


def test_fine_tuning_to_other_classes_says_what_it_dropped(trained, tmp_path):
    words = [f'data.{split}.classes=["box","bar"]' for split in ('train', 'val', 'test')]
    out, err = train(trained['config'], '--work-dir', tmp_path, '--no-validate', '--cfg-options',
                     *words, 'model.roi_head.bbox_head.num_classes=2',
                     'model.roi_head.mask_head.num_classes=2', 'runner.max_epochs=1',
                     f'load_from={trained["work_dir"] / "latest.pth"}')
    assert 're-initialized because classes changed 3 -> 2: roi_head.bbox_head.fc_cls.weight (4, 32) -> (3, 32)' in err
    assert 'conv_logits.weight' in err


def test_the_test_command_writes_evaluates_and_draws(trained, tmp_path):
    out, err = run(
        sys.executable,
        ROOT / 'tools/test.py',
        trained['config'],
        trained['work_dir'] / 'latest.pth',
        '--out',
        tmp_path / 'results.pkl',
        '--eval',
        'bbox',
        'segm',
        '--show-dir',
        tmp_path / 'drawn',
        '--work-dir',
        tmp_path,
        '--eval-options',
        'classwise=True',
        cwd=tmp_path)
    with open(tmp_path / 'results.pkl', 'rb') as file:
        results = pickle.load(file)
    assert len(results) == 3
    boxes, masks = results[0]
    assert len(boxes) == len(masks) == 3 and boxes[0].shape[1] == 5 and len(boxes[0]) == len(
        masks[0])
    assert sorted(os.listdir(tmp_path / 'drawn')) == ['0.png', '1.png', '2.png']
    metrics = json.loads(next(tmp_path.glob('eval_*.json')).read_text())['metric']
    logged = [line for line in rows(trained['work_dir'])[1:] if line['mode'] == 'val'][-1]
    assert metrics['bbox_mAP'] == pytest.approx(logged['bbox_mAP'], abs=1e-5)
    assert 'bbox_mAP' in out


def test_formatting_alone_writes_json(trained, tmp_path):
    test(trained['config'], trained['work_dir'] / 'latest.pth', '--format-only', '--eval-options',
         f'jsonfile_prefix={tmp_path}/result')
    assert {'result.bbox.json', 'result.segm.json'} <= set(os.listdir(tmp_path))
    # into a folder that is not there, and without a word about the place
    _, err = test(trained['config'], trained['work_dir'] / 'latest.pth', '--format-only',
                  '--work-dir', tmp_path / 'new')
    assert {'results.bbox.json', 'results.segm.json'} <= set(os.listdir(tmp_path / 'new'))


@pytest.mark.parametrize('words, message', [
    (['--eval', 'bbox,segm'], "does not know 'bbox,segm'; there are bbox, segm, proposal, proposal_fast; write"),
    (['--format-only', '--eval-options', 'json_prefix=a'],
     '--eval-options json_prefix: CocoDataset.format_results knows jsonfile_prefix'),
    (['--eval', 'bbox', '--eval-options', 'metric_items=mAP_51'], "metric_items: there is no 'mAP_51'; there are mAP"),
    (['--show'], 'there is no display here; --show-dir FOLDER'),
])  # yapf: disable
def test_what_a_test_cannot_do_is_told_before_it_runs(trained, tmp_path, monkeypatch, words,
                                                      message):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'no.pth').write_bytes(b'\x80\x02}.')  # a pickle by its first bytes; not read
    _, err = test(trained['config'], tmp_path / 'no.pth', *words, expect=2)
    assert message in err and 'Traceback' not in err and 'no.pth' not in err


@pytest.fixture(scope='module')
def by_two(trained, tmp_path_factory):
    """A launch of two processes over six images, an epoch that begins with the weights of `trained`."""
    root = tmp_path_factory.mktemp('two')
    config = write_world(root / 'world', num_train=6)
    start = str(trained['work_dir'] / 'latest.pth')
    options = {'data.samples_per_gpu': 1, 'runner.max_epochs': 1, 'load_from': start}
    run(ROOT / 'tools/dist_train.sh',
        config,
        2,
        '--work-dir',
        root / 'run',
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
        PORT=free_port())
    return dict(config=config, start=start, options=options, work_dir=root / 'run')


def test_two_processes_train_and_evaluate_as_one(by_two, tmp_path):
    """As the two halves of each batch: their gradients are averaged, and rank 0 writes."""
    work_dir = by_two['work_dir']
    lines = rows(work_dir)[1:]
    assert [line['mode'] for line in lines] == ['train', 'val']
    assert len(list(work_dir.glob('*.log'))) == 1
    out, err = run(
        ROOT / 'tools/dist_test.sh',
        by_two['config'],
        work_dir / 'latest.pth',
        2,
        '--eval',
        'bbox',
        'segm',
        '--work-dir',
        tmp_path / 'two',
        PORT=free_port(),
        cwd=tmp_path)
    test(by_two['config'], work_dir / 'latest.pth', '--eval', 'bbox', 'segm', '--work-dir',
         tmp_path / 'one')
    two, one = (
        json.loads(next((tmp_path / name).glob('eval_*.json')).read_text())['metric']
        for name in ('two', 'one'))
    assert two == one and lines[1]['bbox_mAP'] == pytest.approx(one['bbox_mAP'], abs=1e-5)


@pytest.mark.parametrize('option,message,code', [
    ('data.train.ann_file=/nowhere/ann.json', '/nowhere/ann.json', 1),
    ('load_from=/nowhere/a.pth', 'checkpoint /nowhere/a.pth does not exist', 2),
    ('fp16.loss_scale=512.', 'bfloat16', 1),
    ('model.roi_head.bbox_head.num_classes=80', 'roi_head.bbox_head.num_classes is 80', 2),
    ('model.backbone.type=ResNett', "did you mean 'ResNet'?", 2),
    ('evaluation.metrics=bbox', "evaluation has no 'metrics'", 2),
])
def test_a_users_mistake_ends_in_one_message(trained, tmp_path, option, message, code):
    words = ['--work-dir', tmp_path / 'run', '--cfg-options', option]
    out, err = train(trained['config'], *words, expect=code)
    assert (tmp_path / 'run').exists() == (code == 1)  # in the config: before anything is begun
    assert message in err.split('error: ')[-1] and 'Traceback' not in err


def test_a_bug_in_a_users_hook_keeps_its_traceback(trained, tmp_path):
    (tmp_path / 'my_hooks.py').write_text(
        'from mmdet_ft.engine.hooks import HOOKS, Hook\n\n\n@HOOKS.register_module()\nclass BrokenHook(Hook):\n\n'
        "    def before_run(self, runner):\n        raise ZeroDivisionError('mine')\n")
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = {trained['config']!r}\ncustom_imports = dict(imports=['my_hooks'])\n"
        "custom_hooks = [dict(type='BrokenHook', priority='HIGH')]\n")
    out, err = commands.run(
        'train.py', config, '--work-dir', tmp_path / 'run', cwd=tmp_path, expect=1)
    assert 'Traceback' in err and 'before_run' in err and 'ZeroDivisionError: mine' in err


def test_a_missing_config_is_named():
    out, err = train('configs/nothing.py', expect=2)
    assert 'configs/nothing.py' in err and 'Traceback' not in err


def test_a_test_without_purpose_or_with_a_wrong_checkpoint_is_refused(trained, tmp_path):
    test(trained['config'], trained['work_dir'] / 'latest.pth', expect=2)
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), tmp_path / 'a.pth')
    out, err = test(trained['config'], tmp_path / 'a.pth', '--eval', 'bbox', expect=1)
    assert 'not a checkpoint of the model' in err and 'Traceback' not in err


def test_older_options_are_understood(trained, tmp_path):
    out, err = train(trained['config'], '--work-dir', tmp_path, '--options', 'runner.max_epochs=1',
                     '--gpus', '1', '--no-validate')
    assert '--options is now --cfg-options' in err and (tmp_path / 'epoch_1.pth').exists()


def test_iterations_instead_of_epochs(trained, tmp_path):
    config = tmp_path / 'iters.py'
    config.write_text(
        f"_base_ = {trained['config']!r}\nrunner = dict(_delete_=True, type='IterBasedRunner', max_iters=5)\n"
        "checkpoint_config = dict(interval=2)\nevaluation = dict(interval=4)\nlog_config = dict(interval=2)\n"
        "lr_config = dict(step=[3])\n")
    train(config, '--work-dir', tmp_path / 'run', '--seed', '0')
    lines = rows(tmp_path / 'run')[1:]
    assert [(line['mode'], line['iter']) for line in lines] == [('train', 2), ('train', 4),
                                                                ('val', 3)]
    assert sorted(path.name for path in (tmp_path / 'run').glob('iter_*')) == [
        'iter_2.pth', 'iter_4.pth', 'iter_5.pth'
    ]
    train(config, '--work-dir', tmp_path / 'rest', '--seed', '0', '--resume-from',
          tmp_path / 'run' / 'iter_2.pth', '--no-validate')
    assert same(
        read(str(tmp_path / 'rest' / 'iter_5.pth')).state_dict,
        read(str(tmp_path / 'run' / 'iter_5.pth')).state_dict)


def halves_in_turn(config, start, options):
    """The weights of one process that computes both ranks' halves one after the other and averages their gradients."""
    from torch.utils.data import DataLoader

    from mmdet_ft.config import load_config
    from mmdet_ft.datasets.build import build_dataset
    from mmdet_ft.datasets.loading.collate import collate
    from mmdet_ft.datasets.loading.samplers import DistributedGroupSampler
    from mmdet_ft.datasets.loading.seeded import SeededDataset
    from mmdet_ft.engine.models.build import build_model
    from mmdet_ft.engine.runner.seeds import seed_of
    from mmdet_ft.engine.schedules import Progress, build_learning_rate
    cfg = load_config(config, options)
    dataset = build_dataset(cfg.data.train)
    model = build_model(cfg.model, dataset)
    model.load_state_dict(read(start).state_dict)
    model.train()
    loaders = [
        DataLoader(
            SeededDataset(dataset, 0),
            1,
            collate_fn=collate,
            sampler=DistributedGroupSampler(dataset, 1, 2, rank, 0)) for rank in (0, 1)
    ]
    schedule = build_learning_rate(cfg.lr_config)
    optimizer = torch.optim.SGD(model.parameters(), lr=.02, momentum=.9, weight_decay=1e-4)
    length = len(loaders[0])
    for iteration, batches in enumerate(zip(*loaders)):
        rate, = schedule([.02], Progress(0, iteration, length, 1, length))
        optimizer.param_groups[0]['lr'] = rate
        optimizer.zero_grad()
        for rank, batch in enumerate(batches):
            torch.manual_seed(seed_of(0, iteration, rank))
            (model(batch).total / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
    return model.state_dict(), length


def test_two_processes_are_one_that_averages_the_gradients_of_their_halves(by_two):
    expected, length = halves_in_turn(by_two['config'], by_two['start'], by_two['options'])
    assert length == 3
    found = read(str(by_two['work_dir'] / 'epoch_1.pth')).state_dict
    before = read(by_two['start']).state_dict
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f'{name}: {text}')
    assert max(float((found[name] - before[name]).abs().max()) for name in found) > 1e-3
