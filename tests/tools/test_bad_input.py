"""What is wrong with a user's files, a test for each kind: the command tells it in one message, and nothing is lost."""
import json
import shutil
from pathlib import Path

import pytest
import torch

from mmdet_ft.checkpoints.reading import read
from tests import commands
from tests.tools.test_train_command import free_port, run
from tests.tools.tiny_world import write_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('world')
    write_world(root)
    return root


class Case:
    """A user's folder with a config over the good one; `annotations` are those of the training set, to be spoilt."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.lines = [f"_base_ = '{world}/tiny.py'"]

    def config(self, *lines):
        path = self.folder / 'mine.py'
        path.write_text('\n'.join([*self.lines, *lines]) + '\n')
        return path

    def annotations(self, change):
        """A changed copy of the training set's file, and the config lines that name it."""
        content = json.loads((self.world / 'train.json').read_text())
        change(content)
        (self.folder / 'train.json').write_text(json.dumps(content))
        return f"data = dict(train=dict(ann_file='{self.folder}/train.json'))"

    def train(self, *words, expect, config=None, work_dir=None):
        """The message of the command that ends with `expect`, or all of stderr after a good end."""
        out, err = commands.run(
            'train.py',
            config or self.config(),
            '--no-validate',
            '--work-dir',
            work_dir or self.folder / 'run',
            *words,
            cwd=self.folder,
            expect=expect)
        assert 'Traceback' not in out + err, err
        if not expect:
            return err
        assert err.count('error: ') == 1 and not list(self.folder.glob('run/*.pth')), err
        return err.split('error: ')[1].strip()


@pytest.fixture
def case(world, tmp_path):
    return Case(world, tmp_path)


def test_missing_base(case):
    path = case.folder / 'mine.py'
    (case.folder / 'base.py').write_text('a = 1\n')
    path.write_text("_base_ = [\n    'bass.py',\n]\n")
    message = case.train(config=path, expect=2)
    assert f'{path.name}:2' in message and 'no base' in message and 'bass.py' in message and 'base.py' in message


def test_circular_base(case):
    for name, base in (('a', 'b'), ('b', 'c'), ('c', 'a')):
        (case.folder / f'{name}.py').write_text(f"_base_ = '{base}.py'\n")
    message = case.train(config=case.folder / 'a.py', expect=2)
    assert 'a.py -> b.py -> c.py -> a.py' in message


def test_syntax_error(case):
    path = case.config('model = dict(', '    backbone=dict(depth=18)',
                       "data = dict(samples_per_gpu=2)")
    message = case.train(config=path, expect=2)
    assert 'mine.py:2' in message or 'mine.py:4' in message
    assert 'syntax' in message.lower() or 'never closed' in message


def test_missing_annotation_file(case):
    message = case.train(
        config=case.config("data = dict(train=dict(ann_file='nowhere/train.json'))"), expect=1)
    assert "ann_file 'nowhere/train.json' is not there" in message and 'data.train' in message


@pytest.mark.parametrize('value, words', [
    ('tran.json', ['is not there', "did you mean", "train.json'?"]),
    ('', ['is a folder, not a file']),
])
def test_an_annotation_file_that_is_none_is_told_with_its_line_and_the_nearest(case, value, words):
    path = str(case.world / value)
    message = case.train(
        config=case.config(f'data = dict(train=dict(ann_file={path!r}))'), expect=1)
    assert all(word in message for word in [*words, 'data.train.ann_file (', '.py:']), message


def test_broken_json(case):
    whole = (case.world / 'train.json').read_text()
    line = case.annotations(lambda content: None)
    (case.folder / 'train.json').write_text(whole[:len(whole) // 2])
    message = case.train(config=case.config(line), expect=1)
    assert f'{case.folder}/train.json is not a complete json file' in message and 'column' in message


def test_missing_image_with_loader_processes(case):
    line = case.annotations(lambda content: content['images'][2].update(file_name='gone.png'))
    message = case.train(
        '--cfg-options', 'data.workers_per_gpu=1', config=case.config(line), expect=1)
    assert message.startswith(f"there is no image '{case.world}/train/gone.png'")
    # before anything is trained
    assert f'or take them out of {case.folder}/train.json; ' in message and 'replay.py' not in message


def test_truncated_image(case):
    shutil.copytree(case.world / 'train', case.folder / 'train')
    import cv2
    image = cv2.imread(str(case.folder / 'train' / '2.png'))
    content = cv2.imencode('.jpg', image)[1].tobytes()
    (case.folder / 'train' / '2.jpg').write_bytes(content[:len(content) // 2])

    line = case.annotations(lambda content: content['images'][2].update(file_name='2.jpg'))
    message = case.train(
        config=case.config(line, f"data['train']['img_prefix'] = '{case.folder}/train/'"), expect=1)
    assert message.startswith(f"cannot decode the image '{case.folder}/train/2.jpg'")
    assert 'not a whole picture' in message and 'it is cut off' in message
    assert 'data = dict(train_dataloader=dict(skip_bad_images=True))' in message
    assert not (case.folder / 'run' / 'failure_0.pt').exists()  # before anything is trained


def test_useless_boxes_are_counted_and_left_out(case):

    def spoil(content):
        for box, annotation in zip(
            ([5, 5, 0, 10], [5, 5, 10, 0], [200, 5, 10, 10], [80, 5, 40, 10]),
                content['annotations']):
            annotation['bbox'] = box

    log = case.train(
        '--cfg-options',
        'runner.max_epochs=1',
        config=case.config(case.annotations(spoil)),
        expect=0)
    assert '2 of 9 boxes are under one pixel wide, high or in area: left out (annotation ids 1, 2)' in log
    assert '1 of 9 boxes are wholly outside the image: left out (annotation ids 3)' in log
    assert '1 of 9 boxes are reaching more than a pixel out of the image: cut at its border' in log
    assert (case.folder / 'run' / 'epoch_1.pth').exists()


def test_categories_that_do_not_match_classes(case):

    def rename(content):
        content['categories'][1]['name'] = 'barr'

    message = case.train(config=case.config(case.annotations(rename)), expect=1)
    counts = [0, 0, 0]
    for annotation in json.loads((case.folder / 'train.json').read_text())['annotations']:
        counts[annotation['category_id'] - 1] += 1
    rows = [line.split() for line in message.splitlines()]
    assert ['bar', '-', 'did', 'you', 'mean', "'barr'?"] in rows
    assert ['-', 'barr', str(counts[1])] in rows and ['dot', 'dot', str(counts[2])] in rows
    assert "classes=('box', 'barr', 'dot')" in message


def test_num_classes_against_classes(case):
    path = case.config('model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))')
    message = case.train(config=path, expect=2)
    assert 'CocoDataset has 3 classes' in message and 'roi_head.bbox_head.num_classes is 80' in message
    assert 'mine.py:2' in message and 'write num_classes=3' in message


def test_num_classes_against_classes_of_a_file(case):
    """Known only when the data set is there; still before the first iteration."""
    (case.folder / 'names.txt').write_text('box\nbar\n')
    path = case.config("data = dict(train=dict(classes='names.txt'))")
    message = case.train(config=path, expect=1)
    assert 'CocoDataset has 2 classes but roi_head.bbox_head.num_classes is 3' in message


def test_nothing_left_after_filtering(case):
    line = case.annotations(lambda content: content.update(annotations=[]))
    message = case.train(config=case.config(line), expect=1)
    assert 'no image to train on' in message and 'of its 4 images all are left out' in message
    assert '4 without an instance of the classes (filter_empty_gt)' in message


def test_unreadable_checkpoint(case):
    path = case.folder / 'broken.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1000))), path)
    path.write_bytes(path.read_bytes()[:1500])
    message = case.train(config=case.config("load_from = 'broken.pth'"), expect=1)
    assert message.startswith(
        "load_from (mine.py:2) = 'broken.pth': broken.pth is broken or cut short (1500 bytes)")
    assert 'fetch or copy the file again' in message and 'Way on' not in message


def test_a_checkpoint_to_resume_that_is_not_there_is_told_with_who_named_it(case):
    for words, key in (((), 'mine.py:2'), (('--resume-from', 'gone.pth'), '--resume-from')):
        message = case.train(*words, config=case.config("resume_from = 'gone.pth'"), expect=2)
        assert message.startswith(
            f"resume_from ({key}) = 'gone.pth': checkpoint gone.pth does not exist")
        assert 'correct the path' in message


def test_unwritable_work_dir(case):
    (case.folder / 'taken').write_text('a file')
    path = case.config(case.annotations(lambda content: None))
    (case.folder / 'train.json').unlink()  # not even looked at
    message = case.train(config=path, work_dir=case.folder / 'taken' / 'run', expect=1)
    assert f"cannot write to work_dir '{case.folder}/taken/run'" in message and '--work-dir' in message


HOOK = '''
import os

import torch

from mmdet_ft.engine.hooks import HOOKS, Hook


@HOOKS.register_module()
class Spoil(Hook):
    """On rank 1, an image of nothing but NaN at the fourth iteration; on all, the weights then and at the end."""

    def before_train_iter(self, runner):
        if runner.iter == 3:
            self.model = runner.model.module
            self.before = {name: value.clone() for name, value in self.model.state_dict().items()}
            if runner.rank == 1:
                runner.data_batch.mean.fill_(float('nan'))

    def close(self):
        after = self.model.state_dict()
        same = all(torch.equal(value, after[name]) for name, value in self.before.items())
        # One write: two processes share the pipe, and what print writes piece by piece can interleave.
        os.write(1, f'the weights are those before it: {same}\\n'.encode())
'''


def test_a_loss_that_is_not_finite(case):
    """On one of two processes, in the second epoch: both stop, the first epoch's checkpoint stays and is the newest."""
    (case.folder / 'my_hook.py').write_text(HOOK)
    path = case.config("custom_imports = dict(imports=['my_hook'])",
                       "custom_hooks = [dict(type='Spoil')]", 'data = dict(samples_per_gpu=1)')
    out, err = run(
        ROOT / 'tools/dist_train.sh',
        path,
        2,
        '--no-validate',
        '--work-dir',
        case.folder / 'run',
        PORT=free_port(),
        cwd=case.folder,
        expect=1)
    message = next(line for line in err.splitlines() if line.startswith('error: '))
    assert message.startswith(
        'error: rank 1: training stopped: the loss was not finite at iteration 4 ')
    assert 'loss_cls nan' in message and f'{case.world}/train/' in message and '.png' in message
    assert out.count('the weights are those before it: True') == 2
    assert sorted(path.name
                  for path in (case.folder / 'run').glob('*.pth')) == ['epoch_1.pth', 'latest.pth']
    state = read(str(case.folder / 'run' / 'latest.pth')).state_dict
    assert all(value.isfinite().all() for value in state.values())
