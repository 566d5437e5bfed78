"""The commands of tools/deployment, over files as a user has them."""
import os
import pickle

import pytest
import torch

from tests.commands import run
from tests.models.tiny import tiny_model
from tests.tools.tiny_world import CLASSES, write_world

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with a config, tiny.py, and a checkpoint, model.pth."""
    root = tmp_path_factory.mktemp('world')
    write_world(root)
    model = tiny_model()
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.weight.mul_(30)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(CLASSES=CLASSES)), root / 'model.pth')
    return root


@pytest.fixture(scope='module')
def exported(world):
    """Return what the command printed, and the file."""
    path = world / 'out' / 'model.onnx'
    words = 'deployment/pytorch2onnx.py', world / 'tiny.py', world / 'model.pth', '--output-file', path
    return run(*words, '--num-images', 2, '--shape', 64, 96)[0], path


def test_a_file_is_written_with_a_table_of_the_comparison(exported):
    printed, path = exported
    assert 'mask pixels' in printed and '100.000 %' in printed
    assert 'milliseconds an image: PyTorch' in printed
    assert f'wrote {path}: opset 17, 3 classes, compared on 2 images' in printed
    assert os.listdir(path.parent) == ['model.onnx']


def test_the_file_is_evaluated_as_the_checkpoint_is(world, exported, tmp_path):
    metrics = run('deployment/test.py', world / 'tiny.py', exported[1], '--eval', 'bbox', 'segm', '--out',
                  tmp_path / 'r.pkl', '--show-dir', tmp_path / 'shown')[0].splitlines()[-1]  # yapf: disable
    expected = run('test.py', world / 'tiny.py', world / 'model.pth', '--eval', 'bbox', 'segm')[0]
    assert metrics.startswith("{'bbox_mAP'") and metrics == expected.splitlines()[-1]
    with open(tmp_path / 'r.pkl', 'rb') as file:
        results = pickle.load(file)
    assert len(results) == 3 and len(results[0]) == 2
    assert len(os.listdir(tmp_path / 'shown')) == 3


def test_a_file_of_other_classes_is_refused(world, exported):
    said = run(
        'deployment/test.py',
        world / 'tiny.py',
        exported[1],
        '--eval',
        'bbox',
        '--cfg-options',
        "data.test.classes=['box','dot']",
        expect=1)[1]
    assert 'has the classes box, bar, dot, and data.test box, dot' in said


@pytest.mark.parametrize('words, text', [
    (['--skip-postprocess'], 'nms is a standard operator'),
    (['--shape', '1', '2', '3'], '--shape is height and width'),
    (['--static', '--batch-size', '2'], 'one image at a time'),
])
def test_flags_that_cannot_be_are_refused(world, words, text):
    said = run(
        'deployment/pytorch2onnx.py', world / 'tiny.py', world / 'model.pth', *words, expect=2)[1]
    assert text in said
