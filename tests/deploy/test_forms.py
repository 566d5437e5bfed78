"""The export form of each operator gives what the operator gives, in PyTorch and in ONNX Runtime."""
import numpy as np
import pytest
import torch

from mmdet_ft.deploy.export import forms
from mmdet_ft.models.deform_conv import DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet_ft.ops.nms import nms_keep
from mmdet_ft.ops.paste_crop import crop_of_mask
from mmdet_ft.ops.roi_align import multi_level_roi_align
from tests.deploy.helpers import Calls, run_module, session_of


def boxes(*shape, seed=0, side=60.):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * side
    return torch.cat([corner, corner + 4 + torch.rand(*shape, 2, generator=generator) * 30], -1)


def test_nms_keeps_the_same_boxes_in_every_problem():
    form = Calls(lambda boxes, scores, valid: forms.nms_keep_form(boxes, scores, valid, .3))
    example = boxes(3, 40), torch.rand(3, 40), torch.rand(3, 40) > .2
    run = session_of(form, example, ((0, 1), ) * 3)
    for problems, number in ((3, 40), (1, 7), (5, 90)):
        generator = torch.Generator().manual_seed(number)
        inputs = (boxes(problems, number, seed=number), torch.rand(problems, number, generator=generator),
                  torch.rand(problems, number, generator=generator) > .2)  # yapf: disable
        expected = nms_keep(*inputs, .3)
        assert 0 < expected.sum() < inputs[2].sum()
        assert torch.equal(form(*inputs), expected)
        assert torch.equal(run(*inputs)[0], expected)


def test_nms_of_boxes_that_are_all_invalid_keeps_none():
    form = Calls(lambda boxes, scores, valid: forms.nms_keep_form(boxes, scores, valid, .5))
    inputs = boxes(2, 6), torch.rand(2, 6), torch.zeros(2, 6, dtype=torch.bool)
    assert not run_module(form, inputs)[0].any()


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_pools_every_region_from_its_level(aligned, ratio):
    features = [torch.randn(2, 3, 32 // 2**i, 40 // 2**i) for i in range(3)]
    rois = torch.cat([torch.tensor([0., 1, 1, 0, 1])[:, None], boxes(5, side=100.)], 1)
    level = torch.tensor([2, 0, 1, 0, 2])
    arguments = [.25, .125, .0625], 4, ratio, aligned
    form = Calls(lambda rois, level, *maps: forms.roi_align_form(maps, rois, level, *arguments))
    run = session_of(form, (rois, level, *features), ((0, ), (0, )))
    for chosen in (torch.arange(5), torch.tensor([1, 3])):  # no region on two of the levels
        inputs = rois[chosen], level[chosen]
        expected = multi_level_roi_align(features, *inputs, *arguments)
        torch.testing.assert_close(form(*inputs, *features), expected)
        torch.testing.assert_close(run(*inputs, *features)[0], expected, rtol=1e-4, atol=1e-5)


def test_pasting_covers_the_same_pixels():
    height, width = 50, 70
    masks = torch.rand(4, 14, 14, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([[3.2, 4.7, 30.1, 44.], [-5., 2., 20., 60.], [60., 40., 70., 50.],
                           [70., 9., 70., 20.]])
    form = Calls(lambda masks, boxes, size: forms.paste_form(masks, boxes, size[0], size[1], .5))
    size = torch.tensor([height, width])
    found = run_module(form, (masks, places, size), ((0, ), (0, )))[0].numpy()
    expected = np.zeros((4, height, width), bool)
    for canvas, mask, box in zip(expected, masks.numpy(), places.numpy()):
        crop = crop_of_mask(mask, box, (height, width), .5)
        if crop is not None:
            rows, columns = crop.pixels.shape
            canvas[crop.y0:crop.y0 + rows, crop.x0:crop.x0 + columns] = crop.pixels
    assert expected[:3].any((1, 2)).all()
    assert (found == expected).all()


@pytest.mark.parametrize('kind', [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize('settings', [
    dict(padding=1),
    dict(stride=2, padding=2, dilation=2),
    dict(padding=1, groups=2, deform_groups=4),
], ids=str)  # yapf: disable
def test_deformable_convolution_samples_the_same_points(kind, settings):
    torch.manual_seed(0)
    layer = kind(8, 6, 3, **settings).requires_grad_(False)
    torch.nn.init.normal_(layer.conv_offset.weight, std=.1)
    torch.nn.init.normal_(layer.conv_offset.bias, std=1.)

    def form(x):
        told = layer.conv_offset(x)
        split = told.shape[1] if kind is DeformConv2dPack else 2 * told.shape[1] // 3
        mask = None if kind is DeformConv2dPack else told[:, split:].sigmoid()
        return forms.deform_conv_form(x, told[:, :split], layer.weight, layer.bias, layer.stride,
                                      layer.padding, layer.dilation, mask)

    run = session_of(Calls(form), (torch.randn(2, 8, 9, 12), ), ((0, 2, 3), ))
    for shape in ((2, 8, 9, 12), (1, 8, 14, 7)):
        x = torch.randn(*shape)
        expected = layer(x)
        torch.testing.assert_close(form(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run(x)[0], expected, rtol=1e-4, atol=1e-4)


def test_the_best_of_fewer_than_asked_for_are_all():
    run = session_of(Calls(lambda scores: forms.top_k(scores, 4)), (torch.rand(2, 9), ), ((0, 1), ))
    for shape, count in (((2, 9), 4), ((3, 2), 2)):
        scores = torch.rand(*shape)
        values, index = run(scores)
        assert values.shape == (shape[0], count)
        assert torch.equal(values, scores.gather(1, index))
        assert torch.equal(values, scores.sort(1, descending=True).values[:, :count])
