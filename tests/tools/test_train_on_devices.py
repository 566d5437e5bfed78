"""tools/train.py and tools/test.py on each device: a run of two epochs in each precision and with each switch."""
import os

import numpy as np
import pytest
import torch

from mmdet_ft import apis
from mmdet_ft.ops.backends import use_triton
from tests.tools.test_train_command import ROOT, free_port, rows
from tests.tools.test_train_command import run as command
from tests.tools.test_train_command import test, train
from tests.tools.tiny_world import write_world

WIDER = ['model.backbone.base_channels=16', 'model.neck.in_channels=[16,32,64,128]']
# What is for a GPU is left off on the CPU, or slow to compile there.
SETTINGS = {
    'float32': ('cpu', []),
    'bfloat16': ('cpu', ['fp16.dtype=bfloat16']),
    'float16': ('cuda', ['fp16.loss_scale=dynamic']),
    'channels_last': ('cpu', ['channels_last=True', *WIDER]),
    'cuda_graphs': ('cuda', ['cuda_graphs=True']),
    'compile': ('cuda', ['compile=True']),
    'triton': ('cuda', ['triton=True']),
    'all': ('cuda', ['fp16.dtype=bfloat16', 'channels_last=True', 'compile=True', 'triton=True']),
}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'), num_train=8)


@pytest.fixture
def switches():
    yield
    use_triton(False)


def run(config, work_dir, *words):
    train(config, '--work-dir', work_dir, '--seed', '1', *words)
    return [row for row in rows(work_dir)[1:] if row['mode'] == 'train']


def options(*words):
    return [
        '--cfg-options', 'log_config.interval=1', 'data.workers_per_gpu=2',
        'model.test_cfg.rcnn.score_thr=0.', *words
    ]


@pytest.mark.parametrize('name', SETTINGS)
def test_a_run_trains_evaluates_and_leaves_checkpoints_for_any_machine(
        config, device, switches, tmp_path, name):
    least, words = SETTINGS[name]
    if least == 'cuda' and device.type == 'cpu':
        pytest.skip('is for GPUs')
    lines = run(config, tmp_path, *options(*words))
    log = next(tmp_path.glob('*.log')).read_text()
    assert 'is left off' not in log and f'Training on {device.type}' in log
    assert len(lines) == 8 and all(np.isfinite(line['loss']) for line in lines)
    assert ('memory' in lines[0]) == (device.type == 'cuda')
    assert any(row['mode'] == 'val' and 'bbox_mAP' in row for row in rows(tmp_path)[1:])
    content = torch.load(tmp_path / 'latest.pth', weights_only=True)  # without map_location
    weights = [*content['state_dict'].values()]
    states = [value for state in content['optimizer']['state'].values() for value in state.values()]
    assert states and all(value.device.type == 'cpu' for value in weights + states)
    if name == 'float32' or device.type == 'cpu':
        return
    as_wide = [word for word in words if word in WIDER]  # another model has another loss
    plain = run(config, tmp_path / 'plain', *options(*as_wide), '--no-validate')
    assert lines[0]['loss'] == pytest.approx(plain[0]['loss'], rel=.1)  # of other samples, at worst


def test_a_run_that_is_resumed_learns_on(config, device, tmp_path):
    whole = run(config, tmp_path / 'whole', *options(), '--no-validate')
    rest = run(config, tmp_path / 'rest', '--resume-from', tmp_path / 'whole/epoch_1.pth',
               *options(), '--no-validate')
    assert [line['iter'] for line in rest] == [line['iter'] for line in whole[4:]]
    assert rest[0]['lr'] == whole[4]['lr']
    # sums of a GPU are not always made in one order
    assert rest[0]['loss'] == pytest.approx(
        whole[4]['loss'], rel=1e-6 if device.type == 'cpu' else .1)


def test_detections_are_those_of_the_cpu(config, device, tmp_path):
    run(config, tmp_path, *options('runner.max_epochs=1'), '--no-validate')
    checkpoint = str(tmp_path / 'latest.pth')
    out, _ = test(config, checkpoint, '--eval', 'bbox', 'segm', *options())
    assert 'segm_mAP' in out
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = []
    for index in ('cpu', str(device)):
        model = apis.init_detector(None, checkpoint, index)
        assert next(model.parameters()).device.type == torch.device(index).type
        boxes, masks = apis.inference_detector(model, image)
        found.append(np.sort(np.concatenate(boxes)[:, 4])[::-1])
        assert sum(map(len, masks)) == len(found[-1]) > 0
    np.testing.assert_allclose(found[1][:5], found[0][:5], rtol=2e-2)


@pytest.mark.parametrize('backend, number', [('nccl', 1), ('gloo', 2), ('nccl', 2)])
def test_launched_processes_train_and_evaluate(config, device, tmp_path, backend, number):
    """Two may share a GPU where they talk through gloo."""
    if device.type == 'cpu' and number == 2:
        pytest.skip('is tested with the command')
    if backend == 'nccl' and number > max(torch.cuda.device_count(), 1):
        pytest.skip('needs a GPU for each process')
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    command(
        'env',
        *(['-u', 'CUDA_VISIBLE_DEVICES']
          if visible is None else [f'CUDA_VISIBLE_DEVICES={visible}']),
        ROOT / 'tools/dist_train.sh',
        config,
        number,
        '--work-dir',
        tmp_path,
        *options('runner.max_epochs=1', f'dist_params.backend={backend}'),
        PORT=free_port())
    log = next(tmp_path.glob('*.log')).read_text()
    assert f'({number} processes)' in log and f'Training on {device.type}' in log
    kinds = [row['mode'] for row in rows(tmp_path)[1:]]
    assert kinds.count('train') == 4 // number and kinds[-1] == 'val'
