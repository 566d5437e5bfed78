"""Mixup and CutMix: mixing of images of a batch and of their labels.

Random numbers are sampled on the device, from the generator seeded by the runner at each step: nothing waits.
"""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.distributions import Beta

from mmdet_ft.models.losses.entropy import to_shares
from mmdet_ft.registry import MODELS


class MixingShares(NamedTuple):
    """Share of an image that is kept; the rest is from its partner."""
    of_pixels: Tensor  # float32 [H, W] or []
    of_label: Tensor  # float32 []


class _Augment:
    """Common part of all mixing augmentations.

    Args:
        num_classes: as in the head.
        prob: probability of choosing this augmentation.
    """

    def __init__(self, num_classes: int, prob: float = 1.):
        if not 0 <= prob <= 1:
            raise ValueError(f'{type(self).__name__}: prob is {prob!r}; write a number from 0 to 1')
        self.num_classes = num_classes
        self.prob = prob

    def sample_shares(self, size: Tuple[int, int], device: torch.device) -> MixingShares:
        """Sample the shares for images of a size (h, w)."""
        raise NotImplementedError


@MODELS.register_module()
class Identity(_Augment):
    """No mixing."""

    def sample_shares(self, size: Tuple[int, int], device: torch.device) -> MixingShares:
        whole = torch.ones((), device=device)
        return MixingShares(whole, whole)


class _BetaAugment(_Augment):

    def __init__(self, alpha: float, num_classes: int, prob: float = 1.):
        super().__init__(num_classes, prob)
        if not alpha > 0:
            raise ValueError(
                f'{type(self).__name__}: alpha is {alpha!r}; write a number above 0, as 0.2')
        self.alpha = alpha

    def draw(self, device: torch.device) -> Tensor:
        alpha = torch.full((), float(self.alpha), device=device)
        return Beta(alpha, alpha, validate_args=False).sample()


@MODELS.register_module()
class BatchMixup(_BetaAugment):
    """Weighted sums of two images (mixup: Beyond Empirical Risk Minimization).

    Args:
        alpha: the weight is from Beta(alpha, alpha): near 0 most images stay almost unchanged.
        num_classes, prob: see above.
    """

    def sample_shares(self, size: Tuple[int, int], device: torch.device) -> MixingShares:
        share = self.draw(device)
        return MixingShares(share, share)


@MODELS.register_module()
class BatchCutMix(_BetaAugment):
    """A rectangle of one image in another (CutMix: Regularization Strategy to Train Strong Classifiers).

    Args:
        alpha: the share that stays is sampled from Beta(alpha, alpha).
        num_classes, prob: see above.
        cutmix_minmax: instead of `alpha`, the smallest and largest fraction of height and of width that is cut.
        correct_lam: labels follow the rectangle clipped to the image, not the one sampled.
    """

    def __init__(self,
                 alpha: float,
                 num_classes: int,
                 prob: float = 1.,
                 cutmix_minmax: Optional[Sequence[float]] = None,
                 correct_lam: bool = True):
        super().__init__(alpha, num_classes, prob)
        if cutmix_minmax is not None and len(cutmix_minmax) != 2:
            raise ValueError(
                f'BatchCutMix: cutmix_minmax is {cutmix_minmax!r}; write two numbers, as (0.2, 0.8)'
            )
        self.cutmix_minmax = cutmix_minmax
        self.correct_lam = correct_lam

    def sample_shares(self, size: Tuple[int, int], device: torch.device) -> MixingShares:
        share = self.draw(device)
        inside = torch.ones((), dtype=torch.bool, device=device)
        area = torch.ones((), device=device)
        # Rows [H, 1], then columns [1, W].
        for length, shape in zip(size, ((-1, 1), (1, -1))):
            start, end = self._cut(length, share)
            index = torch.arange(length, device=device).view(shape)
            inside = inside & (index >= start) & (index < end)
            area = area * (end - start) / length
        if self.correct_lam or self.cutmix_minmax is not None:
            share = 1 - area
        return MixingShares((~inside).float(), share)

    def _cut(self, length: int, share: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the first pixel of the rectangle on an axis and the first after it; whole numbers."""
        first, second = torch.rand(2, device=share.device)
        if self.cutmix_minmax is not None:
            shortest, longest = (int(length * part) for part in self.cutmix_minmax)
            cut = shortest + (first * (longest - shortest)).floor()
            start = (second * (length - cut)).floor()
            return start, start + cut
        half = ((length * (1 - share).sqrt()).floor() / 2).floor()
        centre = (first * length).floor()
        return (centre - half).clamp(0, length), (centre + half).clamp(0, length)


class Mixing:
    """`train_cfg.augments`: samples one of them per batch, or none if their probabilities sum to less than 1.

    Raises ValueError for probabilities that sum to more than 1, or with Identity to less.
    """

    def __init__(self, augments: object):
        several = augments if isinstance(augments, (list, tuple)) else [augments]
        self.augments: List[_Augment] = [MODELS.build(augment) for augment in several]
        total = sum(augment.prob for augment in self.augments)
        is_complete = any(isinstance(augment, Identity) for augment in self.augments)
        if total > 1 + 1e-6 or is_complete and total < 1 - 1e-6:
            raise ValueError(
                f'train_cfg.augments: the probabilities add up to {total:g}; lower or raise prob so that '
                f'they make {"1" if is_complete else "at most 1"}')
        if len({augment.num_classes for augment in self.augments}) > 1:
            raise ValueError('train_cfg.augments: num_classes differs among them')
        self.num_classes = self.augments[0].num_classes

    def __call__(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        """Mix images [B, C, H, W] and labels, int64 [B] or shares [B, K]; labels become float32 [B, K]."""
        height, width = images.shape[2:]
        shares = self._draw((height, width), images.device)
        partner = torch.randperm(len(images), device=images.device)
        images = images * shares.of_pixels + images[partner] * (1 - shares.of_pixels)
        labels = to_shares(labels, self.num_classes)
        return images, labels * shares.of_label + labels[partner] * (1 - shares.of_label)

    def _draw(self, size: Tuple[int, int], device: torch.device) -> MixingShares:
        """Return the shares of a random augmentation. All are sampled: choosing first would synchronize."""
        pixels = label = torch.ones((), device=device)
        lot = torch.rand((), device=device)
        below = 0.
        for augment in self.augments:
            drawn = augment.sample_shares(size, device)
            chosen = (lot >= below) & (lot < below + augment.prob)
            pixels = torch.where(chosen, drawn.of_pixels, pixels)
            label = torch.where(chosen, drawn.of_label, label)
            below += augment.prob
        return MixingShares(pixels, label)
