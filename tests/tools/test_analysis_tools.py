"""tools/analysis_tools, as a user runs them."""
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .tiny_world import CLASSES, write_world

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis_tools'


def call(tool, *arguments, code=0):
    done = subprocess.run([sys.executable, TOOLS / tool, *map(str, arguments)],
                          capture_output=True,
                          text=True,
                          timeout=200)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_log(path, lines):
    path.write_text('\n'.join(json.dumps(line) for line in [dict(env_info='here')] + lines) + '\n')


def train_line(epoch, place, **more):
    return dict(mode='train', epoch=epoch, iter=place, lr=.1, **more)


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
    sys.path.insert(0, str(TOOLS))
    try:
        import analyze_logs
    finally:
        sys.path.remove(str(TOOLS))
    log = analyze_logs.read(str(logs))
    assert [line['loss'] for line in log.lines if 'loss' in line] == [4, 3, 2, 1]
    assert (log.axis, log.x) == ('epoch', [.5, 1, 1, 1.5, 2, 2])
    write_log(logs / '3.log.json', [train_line(1, 5), train_line(2, 10), train_line(3, 15)])
    assert analyze_logs.read(str(logs / '3.log.json'))[1:3] == ('iteration', [5, 10, 15])


def test_logs_are_drawn_and_timed(logs):
    pytest.importorskip('matplotlib')
    call('analyze_logs.py', 'plot_curve', logs, '--keys', 'loss', 'bbox_mAP', '--out',
         logs / 'x/curve.png')
    assert (logs / 'x/curve.png').stat().st_size > 1000
    text = call('analyze_logs.py', 'cal_train_time', logs)
    assert 'slowest epoch 2: 3.0000' in text and 'fastest epoch 1: 1.0000' in text
    assert 'mean: 5.2500' in call('analyze_logs.py', 'cal_train_time', logs, '--include-outliers')
    message = call(
        'analyze_logs.py', 'plot_curve', logs, '--keys', 'segm_mAP', '--out', 'x.png', code=1)
    assert 'has no segm_mAP; it has bbox_mAP, loss, lr, time' in message


def test_results_are_evaluated_and_confused(tmp_path):
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
    text = call('confusion_matrix.py', config, tmp_path / 'results.pkl', tmp_path / 'out')
    assert 'background' in text and (tmp_path / 'out/confusion_matrix.png').exists()
    matrix = np.loadtxt(tmp_path / 'out/confusion_matrix.csv', delimiter=',', skiprows=1)
    assert matrix.sum() == np.trace(matrix) == len(truth['annotations'])
    assert "'bbox_mAP': 1.0" in call('eval_metric.py', config, tmp_path / 'results.pkl', '--eval',
                                     'bbox')
    with open(tmp_path / 'results.pkl', 'wb') as file:
        pickle.dump(results[1:], file)
    message = call('eval_metric.py', config, tmp_path / 'results.pkl', '--eval', 'bbox', code=1)
    assert f'has {len(results) - 1} results and data.test {len(results)} images' in message


def test_multiplications_of_a_model_are_counted(tmp_path):
    text = call('get_flops.py', write_world(tmp_path), '--shape', 64, 96)
    assert 'roi_head' in text and 'MaskRCNN, 64 x 96' in text
    config = tmp_path / 'classifier.py'
    config.write_text(
        "model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10), "
        "head=dict(type='ClsHead'))\ndata = dict(test=dict(type='MNIST', data_prefix='x', pipeline=[]))\n"
    )
    text = call('get_flops.py', config, '--shape', 32)
    # 28 x 28 x 6 x 25, 10 x 10 x 16 x 150, 120 x 400, 120 x 84, 84 x 10: 0.42 million
    assert 'ImageClassifier, 32 x 32' in text and '0.06' in text
