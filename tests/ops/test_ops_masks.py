import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.ops import masks as mask_ops
from mmdet_ft.ops.paste import paste_to_rle, rle_of_crop
from mmdet_ft.structures import Masks
from tests.ops.helpers import random_boxes


def pack(bitmaps: torch.Tensor) -> Masks:
    """Masks of [B, G, H, W] bitmaps, each cropped to its object and one pixel around."""
    num_images, num_gts, height, width = bitmaps.shape
    data, offset, rect, start, max_size = [], [], [], 0, [0, 0]
    for bitmap in bitmaps.flatten(0, 1):
        rows, columns = bitmap.any(1).nonzero()[:, 0], bitmap.any(0).nonzero()[:, 0]
        x0 = y0 = w = h = 0
        if len(rows):
            y0, y1 = max(int(rows[0]) - 1, 0), min(int(rows[-1]) + 2, height)
            x0, x1 = max(int(columns[0]) - 1, 0), min(int(columns[-1]) + 2, width)
            w, h = x1 - x0, y1 - y0
            data.append(bitmap[y0:y1, x0:x1].flatten())
        offset.append(start)
        rect.append([x0, y0, w, h])
        start += w * h
        max_size = [max(max_size[0], h), max(max_size[1], w)]
    return Masks(
        torch.cat(data).byte(),
        torch.tensor(offset).view(num_images, num_gts),
        torch.tensor(rect).view(num_images, num_gts, 4), tuple(max_size))


@pytest.mark.parametrize(
    'op', [mask_ops._mask_targets, mask_ops._mask_targets_padded], ids=['loop', 'padded'])
def test_targets_from_crops_equal_those_from_whole_bitmaps(op):
    generator = torch.Generator().manual_seed(0)
    bitmaps = F.interpolate(
        torch.rand(2, 4, 8, 8, generator=generator), (64, 64), mode='bilinear') > .55
    bitmaps[1, 2] = 0
    bitmaps[0, 1, :, :40] = 0
    bitmaps[0, 2] = 1  # touches every border
    masks = pack(bitmaps)
    boxes = random_boxes(40, size=50, generator=generator).clamp(max=64)
    boxes[0] = torch.tensor([0., 0., 64., 64.])
    image_index, gt_index = torch.randint(
        0, 2, (40, ), generator=generator), torch.randint(
            0, 4, (40, ), generator=generator)
    targets = op(masks.data, masks.offset[image_index, gt_index], masks.rect[image_index, gt_index],
                 boxes, 14, list(masks.max_size))
    whole = bitmaps[image_index, gt_index][:, None].float()
    rois = torch.cat([torch.arange(40.)[:, None], boxes], 1)
    expected = (torchvision.ops.roi_align(whole, rois, 14, 1., 0, True)[:, 0] >= .5).float()
    assert 0 < expected.mean() < 1
    # A box shifted by whole pixels rounds differently: a sum that is one half up to that may fall
    # either way.
    assert (targets != expected).float().mean() < 1e-3


@pytest.mark.parametrize(
    'op', [mask_ops._mask_targets, mask_ops._mask_targets_padded], ids=['loop', 'padded'])
def test_a_batch_without_any_object_has_empty_targets(op):
    none = torch.zeros(8, dtype=torch.long)
    targets = op(
        torch.zeros(0, dtype=torch.uint8), none, none[:, None].expand(-1, 4), random_boxes(8), 14,
        [0, 0])
    assert targets.shape == (8, 14, 14) and not targets.any()


def test_the_operator_is_registered_soundly():
    rect = torch.tensor([[0, 0, 10, 10], [0, 0, 0, 0]])
    boxes = torch.tensor([[1., 1, 5, 6], [0, 0, 1, 1]])
    torch.library.opcheck(
        mask_ops._mask_targets,
        (torch.ones(100, dtype=torch.uint8), torch.tensor([0, 0]), rect, boxes, 14, [10, 10]))


def pasted_on_canvas(mask, box, size, threshold):
    """V2's way: every pixel of the image asks the mask for its value."""
    height, width = size
    x0, y0, x1, y1 = box
    y = ((np.arange(height) + .5 - y0) / (y1 - y0) * 2 - 1)[:, None].repeat(width, 1)
    x = ((np.arange(width) + .5 - x0) / (x1 - x0) * 2 - 1)[None].repeat(height, 0)
    grid = torch.from_numpy(np.stack([x, y], -1)).float()[None]
    return (F.grid_sample(torch.from_numpy(mask)[None, None], grid, align_corners=False)[0, 0]
            >= threshold).numpy()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([.5, .7]))
def test_pasting_inside_the_box_equals_pasting_on_a_canvas(seed, threshold):
    rng = np.random.RandomState(seed)
    mask = rng.rand(28, 28).astype(np.float32)
    x0, y0 = rng.uniform(-20, 70), rng.uniform(-20, 50)
    box = np.array([x0, y0, x0 + rng.uniform(.5, 90), y0 + rng.uniform(.5, 90)], np.float32)
    rle = paste_to_rle(mask, box, (60, 80), threshold)
    expected = pasted_on_canvas(mask, box, (60, 80), threshold)
    assert rle['size'] == [60, 80]
    assert (coco_mask.decode(rle).astype(bool)
            != expected).sum() <= 1  # a value on the threshold may round either way


@pytest.mark.parametrize('box', [(10, 0, 50, 0), (20, 60, 70, 60), (0, 12, 0, 40), (80, 3, 80, 9)])
def test_a_box_without_area_shows_the_middle_of_its_mask_along_the_border(box):
    mask = np.random.RandomState(0).rand(28, 28).astype(np.float32)
    x0, y0, x1, y1 = box
    rows, columns = np.arange(60) + .5, np.arange(80) + .5
    y = np.zeros(60) if y1 == y0 else (rows - y0) / (y1 - y0) * 2 - 1  # as V2: not infinite but 0
    x = np.zeros(80) if x1 == x0 else (columns - x0) / (x1 - x0) * 2 - 1
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1)).float()[None]
    canvas = F.grid_sample(torch.from_numpy(mask)[None, None], grid, align_corners=False)[0, 0]
    expected = (canvas >= .5).numpy()
    near = np.zeros((60, 80), bool)  # V2 looks no farther on a CPU
    near[max(y0 - 1, 0):y1 + 1, max(x0 - 1, 0):x1 + 1] = True
    pasted = coco_mask.decode(paste_to_rle(mask, np.array(box, np.float32), (60, 80), .5))
    assert pasted.any() and (pasted.astype(bool) != expected & near).sum() <= 1


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 12), width=st.integers(1, 12))
def test_run_lengths_of_a_crop_equal_those_of_the_image(data, height, width):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    h, w = data.draw(st.integers(1, height - y0)), data.draw(st.integers(1, width - x0))
    bits = data.draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))
    crop = np.array(bits).reshape(h, w)
    image = np.zeros((height, width), np.uint8, order='F')
    image[y0:y0 + h, x0:x0 + w] = crop
    rle = rle_of_crop(crop, x0, y0, (height, width))
    assert rle == coco_mask.encode(image)
