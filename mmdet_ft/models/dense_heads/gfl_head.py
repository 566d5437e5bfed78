"""Head of GFL: Generalized Focal Loss, qualified and distributed boxes."""
from typing import Dict, List, Optional, Sequence, Union

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, centers_of, flatten_to_priors, map_size
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DistancePointBBoxCoder
from mmdet_ft.models.dense_heads.atss_head import AdaptiveHead
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTestSettings,
                                                    DenseTrainSettings, through, tower)
from mmdet_ft.models.losses.iou import aligned_iou
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.parts import Rows
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch


class Integral(nn.Module):
    """Expected distances of distributions over 0..reg_max (eq. 5), with V2's buffer."""
    project: Tensor

    def __init__(self, reg_max: int = 16):
        super().__init__()
        self.reg_max = reg_max
        self.register_buffer('project', torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return distances [..., 4] of logits [..., 4 * (reg_max + 1)]."""
        shares = x.float().unflatten(-1, (4, self.reg_max + 1)).softmax(-1)
        return shares @ self.project


@MODELS.register_module()
class GFLHead(AdaptiveHead):
    """Scores are qualities, and each side of a box is a distribution of distances in strides.

        feature map -> cls_convs -> gfl_cls: K logits
                    -> reg_convs -> gfl_reg * scale of the level: reg_max + 1 logits of each side

    V2's arguments and state_dict. One anchor per cell, whose center is the point.

    Args:
        stacked_convs, conv_cfg, norm_cfg, feat_channels: of both towers.
        loss_dfl: a loss of the distributions, or its config.
        reg_max: largest distance, in strides.
        Others: see AnchorHead and DenseHead.
    """
    prediction_rows = dict(gfl_cls=Rows())
    takes = AnchorHead.takes  # by this forward
    bbox_coder: DistancePointBBoxCoder  # type: ignore[assignment] # of points, not of anchors

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 stacked_convs: int = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 loss_dfl: PartConfig = dict(type='DistributionFocalLoss', loss_weight=0.25),
                 bbox_coder: Union[Dict,
                                   DistancePointBBoxCoder] = dict(type='DistancePointBBoxCoder'),
                 reg_max: int = 16,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='gfl_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: int = 256,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='AnchorGenerator',
                     scales=[8, 16, 32],
                     ratios=[0.5, 1.0, 2.0],
                     strides=[4, 8, 16, 32, 64]),
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(
            num_classes,
            in_channels,
            anchor_generator,
            bbox_coder,  # type: ignore[arg-type]
            reg_decoded_bbox,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg)
        self.check_one_anchor()
        self.reg_max = reg_max
        self.cls_convs, self.reg_convs = (
            tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg) for _ in range(2))
        width = feat_channels if stacked_convs else in_channels
        self.gfl_cls = nn.Conv2d(width, self.num_logits, 3, padding=1)
        self.gfl_reg = nn.Conv2d(width, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.anchor_generator.strides)
        self.integral = Integral(reg_max)
        self.loss_dfl = MODELS.build(loss_dfl)

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are logits of distributions, [B, A_l, 4 * (reg_max + 1)]."""
        logits: List[Tensor] = []
        boxes: List[Tensor] = []
        for x, scale in zip(features, self.scales):
            logits.append(
                flatten_to_priors(self.gfl_cls(through(self.cls_convs, x)), self.num_logits))
            sides = scale(self.gfl_reg(through(self.reg_convs, x))).float()
            boxes.append(flatten_to_priors(sides, 4 * (self.reg_max + 1)))
        return DenseOutputs(logits, boxes, [map_size(feature) for feature in features])

    def distances(self, outputs: DenseOutputs) -> List[Tensor]:
        """Return expected distances in pixels."""
        strides = self.anchor_generator.strides
        return [self.integral(x) * stride[0] for x, stride in zip(outputs.boxes, strides)]

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        return self.bbox_coder.decode(centers_of(priors), raw, max_shape=sizes)

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_dfl`.

        The quality of a positive is the IoU of its box; box losses are weighted by its best score.
        """
        targets = self.targets(outputs, batch)
        grid = self.grid(outputs.sizes, targets.boxes.device)
        stride = self.strides_of(grid)
        points, goal = centers_of(grid.anchors) / stride, targets.boxes / stride
        sides = torch.cat(outputs.boxes, 1)  # [B, A, 4 * (reg_max + 1)]
        boxes = self.bbox_coder.decode(points, self.integral(sides))

        positive = targets.positive
        with torch.no_grad():
            score = torch.cat([logits.float().amax(-1) for logits in outputs.logits], 1).sigmoid()
            weight = score * positive  # [B, A]
            total = mean_over_processes(weight.sum()).clamp(min=1)
            quality = aligned_iou(boxes, goal) * positive
            wanted = self.bbox_coder.encode(points, goal, self.reg_max)  # [B, A, 4]
        loss_bbox = self.loss_bbox(
            boxes.flatten(0, 1), goal.flatten(0, 1), weight.flatten(), avg_factor=total)
        loss_dfl = self.loss_dfl(
            sides.unflatten(-1, (4, self.reg_max + 1)).flatten(0, 2),
            wanted.flatten(),
            weight[..., None].expand(-1, -1, 4).flatten(),
            avg_factor=4 * total)
        return dict(
            loss_cls=self.quality_loss(outputs, targets, quality),
            loss_bbox=loss_bbox,
            loss_dfl=loss_dfl)
