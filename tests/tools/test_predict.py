"""tools/predict.py and mmdet_ft.apis: a checkpoint alone is enough to run over images."""
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
from mmdet_ft.commands import predict
from mmdet_ft.commands.main import run_tool
from mmdet_ft.config import Config
from mmdet_ft.engine.errors import UserError
from mmdet_ft.inference import inputs
from mmdet_ft.inference import run as inference
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config

CLASSES = ('cat', 'dog', 'emu')


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
    monkeypatch.setattr(sys, 'argv', ['tools/predict.py', *map(str, arguments)])
    run_tool('predict')


def test_checkpoint_and_folder_give_pictures_and_coco_json(checkpoint, photos, tmp_path,
                                                           monkeypatch):
    out = tmp_path / 'out'
    run(monkeypatch, checkpoint, photos, '--out', out, '--score-thr', 0, '--batch-size', 2,
        '--device', 'cpu')
    for name in ('a.png', 'deep/b.jpg', 'deep/a.png'):
        height, width = cv2.imread(str(photos / name)).shape[:2]
        assert cv2.imread(str(out / name)).shape == (3 * height, 3 * width, 3
                                                     )  # small ones are enlarged
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
    assert not any('old' in name
                   for name, _ in predict.find_images([str(photos)], str(photos / 'out')).images)


def test_pattern_without_images_is_named(photos, tmp_path):
    with pytest.raises(UserError, match='nothing'):
        predict.find_images([str(photos / 'nothing*.jpg')], str(tmp_path / 'out'))


def test_a_folder_with_signs_of_patterns_in_its_name_is_taken_as_it_is(photos, tmp_path):
    folder = tmp_path / 'run [1]' / 'a*'
    folder.mkdir(parents=True)
    (folder / 'a.png').write_bytes((photos / 'a.png').read_bytes())
    for pattern in ('run [1]/a*/*.png', 'run [1]/?*/a.???', 'run [1]/**/*.png'):
        found = predict.find_images([str(tmp_path / pattern)], str(tmp_path / 'out'))
        assert [path for _, path in found.images] == [str(folder / 'a.png')]


def test_same_names_of_two_folders_are_kept_apart(checkpoint, photos, tmp_path, monkeypatch):
    run(monkeypatch, checkpoint, photos / 'a.png', photos / 'deep' / 'a.png', '--out',
        tmp_path / 'out', '--device', 'cpu')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'a.png', 'a_2.png', 'predictions.json'
    ]


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
    run_lengths = inference.detect(model, [path])[0][1]
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


def predictions_in(out):
    return json.loads((out / 'predictions.json').read_text())


def test_every_kind_of_image_is_taken_and_the_other_files_are_counted(checkpoint, photos, tmp_path,
                                                                      monkeypatch, capsys):
    content = (photos / 'deep' / 'b.jpg').read_bytes()
    for name in ('photo.jfif', 'noending', 'SHOUT.JPG'):
        (photos / name).write_bytes(content)
    cv2.imwrite(str(photos / 'j.jp2'), cv2.imread(str(photos / 'a.png')))
    cv2.imwrite(str(photos / 'p.ppm'), cv2.imread(str(photos / 'a.png')))
    for name in ('film.mp4', 'list.txt', 'other.txt', 'README'):
        (photos / name).write_text('text')
    out = tmp_path / 'out'
    run(monkeypatch, checkpoint, photos, '--out', out, '--device', 'cpu')
    assert len(predictions_in(out)['images']) == 8
    assert {path.name
            for path in out.iterdir()} == {
                'a.png', 'deep', 'photo.png', 'noending.png', 'SHOUT.JPG', 'j.png', 'p.png',
                'predictions.json'
            }
    text = capsys.readouterr().err
    assert '8 images; files that are no images by their names: 4 (.txt 2, ' in text


@pytest.mark.parametrize('name, answer', [
    ('https://example.org/a.jpg', 'is a URL: download the image first'),
    ('film.mp4', 'is a film: take its pictures out first'),
    ('list.txt', 'is not an image. Give the files that a list names'),
    ('val.json', 'tools/test.py. runs over annotation files'),
    ('nowhere.jpg', 'nowhere.jpg does not exist'),
    ('here.JPEG', 'no image there; did you mean .*here.jpg'),
    ('empty', 'no image there'),
])
def test_what_is_no_image_gets_its_answer(tmp_path, name, answer):
    (tmp_path / 'empty').mkdir()
    for existing in ('film.mp4', 'list.txt', 'val.json', 'here.jpg'):
        (tmp_path / existing).write_text('x')
    with pytest.raises(UserError, match=answer):
        predict.find_images([name if '://' in name else str(tmp_path / name)],
                            str(tmp_path / 'out'))


def test_an_image_that_cannot_be_prepared_is_skipped_and_the_others_of_its_batch_are_done(
        checkpoint, photos, tmp_path, monkeypatch, capsys):
    detect = inference.detect

    def sometimes(model, imgs):
        if any('b.jpg' in str(img) for img in imgs):
            raise RuntimeError('no room for it')
        return detect(model, imgs)

    monkeypatch.setattr(inference, 'detect', sometimes)
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, checkpoint, photos, '--out', out, '--device', 'cpu', '--batch-size', 3)
    assert stop.value.code == 1
    text = capsys.readouterr().err
    assert f'skipped: {photos}/deep/b.jpg: no room for it' in text
    assert '1 of 3 images could not be done' in text
    assert len(predictions_in(out)['images']) == 2


@pytest.mark.parametrize('error, code', [(KeyboardInterrupt, 130), (MemoryError, 1)])
def test_what_is_done_is_written_whatever_happens(checkpoint, photos, tmp_path, monkeypatch, error,
                                                  code):
    seen = []
    detect = inference.detect

    def then_stop(model, imgs):
        if seen:
            raise error
        seen.append(imgs)
        return detect(model, imgs)

    monkeypatch.setattr(inference, 'detect', then_stop)
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, checkpoint, photos, '--out', out, '--device', 'cpu')
    assert stop.value.code == code
    assert len(predictions_in(out)['images']) == 1
    assert not list(out.glob('.*')), 'no half file'


def test_predictions_are_not_written_over_what_is_read(checkpoint, photos, tmp_path, monkeypatch,
                                                       capsys):
    for target in (photos / 'a.png', checkpoint):
        before = Path(target).read_bytes()
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, checkpoint, photos, '--out', tmp_path / 'out', '--json', target)
        assert stop.value.code == 1 and Path(target).read_bytes() == before
        assert 'would overwrite' in capsys.readouterr().err


def test_unequal_images_of_a_batch_find_what_they_find_alone(checkpoint, photos):
    model = apis.init_detector(None, checkpoint, 'cpu')
    paths = [str(photos / name) for name in ('a.png', 'deep/b.jpg', 'deep/a.png', 'a.png')]
    for path, together in zip(paths, apis.inference_detector(model, paths)):
        alone = apis.inference_detector(model, path)
        for a, b in zip(together[0], alone[0]):
            np.testing.assert_allclose(a, b, atol=1e-3)
        for a, b in zip(together[1], alone[1]):
            assert len(a) == len(b) and all(mask.any() for mask in a)


def test_strips_in_the_padding_and_empty_masks_are_left_out():
    from pycocotools import mask as coco_mask
    full, empty = (
        coco_mask.encode(np.asfortranarray(np.full((60, 80), value, np.uint8))) for value in (1, 0))
    boxes = np.array([[5, 59.6, 70, 60, .9], [79.5, 5, 80, 40, .8], [5, 5, 70, 50, .7],
                      [5, 5, 70, 50, .6], [5, 10, 70, 10.5, .5]], np.float32)
    sample = dict(img_metas=[dict(ori_shape=(60, 80, 3))])
    kept, masks = inference.without_slivers(([boxes], [[full, full, full, empty, full]]), sample)
    assert kept[0][:, 4].tolist() == pytest.approx([.7, .5]) and len(masks[0]) == 2
    assert len(inference.without_slivers([boxes], sample)[0]) == 3
    scores = np.array([.1, .9])
    assert inference.without_slivers(scores, sample) is scores


IMAGE = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize('image, answer', [
    (IMAGE.astype(np.float32) / 255, r'image 0 is float32 up to .*: give 0..255 \(img \* 255\)'),
    (IMAGE.astype(np.uint16) * 257, r'image 0 is uint16 up to \d+: give uint8 of 0..255'),
    (IMAGE.astype(np.float32) * 16, r'image 0 is float32 up to'),
    (IMAGE.astype(np.float32) - 120, 'as before normalizing'),
    (np.full((8, 8, 3), np.nan), 'holds nan or inf'),
    (IMAGE > 100, r'image 0 is bool: give 0..255'),
    (IMAGE.astype(complex), 'array of complex128'),
    (IMAGE.transpose(2, 0, 1), r'img.transpose\(1, 2, 0\) has its channels last'),
    (np.zeros((40, 60, 4), np.uint8), 'without its alpha channel'),
    (IMAGE[None], r'list\(img\)'),
    (torch.zeros(3, 8, 8), r'image 0 is a tensor \[3, 8, 8\]'),
    (b'bytes', 'image 0 is a bytes'),
    ('https://example.org/a.jpg', 'is a URL'),
])
def test_arrays_of_other_kinds_are_refused_with_what_to_write(image, answer):
    with pytest.raises(UserError, match=answer):
        inputs.read_input(image, 'image 0')


def test_arrays_that_mean_the_same_are_taken():
    from PIL import Image as Pillow
    for image in (IMAGE, IMAGE.astype(np.int64), IMAGE.astype(np.float64),
                  Pillow.fromarray(IMAGE[..., ::-1].copy())):
        np.testing.assert_array_equal(inputs.read_input(image, 'image 0'), IMAGE)
    assert inputs.read_input(np.zeros((4, 4), np.float32), 'x').dtype == np.float32
    assert inputs.read_input(Path('a.png'), 'x') == 'a.png'


def test_a_model_that_was_set_to_train_detects_as_before_and_half_is_refused(checkpoint):
    model = apis.init_detector(None, checkpoint, 'cpu')
    before = apis.inference_detector(model, IMAGE)
    after = apis.inference_detector(model.train(), IMAGE)
    assert model.training
    for a, b in zip(before[0], after[0]):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match=r'model.float\(\)'):
        apis.inference_detector(model.half(), IMAGE)


def test_devices_are_read_in_all_their_spellings(monkeypatch):
    from mmdet_ft.engine.speed import devices
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    for name in ('cpu', 'CPU', 'cuda', 'cuda:3', 0, '0', 'gpu', None, torch.device('cpu')):
        assert devices.read_device(name) == torch.device('cpu')
    for name in ('tpu', 'nonsense', -1):
        with pytest.raises(UserError, match='the devices here are cpu'):
            devices.read_device(name)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert devices.read_device('1') == torch.device('cuda:1')
    with pytest.raises(UserError, match='the devices here are cpu, cuda:0, cuda:1'):
        devices.read_device('cuda:2')


def test_device_option_hides_the_gpus_or_numbers_one(monkeypatch):
    from mmdet_ft.engine.speed import device_option
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    assert [device_option.take_device_option(name)
            for name in (None, 'cuda', 'cuda:1', '1')] == [None, None, 1, 1]
    assert device_option.take_device_option('cpu') is None
    assert device_option.os.environ['CUDA_VISIBLE_DEVICES'] == ''


def test_pictures_are_not_written_over_the_image_they_show(checkpoint, photos):
    model = apis.init_detector(None, checkpoint, 'cpu')
    path = photos / 'a.png'
    result = apis.inference_detector(model, path)
    with pytest.raises(UserError, match='would overwrite'):
        apis.show_result_pyplot(model, path, result, out_file=str(path))
    with pytest.raises(UserError, match='cannot write'):
        apis.show_result_pyplot(model, path, result, out_file=str(photos / 'a.xyz'))


def test_an_out_that_is_a_file_is_refused_before_anything_is_done(checkpoint, photos, tmp_path,
                                                                  monkeypatch, capsys):
    (tmp_path / 'file').write_text('mine')
    for more in ([], ['--no-pictures']):
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, checkpoint, photos, '--out', tmp_path / 'file', *more)
        assert stop.value.code == 1
        assert 'file is a file; name a folder' in capsys.readouterr().err
    assert (tmp_path / 'file').read_text() == 'mine'


def test_images_that_all_lie_in_the_folder_of_the_pictures_are_not_called_missing(photos):
    for argument, out in ((photos, photos), (photos / '*.png', photos), (photos, photos.parent)):
        with pytest.raises(UserError, match=r'all results so far are in --out .*; name another'):
            predict.find_images([str(argument)], str(out))
    (photos / 'sub').mkdir()
    (photos / 'a.png').rename(photos / 'sub/a.png')
    kept = predict.find_images([str(photos)], str(photos / 'sub')).images
    assert kept and all('sub' not in name for name, _ in kept)
