"""Head of FCOS: Fully Convolutional One-Stage Object Detection."""
from typing import Dict, List, Optional, Sequence, Tuple, Type, Union

import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmdet_ft.models.anchors import (AnchorGenerator, Grid, MlvlPointGenerator,
                                     TorchvisionPointGenerator, flatten_to_priors, map_size)
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DistancePointBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (Candidates, DenseHead, DenseOutputs,
                                                    DenseTargets, DenseTestSettings,
                                                    DenseTrainSettings, centerness_of, through,
                                                    tower)
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.matching import match_points
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.ranges import Count, Positive, Strides, Whole
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

INF = 1e8  # V2's end of the last range


@MODELS.register_module()
class FCOSHead(DenseHead):
    """Every point inside an object predicts the distances to its sides, and how central the point is.

        feature map -> cls_convs -> conv_cls: K logits
                                 -> conv_centerness (or on reg_convs): factor of the scores
                    -> reg_convs -> conv_reg * scale of the level: left, top, right, bottom

    V2's arguments and state_dict.

    Args:
        num_classes, in_channels, loss_cls, loss_bbox, train_cfg, test_cfg: see DenseHead.
        feat_channels, stacked_convs: of both towers.
        strides: pixels per cell of each level.
        regress_ranges: smallest and largest distance that each level learns, in pixels.
        center_sampling, center_sample_radius: only points that near to the object's center learn it, in strides.
        norm_on_bbox: distances are predicted in strides, not as logarithms of pixels.
        centerness_on_reg: centerness from the tower of the boxes.
        dcn_on_last_conv: the last convolution of each tower is deformable (DCNv2).
        conv_bias: 'auto' is a bias only without a norm layer.
        bbox_coder, loss_centerness: parts or their configs.
    """
    prediction_rows = dict(conv_cls=Rows())
    points_type: Type[MlvlPointGenerator] = MlvlPointGenerator

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 regress_ranges: Sequence[Tuple[float, float]] = ((-1, 64), (64, 128), (128, 256),
                                                                  (256, 512), (512, INF)),
                 center_sampling: bool = False,
                 center_sample_radius: Positive = 1.5,
                 norm_on_bbox: bool = False,
                 centerness_on_reg: bool = False,
                 loss_cls: PartConfig = dict(
                     type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='IoULoss', loss_weight=1.0),
                 loss_centerness: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: Count = 256,
                 stacked_convs: Whole = 4,
                 strides: Strides = (4, 8, 16, 32, 64),
                 dcn_on_last_conv: bool = False,
                 conv_bias: Union[bool, str] = 'auto',
                 bbox_coder: Union[Dict,
                                   DistancePointBBoxCoder] = dict(type='DistancePointBBoxCoder'),
                 conv_cfg: Optional[Dict] = None,
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(num_classes, in_channels, loss_cls, loss_bbox, train_cfg, test_cfg,
                         init_cfg)
        for low, high in regress_ranges:
            if not low < high:
                raise ValueError(f'FCOSHead: regress_ranges has ({low}, {high}); write the smaller '
                                 'distance first, such as (64, 128)')
        if train_cfg is not None and len(regress_ranges) != len(strides):
            raise ValueError(f'FCOSHead: {len(regress_ranges)} regress_ranges for {len(strides)} '
                             'strides; give one a level')
        self.regress_ranges, self.strides = regress_ranges, strides
        self.radius = center_sample_radius if center_sampling else None
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        self.points = self.points_type(strides)
        self.bbox_coder: DistancePointBBoxCoder = MODELS.build(bbox_coder)
        self.loss_centerness = MODELS.build(loss_centerness)
        last = dict(type='DCNv2') if dcn_on_last_conv else None
        self.cls_convs, self.reg_convs = (
            tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg, conv_bias, last)
            for _ in range(2))
        width = feat_channels if stacked_convs else in_channels
        self.conv_cls = nn.Conv2d(width, self.num_logits, 3, padding=1)
        self.conv_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in strides)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels), Takes('strides', strides=self.strides)]

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are distances in pixels."""
        levels = zip(features, self.scales, self.points.strides)
        logits, boxes, centerness = zip(*(self._level(*level) for level in levels))
        sizes = [map_size(feature) for feature in features]
        return DenseOutputs(list(logits), list(boxes), sizes, list(centerness))

    def _level(self, x: Tensor, scale: nn.Module,
               stride: Tuple[float, float]) -> Tuple[Tensor, Tensor, Tensor]:
        of_classes, of_boxes = through(self.cls_convs, x), through(self.reg_convs, x)
        central = self.conv_centerness(of_boxes if self.centerness_on_reg else of_classes)
        distances = flatten_to_priors(scale(self.conv_reg(of_boxes)).float(), 4)
        # float32: the exponential overflows float16
        distances = distances.clamp(min=0) * stride[0] if self.norm_on_bbox else distances.exp()
        logits = flatten_to_priors(self.conv_cls(of_classes), self.num_logits)
        return logits, distances, flatten_to_priors(central, 1).squeeze(-1)

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.points

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        return self.bbox_coder.decode(priors[..., :2], raw, max_shape=sizes)

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each point learns; losses are divided by the mean positives of a process."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        grid = self.grid(outputs.sizes, gt.boxes.device)
        targets = assign_points(grid, self.points.strides, self.regress_ranges, self.radius, gt,
                                self.num_classes)
        count = mean_over_processes(targets.num_positive).clamp(min=1)
        return targets._replace(num_positive=count)

    def box_losses(self, outputs: DenseOutputs, targets: DenseTargets) -> Dict[str, Tensor]:
        """Return `loss_bbox`, weighted by centerness, and `loss_centerness`."""
        grid = self.grid(outputs.sizes, targets.boxes.device)
        points, positive = grid.anchors[:, :2], targets.positive
        goal = self.bbox_coder.encode(points, targets.boxes)
        goal = torch.where(positive[..., None], goal, torch.ones_like(goal))  # [B, A, 4]
        pred = torch.cat(outputs.boxes, 1)
        centerness = centerness_of(goal) * positive
        if self.norm_on_bbox:
            stride = per_point([s[0] for s in self.points.strides], grid, points)[:, None]
            goal, pred = goal / stride, pred / stride
        total = mean_over_processes(centerness.sum()).clamp(min=1e-6)
        assert outputs.quality is not None
        loss_bbox = self.loss_bbox(
            self.bbox_coder.decode(points, pred).flatten(0, 1),
            self.bbox_coder.decode(points, goal).flatten(0, 1),
            centerness.flatten(),
            avg_factor=total)
        loss_centerness = self.loss_centerness(
            torch.cat(outputs.quality, 1).flatten(),
            centerness.flatten(),
            positive.flatten().float(),
            avg_factor=targets.num_positive)
        return dict(loss_bbox=loss_bbox, loss_centerness=loss_centerness)


@MODELS.register_module()
class TorchvisionFCOSHead(FCOSHead):
    """FCOSHead with torchvision's points, and its scores: the square root of score times centerness.

    The settings of its weights are in configs/torchvision/fcos_r50_fpn_coco.py.
    """
    points_type = TorchvisionPointGenerator

    def _best_of_level(self, logits: Tensor, raw: Tensor, quality: Optional[Tensor], priors: Tensor,
                       sizes: Tensor) -> Candidates:
        assert quality is not None
        scores = logits.float().sigmoid() * quality.float().sigmoid()[..., None]
        return super()._best_of_level(scores.sqrt().logit(), raw, None, priors, sizes)


def assign_points(grid: Grid, strides: Sequence[Tuple[float, float]],
                  ranges: Sequence[Tuple[float, float]], radius: Optional[float], gt: GroundTruth,
                  background: int) -> DenseTargets:
    """Return what each point learns, with the number of positives.

    strides, ranges: of each level, in pixels; radius: in strides, see FCOSHead.
    """
    points = grid.anchors[:, :2]
    smallest, largest = (per_point(part, grid, points) for part in zip(*ranges))
    reach = None
    if radius is not None:
        reach = per_point([stride[0] for stride in strides], grid, points) * radius
    match = match_points(points, torch.stack([smallest, largest], -1), gt.boxes, gt.valid, reach)
    positive = match.label == 1
    labels = take(gt.labels, match.gt_index).masked_fill(~positive, background)
    return DenseTargets(labels, torch.ones_like(labels, dtype=torch.float32), positive,
                        take(gt.boxes, match.gt_index),
                        positive.sum().float())


def per_point(values: Sequence[float], grid: Grid, like: Tensor) -> Tensor:
    """Return the value of its level for each point: [A]."""
    return torch.cat(
        [like.new_full((count, ), float(value)) for value, count in zip(values, grid.counts)])
