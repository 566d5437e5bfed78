"""Image files: image endings, and facts from a file's head and last bytes without decoding it."""
import contextlib
import io
import os
import struct
import threading
from typing import BinaryIO, Iterator, NamedTuple, Tuple, Union

from PIL import Image

from mmdet_ft.datasets.errors import DataError

# Endings that OpenCV and Pillow read, in any case. Class folders, predict.py and the converters
# accept these.
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff',
                 '.avif', '.jp2', '.ppm', '.pgm', '.pnm')

ORIENTATION = 0x112  # EXIF tag; 1 upright, 2 to 4 keep the sides, 5 to 8 exchange width and height
TURNED_WHEN_LOADED = ('JPEG', 'MPO', 'PNG', 'WEBP', 'TIFF'
                      )  # OpenCV reads the tag of these formats only
MOST_PIXELS = 1 << 30  # OpenCV's limits for an image, and for one side
MOST_PIXELS_A_SIDE = 1 << 20
HEAD = 2048  # bytes at the beginning that hold facts which Pillow does not expose
TAIL = 1024  # bytes at the end of a file that are searched for its end marker


def is_image_name(name: str) -> bool:
    """Check whether a file's name has the ending of an image."""
    return name.lower().endswith(IMAGE_ENDINGS)


class Head(NamedTuple):
    """Facts from the head of an image file and its last bytes."""
    width: int  # as stored, before the EXIF orientation is applied
    height: int
    kind: str  # Pillow's name: JPEG, PNG, TIFF ...
    orientation: int = 1
    bits: int = 8  # per value
    is_float: bool = False
    has_end: bool = True  # the file has its full length or its end marker; True where that is not known

    @property
    def size(self) -> Tuple[int, int]:
        """Return width and height of the loaded picture, with the EXIF orientation applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def is_too_large(self) -> bool:
        """Return whether OpenCV refuses the picture because of its size."""
        return max(self.width,
                   self.height) > MOST_PIXELS_A_SIDE or self.width * self.height > MOST_PIXELS


def read_head(source: Union[str, bytes]) -> Head:
    """Read the head of an image file, or of the content of one, without decoding it.

    Takes 0.2 ms from a local disk. Raises OSError for a file that cannot be opened, DataError for
    one that is not an image.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, 'rb') as file:
        return _read(file, 'it' if isinstance(source, bytes) else source)


def image_size(path: str) -> Tuple[int, int]:
    """Read width and height as the image is loaded, with the EXIF orientation applied.

    Raises DataError when the file is missing or not an image.
    """
    try:
        return read_head(path).size
    except OSError as error:
        raise DataError(
            f'cannot read the size of the image {path}: {error.strerror or error}') from error


def _read(file: BinaryIO, name: str) -> Head:
    from PIL import Image, UnidentifiedImageError

    begin = file.read(HEAD)
    file.seek(0)
    try:
        with of_any_size(), Image.open(file) as image:
            head = _build_head(image, begin)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return head._replace(has_end=_has_end(image, begin, file.read(), size))
    except UnidentifiedImageError:
        raise DataError(f'{name} is not an image: {_describe_other_kind(begin)}') from None
    except (OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, KeyError,
            TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise DataError(f'{name} has the header of an image, but it is damaged: {error}') from error


_lock = threading.Lock()
_limits = []  # Pillow's limit, once for each thread that is reading a head


@contextlib.contextmanager
def of_any_size() -> Iterator[None]:
    """Lift Pillow's pixel limit, for all threads: a head is small, however large its picture is."""
    from PIL import Image
    with _lock:
        _limits.append(_limits[-1] if _limits else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            limit = _limits.pop()
            if not _limits:
                Image.MAX_IMAGE_PIXELS = limit


def _build_head(image: Image.Image, begin: bytes) -> Head:
    """Build a Head by Pillow; sizes and orientation are our own where Pillow's depend on its version."""
    kind, (width, height) = image.format or '', image.size
    orientation, bits, is_float = 1, 8, False
    if kind == 'TIFF':
        tags = image.tag_v2
        width, height = tags.get(256, width), tags.get(257, height)  # Pillow swaps them from 11 on
        orientation = tags.get(ORIENTATION, 1)
        bits = max(tags.get(258, (1, )))
        is_float = 3 in tags.get(339, ())
    elif kind in TURNED_WHEN_LOADED:
        # not getexif: it decodes a PNG, and reads XMP, which OpenCV does not
        orientation = _orientation(image.info.get('exif') or b'')
        if kind == 'PNG':
            bits = begin[24]
    elif kind == 'JPEG2000':  # its mode is that of 8 bit for colors of 16
        bits = _bits_of_jpeg2000(begin)
    elif image.mode.startswith('I'):
        bits = 16
    elif image.mode == 'F':
        is_float = True
    return Head(
        int(width), int(height), kind, orientation if orientation in range(1, 9) else 1, int(bits),
        is_float)


def _bits_of_jpeg2000(begin: bytes) -> int:
    """Return the bits per value, of the first channel, from the codestream's SIZ marker or the ihdr box before it."""
    index = begin.find(b'\xff\x4f\xff\x51') + 42
    if index < 42:
        index = begin.find(b'ihdr') + 14
        if index < 14:
            return 8
    depth = begin[index] if index < len(begin) else 7
    return 8 if depth == 255 else (depth & 0x7f) + 1


def _orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 where it has none or is broken."""
    exif = exif[6:] if exif.startswith(b'Exif\0\0') else exif
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return 1
    try:
        start, = struct.unpack_from(f'{order}I', exif, 4)
        count, = struct.unpack_from(f'{order}H', exif, start)
        for index in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f'{order}HHIH', exif, index)
            if tag == ORIENTATION:
                return value if kind == 3 else struct.unpack_from(f'{order}I', exif, index + 8)[0]
    except struct.error:  # truncated
        pass
    return 1


def _has_end(image: Image.Image, begin: bytes, tail: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes has its full length, or its last bytes are an end marker."""
    if image.format in ('JPEG', 'MPO'):
        return b'\xff\xd9' in tail
    if image.format == 'PNG':
        return b'IEND\xaeB`\x82' in tail
    if image.format == 'GIF':
        return tail.rstrip(b'\0').endswith(b';')
    if image.format in ('BMP', 'DIB', 'WEBP'):
        index, more = (4, 8) if image.format == 'WEBP' else (2, 0)
        return size >= struct.unpack_from('<I', begin, index)[0] + more
    if image.format == 'TIFF':
        tags = image.tag_v2
        starts, counts = (tags.get(strips) or tags.get(tiles) or ()
                          for strips, tiles in ((273, 324), (279, 325)))
        return all(start + count <= size for start, count in zip(starts, counts))
    return True


def _describe_other_kind(begin: bytes) -> str:
    if not begin:
        return 'it is empty'
    if begin.lstrip()[:1] == b'<':
        return 'it is a page of the web, such as an error page'
    if begin[:4] in (b'II*\0', b'MM\0*'):
        return 'it begins as a TIFF, whose end is missing'
    if begin.startswith(b'version https://git-lfs'):
        return 'it is a pointer of git LFS; fetch the file with `git lfs pull`'
    return f'it begins with {begin[:16]!r}'
