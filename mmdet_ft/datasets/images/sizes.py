"""Images whose size differs from their annotations: decide which is right, and return a fix."""
from typing import NamedTuple, Tuple

import numpy as np

from mmdet_ft.command_names import how_to_run

Size = Tuple[int, int]  # width and height

LOOK = f'`{how_to_run("check")} CONFIG --html report.html` shows the boxes on the pictures'


class Mismatch(NamedTuple):
    """A mismatch between the size of an image and its annotation."""
    kind: str
    text: str
    fix: str
    fit: str = ''  # the size that the boxes fit: 'listed', 'loaded', or '' where that is not known


def choose_fitting_size(boxes: np.ndarray, listed: Size, loaded: Size) -> str:
    """Return which size boxes [n, 4] (x1 y1 x2 y2) fit: 'listed', 'loaded', or '' for both or none."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    if not len(boxes):
        return ''
    corner = boxes[:, 2:].max(axis=0)
    in_listed, in_loaded = ((corner <= np.add(size, 1)).all() for size in (listed, loaded))
    return {
        (True, False): 'listed',
        (False, True): 'loaded'
    }.get((bool(in_listed), bool(in_loaded)), '')


def mismatch(listed: Size, loaded: Size, orientation: int = 1, fit: str = '') -> Mismatch:
    """Return the explanation for an image that is `loaded` in another size than is `listed`.

    orientation: the EXIF entry that was applied while loading, 1 for none.
    fit: see `choose_fitting_size`; '' where boxes do not decide.
    """
    if listed != loaded[::-1]:
        found = _scaled(listed, loaded, fit)
    else:
        found = _turned(orientation, fit) if orientation >= 5 else _exchanged(fit)
    return found._replace(fit=fit)


def _turned(orientation: int, fit: str) -> Mismatch:
    entry = f'its EXIF entry (orientation {orientation}) turns it when it is loaded'
    lying = (
        'remove the entry (`exiftool -Orientation= -n FILE`); or, where all were annotated so, load them as they are '
        "stored: dict(type='LoadImageFromFile', color_type='color_ignore_orientation') in all pipelines "
        '(TIFF files excepted)')
    if fit == 'loaded':
        return Mismatch(
            'width and height exchanged',
            f'{entry}, and the boxes are of the turned picture; only the listed size is '
            'that of the pixels as stored',
            'exchange width and height of these images in the annotation file; '
            'boxes and images stay as they are')
    if fit == 'listed':
        return Mismatch('image turned by EXIF', f'it was annotated lying, and {entry}', lying)
    return Mismatch(
        'image turned by EXIF',
        f'{entry}, and the listed size is that of the pixels as stored; the boxes fit both',
        f'look: {LOOK}. Where they are right on the turned picture, exchange width and height in the annotation '
        f'file; where they are of the lying one, {lying}')


def _exchanged(fit: str) -> Mismatch:
    exchange = 'exchange width and height of these images in the annotation file'
    if fit == 'listed':
        return Mismatch(
            'width and height exchanged',
            'width and height are exchanged, and the boxes are of the listed size: the '
            'picture was turned after it was annotated',
            'take the pictures as they were annotated, or turn the boxes and masks and ' + exchange)
    if fit == 'loaded':
        return Mismatch('width and height exchanged',
                        'width and height are exchanged; the boxes are of the picture as it is',
                        exchange)
    return Mismatch('width and height exchanged', 'width and height are exchanged',
                    f'{exchange}, if the boxes are right on the pictures ({LOOK})')


def _scaled(listed: Size, loaded: Size, fit: str) -> Mismatch:
    factors = loaded[0] / listed[0], loaded[1] / listed[1]
    # the same aspect ratio, except for rounding a side to whole pixels
    alike = abs(loaded[0] - listed[0] * factors[1]) <= 1 or abs(loaded[1] -
                                                                listed[1] * factors[0]) <= 1
    change = f'the picture was scaled by {factors[0]:.3g} after it was annotated' if alike else \
        'it is another picture than was annotated, or a part of it'
    original = 'take the pictures in the size that was annotated' + (
        ', or scale boxes and masks by the same factor and write the true width and height'
        if alike else '')
    true = 'write the true width and height into the annotation file'
    if fit == 'loaded':
        return Mismatch('image size differs',
                        'the boxes are of the picture as it is; only the listed size is wrong',
                        f'{true}; boxes and images stay as they are')
    if fit == 'listed':
        return Mismatch('image size differs', f'the boxes are of the listed size: {change}',
                        original)
    return Mismatch(
        'image size differs',
        f'boxes and masks would lie elsewhere than the objects: {change}, or the listed size is '
        'wrong', f'{original}; or, if the boxes are right on the pictures ({LOOK}), {true}')
