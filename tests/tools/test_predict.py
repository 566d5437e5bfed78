"""tools/predict.py and mmdet_ft.apis: a checkpoint alone is enough to run over images."""
import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from mmdet_ft import apis
from mmdet_ft.checkpoints.writing import save
from mmdet_ft.config import Config
from mmdet_ft.engine.errors import UserError
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('cat', 'dog', 'emu')


def load_tool(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


predict = load_tool(ROOT / 'tools' / 'predict.py')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A random model that finds something everywhere, with its config and classes."""
    model = tiny_config()
    model['test_cfg']['rcnn']['score_thr'] = .01
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='MultiScaleFlipAug', img_scale=(96, 64), flip=False, transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='Normalize', mean=[100., 100., 100.], std=[50., 50., 50.], to_rgb=True),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img'])])]  # yapf: disable
    cfg = Config(
        dict(
            model=model,
            data=dict(test=dict(type='CocoDataset', ann_file='nowhere.json', pipeline=pipeline))))
    torch.manual_seed(0)
    net = MODELS.build(cfg.model)
    net.init_weights()
    path = str(tmp_path_factory.mktemp('weights') / 'latest.pth')
    save(path, net.state_dict(), dict(CLASSES=CLASSES, config=cfg.pretty_text))
    return path


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (40, 60)), ('deep/b.jpg', (50, 30)), ('deep/a.png', (64, 64))):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    return tmp_path / 'photos'


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['predict.py', *map(str, arguments)])
    predict.main()


def test_checkpoint_and_folder_give_pictures_and_coco_json(checkpoint, photos, tmp_path,
                                                           monkeypatch):
    out = tmp_path / 'out'
    run(monkeypatch, checkpoint, photos, '--out', out, '--score-thr', 0, '--batch-size', 2,
        '--device', 'cpu')
    for name in ('a.png', 'deep/b.jpg', 'deep/a.png'):
        assert cv2.imread(str(out / name)).shape == cv2.imread(str(photos / name)).shape
    document = json.loads((out / 'predictions.json').read_text())
    assert [category['name'] for category in document['categories']] == list(CLASSES)
    assert document['annotations']
    coco = COCO(str(out / 'predictions.json'))
    for record in document['annotations']:
        image = coco.imgs[record['image_id']]
        assert Path(image['file_name']).is_file()
        assert CLASSES[record['category_id'] - 1] == record['category_name']
        assert 0 <= record['score'] <= 1 and record['segmentation']['size'] == [
            image['height'], image['width']
        ]
        assert coco.annToMask(record).shape == (image['height'], image['width'])


def test_batches_of_different_sizes_give_what_single_images_give(checkpoint, photos):
    model = apis.init_detector(None, checkpoint, 'cpu')
    paths = [str(photos / 'deep/a.png'), str(photos / 'a.png')]
    together = apis.inference_detector(model, paths[:1] * 2)
    alone = apis.inference_detector(model, paths[0])
    for boxes in (together[0][0], together[1][0]):
        for a, b in zip(boxes, alone[0]):
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert len(apis.inference_detector(model, paths)) == 2


def test_array_gives_what_its_file_gives(checkpoint, photos):
    model = apis.init_detector(None, checkpoint, 'cpu')
    path = photos / 'a.png'
    from_file, from_array = (
        apis.inference_detector(model, item)[0] for item in (path, cv2.imread(str(path))))
    for a, b in zip(from_file, from_array):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_missing_gpu_becomes_the_cpu(checkpoint):
    device = next(apis.init_detector(None, checkpoint, 'cuda:0').parameters()).device
    assert device.type == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_checkpoint_without_config_says_what_to_give(tmp_path, checkpoint):
    bare = str(tmp_path / 'bare.pth')
    torch.save(torch.load(checkpoint, weights_only=True)['state_dict'], bare)
    with pytest.raises(UserError, match='carries no config'):
        apis.init_detector(None, bare, 'cpu')


def test_broken_image_is_named_and_the_others_are_done(checkpoint, photos, tmp_path, monkeypatch,
                                                       capsys):
    (photos / 'broken.jpg').write_bytes(b'no picture')
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, checkpoint, photos, '--out', out, '--device', 'cpu')
    assert stop.value.code == 1
    assert 'broken.jpg' in capsys.readouterr().err
    assert len(json.loads((out / 'predictions.json').read_text())['images']) == 3


def test_out_folder_among_the_images_is_refused_or_skipped(checkpoint, photos, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, checkpoint, photos / 'a.png', '--out', photos, '--device', 'cpu')
    assert 'would overwrite' in capsys.readouterr().err
    (photos / 'out').mkdir()
    (photos / 'out' / 'old.png').write_bytes((photos / 'a.png').read_bytes())
    assert 'out/old.png' not in predict.find_images([str(photos)], str(photos / 'out'))


def test_pattern_without_images_is_named(photos, tmp_path):
    with pytest.raises(UserError, match='nothing'):
        predict.find_images([str(photos / 'nothing*.jpg')], str(tmp_path / 'out'))


def test_same_names_of_two_folders_are_kept_apart(photos, tmp_path):
    found = predict.find_images(
        [str(photos / 'a.png'), str(photos / 'deep' / 'a.png')], str(tmp_path / 'out'))
    assert set(found) == {'a.png', 'a_2.png'}


def test_show_result_writes_a_file(checkpoint, photos, tmp_path):
    model = apis.init_detector(None, checkpoint, 'cpu')
    result = apis.inference_detector(model, photos / 'a.png')
    picture = apis.show_result_pyplot(
        model, photos / 'a.png', result, 0., out_file=str(tmp_path / 'x' / 'a.png'))
    assert cv2.imread(str(tmp_path / 'x' / 'a.png')).shape == picture.shape == (40, 60, 3)


def test_results_and_pictures_are_got_as_from_v2(checkpoint, photos, tmp_path):
    """Masks are bool arrays, and the model has show_result."""
    model = apis.init_detector(None, checkpoint, 'cpu')
    path = str(photos / 'a.png')
    result = apis.inference_detector(model, path)
    masks = [mask for of_class in result[1] for mask in of_class]
    assert masks and all(mask.dtype == bool and mask.shape == (40, 60) for mask in masks)
    run_lengths = apis.detect(model, [path])[0][1]
    assert [len(of_class) for of_class in run_lengths] == [len(of_class) for of_class in result[1]]
    picture = model.show_result(path, result, score_thr=0., out_file=str(tmp_path / 'a.png'))
    assert np.array_equal(cv2.imread(str(tmp_path / 'a.png')), picture)
    assert np.array_equal(model.show_result(cv2.imread(path), result, score_thr=0.), picture)


@pytest.mark.parametrize(
    'image', [None, np.zeros((0, 0, 3), np.uint8),
              np.zeros((8, 8, 4), np.uint8), [None]])
def test_what_is_no_image_is_refused(checkpoint, image):
    model = apis.init_detector(None, checkpoint, 'cpu')
    with pytest.raises(UserError, match='cv2.imread gives None|must be .H, W, 3. in BGR'):
        apis.inference_detector(model, image)
