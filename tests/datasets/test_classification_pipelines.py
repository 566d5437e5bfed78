"""A classifier's transforms, against Pillow, torchvision and what their names promise."""
import random

import mmcv
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mmdet_ft.datasets.classification.base import ImageRecords
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.pipelines.detection.crop import RandomCrop
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.registry import PIPELINES


def picture(height=24, width=36, channels=3, seed=0):
    """Smooth, with all values: operations on histograms have something to do."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, channels))
    return mmcv.imresize(noise.astype(np.uint8), (width, height)).reshape(height, width, channels)


def apply(cfg, img, seed=0):
    random.seed(seed)
    np.random.seed(seed)
    before = img.copy()
    results = PIPELINES.build(dict(cfg))(dict(img=img, img_shape=img.shape, filename='a.png'))
    assert np.array_equal(img, before), 'a transform has written into its input'
    return results


# ----------------------------------------------------------------------------------- crops and sizes


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(3, 60),
    width=st.integers(3, 60),
    side=st.integers(1, 40),
    adaptive=st.sampled_from(['short', 'long', 'height', 'width']))
def test_resize_to_one_side_keeps_the_ratio(height, width, side, adaptive):
    cfg = dict(type='Resize', size=(side, -1), adaptive_side=adaptive)
    old = dict(short=min, long=max)
    pick = old.get(adaptive, lambda sides: sides[adaptive == 'width'])
    wanted = [int(side * length / pick((height, width))) for length in (height, width)]
    if min(wanted) == 0:
        return
    results = apply(cfg, np.zeros((height, width, 3), dtype=np.uint8))
    assert results['img_shape'] == results['img'].shape == (*wanted, 3)
    assert pick(results['img'].shape[:2]) == side


def test_resize_to_a_size_is_the_backends():
    img = picture()
    out = apply(dict(type='Resize', size=(30, 50), backend='pillow', interpolation='bicubic'), img)
    assert np.array_equal(out['img'],
                          np.array(Image.fromarray(img).resize((50, 30), Image.BICUBIC)))
    assert apply(dict(type='Resize', size=12), img)['img'].shape == (12, 12, 3)
    assert apply(dict(type='Resize', size=12), img[..., 0])['img'].shape == (12, 12)


@pytest.mark.parametrize('cfg, message', [
    (dict(type='Resize', size=(224, 0)), r'size is a number of pixels or \(height, width\), or'),
    (dict(type='Resize', size=224, img_scale=(1, 1)), 'not both'),
    (dict(type='Resize', size=224, adaptive_side='wide'), "'short', 'long', 'height' or 'width'"),
    (dict(type='RandomFlip', flip_prob=.5, flip_ratio=.5), 'the same thing'),
    (dict(type='RandomFlip', flip_prob=1.5), 'a probability'),
    (dict(type='RandomCrop',
          size=(3, 4, 5)), r'RandomCrop: size is a number of pixels or \(height'),
    (dict(type='RandomCrop', size=3, padding_mode='mirror'), "found 'mirror'"),
    (dict(type='CenterCrop', crop_size=-1), 'found -1'),
    (dict(type='RandomResizedCrop', size=3, scale=(1, .5)), r'\(smallest, largest\)'),
    (dict(type='RandomResizedCrop', size=3, interpolation='box'), 'interpolation of cv2'),
    (dict(type='Pad', size=(3, 3), padding_mode='mirror'), "found 'mirror'"),
    (dict(type='RandomErasing', mode='noise'), "'const' or 'rand'"),
    (dict(type='RandomErasing', min_area_ratio=.5), 'shares of the area'),
    (dict(type='Shear', magnitude=.1, direction='diagonal'), "not 'diagonal'"),
    (dict(type='Contrast', magnitude=.1, prob=2), 'prob is a probability'),
    (dict(type='Posterize', bits=9), '8 bits'),
    (dict(type='Lighting', eigval=[1, 2], eigvec=[[1, 2, 3]] * 3), 'three rows of n'),
    (dict(type='AutoAugment', policies=[[]]), 'none of them empty'),
    (dict(type='RandAugment', policies=[{}], num_policies=1, magnitude_level=1), 'type='),
    (dict(
        type='RandAugment',
        policies=[dict(type='Rotate', magnitude_key='angle')],
        num_policies=1,
        magnitude_level=1), 'needs a magnitude_range'),
])
def test_a_wrong_argument_is_told_with_what_to_write(cfg, message):
    with pytest.raises(ValueError, match=message):
        PIPELINES.build(cfg)


def test_center_crop_is_torchvisions():
    for height, width in ((40, 60), (41, 61), (24, 90), (25, 24)):
        img = picture(height - height % 4, width - width % 4)
        ours = apply(dict(type='CenterCrop', crop_size=(20, 18)), img)['img']
        theirs = F.center_crop(torch.from_numpy(img).permute(2, 0, 1), [20, 18])
        assert np.array_equal(ours, theirs.permute(1, 2, 0).numpy())
    assert apply(dict(type='CenterCrop', crop_size=30), picture(24, 36))['img'].shape == (24, 30, 3)


def test_efficientnets_middle():
    out = apply(
        dict(type='CenterCrop', crop_size=20, efficientnet_style=True, crop_padding=4),
        picture(24, 36))
    middle = picture(24, 36)[2:22, 8:28]  # 20 / (20 + 4) of the short side
    assert np.array_equal(out['img'], middle)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(4, 50), width=st.integers(4, 50), seed=st.integers(0, 99), eff=st.booleans())
def test_random_resized_crop_shows_a_part_of_allowed_area_and_ratio(height, width, seed, eff):
    crop = PIPELINES.build(
        dict(
            type='RandomResizedCrop',
            size=8,
            scale=(.3, .6),
            ratio=(.5, 2.),
            efficientnet_style=eff))
    random.seed(seed)
    top, left, rows, columns = crop.draw(height, width)
    assert 0 <= top <= top + rows <= height and 0 <= left <= left + columns <= width
    if (rows, columns) != crop._middle(height, width) and not eff:
        slack = (rows + .5) * (columns + .5) / (rows * columns)  # sides are rounded
        assert .3 / slack <= rows * columns / (height * width) <= .6 * slack
        assert .5 / slack <= columns / rows <= 2 * slack


def test_random_resized_crop_takes_the_middle_of_a_strip():
    strip = np.arange(400, dtype=np.uint8).reshape(4, 100, 1).repeat(3, 2)
    cfg = dict(type='RandomResizedCrop', size=(4, 5), scale=(.9, 1.), ratio=(3 / 4, 5 / 4))
    assert np.array_equal(apply(cfg, strip)['img'], strip[:, 47:52])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), padding=st.integers(0, 5))
def test_random_crop_is_a_part_of_the_padded_image(seed, padding):
    img = picture(20, 24)
    cfg = dict(type='RandomCrop', size=(16, 20), padding=padding, pad_val=7)
    part = apply(cfg, img, seed)['img']
    padded = np.pad(img, ((padding, padding), (padding, padding), (0, 0)), constant_values=0)
    padded[..., 0] = np.pad(img[..., 0], padding, constant_values=7)  # mmcv fills the first channel
    height, width = padded.shape[0] - 16, padded.shape[1] - 20
    assert any(
        np.array_equal(part, padded[top:top + 16, left:left + 20]) for top in range(height + 1)
        for left in range(width + 1))


def test_random_crop_of_a_small_image():
    assert type(PIPELINES.build(dict(type='RandomCrop', crop_size=(3, 3)))) is RandomCrop
    with pytest.raises(DataError, match='a.png has 20 x 24 pixels; .*pad_if_needed=True'):
        apply(dict(type='RandomCrop', size=32), picture(20, 24))
    out = apply(
        dict(type='RandomCrop', size=32, pad_if_needed=True, padding_mode='edge'), picture(20, 24))
    assert out['img'].shape == (32, 32, 3) and out['img'].min(axis=(0, 1)).min() > 0


def test_flip_prob_is_flip_ratio():
    img = picture()
    for seed in range(6):
        ours = apply(dict(type='RandomFlip', flip_prob=.5, direction='vertical'), img, seed)
        theirs = apply(dict(type='RandomFlip', flip_ratio=.5, direction='vertical'), img, seed)
        assert ours['flip'] == theirs['flip'] and np.array_equal(ours['img'], theirs['img'])
        assert np.array_equal(ours['img'], img[::-1] if ours['flip'] else img)


def test_pad_goes_on_with_the_image():
    img = picture(8, 8)
    out = apply(dict(type='Pad', size=(10, 12), padding_mode='symmetric'), img)['img']
    assert np.array_equal(out, np.pad(img, ((0, 2), (0, 4), (0, 0)), mode='symmetric'))


# ------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize('cfg, pillow', [
    (dict(type='Invert', prob=1.), ImageOps.invert),
    (dict(type='Solarize', thr=100, prob=1.), lambda image: ImageOps.solarize(image, 100)),
    (dict(type='Posterize', bits=3.2, prob=1.), lambda image: ImageOps.posterize(image, 4)),
    (dict(type='Equalize', prob=1.), ImageOps.equalize),
    (dict(type='AutoContrast', prob=1.), ImageOps.autocontrast),
])
def test_changes_of_a_pixel_are_pillows(cfg, pillow):
    img = picture(40, 40) // 2 + 20
    ours = apply(cfg, img)['img'].astype(int)
    assert ours.shape == img.shape and not np.array_equal(ours, img)
    assert abs(ours - np.array(pillow(Image.fromarray(img))).astype(int)).max() <= 1


@pytest.mark.parametrize('kind, factor', [('Contrast', F.adjust_contrast),
                                          ('Brightness', F.adjust_brightness),
                                          ('ColorTransform', F.adjust_saturation)])
@pytest.mark.parametrize('sign', [1, -1])
def test_enhancements_are_torchvisions(kind, factor, sign):
    img = picture(40, 40)
    cfg = dict(type=kind, magnitude=.4, prob=1., random_negative_prob=float(sign < 0))
    ours = apply(cfg, img)['img'].astype(int)
    rgb = torch.from_numpy(img[..., ::-1].copy()).permute(2, 0, 1)
    theirs = factor(rgb, 1 + sign * .4).permute(1, 2, 0).numpy()[..., ::-1].astype(int)
    assert abs(ours - theirs).max() <= 2  # mmcv rounds the grey value


def test_solarize_add_stays_below_256():
    img = picture()
    out = apply(dict(type='SolarizeAdd', magnitude=150, thr=128, prob=1.), img)['img']
    assert np.array_equal(out, np.where(img < 128, np.minimum(img.astype(int) + 150, 255), img))


def test_geometric_changes_of_nothing_change_nothing():
    img = picture()
    for cfg in (dict(type='Rotate',
                     angle=0.), dict(type='Shear',
                                     magnitude=0.), dict(type='Translate', magnitude=0.)):
        assert np.array_equal(apply(dict(cfg, prob=1.), img)['img'], img)


@pytest.mark.parametrize('channels', [1, 3])
def test_translate_brings_in_the_padding(channels):
    img = picture(20, 40, channels).squeeze()
    out = apply(
        dict(type='Translate', magnitude=.25, prob=1., random_negative_prob=0., pad_val=9),
        img)['img']
    assert (out[:, :10] == 9).all() and np.array_equal(out[:, 10:], img[:, :30])


def test_a_probability_of_zero_never_changes():
    img = picture()
    for kind in ('Invert', 'Equalize', 'AutoContrast'):
        assert apply(dict(type=kind, prob=0.), img)['img'] is img


def test_color_jitter_of_nothing_is_the_image():
    img = picture()
    cfg = dict(type='ColorJitter', brightness=0., contrast=0., saturation=0.)
    assert abs(apply(cfg, img)['img'].astype(int) - img).max() <= 1
    cfg = dict(type='ColorJitter', brightness=.5, contrast=0., saturation=0.)
    share = apply(cfg, img)['img'].mean() / img.mean()
    assert .49 < share < 1.51 and abs(share - 1) > .01


def test_grey_images_have_equal_channels():
    out = apply(dict(type='RandomGrayscale', gray_prob=1.), picture())['img']
    assert out.shape == (24, 36, 3) and (out == out[..., :1]).all()
    flat = picture(channels=1)[..., 0]
    assert apply(dict(type='RandomGrayscale', gray_prob=1.), flat)['img'] is flat


def test_lighting_adds_one_colour():
    cfg = dict(type='Lighting', eigval=[55., 5., 1.], eigvec=np.eye(3).tolist(), to_rgb=False)
    img = picture()
    added = apply(cfg, img)['img'] - img
    np.random.seed(0)
    assert np.allclose(added, np.random.normal(0, .1, 3) * [55, 5, 1])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), mode=st.sampled_from(['const', 'rand']))
def test_erasing_fills_one_rectangle(seed, mode):
    img = np.full((30, 40, 3), 200, dtype=np.uint8)
    cfg = dict(
        type='RandomErasing',
        erase_prob=1.,
        min_area_ratio=.1,
        max_area_ratio=.2,
        mode=mode,
        fill_color=3)
    changed = (apply(cfg, img, seed)['img'] != 200).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    box = changed[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    assert box.mean() > .97  # of 'rand' a few pixels are 200 again
    assert .07 < box.size / changed.size < .23


def test_cutout_and_erasing_of_grey_images():
    flat = picture(channels=1)[..., 0]
    assert (apply(dict(type='Cutout', shape=8, prob=1., pad_val=5), flat)['img'] == 5).sum() >= 16
    out = apply(dict(type='RandomErasing', erase_prob=1.), flat)['img']
    assert out.shape == flat.shape and (out == 128).any()


# ------------------------------------------------------------------------------------------ policies


class Recorder:
    """Notes what it was built with."""

    seen = []

    def __init__(self, strength=None, pad_val=None):
        self.made = dict(strength=strength, pad_val=pad_val)

    def __call__(self, results):
        Recorder.seen.append(self.made)
        return results


def test_rand_augment_draws_kinds_and_a_common_strength():
    Recorder.seen = []
    policy = dict(type=Recorder, magnitude_key='strength', magnitude_range=(10, 0))
    cfg = dict(
        type='RandAugment', policies=[policy], num_policies=3, magnitude_level=6, total_level=30)
    apply(cfg, picture())
    assert [made['strength'] for made in Recorder.seen] == [8.] * 3
    Recorder.seen = []
    for seed in range(30):
        apply(dict(cfg, magnitude_std='inf'), picture(), seed)
    values = [made['strength'] for made in Recorder.seen]
    assert 8 <= min(values) < 8.3 and 9.7 < max(values) <= 10


def test_auto_augment_draws_one_pipeline():
    first = [dict(type='Invert', prob=1.), dict(type='Invert', prob=1.)]
    cfg = dict(type='AutoAugment', policies=[first, [dict(type='Solarize', thr=0, prob=1.)]])
    img = picture()
    found = [np.array_equal(apply(cfg, img, seed)['img'], img) for seed in range(20)]
    assert 3 < sum(found) < 17


def test_hparams_fill_what_a_change_leaves_open():
    built = PIPELINES.build(
        dict(
            type='AutoAugment',
            hparams=dict(pad_val=3, interpolation='bilinear'),
            policies=[[
                dict(type='Rotate', angle=5., interpolation='nearest'),
                dict(type='Pad', size=(9, 9))
            ]]))
    rotate, pad = built.policies[0]
    assert rotate['pad_val'] == 3 and rotate['interpolation'] == 'nearest' and 'pad_val' not in pad


# -------------------------------------------------------------------------------- the way to the device


@pytest.mark.parametrize('channels', [1, 3])
def test_images_travel_as_uint8_and_become_v2s_numbers(channels):
    images = np.stack([picture(32, 32, channels, seed) for seed in range(4)]).squeeze()
    records = ImageRecords(images, np.arange(4), 'memory')
    norm = dict(
        mean=[120., 110., 100.][:channels], std=[60., 50., 40.][:channels], to_rgb=channels == 3)
    pipeline = Compose([
        dict(type='RandomCrop', size=32, padding=4),
        dict(type='Resize', size=40),
        dict(type='Normalize', **norm),
        dict(type='ImageToTensor', keys=['img']),
        dict(type='ToTensor', keys=['gt_label']),
        dict(type='Collect', keys=['img', 'gt_label'])
    ])
    samples = []
    for index in range(4):
        random.seed(index)
        samples.append(pipeline(records[index]))
    batch = collate(samples)
    assert batch.images.dtype == torch.uint8 and batch.gt.labels.tolist() == [0, 1, 2, 3]
    assert batch.sizes.tolist() == [[40, 40]] * 4
    for index, ours in enumerate(normalize_images(batch)):
        random.seed(index)
        img = Compose(pipeline.transforms[:2])(records[index])['img']
        theirs = mmcv.imnormalize(img, np.array(norm['mean']), np.array(norm['std']),
                                  norm['to_rgb'])
        assert np.allclose(
            ours.numpy(), theirs.reshape(40, 40, channels).transpose(2, 0, 1), atol=1e-5)


def test_a_users_transform_need_not_tell_the_shape():
    pipeline = Compose([
        lambda results: {
            **results, 'img': results['img'][:20, :16]
        },
        dict(type='Normalize', mean=[0.] * 3, std=[1.] * 3),
        dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])
    ])
    batch, = collate([pipeline(ImageRecords(picture()[None], np.zeros(1, int), 'memory')[0])])
    assert batch.sizes.tolist() == [[20, 16]]
