"""tools/analysis_tools, as a user runs them."""
import json
import pickle
import sys

import numpy as np
import pytest

from mmdet_ft.commands import analyze_logs
from mmdet_ft.commands.main import run_tool
from .tiny_world import CLASSES, write_world


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool in this process: what it prints, on both streams."""

    def run(tool, *arguments, code=0):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        ended, said = 0, ''
        try:
            run_tool(tool)
        except SystemExit as end:
            ended = end.code or 0
            if isinstance(ended, str):  # sys.exit of a message
                ended, said = 1, ended
        text = capsys.readouterr()
        assert ended == code, text.out + text.err + said
        return text.out + text.err + said

    return run


def write_log(path, lines):
    path.write_text('\n'.join(json.dumps(line) for line in [dict(env_info='here')] + lines) + '\n')


def train_line(epoch, index, **more):
    return dict(mode='train', epoch=epoch, iter=index, lr=.1, **more)


@pytest.fixture
def logs(tmp_path):
    """A run of 2 epochs that was stopped in the second and resumed there."""
    write_log(tmp_path / '1.log.json', [
        train_line(1, 5, time=9., loss=4.),
        train_line(1, 10, time=1., loss=3.),
        dict(mode='val', epoch=1, iter=3, lr=.1, bbox_mAP=.1),
        train_line(2, 5, time=7., loss=9.)
    ])
    write_log(tmp_path / '2.log.json', [
        train_line(2, 5, time=8., loss=2.),
        train_line(2, 10, time=3., loss=1.),
        dict(mode='val', epoch=2, iter=3, lr=.1, bbox_mAP=.2)
    ])
    return tmp_path


def test_a_resumed_run_is_one_log(logs):
    log = analyze_logs.read(str(logs))
    assert [line['loss'] for line in log.lines if 'loss' in line] == [4, 3, 2, 1]
    assert (log.axis, log.x) == ('epoch', [.5, 1, 1, 1.5, 2, 2])
    write_log(logs / '3.log.json', [train_line(1, 5), train_line(2, 10), train_line(3, 15)])
    assert analyze_logs.read(str(logs / '3.log.json'))[1:3] == ('iteration', [5, 10, 15])


def test_logs_are_drawn_and_timed(logs, call):
    pytest.importorskip('matplotlib')
    call('analyze_logs', 'plot_curve', logs, '--keys', 'loss', 'bbox_mAP', '--out',
         logs / 'x/curve.png')
    assert (logs / 'x/curve.png').stat().st_size > 1000
    text = call('analyze_logs', 'cal_train_time', logs)
    assert 'slowest epoch 2: 3.0000' in text and 'fastest epoch 1: 1.0000' in text
    assert 'mean: 5.2500' in call('analyze_logs', 'cal_train_time', logs, '--include-outliers')
    message = call(
        'analyze_logs', 'plot_curve', logs, '--keys', 'segm_mAP', '--out', 'x.png', code=1)
    assert 'has no segm_mAP; it has bbox_mAP, loss, lr, time' in message


def test_results_are_evaluated_and_confused(tmp_path, call):
    """The truth as the result: everything is found, nothing is taken for something else."""
    pytest.importorskip('matplotlib')
    config = write_world(tmp_path)
    truth = json.loads((tmp_path / 'val.json').read_text())
    ids = {category['id']: CLASSES.index(category['name']) for category in truth['categories']}
    results = []
    for image in truth['images']:
        rows = [[] for _ in CLASSES]
        for item in truth['annotations']:
            if item['image_id'] == image['id']:
                x, y, width, height = item['bbox']
                rows[ids[item['category_id']]].append([x, y, x + width, y + height, .9])
        results.append([np.array(row, np.float32).reshape(-1, 5) for row in rows])
    with open(tmp_path / 'results.pkl', 'wb') as file:
        pickle.dump(results, file)
    text = call('confusion_matrix', config, tmp_path / 'results.pkl', tmp_path / 'out')
    assert 'background' in text and (tmp_path / 'out/confusion_matrix.png').exists()
    matrix = np.loadtxt(tmp_path / 'out/confusion_matrix.csv', delimiter=',', skiprows=1)
    assert matrix.sum() == np.trace(matrix) == len(truth['annotations'])
    assert "'bbox_mAP': 1.0" in call('eval_metric', config, tmp_path / 'results.pkl', '--eval',
                                     'bbox')
    with open(tmp_path / 'results.pkl', 'wb') as file:
        pickle.dump(results[1:], file)
    message = call('eval_metric', config, tmp_path / 'results.pkl', '--eval', 'bbox', code=1)
    assert f'has {len(results) - 1} results and data.test {len(results)} images' in message


def test_multiplications_of_a_model_are_counted(tmp_path, call):
    text = call('get_flops', write_world(tmp_path), '--shape', 64, 96)
    assert 'roi_head' in text and 'MaskRCNN, 64 x 96' in text
    config = tmp_path / 'classifier.py'
    config.write_text(
        "model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10), "
        "head=dict(type='ClsHead'))\ndata = dict(test=dict(type='MNIST', data_prefix='x', pipeline=[]))\n"
    )
    text = call('get_flops', config, '--shape', 32)
    # 28 x 28 x 6 x 25, 10 x 10 x 16 x 150, 120 x 400, 120 x 84, 84 x 10: 0.42 million
    assert 'ImageClassifier, 32 x 32' in text and '0.06' in text


def test_broken_lines_of_a_log_are_named_and_the_others_read(tmp_path, call):
    """A run that was killed while it wrote: NUL bytes, two lines glued, half a line."""
    whole = [json.dumps(train_line(1, index, time=1., loss=float(index))) for index in (1, 2, 3, 4)]
    path = tmp_path / 'a.log.json'
    path.write_text('{"env_info": "x"}\n' + whole[0] + '\n\0\0\0' + whole[1] + whole[2] + '\n' +
                    whole[3][:20] + whole[3] + '\n{"mode": "train", "lr": 1}\n' + '{"mode": "tra')
    text = call('analyze_logs', 'cal_train_time', path)
    assert 'mean: 1.0000' in text
    assert "a.log.json: left out what cannot be read: line 4: " in text and 'without epoch' in text
    log = analyze_logs.read(str(path))
    assert [line['loss'] for line in log.lines] == [1, 2, 3, 4]


def test_a_file_that_is_no_log_does_not_spoil_its_folder(logs, call):
    (logs / '3.log.json').write_text('<html>no log</html>\n')
    (logs / '4.log.json').write_text('{"env_info": "killed at once"}\n')
    text = call('analyze_logs', 'cal_train_time', logs)
    assert 'slowest epoch 2: 3.0000' in text
    assert 'passed over' in text and "3.log.json is no log of a run" in text
    for name, said in (('3.log.json', 'line 1 begins with'), ('4.log.json', 'has no line of'),
                       ('5.log.json', 'cannot read')):
        assert said in call('analyze_logs', 'cal_train_time', logs / name, code=1)


def test_runs_that_were_joined_in_one_file_are_read_as_resumed(logs):
    together = logs / 'all.log.json'
    together.write_text((logs / '1.log.json').read_text() + (logs / '2.log.json').read_text())
    log = analyze_logs.read(str(together))
    assert [line['loss'] for line in log.lines if 'loss' in line] == [4, 3, 2, 1]
    assert [line['bbox_mAP'] for line in log.lines if 'bbox_mAP' in line] == [.1, .2]


def test_an_evaluation_within_an_epoch_is_kept(tmp_path):
    write_log(tmp_path / 'a.log.json', [
        train_line(1, 50, loss=3.),
        dict(mode='val', epoch=1, iter=50, bbox_mAP=.1),
        train_line(1, 100, loss=2.),
        dict(mode='val', epoch=1, iter=100, bbox_mAP=.2)
    ])
    log = analyze_logs.read(str(tmp_path / 'a.log.json'))
    assert log.x == [.5, .5, 1, 1]


def test_logs_of_mmdetection_3_and_detectron2_are_read(tmp_path):
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [dict(lr=.1, loss=3., time=.5, epoch=1, iter=10, step=10),
             {'coco/bbox_mAP': .25, 'time': .1, 'step': 1},
             dict(lr=.1, loss=2., time=.5, epoch=2, iter=20, step=20)]  # yapf: disable
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    log = analyze_logs.read(str(tmp_path))
    assert (log.axis, log.x) == ('iteration', [10, 10, 20])
    assert log.lines[1]['bbox_mAP'] == .25
    lines = [dict(iteration=19, total_loss=3., lr=.1, time=.5), {'iteration': 19, 'bbox/AP': 30.},
             dict(iteration=39, total_loss=2., lr=.1, time=.5)]  # yapf: disable
    (tmp_path / 'metrics.json').write_text('\n'.join(map(json.dumps, lines)))
    log = analyze_logs.read(str(tmp_path / 'metrics.json'))
    assert (log.axis, log.x) == ('iteration', [20, 20, 40])
    assert [line.get('loss') for line in log.lines] == [3, None, 2]


def test_figures_get_an_ending_and_no_log_is_written_over(logs, call):
    pytest.importorskip('matplotlib')
    before = (logs / '1.log.json').read_text()
    for out, name in (('curves', 'curves.png'), ('figures/', 'figures/curves.png')):
        text = call('analyze_logs', 'plot_curve', logs, '--keys', 'loss', '--out', f'{logs}/{out}',
                    '--window-size', '6*4')
        assert text.strip().endswith(name) and (logs / name).is_file()
    for out, said in (('1.log.json', 'would overwrite'), ('curves.xyz', 'Format')):
        assert said in call(
            'analyze_logs', 'plot_curve', logs, '--keys', 'loss', '--out', logs / out, code=1)
    assert (logs / '1.log.json').read_text() == before
    call('analyze_logs', 'plot_curve', logs, '--window-size', 'wide', code=2)


def test_keys_that_are_no_numbers_are_refused(tmp_path, call):
    pytest.importorskip('matplotlib')
    write_log(tmp_path / 'a.log.json', [
        train_line(1, 5, loss=1.),
        dict(mode='val', epoch=1, iter=3, confusion_matrix=[[1, 0], [0, 1]], bbox_mAP=None)
    ])
    text = call(
        'analyze_logs',
        'plot_curve',
        tmp_path,
        '--keys',
        'confusion_matrix',
        '--out',
        tmp_path / 'x.png',
        code=1)
    assert 'confusion_matrix of' in text and 'is a list; only numbers can be plotted' in text


CLASSIFIER = """
pipeline = [dict(type='LoadImageFromFile'), dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img'])]
model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=2), head=dict(type='ClsHead'))
data = dict(test=dict(type='CustomDataset', data_prefix={prefix!r}, pipeline=pipeline))
"""


def test_results_of_classifiers_are_evaluated(tmp_path, call):
    import cv2
    for name in ('ant', 'bee'):
        (tmp_path / 'val' / name).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(
                str(tmp_path / 'val' / name / f'{number}.png'), np.zeros((8, 8, 3), np.uint8))
    config = tmp_path / 'classifier.py'
    config.write_text(CLASSIFIER.format(prefix=str(tmp_path / 'val')))
    scores = np.array([[.9, .1], [.8, .2], [.7, .3], [.1, .9]])
    kinds = {
        'table.pkl': dict(class_scores=scores, pred_label=scores.argmax(1), accuracy=75.),
        'list.pkl': list(scores),
        'table.json': dict(class_scores=scores.tolist())
    }
    for name, content in kinds.items():
        if name.endswith('.json'):
            (tmp_path / name).write_text(json.dumps(content))
        else:
            (tmp_path / name).write_bytes(pickle.dumps(content))
        text = call('eval_metric', config, tmp_path / name, '--metrics', 'accuracy',
                    '--metric-options', 'topk=1')
        assert "'accuracy': 75.0" in text or "'accuracy_top-1': 75.0" in text
    (tmp_path / 'labels.pkl').write_bytes(pickle.dumps(dict(pred_label=scores.argmax(1))))
    message = call('eval_metric', config, tmp_path / 'labels.pkl', '--eval', 'accuracy', code=1)
    assert 'has pred_label and no class_scores' in message and '--out-items class_scores' in message
    (tmp_path / 'three.pkl').write_bytes(pickle.dumps(list(np.zeros((4, 3)))))
    message = call('eval_metric', config, tmp_path / 'three.pkl', '--eval', 'accuracy', code=1)
    assert 'has 3 classes and data.test has 2' in message


def test_confusion_compares_masks_suppresses_and_tells_rates(tmp_path, call):
    pytest.importorskip('matplotlib')
    from pycocotools import mask as coco_mask
    config = write_world(tmp_path)
    truth = json.loads((tmp_path / 'val.json').read_text())
    results = []
    for image in truth['images']:
        rows, masks = [[] for _ in CLASSES], [[] for _ in CLASSES]
        for item in truth['annotations']:
            if item['image_id'] == image['id']:
                x, y, width, height = item['bbox']
                for score in (.9, .8):  # everything twice
                    rows[item['category_id'] - 1].append([x, y, x + width, y + height, score])
                    masks[item['category_id'] - 1].append(
                        coco_mask.frPyObjects(item['segmentation'], 64, 96)[0])
        results.append(([np.array(row, np.float32).reshape(-1, 5) for row in rows], masks))
    (tmp_path / 'results.pkl').write_bytes(pickle.dumps(results))
    count = len(truth['annotations'])
    text = call('confusion_matrix', config, tmp_path / 'results.pkl', tmp_path / 'out')
    assert 'Masks are compared' in text and 'precision' in text and '0.500' in text
    matrix = np.loadtxt(tmp_path / 'out/confusion_matrix.csv', delimiter=',', skiprows=1)
    assert matrix[:-1].sum() == count == matrix[-1].sum()
    call('confusion_matrix', config, tmp_path / 'results.pkl', tmp_path / 'out', '--nms-iou-thr',
         .95)
    matrix = np.loadtxt(tmp_path / 'out/confusion_matrix.csv', delimiter=',', skiprows=1)
    assert matrix.sum() == count and not matrix[-1].any()
    # two data sets in one: each has its own truth
    (tmp_path / 'twice.pkl').write_bytes(pickle.dumps(results * 2))
    text = call('confusion_matrix', config, tmp_path / 'twice.pkl', tmp_path / 'out',
                '--cfg-options',
                f'data.test.ann_file=["{tmp_path}/val.json","{tmp_path}/val.json"]')
    assert 'Masks are compared' in text
    matrix = np.loadtxt(tmp_path / 'out/confusion_matrix.csv', delimiter=',', skiprows=1)
    assert matrix[:-1].sum() == 2 * count == matrix[-1].sum()
