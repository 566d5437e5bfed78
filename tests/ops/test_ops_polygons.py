"""Polygons are drawn as pycocotools draws them, to the pixel."""
import numpy as np
import pycocotools.mask as coco_mask
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.ops.polygons import outline_targets
from mmdet_ft.structures import Outlines


def pack(objects):
    """Objects, each a list of polygons [x0, y0, x1, y1, ...], as one image's outlines."""
    sides, part, count = [], [], []
    for polygons in objects:
        count.append(0)
        for number, polygon in enumerate(polygons):
            points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
            sides.append(np.concatenate([points, np.roll(points, -1, 0)], 1))
            part += [number] * len(points)
            count[-1] += len(points)
    count = torch.tensor([count])
    return Outlines(
        torch.from_numpy(np.concatenate(sides)), torch.tensor(part),
        count.cumsum(1) - count, count, int(count.max()), max(map(len, objects)))


def drawn(polygons, box, size):
    """One object in the window of one box, by pycocotools."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, 1), max(y1 - y0, 1)
    moved = []
    for polygon in polygons:
        points = (np.asarray(polygon, dtype=np.float64).reshape(-1, 2) -
                  [x0, y0]) * [size / width, size / height]
        moved.append(points.flatten().tolist())
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(moved, size, size)))


coordinate = st.one_of(st.integers(-8, 40).map(float), st.floats(-8, 40, width=32))
polygon = st.lists(
    coordinate, min_size=3,
    max_size=9).flatmap(lambda xs: st.lists(coordinate, min_size=len(xs), max_size=len(xs)).map(
        lambda ys: [value for point in zip(xs, ys) for value in point]))


@settings(max_examples=150, deadline=None)
@given(
    objects=st.lists(st.lists(polygon, min_size=1, max_size=3), min_size=1, max_size=2),
    box=st.tuples(*[st.floats(-4, 16, width=32)] * 2, *[st.floats(.25, 30, width=32)] * 2),
    size=st.sampled_from([7, 28]))
def test_every_pixel_is_that_of_pycocotools(objects, box, size):
    box = np.float32([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    index = torch.arange(len(objects))
    targets = outline_targets(
        pack(objects), torch.zeros_like(index), index,
        torch.from_numpy(box).expand(len(objects), 4), size)
    for target, polygons in zip(targets.numpy(), objects):
        assert np.array_equal(target, drawn(polygons, box.astype(np.float64), size))


def test_an_object_without_sides_is_empty():
    outlines = pack([[[1, 1, 9, 1, 9, 9]]])
    outlines = outlines._replace(count=torch.zeros(1, 1, dtype=torch.long))
    zero = torch.zeros(1, dtype=torch.long)
    assert not outline_targets(outlines, zero, zero, torch.tensor([[0., 0, 10, 10]]), 14).any()
