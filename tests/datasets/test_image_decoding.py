"""From bytes to pixels: kinds of files, files without their end, and what cannot be decoded."""
import io
import logging
import os
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_ft.datasets.checks.images import inspect_image
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.decoding import (decode, is_coarse, is_cut_off, measure_lost_share,
                                               measure_unsent_share)
from mmdet_ft.datasets.images.files import read_head
from mmdet_ft.datasets.pipelines.shared.loading import (LoadAnnotations, LoadImageFromFile,
                                                        read_image)
from tests.datasets.test_image_files import PICTURE, png_head, saved

BGR = np.ascontiguousarray(PICTURE[..., ::-1])  # as the loader gives what `saved` has written


def encoded(ending, picture):
    return cv2.imencode(ending, picture)[1].tobytes()


@pytest.mark.parametrize(
    'content', [
        saved('PNG'),
        saved('BMP'),
        saved('TIFF'),
        saved('PPM'),
        saved('WEBP', lossless=True),
        saved('PNG', interlace=1),
        encoded('.png',
                BGR.astype(np.uint16) * 257),
        encoded('.tif',
                BGR.astype(np.uint16) * 257),
        encoded('.png', np.dstack([BGR, np.full(BGR.shape[:2], 90, np.uint8)])),
        encoded('.png',
                np.dstack([BGR, BGR[..., 0]]).astype(np.uint16) * 257),
        saved('TIFF', compression='tiff_lzw'),
    ],
    ids=lambda content: f'{len(content)} bytes')
def test_kinds_without_loss_give_the_pixels_that_were_drawn(content):
    img, lost = decode(content, 'color', 'bgr')
    np.testing.assert_array_equal(img, BGR)
    assert lost is None


@pytest.mark.parametrize('mode, kind', [('P', 'PNG'), ('1', 'PNG'), ('L', 'PNG'), ('LA', 'PNG'),
                                        ('CMYK', 'JPEG'), ('L', 'JPEG'), ('P', 'GIF')])
def test_colours_of_other_kinds_are_those_of_pillow(mode, kind):
    content = saved(kind, mode=mode)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))[..., ::-1]
    img = decode(content, 'color', 'bgr').img
    assert img.shape == expected.shape and img.dtype == np.uint8
    assert np.abs(img.astype(int) - expected).mean() < (6 if mode == 'CMYK' else 1)


@pytest.mark.parametrize('options', [
    dict(),
    dict(progressive=True),
    dict(subsampling=2),
    dict(mode='L'),
    dict(mode='CMYK'),
    dict(orientation=6)
])
def test_a_jpeg_without_its_last_bytes_is_used(options):
    whole = saved('JPEG', **options)
    expected = decode(whole, 'color', 'bgr').img
    for cut in (1, 2, 8, 16):
        img, lost = decode(whole[:-cut], 'color', 'bgr')
        assert img.shape == expected.shape and lost is not None and lost < .1
        close = np.abs(img.astype(int) - expected).max(axis=2) < 4
        assert close.mean() > .9, (options, cut, close.mean())


def test_what_is_missing_of_a_jpeg_is_measured():
    picture = cv2.resize(PICTURE, (320, 240))
    for mode in ('RGB', 'L', 'CMYK'):
        file = io.BytesIO()
        Image.fromarray(picture).convert(mode).save(file, 'JPEG')
        whole = file.getvalue()
        body = len(whole) - whole.rfind(b'\xff\xda')
        for share in (.1, .3, .5):
            lost = measure_lost_share(whole[:len(whole) - int(share * body)])
            assert abs(lost - share) < .12, (mode, share, lost)
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[:40] = 20
    assert not is_cut_off(encoded('.jpg', grey))  # grey of its own, and whole


@pytest.mark.parametrize('content, words', [
    (saved('JPEG')[:900], 'cut off, and .* of it is missing'),
    (saved('PNG')[:900], 'a PNG of 96 x 64 pixels .* cut off or broken'),
    (saved('WEBP')[:-100], 'not a whole picture'),
    (saved('TIFF')[:9000], 'not a whole picture'),
    (saved('BMP')[:-100], 'not a whole picture'),
    (b'', 'it is empty'),
    (b'<html>', 'a page of the web'),
    (png_head(40000, 40000), 'OPENCV_IO_MAX_IMAGE_PIXELS=.*OPENCV_IO_MAX_IMAGE_WIDTH='),
    (png_head(1 << 21, 4), r'2097152 x 4 pixels .*tiles'),
])
def test_what_cannot_be_decoded_says_why(content, words):
    with pytest.raises(DataError, match=words):
        decode(content, 'color', 'bgr')


def test_a_tiff_of_floats_is_not_called_cut_off():
    file = io.BytesIO()
    Image.fromarray(PICTURE[..., 0].astype(np.float32) / 255).save(file, 'TIFF')
    with pytest.raises(DataError, match='floating-point numbers.*8 bit') as error:
        decode(file.getvalue(), 'color', 'bgr')
    assert 'whole picture' not in str(error.value)


@pytest.mark.parametrize('cut', [1, 4, 12])
def test_a_png_without_its_end_is_used(cut):
    img, lost = decode(saved('PNG')[:-cut], 'color', 'bgr')
    np.testing.assert_array_equal(img, BGR)
    assert lost == 0


def test_a_png_that_is_damaged_within_is_not_used():
    content = saved('PNG')
    middle = content.index(b'IDAT') + 200
    with pytest.raises(DataError, match='cut off or broken'):
        decode(content[:middle] + b'damaged' + content[middle + 7:], 'color', 'bgr')


def test_a_color_type_that_there_is_not_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match="color_type='rgb' is none of color, grayscale, unchanged"):
        LoadImageFromFile(color_type='rgb')


def sample(folder, name, **info):
    return dict(
        img_info=dict(filename=name, id=7, **info),
        img_prefix=str(folder),
        ann_file='a.json',
        bbox_fields=[],
        mask_fields=[],
        seg_fields=[])


def test_a_cut_image_is_told_once_and_a_lost_one_names_the_switch(tmp_path, caplog):
    (tmp_path / 'a.jpg').write_bytes(saved('JPEG')[:-2])
    with caplog.at_level(logging.WARNING, 'mmdet_ft'):
        logging.getLogger('mmdet_ft').propagate = True
        for _ in range(3):
            LoadImageFromFile()(sample(tmp_path, 'a.jpg'))
    (record, ) = {id(record): record for record in caplog.records}.values()
    assert 'lacks its last bytes' in record.getMessage() and 'a.jpg' in record.getMessage()
    (tmp_path / 'b.jpg').write_bytes(saved('JPEG')[:900])
    with pytest.raises(
            DataError, match=r'data = dict\(train_dataloader=dict\(skip_bad_images=True\)\)'):
        LoadImageFromFile()(sample(tmp_path, 'b.jpg'))
    with pytest.raises(
            FileNotFoundError,
            match=r'data = dict\(train_dataloader=dict\(skip_bad_images=True\)\)'):
        LoadImageFromFile()(sample(tmp_path, 'c.jpg'))


def test_the_file_of_a_prediction_has_no_annotation_file_to_correct(tmp_path):
    (tmp_path / 'b.jpg').write_bytes(saved('JPEG')[:900])
    with pytest.raises(DataError, match='fetch it again$'):
        read_image(str(tmp_path / 'b.jpg'), {}, {}, 'color', 'bgr')
    with pytest.raises(FileNotFoundError, match="did you mean '.*b.jpg'"):
        read_image(str(tmp_path / 'B.JPG'), {}, {}, 'color', 'bgr')


def test_names_in_another_spelling_are_read_and_others_are_named(tmp_path):
    (tmp_path / 'sub').mkdir()
    name = unicodedata.normalize('NFD', 'sub/ü.png')
    (tmp_path / name).write_bytes(saved('PNG'))
    for other in (unicodedata.normalize('NFC',
                                        name), 'sub\\' + unicodedata.normalize('NFC', 'ü.png')):
        results = LoadImageFromFile()(sample(tmp_path, other))
        np.testing.assert_array_equal(results['img'], BGR)
        assert results['filename'] == str(tmp_path / name) and results['ori_filename'] == other
        assert os.path.isfile(results['filename'])
    (tmp_path / '0.png').write_bytes(saved('PNG'))
    with pytest.raises(FileNotFoundError, match=r"'images/0.png' -> '0.png' is there"):
        LoadImageFromFile()(sample(tmp_path, 'images/0.png'))


def test_odd_names_are_no_tracebacks(tmp_path):
    for name in ('', 'x' * 5000, 'a\0b.jpg', '0.png/1.png'):
        (tmp_path / '0.png').write_bytes(saved('PNG'))
        with pytest.raises((DataError, FileNotFoundError)):
            LoadImageFromFile()(sample(tmp_path, name))


@pytest.mark.parametrize('width, height, words', [
    (64, 96, 'width and height are exchanged.*exchange width and height'),
    (192, 128, 'is listed as 192 x 128 .* it is 96 x 64.*scaled by 0.5'),
    (96, 65, 'is listed as 96 x 65'),
])
def test_an_image_of_another_size_is_an_error_when_it_is_loaded(tmp_path, width, height, words):
    (tmp_path / '0.png').write_bytes(saved('PNG'))
    record = sample(tmp_path, '0.png', width=width, height=height)
    with pytest.raises(DataError, match=words) as error:
        LoadImageFromFile()(record)
    assert "'0.png' (image id 7 listed in a.json)" in str(error.value)
    # a loader of the user's own
    record.update(
        img_shape=(64, 96, 3),
        ann_info=dict(bboxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int), masks=[]))
    with pytest.raises(DataError, match=words):
        LoadAnnotations(with_mask=True)(record)


@pytest.mark.parametrize('info', [
    dict(width=96, height=64),
    dict(width=96.0, height=64.0),
    dict(width=0, height=0),
    dict(),
    dict(width=None, height=None)
])
def test_the_right_size_and_an_unknown_one_are_loaded(tmp_path, info):
    (tmp_path / '0.png').write_bytes(saved('PNG'))
    assert LoadImageFromFile()(sample(tmp_path, '0.png', **info))['img'].shape == (64, 96, 3)


def test_a_turned_photograph_is_upright_and_its_size_is_that(tmp_path):
    (tmp_path / '0.jpg').write_bytes(saved('JPEG', 6))
    assert LoadImageFromFile()(sample(tmp_path, '0.jpg', width=64,
                                      height=96))['img'].shape == (96, 64, 3)
    with pytest.raises(DataError, match=r'EXIF entry \(orientation 6\)'):
        LoadImageFromFile()(sample(tmp_path, '0.jpg', width=96, height=64))
    as_stored = LoadImageFromFile(color_type='color_ignore_orientation')
    assert as_stored(sample(tmp_path, '0.jpg', width=96, height=64))['img'].shape == (64, 96, 3)


def progressive(quality=90):
    """A progressive JPEG of a picture with fine detail, and where its scans begin."""
    rng = np.random.default_rng(0)
    picture = np.clip(
        cv2.resize(PICTURE, (320, 240)).astype(int) + rng.integers(-40, 40, (240, 320, 1)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, 'JPEG', progressive=True, quality=quality)
    content = file.getvalue()
    begins = [index for index in range(len(content)) if content[index:index + 2] == b'\xff\xda']
    return content, begins


def test_a_progressive_jpeg_is_judged_by_the_scans_that_it_lacks(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    whole, begins = progressive()
    assert len(begins) >= 8 and decode(whole, 'color', 'bgr').lost is None
    for index in begins[:3]:  # brightness of the lowest frequencies alone: blocks of 8 pixels
        with pytest.raises(DataError, match='it is cut off, and 9.% of it is missing'):
            decode(whole[:index + 40], 'color', 'bgr')
    assert measure_unsent_share(whole) == 0 and not is_coarse(whole)
    assert measure_unsent_share(saved('JPEG')[:-20]) is None and not is_coarse(saved('JPEG')[:-20])
    cut = whole[:begins[-1] + 100]
    img, lost = decode(cut, 'color', 'bgr')
    assert img.shape == (240, 320, 3) and lost < .1 and is_coarse(cut)
    (tmp_path / 'a.jpg').write_bytes(cut)
    read_image(str(tmp_path / 'a.jpg'), {}, dict(backend='disk'), 'color', 'bgr')
    assert 'a progressive JPEG without its last scans: it is coarser' in caplog.text
    look = inspect_image(str(tmp_path / 'a.jpg'))
    assert look.is_coarse and look.lost is not None


def test_a_jpeg_2000_says_how_many_bits_it_has():
    for picture, bits in ((PICTURE, 8), (PICTURE[..., 0], 8)):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, 'JPEG2000')
        assert read_head(file.getvalue()).bits == bits
    deep = encoded('.jp2', BGR.astype(np.uint16) * 257)
    assert read_head(deep).bits == 16 and read_head(deep).kind == 'JPEG2000'
    np.testing.assert_array_equal(decode(deep, 'color', 'bgr').img.shape, BGR.shape)
