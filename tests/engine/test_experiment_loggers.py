"""Loggers to experiment trackers, each with a stand-in for its package that records the calls."""
import sys

import cv2
import numpy as np
import pytest

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks import CheckpointHook, EvalHook, TextLoggerHook
from mmdet_ft.registry import HOOKS
from tests.engine.fakes import FakeDataset, FakeLoader, FakeModel, make_runner
from tests.engine.test_engine_runner import log_rows

PACKAGES = dict(
    WandbLoggerHook='wandb',
    MMDetWandbHook='wandb',
    MMClsWandbHook='wandb',
    MlflowLoggerHook='mlflow',
    NeptuneLoggerHook='neptune',
    DvcliveLoggerHook='dvclive',
    PaviLoggerHook='pavi',
    ClearMLLoggerHook='clearml',
    SegmindLoggerHook='segmind')


class Stub:
    """A package, or an object of it: records calls as (dotted name, args, kwargs)."""

    def __init__(self, calls, name='', missing=(), **attributes):
        self.__dict__.update(
            _calls=calls, _name=name, _missing=missing, __spec__=None, **attributes)

    def __getattr__(self, name):
        if name in self._missing or name.startswith('__'):
            raise AttributeError(name)
        return Stub(self._calls, f'{self._name}.{name}'.strip('.'), self._missing)

    def __call__(self, *args, **kwargs):
        self._calls.append((self._name, args, kwargs))
        return Stub(self._calls, f'{self._name}()', self._missing)

    def __getitem__(self, name):
        return Stub(self._calls, f'{self._name}[{name}]', self._missing)


@pytest.fixture
def package(monkeypatch):
    """Install stand-ins of packages; returns their calls."""

    def install(*names, missing=(), **attributes):
        calls = []
        for name in names:
            monkeypatch.setitem(sys.modules, name, Stub(calls, '', missing, **attributes))
        return calls

    return install


def run(tmp_path, kind, evaluate=True, rank=0, length=2, **arguments):
    runner = make_runner(tmp_path, length=length)
    runner.rank = rank
    if evaluate:
        runner.register_hook(EvalHook(FakeLoader(views=True)), 'LOW')
    runner.register_hook(HOOKS.build(dict(type=kind, interval=2, **arguments)), 'VERY_LOW')
    runner.register_hook(TextLoggerHook(interval=2), 'VERY_LOW')
    runner.run([FakeLoader()])
    return runner


def of(calls, name):
    return [(args, kwargs) for called, args, kwargs in calls if called == name]


@pytest.mark.parametrize('kind', PACKAGES)
def test_a_missing_package_is_named_before_the_run_with_the_line_that_installs_it(
        kind, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    with pytest.raises(UserError, match=f'{kind} needs {PACKAGES[kind]} .* To fix: .*install'):
        HOOKS.build(dict(type=kind))


def check_keys(values, rows):
    """Check that (step, values) have the keys and numbers of the text log."""
    text = [row for row in rows if 'mode' in row]
    assert len(values) == len(text)
    for (_, found), row in zip(values, text):
        ours = {
            f'{row["mode"]}/{key}': value
            for key, value in row.items()
            if key not in ('mode', 'epoch', 'iter', 'lr', 'time', 'data_time', 'memory')
        }
        assert set(found) == {*ours, 'learning_rate', 'momentum'}
        assert found['learning_rate'] == pytest.approx(row['lr'], abs=1e-5)
        assert all(found[key] == pytest.approx(value, abs=1e-5) for key, value in ours.items())


def test_wandb_gets_the_values_of_the_text_log_and_the_files_of_the_run(package, tmp_path):
    calls = package('wandb')
    run(tmp_path,
        'WandbLoggerHook',
        init_kwargs=dict(project='p'),
        define_metric_cfg={'val/fake_mAP': 'max'})
    assert calls[0] == ('init', (), dict(project='p'))
    assert of(calls, 'define_metric') == [(('val/fake_mAP', ), dict(summary='max'))]
    logged = of(calls, 'log')
    assert all(kwargs['commit'] for _, kwargs in logged)
    steps = [kwargs['step'] for _, kwargs in logged]
    assert steps == sorted(steps) and steps[:2] == [2, 4]
    check_keys([(kwargs['step'], args[0]) for args, kwargs in logged], log_rows(tmp_path))
    files = [args[0] for args, _ in of(calls, 'Artifact().add_file')]
    assert files and all(str(path).endswith(('.log.json', '.log', '.py')) for path in files)
    assert calls[-1][0] == 'finish'
    with pytest.raises(ValueError, match="the summary of 'a' is one of min, max"):
        HOOKS.build(dict(type='WandbLoggerHook', define_metric_cfg=dict(a='highest')))


def test_wandb_without_steps_gets_them_as_a_value(package, tmp_path):
    calls = package('wandb')
    run(tmp_path, 'WandbLoggerHook', with_step=False, log_artifact=False, length=1)
    assert [args[0]['global_step'] for args, _ in of(calls, 'log')][:2] == [2, 4]
    assert not of(calls, 'Artifact')


def test_mlflow(package, tmp_path):
    calls = package('mlflow', 'mlflow.pytorch')
    runner = run(tmp_path, 'MlflowLoggerHook', exp_name='e', tags=dict(a='b'), params=dict(lr=.1))
    assert [name for name, _, _ in calls[:3]] == ['set_experiment', 'set_tags', 'log_params']
    check_keys([(kwargs['step'], args[0]) for args, kwargs in of(calls, 'log_metrics')],
               log_rows(tmp_path))
    (saved, where), kwargs = of(calls, 'log_model')[0]
    assert saved is runner.model and where == 'models' and kwargs['pip_requirements']


def test_mlflow_gets_names_that_it_accepts(package, tmp_path):
    calls = package('mlflow')
    hook = HOOKS.build(dict(type='MlflowLoggerHook', log_model=False))
    runner = make_runner(tmp_path, length=1)
    hook.write(runner, {'val/AR@100': .5, 'val/bbox_mAP_50': .25})
    assert of(calls, 'log_metrics')[0][0][0] == {'val/AR_100': .5, 'val/bbox_mAP_50': .25}


def test_neptune(package, tmp_path):
    calls = package('neptune')
    run(tmp_path, 'NeptuneLoggerHook', init_kwargs=dict(project='me/p'))
    assert calls[0] == ('init_run', (), dict(project='me/p'))
    losses = of(calls, 'init_run()[train/loss].append')
    assert [kwargs['step'] for _, kwargs in losses] == [2, 4, 6, 8]
    assert of(calls, 'init_run()[val/fake_mAP].append') and calls[-1][0] == 'init_run().stop'


def test_dvclive_gets_the_means_of_each_epoch(package, tmp_path):
    calls = package('dvclive', missing=('set_step', ))
    hook = HOOKS.build(dict(type='DvcliveLoggerHook', dir='live', model_file=f'{tmp_path}/m.pth'))
    runner = make_runner(tmp_path, length=2)
    runner.register_hook(hook, 'VERY_LOW')
    runner.register_hook(TextLoggerHook(interval=4), 'VERY_LOW')
    runner.run([FakeLoader()])
    assert calls[0] == ('Live', (), dict(dir='live'))
    losses = [args[1] for args, _ in of(calls, 'Live().log_metric') if args[0] == 'train/loss']
    rows = [row for row in log_rows(tmp_path) if row.get('mode') == 'train']
    assert losses == pytest.approx([row['loss'] for row in rows], abs=1e-5)
    assert hook.live.step == 2 and (tmp_path / 'm.pth').is_file() and calls[-1][0] == 'Live().end'


def test_clearml(package, tmp_path):
    calls = package('clearml')
    run(tmp_path, 'ClearMLLoggerHook', init_kwargs=dict(task_name='t'))
    assert calls[0] == ('Task.init', (), dict(task_name='t'))
    scalars = [args for args, _ in of(calls, 'Task.init().get_logger().report_scalar')]
    assert [step for title, _, _, step in scalars if title == 'train/loss'] == [2, 4, 6, 8]


def test_segmind(package, tmp_path):
    calls = package('segmind', 'segmind.utils', 'segmind.utils.logging_utils', 'segmind.tracking',
                    'segmind.tracking.fluent')
    run(tmp_path, 'SegmindLoggerHook')
    logged = of(calls, 'try_mlflow_log')
    assert 'train/loss' in logged[0][0][1] and logged[0][1] == dict(step=0, epoch=0)


def test_pavi(package, tmp_path):
    calls = package('pavi')
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(CheckpointHook(interval=1), 'NORMAL')
    runner.register_hook(
        HOOKS.build(
            dict(
                type='PaviLoggerHook',
                interval=2,
                add_last_ckpt=True,
                add_ckpt_kwargs=dict(active=True))), 'VERY_LOW')
    runner.run([FakeLoader()])
    assert calls[0][2]['model'] == 'FakeModel' and calls[0][2]['name'] == tmp_path.name
    first = of(calls, 'SummaryWriter().add_scalars')[0][0]
    assert first[0] == 'train' and 'loss' in first[1] and first[2] == 2
    files = [
        kwargs['snapshot_file_path'] for _, kwargs in of(calls, 'SummaryWriter().add_snapshot_file')
    ]
    assert files == [str(tmp_path / 'epoch_1.pth')] * 2 and calls[-1][0] == 'SummaryWriter().close'
    with pytest.raises(ValueError, match='draws no graph'):
        HOOKS.build(dict(type='PaviLoggerHook', add_graph=True))


@pytest.mark.parametrize('kind', PACKAGES)
def test_other_ranks_write_nothing(kind, package, tmp_path):
    calls = package(PACKAGES[kind])
    hook = HOOKS.build(dict(type=kind, interval=2))
    runner = make_runner(tmp_path, length=1)
    runner.rank = 1
    runner.register_hook(hook, 'VERY_LOW')
    runner.run([FakeLoader()])
    assert calls == []


# --- tables of Weights & Biases


class Pictures(FakeDataset):
    """Eight images on disk, one cat in each."""

    def __init__(self, folder):
        super().__init__()
        self.img_prefix = str(folder)
        self.data_infos = [dict(filename=f'{i}.png', width=30, height=20) for i in range(8)]
        for info in self.data_infos:
            cv2.imwrite(str(folder / info['filename']), np.full((20, 30, 3), (1, 2, 3), np.uint8))

    def get_ann_info(self, index):
        square = [[2, 3, 8, 3, 8, 9, 2, 9]]
        return dict(
            bboxes=np.array([[2, 3, 8, 9]], np.float32), labels=np.array([0]), masks=[square])

    def get_gt_labels(self):
        return np.arange(8) % 2

    def evaluate(self, results, logger=None):
        return {'fake_mAP': .5}


class Detector(FakeModel):
    """Two dogs in every image, one of them of a low score."""

    def results(self, predictions, metas):
        boxes = np.array([[1.6, 2, 9, 8, .9], [0, 0, 5, 5, .2]], np.float32)
        masks = [np.ones((20, 30), bool), np.zeros((20, 30), bool)]
        return [([np.zeros((0, 5)), boxes], [[], masks]) for _ in metas]


class Classifier(FakeModel):

    def results(self, predictions, metas):
        return [np.array([.25, .75]) for _ in metas]


class Table:
    made = []

    def __init__(self, columns):
        self.columns, self.data = columns, []
        self.made.append(self)

    def add_data(self, *row):
        assert len(row) == len(self.columns)
        self.data.append(list(row))


@pytest.fixture
def wandb(package, monkeypatch):
    monkeypatch.setattr(Table, 'made', [])
    calls = package('wandb', Table=Table)
    module = sys.modules['wandb']
    module.__dict__.update(
        run=Stub(calls, 'run', offline=True, id='r7'),
        Image=lambda image, **drawn: dict(image=image, **drawn))
    return calls


def run_with_tables(folder, model, hook):
    folder.mkdir()
    (folder / 'mine.py').write_text('a = 3\nb = dict(c=4)\n')
    runner = make_runner(folder, model(noise=.1), length=2, meta=dict(exp_name='mine.py'))
    runner.register_hook(CheckpointHook(interval=1), 'NORMAL')
    runner.register_hook(EvalHook(FakeLoader(Pictures(folder), views=True)), 'LOW')
    runner.register_hook(HOOKS.build(hook), 'VERY_LOW')
    runner.run([FakeLoader()])


def test_mmdet_hook_logs_config_checkpoints_with_metrics_and_predicted_images(wandb, tmp_path):
    folder = tmp_path / 'run'
    run_with_tables(
        folder, Detector,
        dict(
            type='MMDetWandbHook',
            interval=2,
            log_checkpoint=True,
            log_checkpoint_metadata=True,
            num_eval_images=3))
    assert of(wandb, 'save') == [((str(folder / 'mine.py'), ), dict(base_path=str(folder)))]
    assert of(wandb, 'config.update')[0][0][0] == dict(a=3, b=dict(c=4))
    assert of(wandb, 'Classes')[0][0][0] == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    artifacts = [(args[0], kwargs) for args, kwargs in of(wandb, 'Artifact')]
    assert [name for name, _ in artifacts] == ['val'] + ['run_r7_model', 'run_r7_pred'] * 2
    assert artifacts[1][1] == dict(type='model', metadata=dict(epoch=1, fake_mAP=.5))
    files = [args[0] for args, _ in of(wandb, 'Artifact().add_file')]
    assert files == [str(folder / 'epoch_1.pth'), str(folder / 'epoch_2.pth')]
    assert of(wandb, 'log_artifact')[0][1] == dict(aliases=['latest', 'epoch_1'])

    order = np.arange(8)
    np.random.RandomState(42).shuffle(order)
    truth, first, second = Table.made
    assert truth.columns == ['image_name', 'image']
    assert [row[0] for row in truth.data] == [f'{i}.png' for i in order[:3]]
    picture = truth.data[0][1]
    assert picture['image'][0, 0].tolist() == [3, 2, 1]  # RGB
    box = picture['boxes']['ground_truth']['box_data']
    assert box == [
        dict(
            position=dict(minX=2, minY=3, maxX=8, maxY=9),
            class_id=1,
            box_caption='cat',
            domain='pixel')
    ]
    assert picture['masks']['cat']['mask_data'].sum() == 36
    assert first.columns == ['image_name', 'ground_truth', 'prediction'] and len(second.data) == 3
    name, of_truth, found = first.data[0]
    assert name == truth.data[0][0] and of_truth is picture
    drawn = found['boxes']['predictions']['box_data']
    assert [one['box_caption'] for one in drawn] == ['dog 0.90']
    assert drawn[0]['position'] == dict(minX=1, minY=2, maxX=9, maxY=8)
    assert found['masks']['dog']['mask_data'].tolist() == [[2] * 30] * 20
    assert wandb[-1][0] == 'finish'


def test_mmcls_hook_logs_true_and_predicted_classes(wandb, tmp_path):
    run_with_tables(tmp_path / 'run', Classifier,
                    dict(type='MMClsWandbHook', interval=2, num_eval_images=2))
    truth, first, _ = Table.made
    assert truth.columns == ['image_name', 'image', 'ground_truth']
    assert first.columns == ['epoch', *truth.columns, 'prediction', 'cat', 'dog']
    assert first.data[0] == [1, *truth.data[0], 'dog', .25, .75]
    assert [args[0] for args, _ in of(wandb, 'Artifact')] == ['val', 'run_r7_pred', 'run_r7_pred']


def test_settings_without_effect_are_named(wandb, tmp_path, caplog):
    runner = make_runner(tmp_path, length=1)
    runner.register_hook(HOOKS.build(dict(type='MMDetWandbHook', log_checkpoint=True)), 'VERY_LOW')
    with caplog.at_level('WARNING'):
        runner.run([FakeLoader()])
    assert 'log_checkpoint has no effect without checkpoint_config' in caplog.text
    assert 'num_eval_images has no effect without an evaluation' in caplog.text
