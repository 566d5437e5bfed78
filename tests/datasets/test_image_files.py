"""Heads of image files: sizes as the loader gives them, ends, depths, and what is not an image."""
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import IMAGE_ENDINGS, image_size, is_image_name, read_head

PICTURE = cv2.resize(
    np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8), (96, 64))


def saved(kind, orientation=None, mode='RGB', **options):
    """The bytes of the picture as a file of this kind."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x110], exif[0x112] = 'camera', orientation
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(file, kind, exif=exif, **options)
    return file.getvalue()


def png_head(width, height):
    """A PNG whose head says a size, without the pixels for it."""

    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack(
            '>I', zlib.crc32(name + data))

    return (b'\x89PNG\r\n\x1a\n' +
            chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''))


@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8, 77])
@pytest.mark.parametrize('kind',
                         ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'JPEG2000', 'GIF', 'BMP', 'PPM'])
def test_the_size_is_that_of_the_loaded_picture(tmp_path, kind, orientation):
    path = tmp_path / 'a'
    path.write_bytes(saved(kind, orientation))
    loaded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert image_size(str(path)) == loaded.shape[1::-1]
    assert read_head(str(path)).size == read_head(path.read_bytes()).size


def test_orientation_in_xmp_is_not_read_as_opencv_does_not():
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    content = saved('JPEG', xmp=xmp)
    assert b'Orientation="6"' in content and read_head(content).size == (96, 64)


@pytest.mark.parametrize('exif', [
    b'', b'Exif\0\0', b'Exif\0\0II*\0', b'MM\0*\0\0\0\x08\0\x05', b'II*\0\xff\xff\xff\xff',
    b'garbage'
])
def test_broken_exif_data_are_passed_over(exif):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, 'JPEG', exif=exif)
    assert read_head(file.getvalue()).orientation == 1


def test_a_missing_end_is_seen_and_bytes_behind_the_end_are_none():
    for kind, cuts in dict(
            JPEG=(1, 2, 900), PNG=(1, 2, 10, 900), GIF=(1, 2, 900), BMP=(1, 2, 900),
            TIFF=(300, )).items():
        whole = saved(kind)
        assert read_head(whole).has_end and read_head(whole + b'\0' * 40).has_end, kind
        for cut in cuts:
            assert not read_head(whole[:-cut]).has_end, (kind, cut)
    assert read_head(saved('AVIF')).has_end and read_head(saved('PPM')).has_end  # they do not say


def test_depth_of_values_is_known():
    deep = cv2.imencode('.png', PICTURE.astype(np.uint16) * 257)[1].tobytes()
    assert read_head(deep).bits == 16 and read_head(saved('PNG')).bits == 8
    assert read_head(saved('PNG', mode='1')).bits == 1
    deep = cv2.imencode('.tif', PICTURE.astype(np.uint16) * 257)[1].tobytes()
    assert read_head(deep)[4:6] == (16, False)
    deep = cv2.imencode('.pgm', PICTURE[..., 0].astype(np.uint16) * 257)[1].tobytes()
    assert read_head(deep).bits == 16
    file = io.BytesIO()
    Image.fromarray(PICTURE[..., 0].astype(np.float32)).save(file, 'TIFF')
    assert read_head(file.getvalue())[4:6] == (32, True)


def test_very_large_pictures_have_heads_too():
    assert read_head(png_head(40000, 40000)).size == (40000, 40000)
    assert read_head(png_head(40000, 40000)).is_too_large and read_head(png_head(1 << 21,
                                                                                 3)).is_too_large
    assert not read_head(png_head(20000, 20000)).is_too_large
    assert Image.MAX_IMAGE_PIXELS  # the limit of other users of Pillow is what it was


@pytest.mark.parametrize('content, words', [
    (b'', 'it is empty'),
    (b'<html>404</html>', 'page of the web'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    (b'hello world', "it begins with b'hello world'"),
])
def test_what_is_no_image_is_told(tmp_path, content, words):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(DataError, match=words.replace('(', r'\(')) as error:
        image_size(str(path))
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match='No such file'):
        image_size(str(tmp_path / 'b.jpg'))


def test_pillows_limit_comes_back_after_many_threads():
    limit, head = Image.MAX_IMAGE_PIXELS, png_head(30000, 30000)
    with ThreadPoolExecutor(8) as threads:
        assert {threads.submit(read_head, head).result().width for _ in range(50)} == {30000}
        assert set(threads.map(lambda _: read_head(head).width, range(200))) == {30000}
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.filterwarnings('ignore')
def test_half_a_head_is_no_traceback():
    for kind in ('JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'JPEG2000', 'GIF', 'BMP', 'PPM'):
        whole = saved(kind, 6)
        for cut in (1, 4, 9, 20, 30, 60, 150, 300):
            try:
                read_head(whole[:cut])
            except (DataError, OSError):
                pass


def test_endings_are_taken_whatever_their_case():
    assert len(IMAGE_ENDINGS) == 14
    assert is_image_name('a/b.JFIF') and is_image_name('x.Avif') and is_image_name('x.tiff')
    assert not is_image_name('x.txt') and not is_image_name('jpg') and not is_image_name(
        'x.jpg.json')
