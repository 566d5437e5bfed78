"""Detectors of the YOLO family."""
import random
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.dense_heads.dense_head import DenseTestSettings, DenseTrainSettings
from mmdet_ft.models.detectors.single_stage import SingleStageDetector
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth, Losses


@MODELS.register_module()
class YOLOV3(SingleStageDetector):
    """YOLOv3 (Redmon and Farhadi 2018)."""
    settings_of_training = ('assigner', )


@MODELS.register_module()
class YOLOX(SingleStageDetector):
    """YOLOX (Ge et al. 2021): trained on images of several sizes.

    Batches are resized on the device. The size of an iteration follows from the seed of the run, so
    that all processes, and a resumed run, have the same. V2's arguments and state_dict.

    Args:
        input_size: (height, width) of the images that the pipeline gives.
        size_multiplier: sizes are multiples of it, in pixels.
        random_size_range: smallest and largest height, in multiples.
        random_size_interval: iterations between two changes; the first have `input_size`.
    """
    settings_of_training = ('assigner', )

    def __init__(self,
                 backbone: PartConfig,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 bbox_head: Optional[PartConfig] = None,
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 input_size: Tuple[int, int] = (640, 640),
                 size_multiplier: int = 32,
                 random_size_range: Tuple[int, int] = (15, 25),
                 random_size_interval: int = 10,
                 init_cfg: InitCfg = None):
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, pretrained, init_cfg)
        if not 0 < random_size_range[0] <= random_size_range[1]:
            raise ValueError(f'YOLOX: random_size_range is (smallest, largest) in multiples of '
                             f'{size_multiplier} pixels, found {random_size_range}')
        self.input_size, self.size_multiplier = tuple(input_size), size_multiplier
        self.random_size_range, self.random_size_interval = random_size_range, random_size_interval
        self.factors = (1., 1.)  # of height and width in this iteration

    def begin_step(self, iteration: int, seed: int) -> None:
        """Choose the size of the images of a training step; the runner calls it."""
        period = iteration // self.random_size_interval
        if period == 0:
            self.factors = (1., 1.)
            return
        multiples = random.Random(f'{seed} {period}').randint(*self.random_size_range)
        height, width = self.input_size
        self.factors = (self.size_multiplier * multiples / height,
                        self.size_multiplier * int(width / height * multiples) / width)

    def loss(self, batch: Batch) -> Losses:
        """Return V2's losses; nothing waits for the device."""
        return super().loss(self._resized(batch) if self.training else batch)

    def _resized(self, batch: Batch) -> Batch:
        """Resize images and boxes by `factors`, to the nearest multiple of `size_multiplier`."""
        if self.factors == (1., 1.):
            return batch
        old = batch.images.shape[2:]
        new = [
            max(round(side * factor / self.size_multiplier), 1) * self.size_multiplier
            for side, factor in zip(old, self.factors)
        ]
        images = F.interpolate(
            normalize_images(batch).float(), size=new, mode='bilinear', align_corners=False)
        y, x = (after / before for before, after in zip(old, new))
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        gt = gt._replace(boxes=_scaled(gt.boxes, x, y), ignore=_scaled(gt.ignore, x, y))
        sizes, pad_sizes = (_scaled(part, y, x) for part in (batch.sizes, batch.pad_sizes))
        return batch._replace(
            images=images,
            sizes=sizes,
            pad_sizes=pad_sizes,
            mean=None,
            std=None,
            gt=gt,
            own_sizes=None)


def _scaled(values: Tensor, first: float, second: float) -> Tensor:
    """Multiply every other number by `first`, the others by `second`: [..., 2 or 4]."""
    return torch.stack([values[..., 0::2] * first, values[..., 1::2] * second], -1).flatten(-2)
