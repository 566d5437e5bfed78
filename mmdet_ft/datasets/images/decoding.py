"""Decode image files, and explain why some cannot be decoded."""
import io
import re
import struct
import zlib
from typing import NamedTuple, Optional, Tuple

import cv2
import mmcv
import numpy as np
from PIL import Image

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import Head, of_any_size, read_head

MOST_LOST = 0.1  # of a truncated picture: with more missing it is not used
GREY = 128  # libjpeg's value for missing bytes
PNG = b'\x89PNG\r\n\x1a\n'
END_OF_PNG = b'IEND\xaeB`\x82'
END_OF_JPEG = b'\xff\xd9'
COARSE = 'a progressive JPEG without its last scans: it is coarser than it was'
MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')  # neither a pixel's 255 nor a restart marker


class Decoded(NamedTuple):
    """An image, and whether its file is complete."""
    img: np.ndarray
    lost: Optional[
        float] = None  # fraction (0..1) of the picture that a truncated file lacks; None for a complete file


def decode(content: bytes, color_type: str, channel_order: str) -> Decoded:
    """Decode the bytes of an image file as mmcv does.

    A truncated JPEG or PNG is decoded while at most `MOST_LOST` of its picture is missing. Raises
    DataError with the reason if the bytes cannot be decoded.
    """
    cut = is_cut_off(content)
    img, said = _decoded(content + END_OF_JPEG if cut else content, color_type, channel_order)
    if cut and img is not None:
        lost = max(measure_lost_share(content), measure_unsent_share(content) or 0.)
        if lost > MOST_LOST:
            raise DataError(
                f'its {len(content)} bytes are not a whole picture: it is cut off, and {lost:.0%} of it is missing'
            )
        return Decoded(img, lost)
    if img is None and content.startswith(PNG) and END_OF_PNG not in content:
        img = _decoded(with_end_of_png(content), color_type, channel_order)[0]
        if img is not None:
            return Decoded(img, 0.)
    if img is None:
        raise DataError(_explain_failure(content, said))
    return Decoded(img)


def _decoded(content: bytes, color_type: str,
             channel_order: str) -> Tuple[Optional[np.ndarray], str]:
    """Return the image or None, and the decoder's output."""
    if not content:
        return None, ''
    try:
        return mmcv.imfrombytes(content, flag=color_type, channel_order=channel_order), ''
    except Exception as error:  # each backend has errors of its own
        return None, f' ({type(error).__name__}: {str(error).strip()})'


def _explain_failure(content: bytes, decoder: str) -> str:
    """Return why bytes are not the expected image."""
    try:
        head = read_head(content)
    except DataError as error:
        return f'{error}; its {len(content)} bytes are not a whole picture'
    if head.is_too_large:
        return explain_too_large(head)
    if head.is_float:
        return (
            f'it is a {head.kind} of floating-point numbers, which have no fixed white and are no colors; write '
            f'it as 8 bit (cv2.imwrite of uint8 values 0..255)')
    return (
        f'its {len(content)} bytes are not a whole picture: a {head.kind} of {head.width} x {head.height} pixels '
        f'(width x height) that is cut off or broken{decoder}')


def explain_too_large(head: Head) -> str:
    """Return the message that a picture is larger than OpenCV reads, with a fix."""
    return (
        f'it has {head.width} x {head.height} pixels (width x height), and OpenCV reads up to 2^30 pixels and '
        f'2^20 a side; cut it into tiles, or raise the limits before the command: '
        f'OPENCV_IO_MAX_IMAGE_PIXELS={1 << 36} OPENCV_IO_MAX_IMAGE_WIDTH={1 << 24} '
        f'OPENCV_IO_MAX_IMAGE_HEIGHT={1 << 24}')


def is_cut_off(content: bytes) -> bool:
    """Check whether a JPEG ends too early. OpenCV 4 fills the rest with gray, OpenCV 5 returns nothing."""
    begin, end, scan = b'\xff\xd8', END_OF_JPEG, b'\xff\xda'
    if content[:2] != begin or content.endswith(end) or content.rfind(end) > content.rfind(scan):
        return False  # nearly always decided by the second condition
    # slow and certain: phones append films, whose bytes may look like anything
    index = 2
    while True:
        found = MARKER.search(content, index)
        if found is None:
            return True
        code, index = content[found.end() - 1], found.end()
        if code == END_OF_JPEG[1]:
            return False
        if code != 1:  # TEM has no length; others have one
            index += int.from_bytes(content[index:index + 2], 'big')


def measure_lost_share(content: bytes) -> float:
    """Return the fraction (0..1) of the picture that a truncated JPEG lacks: the gray rows at its bottom.

    A progressive JPEG is stored in layers: the last layers are missing and no part is gray.
    """
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    img = cv2.imdecode(np.frombuffer(content + END_OF_JPEG, np.uint8), flags)
    if img is None:
        return 1.
    grey = img == (img[-1, -1] if _is_cmyk(content) else GREY)
    rows = len(grey) - int(
        np.flatnonzero(~grey.all(axis=1))[-1:].sum()) - 1 if not grey.all() else len(grey)
    # the lowest row of blocks may be partly there
    block = grey[max(0, len(grey) - rows - 16):len(grey) - rows]
    behind = np.cumprod(block[:, ::-1], axis=1).sum()
    return float((rows * grey.shape[1] + behind) / grey.size)


def measure_unsent_share(content: bytes) -> Optional[float]:
    """Return the fraction (0..1) of luma's 64 frequencies for which a truncated progressive JPEG has no scan.

    A scan that has started counts. None for a JPEG that is not progressive. Such a file is stored
    in scans, from coarse to fine. A truncated one is coarser, and nowhere gray.
    """
    index, first, sent = 2, None, np.zeros(64, dtype=bool)
    while True:
        found = MARKER.search(content, index)
        if found is None or found.end() + 2 > len(content):
            break
        code, index = content[found.end() - 1], found.end()
        if code == 1:
            continue
        length = int.from_bytes(content[index:index + 2], 'big')
        segment = content[index + 2:index + length]
        index += length
        if code in (0xc0, 0xc1, 0xc2) and len(segment) > 6:
            if code != 0xc2:
                return None
            first = segment[6]
        elif code == 0xda and first is not None and segment and len(segment) >= 4 + 2 * segment[0]:
            number = segment[0]
            begin, end = segment[1 + 2 * number:3 + 2 * number]
            if first in segment[1:1 + 2 * number:2]:
                sent[begin:end + 1] = True
    return None if first is None else float(1 - sent.mean())


def is_coarse(content: bytes) -> bool:
    """Check whether a file is a truncated progressive JPEG: it looks complete, but lacks its finest scans."""
    return is_cut_off(content) and measure_unsent_share(content) is not None


def _is_cmyk(content: bytes) -> bool:
    try:
        with of_any_size(), Image.open(io.BytesIO(content)) as image:
            return image.mode == 'CMYK'
    except (OSError, ValueError, SyntaxError):
        return False


def with_end_of_png(content: bytes) -> bytes:
    """Append the missing end to a PNG whose last chunks are cut off, if its pixels are complete."""
    head, data, index = content[:8], [], 8
    while index + 8 <= len(content):
        length, = struct.unpack_from('>I', content, index)
        chunk = content[index:index + 12 + length]
        if chunk[4:8] == b'IDAT':
            data.append(chunk[8:8 + length])
        elif not data and len(chunk) == 12 + length:
            head += chunk
        index += 12 + length
    body = b'IDAT' + b''.join(data)
    return (head + struct.pack('>I',
                               len(body) - 4) + body + struct.pack('>I', zlib.crc32(body)) +
            b'\0\0\0\0' + END_OF_PNG)
