"""Head of ATSS: Bridging the Gap Between Anchor-based and Anchor-free Detection."""
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, Grid, centers_of, flatten_to_priors, map_size
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTargets,
                                                    DenseTestSettings, DenseTrainSettings,
                                                    centerness_of, loss_by_level, through, tower)
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.ops.matching import Match
from mmdet_ft.parts import Rows
from mmdet_ft.ranges import Count, Whole
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth


class AdaptiveHead(AnchorHead):
    """A head whose anchors are matched by an ATSSAssigner, and whose losses are averaged over processes."""

    def match(self, grid: Grid, gt: GroundTruth, usable: Tensor) -> Match:
        """Match the anchors level by level; usable [B, A]."""
        return self.assigner(grid.anchors, grid.counts, gt, usable)

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each anchor learns; losses are divided by the mean positives of a process."""
        targets = super().targets(outputs, batch)
        count = mean_over_processes(targets.num_positive).clamp(min=1)
        return targets._replace(num_positive=count)

    def quality_loss(self, outputs: DenseOutputs, targets: DenseTargets, quality: Tensor) -> Tensor:
        """Return the loss of the logits against labels and qualities [B, A], summed over the levels."""
        return loss_by_level(self.loss_cls, outputs, targets, targets.labels, quality)

    def strides_of(self, grid: Grid) -> Tensor:
        """Return the stride of each anchor, [A, 1]."""
        return torch.cat([
            grid.anchors.new_full((count, 1), float(stride[0]))
            for count, stride in zip(grid.counts, self.anchor_generator.strides)
        ])

    def check_one_anchor(self) -> None:
        """Raise ValueError unless a cell has one anchor."""
        if self.num_anchors != 1:
            raise ValueError(
                f'{type(self).__name__}: {self.num_anchors} anchors per cell; write ratios=[1.0], '
                'octave_base_scale=8, scales_per_octave=1 in anchor_generator')


@MODELS.register_module()
class ATSSHead(AdaptiveHead):
    """RetinaNet with one anchor per cell, matched adaptively, and a centerness.

        feature map -> cls_convs -> atss_cls: K logits
                    -> reg_convs -> atss_reg * scale of the level: four deltas
                                 -> atss_centerness: factor of the scores

    V2's arguments and state_dict.

    Args:
        pred_kernel_size: of the last convolutions.
        stacked_convs, conv_cfg, norm_cfg, feat_channels: of both towers.
        loss_centerness: a loss or its config.
        Others: see AnchorHead and DenseHead.
    """
    prediction_rows = dict(
        atss_cls=Rows('anchor and class'),
        atss_reg=Rows('anchor', 4),
        atss_centerness=Rows('anchor'))
    takes = AnchorHead.takes  # by this forward

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 pred_kernel_size: Count = 3,
                 stacked_convs: Whole = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 reg_decoded_bbox: bool = True,
                 loss_centerness: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='atss_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: Count = 256,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='AnchorGenerator',
                     scales=[8, 16, 32],
                     ratios=[0.5, 1.0, 2.0],
                     strides=[4, 8, 16, 32, 64]),
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = dict(
                     type='DeltaXYWHBBoxCoder',
                     clip_border=True,
                     target_means=(.0, .0, .0, .0),
                     target_stds=(1.0, 1.0, 1.0, 1.0)),
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(num_classes, in_channels, anchor_generator, bbox_coder, reg_decoded_bbox,
                         loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg)
        self.loss_centerness = MODELS.build(loss_centerness)
        self.cls_convs, self.reg_convs = (
            tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg) for _ in range(2))
        width = feat_channels if stacked_convs else in_channels

        def last(channels: int) -> nn.Conv2d:
            return nn.Conv2d(
                width, self.num_anchors * channels, pred_kernel_size, padding=pred_kernel_size // 2)

        self.atss_cls, self.atss_reg, self.atss_centerness = map(last, (self.num_logits, 4, 1))
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.anchor_generator.strides)

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        logits, deltas, centerness = zip(*map(self._level, features, self.scales))
        sizes = [map_size(feature) for feature in features]
        return DenseOutputs(list(logits), list(deltas), sizes, list(centerness))

    def _level(self, x: Tensor, scale: nn.Module) -> Tuple[Tensor, Tensor, Tensor]:
        of_boxes = through(self.reg_convs, x)
        logits = flatten_to_priors(self.atss_cls(through(self.cls_convs, x)), self.num_logits)
        deltas = flatten_to_priors(scale(self.atss_reg(of_boxes)).float(), 4)
        return logits, deltas, flatten_to_priors(self.atss_centerness(of_boxes), 1).squeeze(-1)

    def box_losses(self, outputs: DenseOutputs, targets: DenseTargets) -> Dict[str, Tensor]:
        """Return `loss_bbox` of decoded boxes, weighted by centerness, and `loss_centerness`."""
        anchors, positive = self.grid(outputs.sizes, targets.boxes.device).anchors, targets.positive
        center = centers_of(anchors)
        goal = targets.boxes  # where not positive, the anchor itself
        sides = torch.cat([center - goal[..., :2], goal[..., 2:] - center], -1)
        centerness = centerness_of(sides) * positive
        total = mean_over_processes(centerness.sum()).clamp(min=1)
        assert outputs.quality is not None
        loss_bbox = self.loss_bbox(
            self.decode(anchors, torch.cat(outputs.boxes, 1)).flatten(0, 1),
            goal.flatten(0, 1),
            centerness.flatten(),
            avg_factor=total)
        loss_centerness = self.loss_centerness(
            torch.cat(outputs.quality, 1).flatten(),
            centerness.flatten(),
            positive.flatten().float(),
            avg_factor=targets.num_positive)
        return dict(loss_bbox=loss_bbox, loss_centerness=loss_centerness)
