"""Mixup and CutMix against what the papers say of their images and labels."""
import pytest
import torch

from mmdet_ft.models.classifiers.mixing import BatchCutMix, BatchMixup, Identity, Mixing

K = 5
SIZE = (24, 32)


def flat_images(count=6):
    """Image i has the value i everywhere, so that a pixel tells where it comes from."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, *SIZE)


def mixed(augments, labels=None, seed=0):
    torch.manual_seed(seed)
    images = flat_images()
    labels = torch.arange(6) % K if labels is None else labels
    return Mixing(augments)(images, labels)


def mixup(**arguments):
    return dict(type='BatchMixup', **{**dict(alpha=1., num_classes=K), **arguments})


def cutmix(**arguments):
    return dict(type='BatchCutMix', **{**dict(alpha=1., num_classes=K), **arguments})


@pytest.mark.parametrize('seed', range(5))
def test_mixup_weighs_an_image_and_its_label_alike(seed):
    labels = torch.eye(6)[:, :K]
    images, shares = mixed(mixup(), labels, seed)
    for i in range(6):
        pixel = images[i, 0, 0, 0]
        assert torch.allclose(images[i], pixel)
        # Label j of image j: the mean of the labels is the mean of the images.
        assert (shares[i] * torch.arange(K)).sum() + 5 * (1 - shares[i].sum()) == pytest.approx(
            pixel.item(), abs=1e-4)


@pytest.mark.parametrize('seed', range(8))
def test_cutmix_pastes_one_rectangle_and_labels_by_its_area(seed):
    images, shares = mixed(cutmix(), seed=seed)
    for i in range(6):
        foreign = images[i, 0] != i
        partners = images[i, 0][foreign].unique()
        assert len(partners) <= 1
        rows, columns = foreign.any(1), foreign.any(0)
        assert torch.equal(foreign, rows[:, None] & columns)  # a rectangle ...
        for line in (rows, columns):  # ... without gaps
            assert (line.int().diff().abs().sum() + line[0].int() + line[-1].int()) in (0, 2)
        if len(partners):
            part = foreign.float().mean()
            expected = torch.zeros(K)
            expected[i % K] += 1 - part
            expected[int(partners[0]) % K] += part
            assert torch.allclose(shares[i], expected, atol=1e-6)


def test_an_uncorrected_label_follows_the_rectangle_that_was_drawn():
    different = 0
    for seed in range(20):
        images, shares = mixed(cutmix(correct_lam=False), seed=seed)
        assert torch.allclose(shares.sum(1), torch.ones(6))
        part = (images[0, 0] != 0).float().mean()
        different += bool(part and abs(shares[0, 0] - (1 - part)) > .02)
    assert different


def test_the_size_of_a_rectangle_may_be_given():
    for seed in range(20):
        images, _ = mixed(cutmix(cutmix_minmax=(.25, .5)), seed=seed)
        foreign = next(image[0] != i for i, image in enumerate(images) if (image[0] != i).any())
        assert 6 <= foreign.any(1).sum() < 12 and 8 <= foreign.any(0).sum() < 16


def test_shares_of_mixup_are_of_the_beta_distribution():
    torch.manual_seed(0)
    augment = BatchMixup(alpha=.5, num_classes=K)
    drawn = torch.stack(
        [augment.sample_shares(SIZE, torch.device('cpu')).of_label for _ in range(2000)])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert drawn.mean() == pytest.approx(.5, abs=.03)
    assert drawn.var() == pytest.approx(1 / 8, rel=.08)


def test_rectangles_are_as_large_on_the_average_as_the_paper_says():
    torch.manual_seed(0)
    augment = BatchCutMix(alpha=1., num_classes=K, correct_lam=False)
    pairs = [augment.sample_shares((224, 224), torch.device('cpu')) for _ in range(400)]
    inside = [1 - share.of_pixels.mean() for share in pairs]
    # A rectangle of side x (of an image of side 1) keeps (x - x^2 / 4)^2 on the average, the rest lies outside;
    # over x^2 uniform in 0..1 that is 77 / 240.
    assert torch.stack([share.of_label for share in pairs]).mean() == pytest.approx(.5, abs=.05)
    assert torch.stack(inside).mean() == pytest.approx(77 / 240, abs=.03)


def test_one_augment_is_drawn_for_a_batch_by_its_probability():
    counts = dict(none=0, mixup=0, cutmix=0)
    for seed in range(300):
        images, _ = mixed([mixup(prob=.5), cutmix(prob=.3)], seed=seed)
        if torch.equal(images, flat_images()):
            counts['none'] += 1
        elif all((image == image[0, 0, 0]).all() for image in images):
            counts['mixup'] += 1
        else:
            counts['cutmix'] += 1
    assert 120 < counts['mixup'] < 180 and 60 < counts['cutmix'] < 115 and 40 < counts['none'] < 90


def test_labels_become_shares_where_nothing_is_mixed():
    images, shares = mixed([dict(type='Identity', num_classes=K), mixup(prob=0.)])
    assert torch.equal(images, flat_images())
    assert shares.dtype == torch.float32 and torch.equal(shares, torch.eye(K)[torch.arange(6) % K])
    assert isinstance(Mixing(dict(type='Identity', num_classes=K)).augments[0], Identity)


def test_a_seed_says_what_is_drawn_and_the_batch_is_left_alone():
    kept = flat_images().clone()
    for augment in (mixup(), cutmix()):
        first, again, other = (mixed(augment, seed=seed) for seed in (3, 3, 4))
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        assert not torch.equal(first[1], other[1])
        images = kept.clone()
        Mixing(augment)(images, torch.arange(6) % K)
        assert torch.equal(images, kept)


@pytest.mark.parametrize('augments, message', [
    (mixup(alpha=0), 'alpha is 0'),
    (mixup(prob=1.5), 'prob is 1.5'),
    ([mixup(prob=.7), cutmix(prob=.7)], 'add up to 1.4'),
    ([mixup(prob=.2), dict(type='Identity', num_classes=K, prob=.2)], 'so that they make 1'),
    ([mixup(prob=.2), cutmix(prob=.2, num_classes=3)], 'num_classes differs'),
    (cutmix(cutmix_minmax=(.1, )), 'cutmix_minmax'),
])
def test_settings_that_mean_nothing_are_named(augments, message):
    with pytest.raises(ValueError, match=message):
        Mixing(augments)
