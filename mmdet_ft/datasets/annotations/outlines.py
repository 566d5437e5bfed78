"""Outlines and masks of annotation files: ellipses, turned boxes, run lengths of a part of an image."""
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pycocotools.mask as mask_api

CORNERS_OF_AN_ELLIPSE = 36


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.) -> List[float]:
    """Return a polygon [x0, y0, x1, ...] of an ellipse around (x, y), turned by `turn` radians."""
    angle = np.arange(CORNERS_OF_AN_ELLIPSE) * (2 * np.pi / CORNERS_OF_AN_ELLIPSE)
    across, down = rx * np.cos(angle), ry * np.sin(angle)
    points = np.stack([
        x + across * np.cos(turn) - down * np.sin(turn),
        y + across * np.sin(turn) + down * np.cos(turn)
    ], 1)
    return points.reshape(-1).tolist()


def turned_box(box: List[float], pivot: Tuple[float, float], degrees: float) -> List[float]:
    """Return the corners [x0, y0, ...] of a box x1 y1 x2 y2 turned clockwise around a point."""
    x1, y1, x2, y2 = box
    points = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], dtype=np.float64) - pivot
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + pivot
    return turned.reshape(-1).tolist()


def runs_of_crop(crop: np.ndarray, x: int, y: int, height: int, width: int) -> Dict[str, Any]:
    """Return the run lengths of a bitmap at (x, y) of an image, clipped, without a bitmap of the whole image."""
    crop = crop[max(-y, 0):max(height - y, 0), max(-x, 0):max(width - x, 0)]
    columns, rows = np.nonzero(crop.T)  # in the order of run lengths: column by column
    indices = (columns + max(x, 0)) * height + rows + max(y, 0)
    breaks = np.flatnonzero(np.diff(indices) > 1)
    begins = indices[np.concatenate([[0], breaks + 1])] if len(indices) else indices
    ends = indices[np.concatenate([breaks, [-1]])] + 1 if len(indices) else indices
    bounds = np.concatenate([[0], np.stack([begins, ends], 1).reshape(-1), [height * width]])
    size = [height, width]
    runs = mask_api.frPyObjects(dict(size=size, counts=np.diff(bounds).tolist()), height, width)
    return dict(size=size, counts=runs['counts'].decode())


def join_parts(parts: List[Any], height: int, width: int) -> Any:
    """Return the segmentation of an object of several parts, polygons or run lengths, in COCO's form."""
    if not any(isinstance(part, dict) for part in parts):
        return parts
    if len(parts) == 1:
        return parts[0]
    runs = [
        part if isinstance(part, dict) else mask_api.frPyObjects([part], height, width)[0]
        for part in parts
    ]
    joined = mask_api.merge(runs)
    return dict(size=joined['size'], counts=joined['counts'].decode())


def box_around(parts: List[Any]) -> List[float]:
    """Return the box x1 y1 x2 y2 around polygons and run lengths."""
    corners: List[Tuple[float, float]] = []
    for part in parts:
        if isinstance(part, dict):
            x, y, width, height = mask_api.toBbox(part).tolist()
            corners += [(x, y), (x + width, y + height)]
        else:
            corners += zip(part[::2], part[1::2])
    points = np.array(corners)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def outlines_of(mask: np.ndarray) -> List[List[float]]:
    """Return the outer borders [x0, y0, x1, ...] of the regions of a mask, bool [H, W]; holes are filled.

    pycocotools draws the pixels of the mask again from them.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top:rows[-1] + 1, left:columns[-1] + 1].astype(np.uint8)
    # Each pixel becomes 2 x 2: the border runs a quarter of a pixel inside the pixels' edges, not
    # through their centers.
    doubled = crop.repeat(2, 0).repeat(2, 1)
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(points.reshape(-1, 2) / 2 + (left + .25, top + .25)).reshape(-1).tolist()
            for points in found]


def join_outlines(parts: List[List[float]]) -> List[float]:
    """Return one polygon of several: each further one is reached and left by a line of no width.

    The lines lead between the nearest points of the polygons.
    """
    joined = np.array(parts[0], dtype=np.float64).reshape(-1, 2)
    for part in parts[1:]:
        points = np.array(part, dtype=np.float64).reshape(-1, 2)
        distances = ((joined[:, None] - points[None])**2).sum(-1)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.concatenate([points[there:], points[:there + 1]])
        joined = np.concatenate([joined[:here + 1], around, joined[here:]])
    return joined.reshape(-1).tolist()
