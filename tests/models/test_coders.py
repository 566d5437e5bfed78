import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.models.coders import DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from mmdet_ft.registry import MODELS
from tools.benchmarks.no_sync import NoSync

NORMALISATIONS = [
    dict(),
    dict(target_stds=(.1, .1, .2, .2)),
    dict(target_means=(.1, -.2, .3, 0.), target_stds=(.1, .3, .2, .5)),
]


def encode_one(box, gt, means=(0., ) * 4, stds=(1., ) * 4):
    """R-CNN, appendix C: from box to ground truth."""
    width, height, gt_width, gt_height = box[2] - box[0], box[3] - box[1], gt[2] - gt[0], gt[
        3] - gt[1]
    deltas = [
        ((gt[0] + gt[2]) - (box[0] + box[2])) / 2 / width,
        ((gt[1] + gt[3]) - (box[1] + box[3])) / 2 / height,
        math.log(gt_width / width),
        math.log(gt_height / height),
    ]
    return [(delta - mean) / std for delta, mean, std in zip(deltas, means, stds)]


def boxes(*shape: int) -> torch.Tensor:
    corner = torch.rand(*shape, 2) * 100
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2) * 50], -1)


@st.composite
def box(draw):
    x, y = draw(st.floats(-50, 500)), draw(st.floats(-50, 500))
    return [x, y, x + draw(st.floats(1, 400)), y + draw(st.floats(1, 400))]


@given(box(), box(), st.sampled_from(NORMALISATIONS))
@settings(max_examples=100, deadline=None)
def test_deltas_are_those_of_the_paper_and_lead_back(start, goal, normalisation):
    coder = DeltaXYWHBBoxCoder(**normalisation)
    start_, goal_ = torch.tensor([start], dtype=torch.float64), torch.tensor([goal],
                                                                             dtype=torch.float64)
    deltas = coder.encode(start_, goal_)
    expected = encode_one(start, goal, normalisation.get('target_means', (0., ) * 4),
                          normalisation.get('target_stds', (1., ) * 4))
    assert deltas[0].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    ratio = max(abs(deltas[0, i].item() * coder.stds[i] + coder.means[i]) for i in (2, 3))
    if ratio < math.log(1000 / 16):
        assert coder.decode(start_, deltas)[0].tolist() == pytest.approx(goal, rel=1e-9, abs=1e-7)


def test_four_known_boxes():
    start = torch.tensor([[0., 0., 1., 1.], [0., 0., 1., 1.], [0., 0., 1., 1.], [5., 5., 5., 5.]])
    deltas = torch.tensor([[0., 0., 0., 0.], [1., 1., 1., 1.], [0., 0., 2., -1.],
                           [.7, -1.9, -.5, .3]])
    decoded = DeltaXYWHBBoxCoder().decode(start, deltas, max_shape=(32, 32, 3))
    e, shrunk = math.e / 2, math.exp(-1) / 2
    assert decoded[:3].tolist() == [
        [0, 0, 1, 1],
        pytest.approx([1.5 - e] * 2 + [1.5 + e] * 2, rel=1e-5),
        pytest.approx([0, .5 - shrunk, .5 + math.exp(2) / 2, .5 + shrunk], rel=1e-5),
    ]
    assert decoded[3].tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize('normalisation', NORMALISATIONS)
def test_a_batch_is_its_images_one_by_one(normalisation):
    coder = DeltaXYWHBBoxCoder(**normalisation)
    start, goal, deltas = boxes(3, 5), boxes(3, 5), torch.randn(3, 5, 4)
    sizes = torch.tensor([[60., 90.], [120., 40.], [200., 200.]])
    decoded = coder.decode(start, deltas, max_shape=sizes)
    for image in range(3):
        assert torch.equal(
            coder.encode(start, goal)[image], coder.encode(start[image], goal[image]))
        assert torch.equal(
            decoded[image],
            coder.decode(start[image], deltas[image], max_shape=sizes[image].tolist()))
        assert torch.equal(decoded[image],
                           coder.decode(start[image], deltas[image], max_shape=sizes[image]))
    assert decoded[1, :, 0::2].max() <= 40 and decoded[1, :,
                                                       1::2].max() <= 120 and decoded.min() >= 0


def test_deltas_of_several_classes_are_decoded_each():
    coder = DeltaXYWHBBoxCoder(target_stds=(.1, .1, .2, .2))
    start, deltas, sizes = boxes(2, 5), torch.randn(2, 5, 12), torch.tensor([[60., 90.],
                                                                             [120., 40.]])
    decoded = coder.decode(start, deltas, max_shape=sizes)
    assert decoded.shape == (2, 5, 12)
    for label in range(3):
        part = slice(4 * label, 4 * label + 4)
        assert torch.equal(decoded[..., part],
                           coder.decode(start, deltas[..., part], max_shape=sizes))


def test_growth_is_bounded_on_both_sides():
    start = torch.tensor([[0., 0., 10., 10.]])
    size = DeltaXYWHBBoxCoder().decode(start, torch.tensor([[0., 0., 50., -50.]]))
    assert (size[0, 2] - size[0, 0]).item() == pytest.approx(10 * 1000 / 16)
    assert (size[0, 3] - size[0, 1]).item() == pytest.approx(10 * 16 / 1000, rel=1e-4)


def test_centre_clamp_bounds_the_shift_and_growth_only():
    coder = DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=32)
    decoded = coder.decode(
        torch.tensor([[0., 0., 100., 100.]]), torch.tensor([[9., -9., 0., -50.]]))
    assert decoded[0].tolist() == pytest.approx([32, 18, 132, 18], abs=1e-3)


def test_without_clip_border_boxes_leave_the_image():
    start, deltas = torch.tensor([[0., 0., 10., 10.]]), torch.tensor([[-1., 2., 0., 0.]])
    assert DeltaXYWHBBoxCoder(clip_border=False).decode(
        start, deltas, max_shape=(15, 15))[0].tolist() == [-10, 20, 0, 30]
    assert DeltaXYWHBBoxCoder().decode(
        start, deltas, max_shape=(15, 15))[0].tolist() == [0, 15, 0, 15]
    assert DeltaXYWHBBoxCoder().decode(start, deltas)[0].tolist() == [-10, 20, 0, 30]


def test_half_precision_becomes_full():
    coder = DeltaXYWHBBoxCoder()
    assert coder.decode(boxes(2), torch.randn(2, 4).bfloat16()).dtype == torch.float32
    assert coder.encode(boxes(2).half(), boxes(2).half()).dtype == torch.float32


def test_padding_is_finite_and_no_boxes_are_no_error():
    coder = DeltaXYWHBBoxCoder()
    unit = torch.tensor([[0., 0., 1., 1.]])
    assert coder.encode(boxes(1), unit).isfinite().all() and coder.encode(
        unit, boxes(1)).isfinite().all()
    assert coder.decode(boxes(0), torch.zeros(0, 8), max_shape=(3, 3)).shape == (0, 8)
    assert coder.encode(boxes(0), boxes(0)).shape == (0, 4)


@pytest.mark.parametrize('normalisation', NORMALISATIONS)
def test_nothing_waits_for_the_device(normalisation):
    coder = DeltaXYWHBBoxCoder(**normalisation)
    start, goal, sizes = boxes(2, 5), boxes(2, 5), torch.full((2, 2), 50.)
    deltas = torch.randn(2, 5, 4, requires_grad=True)
    with NoSync():
        coder.encode(start, goal)
        coder.decode(start, deltas, max_shape=sizes).sum().backward()
        coder.decode(start, deltas, max_shape=(30, 40))


def test_three_means_are_refused():
    with pytest.raises(ValueError, match='four numbers'):
        MODELS.build(dict(type='DeltaXYWHBBoxCoder', target_means=(0., 0., 0.)))


def test_legacy_deltas_count_the_last_pixel():
    coder = LegacyDeltaXYWHBBoxCoder(target_stds=(.1, .1, .2, .2))
    start, goal = torch.tensor([[10., 20., 19., 39.]]), torch.tensor([[12., 18., 31., 37.]])
    deltas = coder.encode(start, goal)  # 10 x 20 pixels to 20 x 20
    assert deltas[0].tolist() == pytest.approx([7 / 10 / .1, -2 / 20 / .1, math.log(2) / .2, 0.])
    assert coder.decode(start, deltas)[0].tolist() == pytest.approx([11.5, 17.5, 31.5, 37.5])
    assert coder.decode(start, deltas, (30, 30))[0].tolist() == pytest.approx([11.5, 17.5, 29, 29])
    inside = coder.decode(start[None], deltas[None], torch.tensor([[30., 25.]]))
    assert inside[0, 0].tolist() == pytest.approx([11.5, 17.5, 24, 29])


def test_legacy_known_boxes():
    coder = MODELS.build(dict(type='LegacyDeltaXYWHBBoxCoder'))
    start = torch.tensor([[0., 0., 1., 1.], [0., 0., 1., 1.], [0., 0., 1., 1.], [5., 5., 5., 5.]])
    deltas = torch.tensor([[0., 0., 0., 0.], [1., 1., 1., 1.], [0., 0., 2., -1.],
                           [.7, -1.9, -.5, .3]])
    expected = [[0., 0., 1.5, 1.5], [0., 0., 5.2183, 5.2183], [0., .1321, 7.8891, .8679],
                [5.3967, 2.4251, 6.0033, 3.7749]]  # V2's documentation
    decoded = coder.decode(start, deltas, (32, 32))
    assert torch.allclose(decoded, torch.tensor(expected), atol=1e-4)
