"""Classifiers through the commands, with the same engine as detectors."""
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_ft import apis
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config import Config, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.registry import DETECTORS
from .test_train_command import ROOT, call, one_thread, rows, test, train  # noqa: F401

CLASSES = ('blue', 'green', 'red')
CONFIG = '''
_base_ = '{base}/_base_/default_runtime.py'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64, topk=(1, ), cal_acc=True))
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', size=16),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='RandAugment', num_policies=1, magnitude_level=5, policies=[
        dict(type='Rotate', magnitude_key='angle', magnitude_range=(0, 20)), dict(type='Equalize', prob=0.1)]),
    dict(type='RandomErasing', erase_prob=0.1),
    dict(type='Normalize', **norm),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', size=(20, -1)),
    dict(type='CenterCrop', crop_size=16),
    dict(type='Normalize', **norm),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img'])]
data = dict(
    samples_per_gpu=6,
    workers_per_gpu=0,
    train=dict(type='CustomDataset', data_prefix='{root}/train', pipeline=train_pipeline),
    val=dict(type='CustomDataset', data_prefix='{root}/val', pipeline=test_pipeline, samples_per_gpu=4),
    test=dict(type='CustomDataset', data_prefix='{root}/val', pipeline=test_pipeline, samples_per_gpu=4))
evaluation = dict(interval=1, metric='accuracy', metric_options=dict(topk=(1, 2)), save_best='auto')
optimizer = dict(type='SGD', lr=0.05, momentum=0.9)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[3])
runner = dict(type='EpochBasedRunner', max_epochs=4)
log_config = dict(interval=3)
'''


def write_colours(root: Path, number: int, seed: int) -> None:
    """A folder a colour, with noisy pictures of it."""
    draw = np.random.default_rng(seed)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(number):
            image = draw.integers(0, 80, (18, 24, 3)).astype(np.uint8)
            image[..., channel] += 150
            cv2.imwrite(str(root / name / f'{index}.png'), image)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """The folder of images and config, and the config's path."""
    root = tmp_path_factory.mktemp('colours')
    write_colours(root / 'train', 8, 0)
    write_colours(root / 'val', 3, 1)
    path = root / 'colours.py'
    path.write_text(CONFIG.replace('{base}', str(ROOT / 'configs')).replace('{root}', str(root)))
    return root, str(path)


@pytest.fixture(scope='module')
def trained(world):
    root, config = world
    train(config, '--work-dir', root / 'run', '--seed', '0')
    return root, config


def test_the_number_of_classes_is_counted_and_kept(world, tmp_path):
    root, config = world
    train(config, '--work-dir', tmp_path, '--seed', '0', '--no-validate', '--cfg-options',
          'model.head.num_classes=auto', 'runner.max_epochs=1')
    meta = read(str(tmp_path / 'latest.pth')).meta
    assert Config.fromstring(meta['config'], '.py').model.head.num_classes == 3
    assert Config.fromfile(str(tmp_path / 'colours.py')).model.head.num_classes == 3
    out, _ = test(config, tmp_path / 'latest.pth', '--metrics', 'accuracy', '--cfg-options',
                  'model.head.num_classes=auto')
    assert 'accuracy_top-1' in out
    model = apis.init_model(None, str(tmp_path / 'latest.pth'), 'cpu')
    assert tuple(model.CLASSES) == CLASSES and model.head.fc.out_features == 3


def test_without_data_the_number_of_classes_is_asked_for():
    settings = Config.fromfile(str(ROOT / 'configs/_base_/models/faster_rcnn_r50_fpn.py')).model
    settings.roi_head.bbox_head.num_classes = 'auto'
    settings.backbone.init_cfg = None
    with pytest.raises(ValueError, match="num_classes='auto' of .* write the number"):
        DETECTORS.build(settings)


def test_training_logs_and_keeps_what_a_detectors_does(trained):
    root, _ = trained
    lines = rows(root / 'run')[1:]
    training = [line for line in lines if line['mode'] == 'train']
    assert {'loss', 'top-1', 'lr', 'time', 'data_time'} <= set(training[0])
    validation = [line for line in lines if line['mode'] == 'val']
    assert [line['epoch'] for line in validation] == [1, 2, 3, 4]
    assert all(0 <= line['accuracy_top-1'] <= line['accuracy_top-2'] <= 100 for line in validation)
    best, = (root / 'run').glob('best_accuracy_top-1_epoch_*.pth')
    assert tuple(read(str(best)).meta['CLASSES']) == CLASSES


def test_a_run_of_iterations_counts_its_epochs_too(world, tmp_path):
    """24 images, ten a step: the third batch of an epoch is what is left."""
    root, config = world
    (tmp_path / 'iterations.py').write_text(
        f"_base_ = '{config}'\nrunner = dict(_delete_=True, type='IterBasedRunner', max_iters=5)\n"
        'data = dict(samples_per_gpu=10)\nlog_config = dict(interval=1)\n')
    train(tmp_path / 'iterations.py', '--work-dir', tmp_path / 'run', '--seed', '0',
          '--no-validate')
    training = [line for line in rows(tmp_path / 'run') if line.get('mode') == 'train']
    assert [line['epoch'] for line in training] == [1, 1, 1, 2, 2]


def test_test_writes_the_metrics_and_the_scores(trained, tmp_path):
    root, config = trained
    metrics = 'accuracy', 'f1_score', 'confusion_matrix'
    out, _ = test(config, root / 'run/latest.pth', '--metrics', *metrics, '--metric-options',
                  'topk=1', '--out', tmp_path / 'out.json', '--work-dir', tmp_path)
    written = json.loads((tmp_path / 'out.json').read_text())
    assert written['accuracy'] == rows(root / 'run')[-1]['accuracy_top-1']
    assert np.trace(written['confusion_matrix']) / 9 * 100 == pytest.approx(written['accuracy'])
    scores = np.array(written['class_scores'])
    assert scores.shape == (9, 3) and np.allclose(scores.sum(1), 1, atol=1e-5)
    assert written['pred_class'] == [CLASSES[label] for label in scores.argmax(1)]
    predicted, truth = scores.argmax(1), np.repeat(np.arange(3), 3)  # three images of each colour
    f1 = [
        200 * ((predicted == label) & (truth == label)).sum() /
        ((predicted == label).sum() + (truth == label).sum()) for label in range(3)
    ]
    metric = json.loads(next(tmp_path.glob('eval_*.json')).read_text())['metric']
    assert metric['f1_score'] == pytest.approx(np.mean(f1), abs=1e-4)
    test(config, root / 'run/latest.pth', '--out', tmp_path / 'out.pkl', '--out-items',
         'pred_label')
    with open(tmp_path / 'out.pkl', 'rb') as file:
        items = pickle.load(file)
    assert list(items) == ['pred_label'
                           ] and items['pred_label'].tolist() == scores.argmax(1).tolist()


def test_images_of_anyone_get_a_class(trained, tmp_path):
    root, _ = trained
    call('predict.py', root / 'run/latest.pth', root / 'val/red', '--out', tmp_path, '--device',
         'cpu')
    document = json.loads((tmp_path / 'predictions.json').read_text())
    model = apis.init_model(None, str(root / 'run/latest.pth'), 'cpu')
    assert len(document['images']) == 3 and (tmp_path / '0.png').exists()
    for image in document['images']:
        found = apis.inference_model(model, image['file_name'])
        assert found['pred_class'] == image['pred_class'] == CLASSES[found['pred_label']]
        assert found['pred_score'] == pytest.approx(max(image['scores']), abs=1e-4)
        assert apis.inference_model(model, cv2.imread(image['file_name'])) == found


def test_a_digit_from_a_file_or_an_array(tmp_path):
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[4:24, 13:16] = 255
    cv2.imwrite(str(tmp_path / 'one.png'), digit)
    model = apis.init_model(str(ROOT / 'configs/mnist/lenet5.py'), None, 'cpu')
    from_file = apis.inference_detector(model, str(tmp_path / 'one.png'))
    assert np.array_equal(from_file, apis.inference_detector(model,
                                                             digit)) and from_file.shape == (10, )


def test_another_head_drops_the_layer_of_the_classes(trained, tmp_path):
    root, config = trained
    narrow = root / 'two'
    for split in ('train', 'val'):
        for name in CLASSES[:2]:
            (narrow / split).mkdir(parents=True, exist_ok=True)
            (narrow / split / name).symlink_to(root / split / name)
    train(config, '--work-dir', tmp_path, '--no-validate', '--cfg-options', 'runner.max_epochs=1',
          f'load_from={root}/run/latest.pth', 'model.head.num_classes=2',
          f'data.train.data_prefix={narrow}/train', f'data.val.data_prefix={narrow}/val')
    log = next(tmp_path.glob('2*.log')).read_text()
    assert 'head.fc.weight (3, 64) -> (2, 64)' in log
    assert read(str(tmp_path / 'latest.pth')).state_dict['head.fc.weight'].shape == (2, 64)


def test_validation_losses_are_of_the_validation_set(world, tmp_path):
    _, config = world
    train(config, '--work-dir', tmp_path, '--no-validate', '--cfg-options', 'runner.max_epochs=1',
          'data.val.test_mode=True', "workflow=[('train', 1), ('val', 1)]")
    line, = [line for line in rows(tmp_path)[1:] if line['mode'] == 'val']
    assert line['iter'] == 2 and line['loss'] > 0  # nine images


def test_class_folders_that_differ_are_refused(world, tmp_path):
    _, config = world
    write_colours(tmp_path / 'val', 1, 2)
    (tmp_path / 'val/green').rename(tmp_path / 'val/grey')
    _, err = train(
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        f'data.val.data_prefix={tmp_path}/val',
        expect=1)
    assert "a label would mean two things: only data.train has 'green'; only data.val has 'grey'" in err


def test_a_head_of_another_number_of_classes_is_refused(world, tmp_path):
    _, config = world
    _, err = train(
        config, '--work-dir', tmp_path, '--cfg-options', 'model.head.num_classes=4', expect=1)
    assert 'has 3 classes but head.num_classes is 4; write num_classes=3' in err


@pytest.mark.parametrize('option, message', [
    ('evaluation.metric=acuracy', "unknown metric 'acuracy'; there are accuracy, precision"),
    ('evaluation.metric_options.top=1', 'metric_options has no top; it knows topk'),
    ('data.train.data_prefix=nowhere', "there is no folder 'nowhere'; correct data_prefix"),
    ('data.train.img_prefix=nowhere', "has no 'img_prefix'"),
    ('data.train.pipeline.1.sise=16',
     "RandomResizedCrop has no 'sise' (here 16); did you mean 'size'?"),
    ('data.train.pipeline.3.policies.0.centre=3',
     "Rotate has no 'centre' (here 3); did you mean 'center'?"),
    ('data.train.pipeline.3.policies.1.type=Equalise',
     "unknown pipeline type 'Equalise'; did you mean 'Equalize'?"),
])
def test_a_mistake_is_told_at_the_start(world, tmp_path, option, message):
    _, config = world
    expect = 1 if 'options' in option or 'nowhere' in option and 'img' not in option else 2
    _, err = train(config, '--work-dir', tmp_path, '--cfg-options', option, expect=expect)
    assert message in err


def test_a_class_count_is_known_before_the_data_is_read():
    config = load_config(
        str(ROOT / 'configs/cifar10/resnet50_ft.py'), {'model.head.num_classes': 1000})
    with pytest.raises(
            Exception, match='CIFAR10 has 10 classes but model.head.num_classes is 1000'):
        prepare(config)


TUTORIAL = '''
_base_ = ['{base}/_base_/models/resnet50.py', '{base}/_base_/datasets/cifar10.py', '{base}/_base_/default_runtime.py']
model = dict(
    pretrained=None,
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
img_norm_cfg = dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], to_rgb=True)
train_pipeline = [
    dict(type='RandomCrop', size=32, padding=4),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Resize', size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])
]
data = dict(train=dict(pipeline=train_pipeline))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[15])
runner = dict(type='EpochBasedRunner', max_epochs=200)
log_config = dict(interval=100)
load_from = 'checkpoint.pth'
'''


def test_a_tutorials_config_is_understood():
    config = Config.fromstring(TUTORIAL.replace('{base}', str(ROOT / 'configs')), '.py')
    config, notes = prepare(config)
    assert config.data.train.type == 'CIFAR10' and config.model.head.topk == (1, 5)
    assert [note for note in notes if 'error' in note] == []
