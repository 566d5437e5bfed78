import copy
import math
import pickle

import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.models import anchors as anchors_module
from mmdet_ft.models.anchors import (AnchorGenerator, LegacyAnchorGenerator,
                                     TorchvisionAnchorGenerator)
from mmdet_ft.registry import MODELS
from tools.benchmarks.no_sync import NoSync

GENERATORS = [
    dict(strides=[4, 8, 16, 32, 64], ratios=[.5, 1., 2.], scales=[8]),
    dict(strides=[8, 16, 32], ratios=[.5, 1., 2.], octave_base_scale=4, scales_per_octave=3),
    dict(strides=[(4, 8), (8, 16)], ratios=[.5, 1.], scales=[2, 4], scale_major=False),
    dict(strides=[8, 16], ratios=[1., 2.], scales=[1, 3], center_offset=.5),
    dict(strides=[8, 16], ratios=[1., 2.], scales=[1, 3], centers=[(1., 2.), (3., 4.)]),
    dict(strides=[8, 16], ratios=[1., 2.], scales=[1, 3], base_sizes=[9, 11.5]),
]


def sizes_of(generator: AnchorGenerator):
    return [(6 - level, 9 - level) for level in range(generator.num_levels)]


def anchors_by_loops(strides,
                     ratios,
                     sizes,
                     scales=None,
                     base_sizes=None,
                     scale_major=True,
                     octave_base_scale=None,
                     scales_per_octave=None,
                     centers=None,
                     center_offset=0.):
    """All anchors, one at a time, in order; with each the corner of its cell."""
    if scales is None:
        scales = [octave_base_scale * 2**(i / scales_per_octave) for i in range(scales_per_octave)]
    shapes = [(ratio, scale) for ratio in ratios for scale in scales]
    if not scale_major:
        shapes = [(ratio, scale) for scale in scales for ratio in ratios]
    for level, (stride, (rows, columns)) in enumerate(zip(strides, sizes)):
        stride = stride if isinstance(stride, tuple) else (stride, stride)
        base = min(stride) if base_sizes is None else base_sizes[level]
        center = centers[level] if centers else (center_offset * base, ) * 2
        for row in range(rows):
            for column in range(columns):
                x, y = column * stride[0], row * stride[1]
                for ratio, scale in shapes:
                    width, height = base * scale / math.sqrt(ratio), base * scale * math.sqrt(ratio)
                    cx, cy = x + center[0], y + center[1]
                    yield [cx - width / 2, cy - height / 2, cx + width / 2,
                           cy + height / 2], (level, column, row, stride)


def test_four_anchors_by_hand():
    priors = AnchorGenerator([16], [1.], [1.], [9]).grid_priors([(2, 2)])
    assert priors[0].tolist() == [[-4.5, -4.5, 4.5, 4.5], [11.5, -4.5, 20.5, 4.5],
                                  [-4.5, 11.5, 4.5, 20.5], [11.5, 11.5, 20.5, 20.5]]


def test_a_ratio_is_height_over_width_of_one_area():
    (tall, ), = AnchorGenerator([16], [4.], scales=[2]).grid_priors([(1, 1)])
    assert tall.tolist() == [-8, -32, 8, 32]


@pytest.mark.parametrize('arguments', GENERATORS)
def test_anchors_equal_those_of_nested_loops(arguments):
    generator = AnchorGenerator(**arguments)
    sizes = sizes_of(generator)
    expected = torch.tensor([anchor for anchor, _ in anchors_by_loops(sizes=sizes, **arguments)])
    levels = generator.grid_priors(sizes)
    assert [len(level) for level in levels] == [
        rows * columns * number for (rows, columns), number in zip(sizes, generator.num_base_priors)
    ]
    assert torch.allclose(torch.cat(levels), expected, atol=1e-3)
    assert torch.equal(torch.cat(levels), generator.grid(sizes).anchors)
    assert torch.equal(generator.single_level_grid_priors(sizes[1], 1), levels[1])
    assert generator.num_base_anchors == generator.num_base_priors


@pytest.mark.parametrize('arguments', GENERATORS)
def test_valid_cells_are_counted_up_from_the_padded_side(arguments):
    generator = AnchorGenerator(**arguments)
    sizes = sizes_of(generator)
    shapes = [(48, 72), (33, 41), (1, 1), (24, 500)]
    flags = generator.valid_flags(sizes, torch.tensor(shapes))
    for (height, width), row in zip(shapes, flags):
        expected = [
            column < math.ceil(width / stride[0]) and y < math.ceil(height / stride[1])
            for _, (_, column, y, stride) in anchors_by_loops(sizes=sizes, **arguments)
        ]
        assert row.tolist() == expected
    assert torch.equal(flags, generator.valid_flags(sizes,
                                                    torch.tensor(shapes, dtype=torch.float32)))


@pytest.mark.parametrize('arguments', GENERATORS)
def test_single_places_are_found_without_the_grid(arguments):
    generator = AnchorGenerator(**arguments)
    sizes = sizes_of(generator)
    level = generator.grid_priors(sizes)[1]
    index = torch.randint(0, len(level), (2, 7))
    assert torch.equal(generator.sparse_priors(index, sizes[1], 1), level[index])


def test_a_grid_is_made_once_and_old_ones_go(monkeypatch):
    generator = AnchorGenerator([16], [1.], [1.])
    first = generator.grid([(2, 3)])
    assert generator.grid([[2, 3]]) is first
    assert generator.grid([(3, 2)]) is not first
    assert generator.grid([(2, 3)], torch.float64).anchors.dtype == torch.float64
    monkeypatch.setattr(anchors_module, 'MAX_CACHED_GRIDS', 3)
    for size in range(4, 9):
        generator.grid([(2, 3)])  # in use, so it stays
        generator.grid([(size, size)])
    assert len(generator._grids) <= 3
    assert generator.grid([(2, 3)]) is first


def test_no_wait_once_a_device_knows_the_shapes():
    generator = AnchorGenerator([8, 16], [.5, 1.], [2, 4])
    shapes = torch.tensor([[30, 40]])
    generator.grid_priors([(2, 3), (1, 2)])
    with NoSync():
        generator.grid_priors([(4, 5), (2, 3)])  # sizes not seen before
        generator.valid_flags([(4, 5), (2, 3)], shapes)
        generator.sparse_priors(shapes[0], (4, 5), 0)


def test_what_tracing_makes_is_not_kept():
    generator = AnchorGenerator([8], [1.], [2])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert generator.grid_priors([(2, 3)], device='meta')[0].shape == (6, 4)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert generator.grid_priors([(2, 3)])[0].shape == (6, 4)
    assert generator.grid_priors([(2, 3)], device='meta')[0].device.type == 'meta'
    assert type(generator.grid_priors([(2, 3)])[0]) is torch.Tensor
    assert generator.grid_priors([(2, 3)])[0][0].tolist() == [-8, -8, 8, 8]


def test_copies_and_pickles_leave_the_caches_behind():
    generator = AnchorGenerator([8], [1.], [2])
    expected = generator.grid_priors([(2, 3)])[0]
    for copied in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):
        assert not copied._grids and torch.equal(copied.grid_priors([(2, 3)])[0], expected)


@pytest.mark.parametrize('arguments, message', [
    (dict(strides=[8], ratios=[1.]), 'either scales'),
    (dict(strides=[8], ratios=[1.], scales=[1], octave_base_scale=4,
          scales_per_octave=3), 'either scales'),
    (dict(strides=[8], ratios=[1.], scales=[1], base_sizes=[1, 2]), '2 base_sizes for 1 strides'),
    (dict(strides=[8], ratios=[1.], scales=[1], centers=[(0, 0)], center_offset=.5), 'not both'),
    (dict(strides=[8], ratios=[1.], scales=[1], center_offset=2.), 'from 0 to 1'),
])
def test_arguments_that_contradict_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='AnchorGenerator', **arguments))


def test_legacy_anchors_end_a_pixel_earlier_on_whole_pixels():
    anchors = LegacyAnchorGenerator([16], [1.], [1.], base_sizes=[9], center_offset=.5)
    assert anchors.grid_priors([(2, 2)])[0].tolist() == [[0., 0., 8., 8.], [16., 0., 24., 8.],
                                                         [0., 16., 8., 24.], [16., 16., 24., 24.]]
    anchors = LegacyAnchorGenerator([4], [.5, 1., 2.], [8], center_offset=.5)
    expected = []
    for ratio in (.5, 1., 2.):
        width, height = 32 / ratio**.5, 32 * ratio**.5
        expected.append([
            round(1.5 - (width - 1) / 2),
            round(1.5 - (height - 1) / 2),
            round(1.5 + (width - 1) / 2),
            round(1.5 + (height - 1) / 2)
        ])
    assert anchors.base_anchors[0].tolist() == expected


@pytest.mark.parametrize('size', [(800, 1344), (128, 160)])
def test_torchvisions_anchors_are_torchvisions(size):
    theirs = torchvision.models.detection.anchor_utils.AnchorGenerator(
        ((32, ), (64, ), (128, ), (256, ), (512, )), ((.5, 1., 2.), ) * 5)
    levels = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32, 64)]
    images = torchvision.models.detection.image_list.ImageList(
        torch.zeros(1, 3, *size), [tuple(size)])
    expected = theirs(images, [torch.zeros(1, 1, *level) for level in levels])[0]
    ours = TorchvisionAnchorGenerator([4, 8, 16, 32, 64], [.5, 1., 2.], [8])
    assert torch.equal(ours.grid(levels).anchors, expected)
