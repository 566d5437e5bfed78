"""Limits on image sizes and box positions; values beyond them are mistakes and would cost gigabytes."""
from typing import Optional, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.values import read_number, read_whole
from mmdet_ft.datasets.images.files import MOST_PIXELS, MOST_PIXELS_A_SIDE

FARTHEST = 1e9  # pixels; box corners beyond are a mistake


def read_size(width: object, height: object) -> Optional[Tuple[int, int]]:
    """Read width and height; None where one of them is missing or 0, as in files without the size.

    Raises ValueError with the found value.
    """
    sides = []
    for name, value in (('width', width), ('height', height)):
        if value is None or isinstance(value, str) and not value.strip():
            return None
        try:
            sides.append(read_whole(value, 'a whole number of pixels', 0, MOST_PIXELS_A_SIDE))
        except ValueError as error:
            raise ValueError(f'its {name} {error}') from None
    if sides[0] * sides[1] > MOST_PIXELS:
        raise ValueError(
            f'its size {sides[0]} x {sides[1]} is larger than any image that can be loaded')
    return None if 0 in sides else (sides[0], sides[1])


def read_corner(value: object, expected: str = 'a number') -> float:
    """Read a coordinate of a box; raise ValueError if it is not finite or larger than any image."""
    number = read_number(value, expected)
    if not abs(number) <= FARTHEST:
        raise ValueError(f'is {value!r:.60}, expected {expected} of pixels')
    return number


def refuse_far(points: np.ndarray, height: int, width: int) -> None:
    """Raise ValueError for points [n, 2] that are not numbers, or farther outside than the image's longer side.

    pycocotools rasterizes outlines point by point: a distant one takes gigabytes.
    """
    longer = max(height, width)
    with np.errstate(invalid='ignore'):
        sound = (points >= -longer).all(1) & (points <= np.array([width, height]) + longer).all(1)
    if not sound.all():
        x, y = points[~sound][0].tolist()
        raise ValueError(
            f'its point ({x:.6g}, {y:.6g}) is far outside the image of {width} x {height}')
